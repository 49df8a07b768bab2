//! The store in an SQLite file: for one machine, whose processes may share it.

mod builder;
mod fault;
mod schema;
mod writers;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, Result, Store, Swapped, Ttl,
};
use futures_util::{
    TryStreamExt,
    stream::{self, BoxStream, StreamExt},
};
use sqlx::{Row, Sqlite, SqlitePool, query::Query, sqlite::SqliteArguments};
use tokio::time::{Instant, sleep};

pub use self::builder::SqliteStoreBuilder;
use self::schema::Statements;
pub(crate) use self::{builder::options, fault::classify, schema::NOW, writers::Writers};
use crate::{
    sql::{
        Connections, Line, Link, Names, PAGE, Preparing, Quote, Sql, Walk, key_of, millis, more, user_bytes,
    },
    sweep::{Batch, More, Sweep, Sweeper},
};

/// How many writers of this process try for the file's lock at a time. With one the file is idle while the next one is
/// woken; with all of them most take a nap of SQLite's after every try.
const WRITERS: usize = 4;

/// The name of this store in errors.
const STORE: &str = "sqlite";

/// How often a swap is tried that meets its own expected value again between its two statements.
const SWAPS: u32 = 8;

/// A store in an SQLite file: for one machine, without a server, and sessions survive a restart.
///
/// It is strict: it compares and swaps, so parallel requests lose nothing, those of other processes on the same file
/// included. It knows which sessions belong to a user, and can be listed, counted, cleared and swept. Clones share one
/// pool of connections.
///
/// ```no_run
/// use cloakroom::SqliteStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = SqliteStore::connect("sqlite://sessions.db").await?;
/// store.migrate().await?;
/// # Ok(()) }
/// ```
///
/// # The file
///
/// [`connect`](Self::connect) makes it if it is missing, readable by its owner alone, and puts it into WAL mode:
/// readers and the one writer do not wait for each other. It must lie on a disk of this machine; SQLite's locks do
/// not work over a network. Beside it are `-wal` and `-shm`, which belong to it. The process needs to write all three
/// and the folder.
///
/// # Durability
///
/// `synchronous=NORMAL`: what was answered survives the end of the process, however it ends. When the whole machine
/// loses power the last moments may be missing, and the file is sound. For more, give [`from_pool`](Self::from_pool) a
/// pool with `synchronous=FULL`; each write then waits for the disk.
///
/// # Cost
///
/// One statement for each `get`, `set`, `destroy`, `create`, `touch` and `bind`, and for a `replace` or `remove` that
/// succeeds. One that fails reads the latest value with a second, so that writers wait for nobody's reading. Writers of
/// this process queue in the order they came; the first four of them, and those of other processes, try for the file's
/// one write lock for up to the [`timeout`](SqliteStoreBuilder::timeout), then the operation is [`ErrorKind::Timeout`].
/// A sweep, also one that is called for, goes by batches and rests for as long as each took, so that all of them go on.
///
/// # Limits
///
/// Values of up to 1 GB, the limit of SQLite; more is [`ErrorKind::TooLarge`]. Times are milliseconds of this
/// machine's clock. Expired rows are never read; a background task takes them out of the file every five minutes, and
/// ends with the last clone of the store. SQLite uses the room again, but never gives it back to the disk by itself.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    link: Link<Sqlite>,
    names: Names,
    statements: Statements,
    writers: Writers,
    sweeper: Sweeper,
    /// Whether there may be more values that are over, which an index tells, and up to where the bindings have been
    /// looked through for stale ones.
    values: Walk<()>,
    bindings: Walk<String>,
}

impl SqliteStore {
    /// Opens the file at an address such as `sqlite://sessions.db` or `sqlite:///var/lib/app/sessions.db`.
    ///
    /// # Errors
    /// As [`SqliteStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Uses a pool of the application's. See [`SqliteStoreBuilder::from_pool`].
    #[must_use]
    pub fn from_pool(pool: SqlitePool) -> Self {
        let names = Names::new(schema::TABLE, None, Quote::Double);
        let names = names.expect("the name of the table is one of ours, and fine");
        Self::new(Connections::of_the_application(pool), names, &Self::builder())
    }

    /// Starts a store with options.
    pub const fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    fn new(connections: Connections<Sqlite>, names: Names, builder: &SqliteStoreBuilder) -> Self {
        let line = Line::new(connections, STORE, builder.timeout, Preparing::Once, classify, None);
        Self(Arc::new(Inner {
            link: Link::new(line),
            statements: Statements::new(&names),
            names,
            writers: Writers::new(STORE, WRITERS, builder.timeout),
            sweeper: Sweeper::new(builder.sweep_every),
            values: Walk::default(),
            bindings: Walk::default(),
        }))
    }

    /// Makes the tables, or brings those of an earlier version up to date. Does nothing if they are.
    ///
    /// Any number of processes may call it at once. It needs to be called once for each file, or after an update of
    /// this crate; or run [`ddl`](Self::ddl) with a migrator of your own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the tables are those of a newer version; else as [`Store::set`].
    pub async fn migrate(&self) -> Result<()> {
        schema::migrate(&self.0).await
    }

    /// Returns the statements with which [`migrate`](Self::migrate) makes the tables, each ended by a semicolon.
    #[must_use]
    pub fn ddl(&self) -> String {
        schema::ddl(&self.0.names)
    }

    /// Ends the background task that takes expired rows out, for this store and its clones and for good. One that is not
    /// stopped ends with the last clone.
    ///
    /// A batch under way is applied as a whole or not at all. [`AdminStore::sweep`] goes on working.
    pub fn stop_sweeping(&self) {
        self.0.sweeper.stop();
    }

    /// Returns the pool, which is shared with all clones.
    ///
    /// If it is the store's own, connections that the store has just used are not in it, for up to a second.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        self.0.link.pool()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get("get", key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let sql = &self.0.statements.set;
        self.0.write("set", || query(sql).bind(key.as_str()).bind(&value[..]).bind(millis(ttl))).await?;
        Ok(())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let sql = &self.0.statements.destroy;
        Ok(self.0.write("destroy", || query(sql).bind(key.as_str())).await? > 0)
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for SqliteStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.create;
        let made = || query(sql).bind(key.as_str()).bind(&value[..]).bind(millis(ttl));
        Ok(self.0.write("create", made).await? > 0)
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let sql = &self.0.statements.replace;
        let swap = || query(sql).bind(key.as_str()).bind(expected).bind(&value[..]).bind(millis(ttl));
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

#[async_trait]
impl IndexedStore for SqliteStore {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let (sql, user) = (&self.0.statements.bind, user_bytes(STORE, user)?);
        self.0.write("bind", || query(sql).bind(key.as_str()).bind(user).bind(millis(ttl))).await?;
        Ok(())
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.0.keys("keys_of", || query(&self.0.statements.keys_of).bind(user.as_bytes())).await
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let sql = &self.0.statements.destroy_user;
        let except = except.map_or("", Key::as_str);
        self.0.write("destroy_user", || query(sql).bind(user.as_bytes()).bind(except)).await
    }
}

#[async_trait]
impl AdminStore for SqliteStore {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let pages = stream::try_unfold(Some(String::new()), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            let page = || query(&self.0.statements.page).bind(after.as_str()).bind(PAGE);
            let keys = self.0.keys("scan", page).await?;
            let next = keys.last().map(|key| key.as_str().to_owned());
            Ok::<_, Error>(next.is_some().then(|| (stream::iter(keys).map(Ok), next)))
        });
        pages.try_flatten().boxed()
    }

    async fn len(&self) -> Result<u64> {
        let (mut len, mut after) = (0, String::new());
        loop {
            let count = || query(&self.0.statements.count).bind(after.as_str()).bind(PAGE);
            let Some(row) = self.0.link.row("len", count).await? else { return Ok(len) };
            len += u64::try_from(row.try_get::<i64, _>(0).map_err(decoding)?).unwrap_or(0);
            match row.try_get::<Option<String>, _>(1).map_err(decoding)? {
                Some(last) => after = last,
                None => return Ok(len),
            }
        }
    }

    async fn clear(&self) -> Result<u64> {
        schema::clear(&self.0).await
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        let (mut left, mut batch) = (u64::from(limit), Batch::default());
        while left > 0 {
            let (began, rows) = (Instant::now(), batch.rows());
            let most = u32::try_from(left).unwrap_or(rows).min(rows);
            let gone = self.0.sweep_values(most).await?;
            batch.took(began.elapsed());
            left = left.saturating_sub(gone);
            if gone < u64::from(most) || left == 0 {
                break;
            }
            // As the background task does. Writers try for the lock in turns with pauses, and with one batch right after the
            // other some would never find it free.
            sleep(began.elapsed()).await;
        }
        let from = self.0.bindings.place().unwrap_or_default();
        self.0.sweep_bindings(&from, batch.rows()).await?;
        Ok(u64::from(limit) - left)
    }
}

#[async_trait]
impl Sweep for Inner {
    async fn sweep_batch(&self, rows: u32) -> Result<More> {
        let swept = match self.values.place() {
            None => Ok(()),
            Some(()) => {
                let gone = self.sweep_values(rows).await;
                gone.map(|gone| self.values.go_on_from((gone == u64::from(rows)).then_some(())))
            }
        };
        // Also when the values could not be swept: the index must not grow without end because of them.
        let bindings_swept = match self.bindings.place() {
            None => Ok(()),
            Some(from) => self.sweep_bindings(&from, rows).await,
        };
        more((&self.values, swept), (&self.bindings, bindings_swept))
    }
}

impl Inner {
    async fn get(self: &Arc<Self>, operation: &'static str, key: &Key) -> Result<Option<Bytes>> {
        self.wake_sweeper();
        let row = self.link.row(operation, || query(&self.statements.get).bind(key.as_str())).await?;
        row.map(|row| row.try_get::<Vec<u8>, _>(0).map(Bytes::from).map_err(decoding)).transpose()
    }

    /// Sees to it that the background task runs: there may have been no runtime for it before.
    fn wake_sweeper(self: &Arc<Self>) {
        self.sweeper.wake(|| Arc::downgrade(self));
    }

    async fn write<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send,
    ) -> Result<u64> {
        self.wake_sweeper();
        self.write_in_turn(operation, make).await
    }

    /// Carries a write out, behind the others of this process, and returns how many rows it concerned.
    async fn write_in_turn<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send,
    ) -> Result<u64> {
        let _turn = self.writers.turn(operation).await?;
        let answer = self.link.run(operation, make).await?;
        Ok(answer.result.rows_affected())
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

    async fn keys<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Sqlite, SqliteArguments> + Send,
    ) -> Result<Vec<Key>> {
        let rows = self.link.run(operation, make).await?.rows;
        rows.iter().map(|row| key_of(STORE, row.try_get(0).map_err(decoding)?)).collect()
    }

    async fn sweep_values(&self, most: u32) -> Result<u64> {
        self.write_in_turn("sweep", || query(&self.statements.sweep).bind(i64::from(most))).await
    }

    /// Drops the stale among the next bindings. Looking at all of them at once would take the lock for too long.
    async fn sweep_bindings(&self, from: &str, rows: u32) -> Result<()> {
        let last = || query(&self.statements.last_binding).bind(from).bind(i64::from(rows));
        let row = self.link.row("sweep", last).await?;
        let to: Option<String> = row.map(|row| row.try_get(0).map_err(decoding)).transpose()?.flatten();
        if let Some(to) = &to {
            let drop = || query(&self.statements.sweep_bindings).bind(from).bind(to.as_str());
            self.write_in_turn("sweep", drop).await?;
        }
        self.bindings.go_on_from(to);
        Ok(())
    }
}

/// Shows the table and the connections, never the address, a key or a value.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("table", &self.0.names.table())
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}

fn query<'q>(sql: &Sql) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql.text())
}

fn decoding(error: sqlx::Error) -> Error {
    classify(error).error.store(STORE)
}
