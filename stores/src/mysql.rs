//! The store in a MySQL or MariaDB database.

mod builder;
mod fault;
mod schema;
mod sweep;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, Result, StatusStream, Store, Swapped, Ttl,
};
use futures_util::{
    TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use sqlx::{
    MySql, MySqlConnection, MySqlPool, Row,
    mysql::{MySqlArguments, MySqlRow},
    query::Query,
};
use tokio::sync::OnceCell;

pub use self::builder::MySqlStoreBuilder;
pub(crate) use self::{builder::open_pool, fault::classify, schema::NOW};
use self::{schema::Statements, sweep::Due};
use crate::{
    sql::{Connections, Line, Link, Names, PAGE, Preparing, Quote, Sql, Walk, key_of, millis, user_bytes},
    sweep::Sweeper,
};

/// The name of this store in errors.
const STORE: &str = "mysql";

/// What every server takes in one statement, and how much of its room is not the values'.
const SMALL: usize = 512 * 1024;
const FRAME: usize = 4 * 1024;

/// How often a swap is tried that meets its own expected value again between its two statements.
const SWAPS: u32 = 8;

/// A store in a MySQL database, version 8 or later, or in MariaDB, 10.11 or later.
///
/// It is strict: it compares and swaps, so parallel requests lose nothing. It knows which sessions belong to a user,
/// and can be listed, counted, cleared and swept. Clones share one pool of connections.
///
/// ```no_run
/// use cloakroom::MySqlStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = MySqlStore::connect("mysql://app:secret@localhost/shop").await?;
/// store.migrate().await?;
/// # Ok(()) }
/// ```
///
/// # Permissions
///
/// `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table and on the one beside it with `_users` at the end of its name.
/// [`migrate`](Self::migrate) also needs `SELECT` on the one with `_schema`, and `CREATE` on the database, unless the tables are up to date.
///
/// # Cost
///
/// One statement for each `get`, `set`, `destroy`, `create`, `touch` and `bind`, and for a `replace`
/// or `remove` that succeeds, prepared once for each connection. One that fails reads the latest value with a second:
/// these servers cannot answer an `UPDATE` with rows.
///
/// The driver's pool pings every connection that it is given back. So the store keeps those that it has just used at
/// hand for up to half a second; over a pool of the application's it does not, and each operation has a second round
/// trip behind it, which no caller waits for.
///
/// # Durability
///
/// That of your server: with InnoDB's default, `innodb_flush_log_at_trx_commit = 1`, what was answered is on its disk.
/// A promoted replica may lack the last writes.
///
/// # Limits
///
/// Values of up to the server's `max_allowed_packet`, less 4 KiB: 16 MiB on MariaDB, 64 MiB on MySQL 8; more is
/// [`ErrorKind::TooLarge`]. A `replace` needs room for the value it expects and the new one together. The first statement
/// with more than 512 KiB asks the server how much it takes, which is one more round trip.
///
/// Times are milliseconds of the server's clock, whatever its time zone and those of its clients. Expired rows are never
/// read; a background task in each process deletes them in batches every five minutes or so, and ends with the last clone
/// of the store.
///
/// # Dialects
///
/// All statements are such as both servers understand: `VALUES()` in an upsert, which MySQL 8.0.20 and later take with
/// a warning that it is deprecated, because MariaDB does not know the alias that would replace it; no `RETURNING`,
/// which MySQL does not have. Whether a `create` made a row is told by `LAST_INSERT_ID(..)`, since both count a row that
/// was found as one that was changed. Names of tables differ in case or not as `lower_case_table_names` says.
#[derive(Clone)]
pub struct MySqlStore(Arc<Inner>);

struct Inner {
    link: Link<MySql>,
    names: Names,
    statements: Statements,
    sweeper: Sweeper,
    /// How large a statement the server takes, once one was large enough to ask.
    room: OnceCell<usize>,
    /// Up to where the values have been looked through for those that are over, and the bindings for stale ones.
    values: Walk<Due>,
    bindings: Walk<String>,
    /// Whether the server was found to write statements into its log for replicas, and so to lock gaps.
    logs_statements: AtomicBool,
}

impl MySqlStore {
    /// Connects to an address such as `mysql://user:password@host/database`.
    ///
    /// # Errors
    /// As [`MySqlStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Uses a pool of the application's. See [`MySqlStoreBuilder::from_pool`].
    #[must_use]
    pub fn from_pool(pool: MySqlPool) -> Self {
        let names = Names::new(schema::TABLE, None, Quote::Backtick);
        Self::new(
            Connections::of_the_application(pool),
            names.expect("the default name is a fine one"),
            &Self::builder(),
        )
    }

    /// Starts a store with options.
    pub const fn builder() -> MySqlStoreBuilder {
        MySqlStoreBuilder::new()
    }

    fn new(connections: Connections<MySql>, names: Names, builder: &MySqlStoreBuilder) -> Self {
        let line = Line::new(connections, STORE, builder.timeout, Preparing::Once, classify, Some(probe));
        Self(Arc::new(Inner {
            link: Link::new(line),
            statements: Statements::new(&names),
            names,
            sweeper: Sweeper::new(builder.sweep_every),
            room: OnceCell::new(),
            values: Walk::default(),
            bindings: Walk::default(),
            logs_statements: AtomicBool::new(false),
        }))
    }

    /// Makes the tables, or brings those of an earlier version up to date. Does nothing if they are.
    ///
    /// Any number of processes may call it at once: a named lock lets one after the other in. It needs to be called
    /// once, or after an update of this crate; or run [`ddl`](Self::ddl) with a migrator of your own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the tables are those of a newer version; [`ErrorKind::Rejected`] if the user may make
    /// none; else as [`Store::set`].
    pub async fn migrate(&self) -> Result<()> {
        schema::migrate(&self.0).await
    }

    /// Returns the statements with which [`migrate`](Self::migrate) makes the tables, each ended by a semicolon.
    #[must_use]
    pub fn ddl(&self) -> String {
        schema::ddl(&self.0.names)
    }

    /// Ends the background task that deletes expired rows, for this store and its clones and for good. One that is not
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
    pub fn pool(&self) -> &MySqlPool {
        self.0.link.pool()
    }
}

#[async_trait]
impl Store for MySqlStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get("get", key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.check_room("set", value.len()).await?;
        let sql = &self.0.statements.set;
        self.0.write("set", || query(sql).bind(key.as_bytes()).bind(&value[..]).bind(millis(ttl))).await?;
        Ok(())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let sql = &self.0.statements.destroy;
        Ok(self.0.write("destroy", || query(sql).bind(key.as_bytes())).await? > 0)
    }

    fn status(&self) -> StatusStream {
        self.0.link.status()
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
impl AtomicStore for MySqlStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.0.check_room("create", value.len()).await?;
        let sql = &self.0.statements.create;
        let made = || query(sql).bind(key.as_bytes()).bind(&value[..]).bind(millis(ttl));
        self.0.wake_sweeper();
        let answer = self.0.link.run("create", made).await?;
        // The statement leaves the end of the live row here, if there was one.
        Ok(answer.result.last_insert_id() == 0)
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.0.check_room("replace", expected.len() + value.len()).await?;
        let sql = &self.0.statements.replace;
        let swap = || query(sql).bind(&value[..]).bind(millis(ttl)).bind(key.as_bytes()).bind(expected);
        self.0.swap("replace", key, expected, swap).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.0.check_room("remove", expected.len()).await?;
        let sql = &self.0.statements.remove;
        self.0.swap("remove", key, expected, || query(sql).bind(key.as_bytes()).bind(expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.touch;
        Ok(self.0.write("touch", || query(sql).bind(millis(ttl)).bind(key.as_bytes())).await? > 0)
    }
}

#[async_trait]
impl IndexedStore for MySqlStore {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let (sql, user) = (&self.0.statements.bind, user_bytes(STORE, user)?);
        self.0.write("bind", || query(sql).bind(key.as_bytes()).bind(user).bind(millis(ttl))).await?;
        Ok(())
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.0.keys("keys_of", || query(&self.0.statements.keys_of).bind(user.as_bytes())).await
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let sql = &self.0.statements.destroy_user;
        let except = except.map_or(&b""[..], Key::as_bytes);
        self.0.write("destroy_user", || query(sql).bind(user.as_bytes()).bind(except)).await
    }
}

#[async_trait]
impl AdminStore for MySqlStore {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let pages = stream::try_unfold(Some(String::new()), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            let page = || query(&self.0.statements.page).bind(after.as_bytes()).bind(PAGE);
            let keys = self.0.keys("scan", page).await?;
            let next = keys.last().map(|key| key.as_str().to_owned());
            Ok::<_, Error>(next.is_some().then(|| (stream::iter(keys).map(Ok), next)))
        });
        pages.try_flatten().boxed()
    }

    async fn len(&self) -> Result<u64> {
        let (mut len, mut after) = (0, String::new());
        loop {
            let count = || query(&self.0.statements.count).bind(after.as_bytes()).bind(PAGE);
            let Some(row) = self.0.link.row("len", count).await? else { return Ok(len) };
            len += row.try_get::<i64, _>(0).map_err(decoding)?.unsigned_abs();
            match text(&row, 1)? {
                Some(last) => after = last,
                None => return Ok(len),
            }
        }
    }

    async fn clear(&self) -> Result<u64> {
        schema::clear(&self.0).await
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.0.sweep_up_to(limit).await
    }
}

impl Inner {
    /// Refuses values that the server would not take in one statement: it hangs up on those, and whoever is still sending
    /// then never reads why.
    async fn check_room(&self, operation: &'static str, size: usize) -> Result<()> {
        if size <= SMALL {
            return Ok(());
        }
        let ask = || async {
            let row = self.link.row(operation, || sqlx::query("SELECT @@max_allowed_packet")).await?;
            let bytes = row.and_then(|row| row.try_get::<u64, _>(0).ok());
            // If it does not say, it decides.
            Ok::<_, Error>(bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX))
        };
        let room = *self.room.get_or_try_init(ask).await?;
        if size.saturating_add(FRAME) > room {
            let hint = format!(
                "{size} bytes of values are more than the server's max_allowed_packet, {room}, has room for"
            );
            return Err(Error::new(ErrorKind::TooLarge).operation(operation).store(STORE).hint(hint));
        }
        Ok(())
    }

    async fn get(self: &Arc<Self>, operation: &'static str, key: &Key) -> Result<Option<Bytes>> {
        self.wake_sweeper();
        let row = self.link.row(operation, || query(&self.statements.get).bind(key.as_bytes())).await?;
        row.map(|row| row.try_get::<Vec<u8>, _>(0).map(Bytes::from).map_err(decoding)).transpose()
    }

    /// Sees to it that the background task runs: there may have been no runtime for it before.
    fn wake_sweeper(self: &Arc<Self>) {
        self.sweeper.wake(|| Arc::downgrade(self));
    }

    /// Carries a write out and returns how many rows it concerned.
    async fn write<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        make: impl Fn() -> Query<'q, MySql, MySqlArguments> + Send,
    ) -> Result<u64> {
        self.wake_sweeper();
        Ok(self.link.run(operation, make).await?.result.rows_affected())
    }

    /// Carries out a conditional write, and finds out why if it did not apply.
    async fn swap<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        key: &Key,
        expected: &[u8],
        make: impl Fn() -> Query<'q, MySql, MySqlArguments> + Send + Sync,
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
        make: impl Fn() -> Query<'q, MySql, MySqlArguments> + Send,
    ) -> Result<Vec<Key>> {
        let rows = self.link.run(operation, make).await?.rows;
        rows.iter().map(|row| key_of(STORE, &text(row, 0)?.unwrap_or_default())).collect()
    }
}

/// Shows the table and the connections, never the address, a key or a value.
impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("table", &self.0.names.table())
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}

/// Asks whether the server is there and takes writes: what makes it answer 1290, 1836 or 1792. Each of the servers has
/// some of these switches, under names of its own, and `SHOW` passes over what it does not know.
pub(crate) fn probe(conn: &mut MySqlConnection) -> BoxFuture<'_, sqlx::Result<bool>> {
    Box::pin(async move {
        let sql = "SHOW SESSION VARIABLES WHERE variable_name IN \
                   ('read_only', 'super_read_only', 'innodb_read_only', 'transaction_read_only', 'tx_read_only')";
        let switches = sqlx::raw_sql(sql).fetch_all(conn).await?;
        for switch in switches {
            if !matches!(&*switch.try_get::<String, _>(1)?, "OFF" | "0") {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn query<'q>(sql: &Sql) -> Query<'q, MySql, MySqlArguments> {
    sqlx::query(sql.text())
}

/// Reads a key, or what is the greatest of some, if there is one.
fn text(row: &MySqlRow, column: usize) -> Result<Option<String>> {
    let bytes: Option<Vec<u8>> = row.try_get(column).map_err(decoding)?;
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|_| {
        // Not the bytes themselves: they may be somebody's key.
        Error::new(ErrorKind::Backend).store(STORE).hint("the table holds a key that is none")
    })
}

fn decoding(error: sqlx::Error) -> Error {
    classify(error).error.store(STORE)
}
