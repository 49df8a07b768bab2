//! The table of koa-pg-session, a store of koa-generic-session in PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Key, Result, StatusStream, Swapped, Ttl};

use super::postgres::{Layout, PostgresShapeBuilder, Table, store_over_table};

const LAYOUT: Layout =
    Layout { store: "koa-pg-session", table: "session", key: "id", value: "session", expiry: "expiry" };

/// The table of [koa-pg-session](https://www.npmjs.com/package/koa-pg-session) 2: `id text`, `session json`,
/// `expiry timestamp`. It goes with the profile of Koa, whose keys stand there whole.
///
/// It is strict: it compares and swaps on the text of the JSON, in one statement. Node's own writes compare nothing. A
/// row that has ended is absent here; koa-pg-session itself reads it until it deletes it. The row of a
/// session whose cookie ends with the browser says that it ends after 45 minutes, unless koa-generic-session is given a
/// `ttl`.
///
/// The time zone and the limits are those of [`ConnectPgSimple`](super::ConnectPgSimple).
#[derive(Clone, Debug)]
pub struct KoaPgSession(Arc<Table>);

impl KoaPgSession {
    /// Starts a store over the table `session` of a program whose connections are in `time_zone`: a name that the
    /// server knows, such as `UTC` or `Europe/Berlin`.
    pub fn builder(time_zone: impl Into<String>) -> PostgresShapeBuilder<Self> {
        PostgresShapeBuilder::new(&LAYOUT, time_zone.into(), Self)
    }
}

store_over_table!(KoaPgSession);
