//! The options of the SQLite store, and how it opens its file.

use std::{str::FromStr, time::Duration};

// Named in the documentation below.
#[cfg(doc)]
use cloakroom_core::ErrorKind;
use cloakroom_core::{Error, Result};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::{STORE, SqliteStore, schema};
use crate::{
    sql::{Connections, Names, Quote, TIMEOUT, check_times},
    sweep::EVERY,
};

/// The options of an [`SqliteStore`].
///
/// ```no_run
/// use cloakroom::SqliteStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = SqliteStore::builder().table("shop_sessions").connect("sqlite://shop.db").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteStoreBuilder {
    pub(super) table: Option<String>,
    pub(super) timeout: Duration,
    pub(super) sweep_every: Option<Duration>,
    pub(super) max_connections: u32,
}

impl SqliteStoreBuilder {
    /// Creates the options as they are unless something else is said.
    pub(super) const fn new() -> Self {
        Self { table: None, timeout: TIMEOUT, sweep_every: Some(EVERY), max_connections: 10 }
    }

    /// Names the table: 1 to 48 ASCII letters, digits and underscores, no digit first. `cloakroom_sessions` by default.
    ///
    /// The tables beside it have the same name with `_users` and `_schema` at the end. So no name may end like that, nor
    /// like one of their indexes: `_by_end`, `_by_user`, `_pkey`. Names that begin with `sqlite_` are SQLite's.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// How long an operation waits at each place where it may have to: a write for its turn among the writers of this
    /// process, then for a connection, then for the lock of the file, which another process may hold. One that is
    /// unlucky with all of them takes three times as long. 2 seconds by default.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often expired rows are taken out, on average; `None` for never. Every 5 minutes by default.
    pub fn sweep_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.sweep_every = every.into();
        self
    }

    /// The most connections that [`connect`](Self::connect) opens, each with a thread of its own. 10 by default.
    pub const fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Opens the file, and makes it if it is missing, unless the address has a `mode` that says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `table`, `timeout`, `max_connections` or `sweep_every`: also for a database
    /// in memory, which would be another one for each connection. [`ErrorKind::Rejected`] if the file may not be
    /// written, [`ErrorKind::Timeout`] if another process holds it.
    pub async fn connect(self, url: &str) -> Result<SqliteStore> {
        let names = self.check().map_err(|error| error.store(STORE))?;
        let options = options(url).map_err(|error| error.store(STORE))?;
        let options = options.synchronous(SqliteSynchronous::Normal).busy_timeout(self.timeout);
        if may_make_file(url) {
            schema::make_file(options.get_filename());
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(self.max_connections)
            // There is no server that could have hung up.
            .test_before_acquire(false)
            .acquire_timeout(self.timeout)
            .connect_lazy_with(options);
        let store = SqliteStore::new(Connections::of_the_store(pool), names, &self);
        schema::switch_to_wal(&store.0).await?;
        Ok(store)
    }

    /// Uses a pool of the application's, as it is.
    ///
    /// The journal mode, `synchronous` and the busy timeout are then yours: sqlx leaves the first two as the file and
    /// SQLite have them, which makes each write several times as dear as WAL with `synchronous=NORMAL`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `table`, `timeout` or `sweep_every`.
    pub fn from_pool(self, pool: SqlitePool) -> Result<SqliteStore> {
        let names = self.check().map_err(|error| error.store(STORE))?;
        Ok(SqliteStore::new(Connections::of_the_application(pool), names, &self))
    }

    fn check(&self) -> Result<Names> {
        check_times(self.timeout, self.sweep_every)?;
        if self.max_connections == 0 {
            return Err(Error::config("max_connections", "must be at least 1"));
        }
        let table = self.table.as_deref().unwrap_or(schema::TABLE);
        if table.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(Error::config("table", "must not begin with sqlite_: such names are SQLite's own"));
        }
        Names::with_companions(table, None, Quote::Double)
    }
}

/// Tells whether SQLite would make the file if it is missing, which it does for everybody to read.
fn may_make_file(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    !query.split('&').any(|pair| matches!(pair, "mode=ro" | "mode=rw"))
}

/// Reads an address. Its text is not repeated in errors.
pub(crate) fn options(url: &str) -> Result<SqliteConnectOptions> {
    let form = "must look like sqlite://sessions.db or sqlite:///var/lib/app/sessions.db";
    if !url.starts_with("sqlite:") {
        return Err(Error::config("url", form));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|_| Error::config("url", form))?;
    if url.contains(":memory:")
        || url.contains("mode=memory")
        || options.get_filename().as_os_str().is_empty()
    {
        let cure = "must name a file: in memory every connection would have a database of its own; for sessions in \
                    memory take `MemoryStore`";
        return Err(Error::config("url", cure));
    }
    Ok(options)
}
