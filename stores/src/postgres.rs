//! The store in a PostgreSQL database.

mod builder;
mod fault;
mod schema;
mod sweep;

use std::{fmt, sync::Arc};

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
    PgConnection, PgPool, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

pub use self::builder::{PostgresStoreBuilder, Prepare};
use self::schema::Statements;
pub(crate) use self::{
    builder::{options, pool_options},
    fault::classify,
};
use crate::{
    sql::{Connections, Line, Link, Names, PAGE, Preparing, Quote, Sql, Walk, key_of, millis, user_bytes},
    sweep::Sweeper,
};

/// The name of this store in errors.
const STORE: &str = "postgres";

/// A store in a PostgreSQL database, version 12 or later.
///
/// It is strict: it compares and swaps, so parallel requests lose nothing. It knows which sessions belong to a user,
/// and can be listed, counted, cleared and swept. Clones share one pool of connections.
///
/// ```no_run
/// use cloakroom::PostgresStore;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = PostgresStore::connect("postgres://app:secret@localhost/shop").await?;
/// store.migrate().await?;
/// # Ok(()) }
/// ```
///
/// # Permissions
///
/// `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table and on the one beside it with `_users` at the end of its name.
/// [`migrate`](Self::migrate) also needs `SELECT` on the one with `_schema`, and `CREATE` on the schema, unless the tables are up to date.
///
/// # Cost
///
/// One statement for each `get`, `set`, `destroy`, `create`, `replace`, `remove`, `touch` and `bind`,
/// prepared once for each connection; a swap that fails answers with the latest value in the same statement. Only when
/// another write comes in the midst of a swap a second one decides.
///
/// The driver's pool pings every connection that it is given back. So the store keeps those that it has just used at
/// hand for up to half a second; over a pool of the application's it does not, and each operation has a second round
/// trip behind it, which no caller waits for.
///
/// # Durability
///
/// That of your server: with its default, `synchronous_commit = on`, what was answered is on its disk. A promoted
/// standby may lack the last writes, unless it is a synchronous one.
///
/// # Limits
///
/// Values of up to 1 GB; more is [`ErrorKind::TooLarge`]. Times are milliseconds of the server's clock, whatever its
/// time zone and those of its clients. Expired rows are never read; a background task in each process deletes them in
/// batches every five minutes or so, and ends with the last clone of the store.
///
/// # Poolers
///
/// The store keeps no state in its connections but prepared statements. PgBouncer keeps track of those from version
/// 1.21 on (`max_prepared_statements`), and so do most others. For one that does not and hands out another connection
/// for each transaction, choose [`Prepare::EachTime`]: with that the conformance suite passes behind PgBouncer 1.18 in
/// transaction mode. How soon the death of the server behind a pooler shows depends on when the pooler says so; the
/// timeout of an operation is the bound.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    link: Link<Postgres>,
    names: Names,
    statements: Statements,
    sweeper: Sweeper,
    /// Up to where the values have been looked through for those that are over, and the bindings for stale ones.
    values: Walk<String>,
    bindings: Walk<String>,
}

impl PostgresStore {
    /// Connects to an address such as `postgres://user:password@host/database`.
    ///
    /// # Errors
    /// As [`PostgresStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Uses a pool of the application's. See [`PostgresStoreBuilder::from_pool`].
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        let names = Names::new(schema::TABLE, None, Quote::Double);
        Self::new(
            Connections::of_the_application(pool),
            names.expect("the default name is a fine one"),
            &Self::builder(),
        )
    }

    /// Starts a store with options.
    pub const fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    fn new(connections: Connections<Postgres>, names: Names, builder: &PostgresStoreBuilder) -> Self {
        let preparing = match builder.prepare {
            Prepare::OncePerConnection => Preparing::Once,
            Prepare::EachTime => Preparing::EachTime,
        };
        let line = Line::new(connections, STORE, builder.timeout, preparing, classify, Some(probe));
        Self(Arc::new(Inner {
            link: Link::new(line),
            statements: Statements::new(&names),
            names,
            sweeper: Sweeper::new(builder.sweep_every),
            values: Walk::default(),
            bindings: Walk::default(),
        }))
    }

    /// Makes the tables, or brings those of an earlier version up to date. Does nothing if they are.
    ///
    /// Any number of processes may call it at once: an advisory lock lets one after the other in. It needs to be called
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
    pub fn pool(&self) -> &PgPool {
        self.0.link.pool()
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let sql = &self.0.statements.get;
        self.0.wake_sweeper();
        let row = self.0.link.row("get", || query(sql).bind(key.as_str())).await?;
        row.map(|row| value(&row, 0)).transpose().map(Option::flatten)
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
impl AtomicStore for PostgresStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.create;
        let made = || query(sql).bind(key.as_str()).bind(&value[..]).bind(millis(ttl));
        Ok(self.0.write("create", made).await? > 0)
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let forms = &self.0.statements.replace;
        let swap = |sql| query(sql).bind(key.as_str()).bind(expected).bind(&value[..]).bind(millis(ttl));
        self.0.swap("replace", expected, forms, swap).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let forms = &self.0.statements.remove;
        self.0.swap("remove", expected, forms, |sql| query(sql).bind(key.as_str()).bind(expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.touch;
        Ok(self.0.write("touch", || query(sql).bind(key.as_str()).bind(millis(ttl))).await? > 0)
    }
}

#[async_trait]
impl IndexedStore for PostgresStore {
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
impl AdminStore for PostgresStore {
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
        self.0.pages("len", &self.0.statements.count).await
    }

    async fn clear(&self) -> Result<u64> {
        self.0.pages("clear", &self.0.statements.clear).await
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.0.sweep_up_to(limit).await
    }
}

impl Inner {
    /// Sees to it that the background task runs: there may have been no runtime for it before.
    fn wake_sweeper(self: &Arc<Self>) {
        self.sweeper.wake(|| Arc::downgrade(self));
    }

    /// Carries a write out and returns how many rows it concerned.
    async fn write<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Postgres, PgArguments> + Send,
    ) -> Result<u64> {
        self.wake_sweeper();
        Ok(self.link.run(operation, make).await?.result.rows_affected())
    }

    /// Carries out a conditional write in its first form, and in the second if the first met another write.
    async fn swap<'q>(
        self: &Arc<Self>,
        operation: &'static str,
        expected: &[u8],
        forms: &'q [Sql; 2],
        make: impl Fn(&'q Sql) -> Query<'q, Postgres, PgArguments> + Send + Sync,
    ) -> Result<Swapped> {
        self.wake_sweeper();
        for sql in forms {
            let row = self.link.row(operation, || make(sql)).await?.ok_or_else(|| no_row(operation))?;
            if row.try_get::<bool, _>(0).map_err(decoding)? {
                return Ok(Swapped::Done);
            }
            match value(&row, 1)? {
                None => return Ok(Swapped::Gone),
                Some(current) if current != expected => return Ok(Swapped::Conflict(current)),
                // Another write came while this statement waited for the row: what it read is old.
                Some(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Contention).operation(operation).store(STORE))
    }

    async fn keys<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Postgres, PgArguments> + Send,
    ) -> Result<Vec<Key>> {
        let rows = self.link.run(operation, make).await?.rows;
        rows.iter().map(|row| key_of(STORE, row.try_get(0).map_err(decoding)?)).collect()
    }

    /// Adds up what a statement counts on each page of the table.
    async fn pages(&self, operation: &'static str, sql: &Sql) -> Result<u64> {
        let (mut sum, mut after) = (0, String::new());
        loop {
            let row = self.link.row(operation, || query(sql).bind(after.as_str()).bind(PAGE)).await?;
            let row = row.ok_or_else(|| no_row(operation))?;
            sum += row.try_get::<i64, _>(0).map_err(decoding)?.unsigned_abs();
            match row.try_get::<Option<String>, _>(1).map_err(decoding)? {
                Some(last) => after = last,
                None => return Ok(sum),
            }
        }
    }
}

/// Shows the table and the connections, never the address, a key or a value.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.0.names.schema())
            .field("table", &self.0.names.table())
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}

/// Asks whether the server is there and takes writes. As a simple query, which every pooler passes on.
pub(crate) fn probe(conn: &mut PgConnection) -> BoxFuture<'_, sqlx::Result<bool>> {
    Box::pin(async move {
        let sql = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'";
        sqlx::raw_sql(sql).fetch_one(conn).await?.try_get(0)
    })
}

fn query<'q>(sql: &Sql) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql.text())
}

fn value(row: &PgRow, column: usize) -> Result<Option<Bytes>> {
    Ok(row.try_get::<Option<Vec<u8>>, _>(column).map_err(decoding)?.map(Bytes::from))
}

fn decoding(error: sqlx::Error) -> Error {
    classify(error).error.store(STORE)
}

fn no_row(operation: &'static str) -> Error {
    Error::new(ErrorKind::Backend).operation(operation).store(STORE).hint("the server answered without a row")
}
