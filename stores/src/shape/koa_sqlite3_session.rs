//! The table of koa-sqlite3-session, a store of koa-generic-session in an SQLite file.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Error, ErrorKind, Key, Result, Store, Swapped, Ttl, async_trait};
use sqlx::{
    Row, Sqlite, SqlitePool,
    query::Query,
    sqlite::{SqliteArguments, SqlitePoolOptions},
};

use super::json::json;
use crate::{
    sql::{Connections, Line, Link, Names, Preparing, Quote, Sql, TIMEOUT, check_times},
    sqlite::{NOW, Writers, classify, options},
    sweep::{More, Sweep, Sweeper},
};

/// The name of this store in errors.
const STORE: &str = "koa-sqlite3-session";

/// The table that the Node package makes. It knows no other.
const TABLE: &str = "__session_store";

/// The largest value, in bytes.
const MAX_VALUE: usize = 16 * 1024 * 1024;

/// How often a swap is tried that meets its own expected value again between its two statements.
const SWAPS: u32 = 8;

// The column may be `NULL`, which Node never writes for a session; as an empty text it is one that cannot be read.
const GET: &str = "SELECT COALESCE(data, '') FROM {values} WHERE id = ?1 AND expires > {now}";

// The clock counts whole milliseconds, and the one under way is not over: hence `1 +`.
const SET: &str = "INSERT INTO {values} (id, expires, data) VALUES (?1, {now} + 1 + ?3, ?2) \
     ON CONFLICT (id) DO UPDATE SET data = excluded.data, expires = excluded.expires";

const CREATE: &str = "INSERT INTO {values} (id, expires, data) VALUES (?1, {now} + 1 + ?3, ?2) \
     ON CONFLICT (id) DO UPDATE SET data = excluded.data, expires = excluded.expires WHERE expires <= {now}";

const DESTROY: &str = "DELETE FROM {values} WHERE id = ?1 AND expires > {now}";

const REPLACE: &str = "UPDATE {values} SET data = ?3, expires = {now} + 1 + ?4 \
     WHERE id = ?1 AND CAST(COALESCE(data, '') AS BLOB) = ?2 AND expires > {now}";

const REMOVE: &str = "DELETE FROM {values} \
     WHERE id = ?1 AND CAST(COALESCE(data, '') AS BLOB) = ?2 AND expires > {now}";

const TOUCH: &str = "UPDATE {values} SET expires = {now} + 1 + ?2 WHERE id = ?1 AND expires > {now}";

const SWEEP: &str =
    "DELETE FROM {values} WHERE id IN (SELECT id FROM {values} WHERE expires <= {now} LIMIT ?1)";

const CHECK: &str = "SELECT EXISTS (SELECT id, expires, data FROM {values})";

/// The table of [koa-sqlite3-session](https://www.npmjs.com/package/koa-sqlite3-session) 2: `id text`,
/// `expires integer`, `data text`. It goes with the profile of Koa, whose keys stand there whole.
///
/// It is strict: it compares and swaps on the text of the JSON, in one statement; a second one reads the latest text if
/// it did not fit. Node's own writes compare nothing.
///
/// ```no_run
/// use cloakroom::shape::KoaSqlite3Session;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = KoaSqlite3Session::builder().connect("sqlite:///var/lib/shop/sessions.db").await?;
/// # Ok(()) }
/// ```
///
/// # The file
///
/// It is Node's: it is neither made here nor put into another journal mode, and both processes must be on the machine
/// that it is on. In SQLite's own mode, which is Node's, a writer waits for readers, and each write for the disk; after
/// `PRAGMA journal_mode = WAL`, which the file keeps, neither does, and both sides go on as before. Node gives up at once
/// when it meets another writer, unless it sets a busy timeout; this side waits for 2 seconds.
///
/// # What Node does with it
///
/// A session whose cookie ends with the browser has 1.8 seconds there, a slip in the package's default; give
/// koa-generic-session a `ttl`. Values have at most 16 MiB here.
#[derive(Clone, Debug)]
pub struct KoaSqlite3Session(Arc<Table>);

struct Table {
    link: Link<Sqlite>,
    names: Names,
    statements: Statements,
    writers: Writers,
    sweeper: Sweeper,
}

struct Statements {
    get: Sql,
    set: Sql,
    create: Sql,
    destroy: Sql,
    replace: Sql,
    remove: Sql,
    touch: Sql,
    sweep: Sql,
}

impl KoaSqlite3Session {
    /// Starts a store over the table of a Node program.
    pub const fn builder() -> KoaSqlite3SessionBuilder {
        KoaSqlite3SessionBuilder { table: None, max_connections: 10, sweep_every: None }
    }
}

/// Says where the table of a Node program is.
#[derive(Clone, Debug)]
#[must_use]
pub struct KoaSqlite3SessionBuilder {
    table: Option<String>,
    max_connections: u32,
    sweep_every: Option<Duration>,
}

impl KoaSqlite3SessionBuilder {
    /// Names the table: 1 to 48 ASCII letters, digits and underscores, no digit first. `__session_store` by default, as
    /// in Node.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// The most connections that are opened, each with a thread of its own. 10 by default.
    pub const fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// How often rows that have ended are deleted, on average; `None` for never, which is the default: the Node program
    /// deletes them itself while it runs, every 15 minutes. Give a time when Node is gone.
    pub fn sweep_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.sweep_every = every.into();
        self
    }

    /// Opens the file, and looks whether the table is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `table`, `sweep_every` or `max_connections`: also for a database in memory, which no other
    /// process could see. [`ErrorKind::Rejected`] if the file is not there or may not be read.
    pub async fn connect(self, url: &str) -> Result<KoaSqlite3Session> {
        let named = |error: Error| error.operation("connect").store(STORE);
        self.check().map_err(named)?;
        let options = options(url).map_err(named)?.create_if_missing(false).busy_timeout(TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(self.max_connections)
            // There is no server that could have hung up.
            .test_before_acquire(false)
            .acquire_timeout(TIMEOUT)
            .connect_lazy_with(options);
        self.open(Connections::of_the_store(pool)).await
    }

    /// Uses a pool of the application's, and looks whether the table is there. The busy timeout is then yours.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_pool(self, pool: SqlitePool) -> Result<KoaSqlite3Session> {
        self.check().map_err(|error| error.operation("connect").store(STORE))?;
        self.open(Connections::of_the_application(pool)).await
    }

    fn check(&self) -> Result<()> {
        check_times(TIMEOUT, self.sweep_every)?;
        if self.max_connections == 0 {
            return Err(Error::config("max_connections", "must be at least 1"));
        }
        Ok(())
    }

    async fn open(self, connections: Connections<Sqlite>) -> Result<KoaSqlite3Session> {
        let named = |error: Error| error.operation("connect").store(STORE);
        let names = Names::new(self.table.as_deref().unwrap_or(TABLE), None, Quote::Double).map_err(named)?;
        let table = Table {
            link: Link::new(Line::new(connections, STORE, TIMEOUT, Preparing::Once, classify, None)),
            statements: Statements::new(&names),
            // Outside of WAL mode a second one would only keep the first from coming to its end.
            writers: Writers::new(STORE, 1, TIMEOUT),
            sweeper: Sweeper::new(self.sweep_every),
            names,
        };
        table.check().await.map_err(named)?;
        Ok(KoaSqlite3Session(Arc::new(table)))
    }
}

impl Statements {
    fn new(names: &Names) -> Self {
        let sql = |template| names.render(template, &[("{now}", NOW)]);
        Self {
            get: sql(GET),
            set: sql(SET),
            create: sql(CREATE),
            destroy: sql(DESTROY),
            replace: sql(REPLACE),
            remove: sql(REMOVE),
            touch: sql(TOUCH),
            sweep: sql(SWEEP),
        }
    }
}

#[async_trait]
impl Store for KoaSqlite3Session {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get("get", key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let (sql, text) = (&self.0.statements.set, text("set", &value)?);
        self.0.write("set", || query(sql).bind(key.as_str()).bind(text).bind(millis(ttl))).await?;
        Ok(())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let sql = &self.0.statements.destroy;
        Ok(self.0.write("destroy", || query(sql).bind(key.as_str())).await? > 0)
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for KoaSqlite3Session {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let (sql, text) = (&self.0.statements.create, text("create", &value)?);
        let made = || query(sql).bind(key.as_str()).bind(text).bind(millis(ttl));
        Ok(self.0.write("create", made).await? > 0)
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let (sql, text) = (&self.0.statements.replace, text("replace", &value)?);
        let swap = || query(sql).bind(key.as_str()).bind(expected).bind(text).bind(millis(ttl));
        self.0.swap("replace", key, expected, swap).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let sql = &self.0.statements.remove;
        self.0.swap("remove", key, expected, || query(sql).bind(key.as_str()).bind(expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.touch;
        Ok(self.0.write("touch", || query(sql).bind(key.as_str()).bind(millis(ttl))).await? > 0)
    }
}

impl Table {
    /// Looks whether the table is there.
    async fn check(&self) -> Result<()> {
        let check = self.names.render(CHECK, &[]);
        match self.link.row("connect", || query(&check)).await {
            // The code of a statement that cannot be prepared: there is no such table or column.
            Err(error) if error.to_string().contains("(code 1)") => Err(Error::config(
                "table",
                "is not there, or has other columns: the Node program makes it when it starts",
            )),
            outcome => outcome.map(drop),
        }
    }

    async fn get(self: &Arc<Self>, operation: &'static str, key: &Key) -> Result<Option<Bytes>> {
        self.sweeper.wake(|| Arc::downgrade(self));
        let row = self.link.row(operation, || query(&self.statements.get).bind(key.as_str())).await?;
        row.map(|row| row.try_get::<String, _>(0).map(Bytes::from).map_err(decoding)).transpose()
    }

    /// Carries a write out, behind the others of this process, and returns how many rows it concerned.
    async fn write<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send,
    ) -> Result<u64> {
        let _turn = self.writers.turn(operation).await?;
        Ok(self.link.run(operation, make).await?.result.rows_affected())
    }

    /// Carries out a conditional write, and finds out why if it did not apply.
    async fn swap<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        key: &Key,
        expected: &[u8],
        make: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send + Sync,
    ) -> Result<Swapped> {
        for _ in 0..SWAPS {
            if self.write(operation, &make).await? > 0 {
                return Ok(Swapped::Done);
            }
            match self.get(operation, key).await? {
                None => return Ok(Swapped::Gone),
                Some(current) if current != expected => return Ok(Swapped::Conflict(current)),
                // What was expected came back since: the condition holds after all.
                Some(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Contention).operation(operation).store(STORE))
    }
}

#[async_trait]
impl Sweep for Table {
    async fn sweep_batch(&self, rows: u32) -> Result<More> {
        let swept = self.write("sweep", || query(&self.statements.sweep).bind(i64::from(rows))).await?;
        Ok(if swept == u64::from(rows) { More::Maybe } else { More::No })
    }
}

/// Shows the table and the connections, never the address, a key or a value.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(STORE)
            .field("table", &self.names.table())
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

fn query<'q>(sql: &Sql) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql.text())
}

fn text<'v>(operation: &'static str, value: &'v [u8]) -> Result<&'v str> {
    json(value, MAX_VALUE).map_err(|error| error.operation(operation).store(STORE))
}

/// A ttl as SQLite counts: 400 days at most, so the cast is exact.
const fn millis(ttl: Ttl) -> i64 {
    ttl.millis() as i64
}

fn decoding(error: sqlx::Error) -> Error {
    classify(error).error.store(STORE)
}
