//! The table of connect-pg-simple, an Express store in PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Key, Result, StatusStream, Swapped, Ttl};

use super::postgres::{Layout, PostgresShapeBuilder, Table, store_over_table};

const LAYOUT: Layout =
    Layout { store: "connect-pg-simple", table: "session", key: "sid", value: "sess", expiry: "expire" };

/// The table of [connect-pg-simple](https://www.npmjs.com/package/connect-pg-simple) 10: `sid varchar`, `sess json`,
/// `expire timestamp(6)`. It goes with the profile of Express, whose ids stand there without a prefix.
///
/// It is strict: it compares and swaps on the text of the JSON, in one statement. Node's own writes compare nothing.
///
/// ```no_run
/// use cloakroom::shape::ConnectPgSimple;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = ConnectPgSimple::builder("Europe/Berlin").connect("postgres://app:secret@localhost/shop").await?;
/// # Ok(()) }
/// ```
///
/// # The time zone
///
/// `expire` is a time of day without a zone: connect-pg-simple lets the server put it into the zone of its connection,
/// which is the server's, or that of the database or the user. This driver's connections are in UTC, so the zone has to
/// be named: run `SHOW TimeZone` over a connection of the Node program. With a wrong one, sessions end too early on one
/// side and too late on the other, by hours. In the hour that is repeated when summer time ends, a session may end an
/// hour early or late, as it does in Node.
///
/// # Limits
///
/// The column must be of type `json`, as connect-pg-simple makes it. One that was made `jsonb` works as well, but gives
/// back other text than was stored, so a second write in one request is made twice.
#[derive(Clone, Debug)]
pub struct ConnectPgSimple(Arc<Table>);

impl ConnectPgSimple {
    /// Starts a store over the table `session` of a program whose connections are in `time_zone`: a name that the
    /// server knows, such as `UTC` or `Europe/Berlin`.
    pub fn builder(time_zone: impl Into<String>) -> PostgresShapeBuilder<Self> {
        PostgresShapeBuilder::new(&LAYOUT, time_zone.into(), Self)
    }
}

store_over_table!(ConnectPgSimple);
