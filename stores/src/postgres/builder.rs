//! The options of the PostgreSQL store, and how it connects.

use std::{str::FromStr, time::Duration};

use cloakroom_core::{Error, ErrorKind, Result};
use sqlx::{
    ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{PostgresStore, STORE, fault, schema};
use crate::{
    sql::{Connections, Names, Quote, TIMEOUT, check_times},
    sweep::EVERY,
};

/// How long a connection may lie idle and still be used without a look whether it works.
const FRESH: Duration = Duration::from_secs(1);

/// The options of a [`PostgresStore`].
///
/// ```no_run
/// use cloakroom::PostgresStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let builder = PostgresStore::builder().schema("web").table("sessions").max_connections(20);
/// let store = builder.connect("postgres://app:secret@localhost/shop").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresStoreBuilder {
    pub(super) schema: Option<String>,
    pub(super) table: Option<String>,
    pub(super) timeout: Duration,
    pub(super) sweep_every: Option<Duration>,
    pub(super) max_connections: u32,
    pub(super) prepare: Prepare,
}

impl PostgresStoreBuilder {
    /// Creates the options as they are unless something else is said.
    pub(super) const fn new() -> Self {
        Self {
            schema: None,
            table: None,
            timeout: TIMEOUT,
            sweep_every: Some(EVERY),
            max_connections: 10,
            prepare: Prepare::OncePerConnection,
        }
    }

    /// Names the schema: 1 to 48 ASCII letters, digits and underscores, no digit first. By default the server takes the
    /// first of the connection's `search_path`.
    ///
    /// Upper and lower case differ, as in all quoted names.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Names the table, by the same rules. `cloakroom_sessions` by default.
    ///
    /// The tables beside it have the same name with `_users` and `_schema` at the end. So no name may end like that, nor
    /// like one of their indexes: `_by_end`, `_by_user`, `_pkey`.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// How long an operation may take, with the wait for a connection. 2 seconds by default.
    ///
    /// A server that has not answered anybody for half of it, and for a second at least, is taken for lost.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often expired rows are deleted, on average; `None` for never. Every 5 minutes by default.
    pub fn sweep_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.sweep_every = every.into();
        self
    }

    /// The most connections that [`connect`](Self::connect) opens. 10 by default.
    pub const fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// How often statements are prepared. Once for each connection by default, which is right unless a pooler stands
    /// between that knows nothing of prepared statements.
    pub const fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = prepare;
        self
    }

    /// Connects, so that a wrong address or password shows at once.
    ///
    /// TLS is by `sslmode` in the address, with rustls; `prefer` unless it says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `schema`, `table`, `timeout`, `max_connections` or `sweep_every`;
    /// [`ErrorKind::Rejected`] for a wrong user, password or database; [`ErrorKind::Unavailable`] and
    /// [`ErrorKind::Timeout`] if the server cannot be reached.
    pub async fn connect(self, url: &str) -> Result<PostgresStore> {
        let named = |error: Error| error.operation("connect").store(STORE);
        let names = self.check().map_err(named)?;
        let options = options(url).map_err(named)?;
        let conn = tokio::time::timeout(self.timeout, options.connect()).await.map_err(|_| {
            let hint = format!("the server did not answer within {:?}", self.timeout);
            named(Error::new(ErrorKind::Timeout).hint(hint))
        })?;
        // A connection of its own: the pool would try again for a while, and not say why.
        drop(conn.map_err(|error| named(fault::classify(error).error))?);
        let pool = pool_options(self.max_connections, self.timeout).connect_lazy_with(options);
        let store = PostgresStore::new(Connections::of_the_store(pool), names, &self);
        store.0.link.reach().await?;
        Ok(store)
    }

    /// Uses a pool of the application's, as it is.
    ///
    /// The server need not be there yet: the status is `Connecting` until it has been seen.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `schema`, `table`, `timeout` or `sweep_every`.
    pub fn from_pool(self, pool: PgPool) -> Result<PostgresStore> {
        let names = self.check().map_err(|error| error.store(STORE))?;
        Ok(PostgresStore::new(Connections::of_the_application(pool), names, &self))
    }

    fn check(&self) -> Result<Names> {
        check_times(self.timeout, self.sweep_every)?;
        if self.max_connections == 0 {
            return Err(Error::config("max_connections", "must be at least 1"));
        }
        let table = self.table.as_deref().unwrap_or(schema::TABLE);
        Names::with_companions(table, self.schema.as_deref(), Quote::Double)
    }
}

/// How often a store prepares its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepare {
    /// Once for each connection; a call is then one round trip.
    OncePerConnection,
    /// For each call, in a transaction around it: five round trips, through any pooler.
    EachTime,
}

/// Reads an address. Its text is not repeated in errors.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions> {
    let form = "must look like postgres://user:password@host/database";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::config("url", form));
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| Error::config("url", form))?;
    // Poolers refuse this one, and it is about numbers that we have none of.
    Ok(options.extra_float_digits(None))
}

/// Describes a pool that looks whether a connection still works only when it has been idle.
pub(crate) fn pool_options(max_connections: u32, timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(timeout)
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for >= FRESH {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
}
