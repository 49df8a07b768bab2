//! The options of the MySQL store, and how it connects.

use std::{str::FromStr, time::Duration};

use cloakroom_core::{Error, ErrorKind, Result};
use sqlx::{
    ConnectOptions, Connection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::{MySqlStore, STORE, fault, schema};
use crate::{
    sql::{Connections, Names, Quote, TIMEOUT, check_times},
    sweep::EVERY,
};

/// How long a connection may lie idle and still be used without a look whether it works.
const FRESH: Duration = Duration::from_secs(1);

/// The options of a [`MySqlStore`].
///
/// ```no_run
/// use cloakroom::MySqlStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let builder = MySqlStore::builder().table("web_sessions").max_connections(20);
/// let store = builder.connect("mysql://app:secret@localhost/shop").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MySqlStoreBuilder {
    pub(super) table: Option<String>,
    pub(super) timeout: Duration,
    pub(super) sweep_every: Option<Duration>,
    pub(super) max_connections: u32,
}

impl MySqlStoreBuilder {
    /// Creates the options as they are unless something else is said.
    pub(super) const fn new() -> Self {
        Self { table: None, timeout: TIMEOUT, sweep_every: Some(EVERY), max_connections: 10 }
    }

    /// Names the table: 1 to 48 ASCII letters, digits and underscores, no digit first. `cloakroom_sessions` by default.
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

    /// Connects, so that a wrong address or password shows at once.
    ///
    /// TLS is by `ssl-mode` in the address, with rustls; `PREFERRED` unless it says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `table`, `timeout`, `max_connections` or `sweep_every`;
    /// [`ErrorKind::Rejected`] for a wrong user, password or database; [`ErrorKind::Unavailable`] and
    /// [`ErrorKind::Timeout`] if the server cannot be reached.
    pub async fn connect(self, url: &str) -> Result<MySqlStore> {
        let named = |error: Error| error.operation("connect").store(STORE);
        let names = self.check().map_err(named)?;
        let pool = open_pool(url, self.max_connections, self.timeout).await.map_err(named)?;
        let store = MySqlStore::new(Connections::of_the_store(pool), names, &self);
        store.0.link.reach().await?;
        Ok(store)
    }

    /// Uses a pool of the application's, as it is.
    ///
    /// The server need not be there yet: the status is `Connecting` until it has been seen.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `table`, `timeout` or `sweep_every`.
    pub fn from_pool(self, pool: MySqlPool) -> Result<MySqlStore> {
        let names = self.check().map_err(|error| error.store(STORE))?;
        Ok(MySqlStore::new(Connections::of_the_application(pool), names, &self))
    }

    fn check(&self) -> Result<Names> {
        check_times(self.timeout, self.sweep_every)?;
        if self.max_connections == 0 {
            return Err(Error::config("max_connections", "must be at least 1"));
        }
        Names::with_companions(self.table.as_deref().unwrap_or(schema::TABLE), None, Quote::Backtick)
    }
}

/// Connects once, so that a mistake shows, and returns a pool for one store.
pub(crate) async fn open_pool(url: &str, max_connections: u32, timeout: Duration) -> Result<MySqlPool> {
    let options = options(url)?;
    let conn = tokio::time::timeout(timeout, options.connect()).await.map_err(|_| {
        Error::new(ErrorKind::Timeout).hint(format!("the server did not answer within {timeout:?}"))
    })?;
    // A connection of its own: the pool would try again for a while, and not say why.
    drop(conn.map_err(|error| fault::classify(error).error)?);
    let pool = MySqlPoolOptions::new()
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
        });
    Ok(pool.connect_lazy_with(options))
}

/// Reads an address. Its text is not repeated in errors.
fn options(url: &str) -> Result<MySqlConnectOptions> {
    let form = "must look like mysql://user:password@host/database";
    if !url.starts_with("mysql://") && !url.starts_with("mariadb://") {
        return Err(Error::config("url", form));
    }
    MySqlConnectOptions::from_str(url).map_err(|_| Error::config("url", form))
}
