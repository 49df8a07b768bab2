//! What the shapes in PostgreSQL have in common: a table of keys, JSON texts and ends that have no time zone.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cloakroom_core::{Error, ErrorKind, Key, Result, StatusStream, Swapped, Ttl, async_trait};
use sqlx::{
    PgPool, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    postgres::{classify, options, pool_options, probe},
    sql::{Connections, Line, Link, Names, Preparing, Quote, Sql, TIMEOUT, check_times},
    sweep::{More, Sweep, Sweeper},
};

/// The largest value, in bytes: more would not be parsed within the deadline of an operation.
const MAX_VALUE: usize = 16 * 1024 * 1024;

/// How many ended rows one statement deletes.
const BATCH: u32 = 1000;

// `{end}` is a time so many milliseconds from now, `{now}` is now, both as the Node program's connections write it.
const GET: &str = "SELECT {value}::text FROM {values} WHERE {key} = $1 AND {expiry} > {now}";

const SET: &str = "INSERT INTO {values} ({key}, {value}, {expiry}) VALUES ($1, $3::json, {end}) \
     ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}, {expiry} = excluded.{expiry}";

const CREATE: &str = "INSERT INTO {values} AS v ({key}, {value}, {expiry}) VALUES ($1, $3::json, {end}) \
     ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}, {expiry} = excluded.{expiry} \
     WHERE v.{expiry} <= {now}";

const DESTROY: &str = "DELETE FROM {values} WHERE {key} = $1 AND {expiry} > {now}";

const TOUCH: &str = "UPDATE {values} SET {expiry} = {end} WHERE {key} = $1 AND {expiry} > {now}";

// As in the store with a table of its own: what is there is read in the statement's own snapshot, while the write waits
// for the row. If they disagree, the form that locks the row first decides.
const REPLACE: &str = "WITH done AS (UPDATE {values} SET {value} = $3::json, {expiry} = {end} \
     WHERE {key} = $1 AND {value}::text = $5 AND {expiry} > {now} RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), (SELECT {value}::text FROM {values} \
     WHERE {key} = $1 AND {expiry} > {now} AND NOT EXISTS (SELECT 1 FROM done))";

const REPLACE_HELD: &str = "WITH held AS MATERIALIZED (SELECT {value}::text AS text, {expiry} > {now} AS live \
     FROM {values} WHERE {key} = $1 FOR UPDATE), \
     done AS (UPDATE {values} v SET {value} = $3::json, {expiry} = {end} FROM held \
     WHERE v.{key} = $1 AND held.live AND held.text = $5 RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), \
     (SELECT text FROM held WHERE live AND NOT EXISTS (SELECT 1 FROM done))";

const REMOVE: &str = "WITH done AS (DELETE FROM {values} \
     WHERE {key} = $1 AND {value}::text = $3 AND {expiry} > {now} RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), (SELECT {value}::text FROM {values} \
     WHERE {key} = $1 AND {expiry} > {now} AND NOT EXISTS (SELECT 1 FROM done))";

const REMOVE_HELD: &str = "WITH held AS MATERIALIZED (SELECT {value}::text AS text, {expiry} > {now} AS live \
     FROM {values} WHERE {key} = $1 FOR UPDATE), \
     done AS (DELETE FROM {values} v USING held \
     WHERE v.{key} = $1 AND held.live AND held.text = $3 RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), \
     (SELECT text FROM held WHERE live AND NOT EXISTS (SELECT 1 FROM done))";

const SWEEP: &str = "DELETE FROM {values} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {values} \
     WHERE {expiry} <= timezone($1, clock_timestamp()) LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// A zone that the server does not know is an error here, where somebody sees it.
const CHECK: &str = "SELECT timezone($1, clock_timestamp())::text, \
     EXISTS (SELECT {key}, {value}, {expiry} FROM {values})";

/// The columns of one shape, and what its table is called unless the Node program says otherwise.
#[derive(Debug)]
pub(super) struct Layout {
    /// The name of the store in errors.
    pub(super) store: &'static str,
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) expiry: &'static str,
}

/// A table of one shape. Every clone of a store shares one.
pub(super) struct Table {
    layout: &'static Layout,
    link: Link<Postgres>,
    names: Names,
    time_zone: String,
    statements: Statements,
    sweeper: Sweeper,
}

struct Statements {
    get: Sql,
    set: Sql,
    create: Sql,
    destroy: Sql,
    touch: Sql,
    replace: [Sql; 2],
    remove: [Sql; 2],
    sweep: Sql,
    check: Sql,
}

/// Says where a table of a Node program is, and in which time zone that program writes.
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresShapeBuilder<S> {
    layout: &'static Layout,
    make: fn(Arc<Table>) -> S,
    schema: Option<String>,
    table: Option<String>,
    time_zone: String,
    max_connections: u32,
    sweep_every: Option<Duration>,
}

impl<S> PostgresShapeBuilder<S> {
    pub(super) fn new(layout: &'static Layout, time_zone: String, make: fn(Arc<Table>) -> S) -> Self {
        Self { layout, make, schema: None, table: None, time_zone, max_connections: 10, sweep_every: None }
    }

    /// Names the schema: 1 to 48 ASCII letters, digits and underscores. By default the first of the `search_path`.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Names the table, by the same rules. `session` by default, as in Node.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// The most connections that are opened. 10 by default.
    pub const fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// How often rows that have ended are deleted, on average; `None` for never, which is the default: the Node program
    /// deletes them itself while it runs, every 15 minutes (connect-pg-simple) or 45 (koa-pg-session). Give a time when
    /// Node is gone.
    ///
    /// # Risk
    /// Whether a row has ended is read in the time zone of this builder. If that is not the zone of Node's connections
    /// but one that is ahead of it, live sessions look ended for so many hours, and this deletes them.
    pub fn sweep_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.sweep_every = every.into();
        self
    }

    /// Connects, and looks whether the table and the time zone are there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `schema`, `table`, `time_zone`, `sweep_every` or `max_connections`;
    /// [`ErrorKind::Rejected`] for a wrong user, password or database; [`ErrorKind::Unavailable`] and
    /// [`ErrorKind::Timeout`] if the server cannot be reached.
    pub async fn connect(self, url: &str) -> Result<S> {
        let store = self.layout.store;
        let named = move |error: Error| error.operation("connect").store(store);
        self.check().map_err(named)?;
        let options = options(url).map_err(named)?;
        // One connection at once: a wrong address or password shows here, and the status is true from the beginning.
        let pool = pool_options(self.max_connections, TIMEOUT).connect_with(options).await;
        let pool = pool.map_err(|error| named(classify(error).error))?;
        self.open(Connections::of_the_store(pool)).await
    }

    /// Uses a pool of the application's, and looks whether the table and the time zone are there.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_pool(self, pool: PgPool) -> Result<S> {
        self.check().map_err(|error| error.operation("connect").store(self.layout.store))?;
        self.open(Connections::of_the_application(pool)).await
    }

    fn check(&self) -> Result<()> {
        check_times(TIMEOUT, self.sweep_every)?;
        if self.max_connections == 0 {
            return Err(Error::config("max_connections", "must be at least 1"));
        }
        Ok(())
    }

    async fn open(self, connections: Connections<Postgres>) -> Result<S> {
        let layout = self.layout;
        let named = |error: Error| error.operation("connect").store(layout.store);
        let table = self.table.as_deref().unwrap_or(layout.table);
        let names = Names::new(table, self.schema.as_deref(), Quote::Double).map_err(named)?;
        let line = Line::new(connections, layout.store, TIMEOUT, Preparing::Once, classify, Some(probe));
        let table = Table {
            layout,
            link: Link::new(line),
            statements: Statements::new(layout, &names),
            names,
            time_zone: self.time_zone,
            sweeper: Sweeper::new(self.sweep_every),
        };
        table.link.reach().await?;
        table.check().await.map_err(named)?;
        Ok((self.make)(Arc::new(table)))
    }
}

impl Statements {
    fn new(layout: &Layout, names: &Names) -> Self {
        // In every statement but the sweep `$2` is the time zone and `$4` the ttl.
        let now = "timezone($2, clock_timestamp())";
        let end = "timezone($2, clock_timestamp() + $4 * interval '1 millisecond')";
        let touched = "timezone($2, clock_timestamp() + $3 * interval '1 millisecond')";
        let render = |template: &str, end: &str| {
            let replacing = [
                ("{end}", end),
                ("{now}", now),
                ("{key}", layout.key),
                ("{value}", layout.value),
                ("{expiry}", layout.expiry),
            ];
            names.render(template, &replacing)
        };
        Self {
            get: render(GET, end),
            set: render(SET, end),
            create: render(CREATE, end),
            destroy: render(DESTROY, end),
            touch: render(TOUCH, touched),
            replace: [render(REPLACE, end), render(REPLACE_HELD, end)],
            remove: [render(REMOVE, end), render(REMOVE_HELD, end)],
            sweep: render(SWEEP, end),
            check: render(CHECK, end),
        }
    }
}

impl Table {
    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Bytes>> {
        self.sweeper.wake(|| Arc::downgrade(self));
        let row = self.link.row("get", || self.about(&self.statements.get, key)).await?;
        row.map(|row| self.text(&row, 0)).transpose().map(Option::flatten)
    }

    pub(super) async fn set(&self, key: &Key, value: &[u8], ttl: Ttl) -> Result<()> {
        let text = self.json(value, "set")?;
        self.write("set", || self.about(&self.statements.set, key).bind(text).bind(millis(ttl))).await?;
        Ok(())
    }

    pub(super) async fn destroy(&self, key: &Key) -> Result<bool> {
        Ok(self.write("destroy", || self.about(&self.statements.destroy, key)).await? > 0)
    }

    pub(super) async fn create(&self, key: &Key, value: &[u8], ttl: Ttl) -> Result<bool> {
        let text = self.json(value, "create")?;
        let made = || self.about(&self.statements.create, key).bind(text).bind(millis(ttl));
        Ok(self.write("create", made).await? > 0)
    }

    pub(super) async fn replace(
        &self,
        key: &Key,
        expected: &[u8],
        value: &[u8],
        ttl: Ttl,
    ) -> Result<Swapped> {
        let text = self.json(value, "replace")?;
        let Ok(base) = str::from_utf8(expected) else { return self.mismatch(key).await };
        let swap = |sql| self.about(sql, key).bind(text).bind(millis(ttl)).bind(base);
        self.swap("replace", expected, &self.statements.replace, swap).await
    }

    pub(super) async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let Ok(base) = str::from_utf8(expected) else { return self.mismatch(key).await };
        self.swap("remove", expected, &self.statements.remove, |sql| self.about(sql, key).bind(base)).await
    }

    pub(super) async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let touch = || self.about(&self.statements.touch, key).bind(millis(ttl));
        Ok(self.write("touch", touch).await? > 0)
    }

    pub(super) fn status(&self) -> StatusStream {
        self.link.status()
    }

    /// Looks whether the table and the time zone are there.
    async fn check(&self) -> Result<()> {
        let check = || sqlx::query(self.statements.check.text()).bind(self.time_zone.as_str());
        match self.link.row("connect", check).await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("22023") => Err(Error::config(
                "time_zone",
                "is none that the server knows: run `SHOW TimeZone` over a connection of the Node program",
            )),
            Err(error) => Err(error),
        }
    }

    /// Starts a statement about one key, with the time zone as its second argument.
    fn about<'q>(&'q self, sql: &Sql, key: &'q Key) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql.text()).bind(key.as_str()).bind(self.time_zone.as_str())
    }

    async fn write<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, Postgres, PgArguments> + Send,
    ) -> Result<u64> {
        let answer = self.link.run(operation, make).await.map_err(|error| self.refused(error, operation))?;
        Ok(answer.result.rows_affected())
    }

    /// Carries out a conditional write in its first form, and in the second if the first met another write.
    async fn swap<'q>(
        &self,
        operation: &'static str,
        expected: &[u8],
        forms: &'q [Sql; 2],
        make: impl Fn(&'q Sql) -> Query<'q, Postgres, PgArguments> + Send + Sync,
    ) -> Result<Swapped> {
        for sql in forms {
            let row = self.link.row(operation, || make(sql)).await;
            let row = row.map_err(|error| self.refused(error, operation))?;
            let row = row.ok_or_else(|| self.error(ErrorKind::Backend, operation))?;
            if row.try_get::<bool, _>(0).map_err(|error| self.decoding(error))? {
                return Ok(Swapped::Done);
            }
            match self.text(&row, 1)? {
                None => return Ok(Swapped::Gone),
                Some(current) if current != expected => return Ok(Swapped::Conflict(current)),
                // Another write came while this statement waited for the row: what it read is old.
                Some(_) => {}
            }
        }
        Err(self.error(ErrorKind::Contention, operation))
    }

    /// Answers a swap that expects what is no text: no row can hold it.
    async fn mismatch(&self, key: &Key) -> Result<Swapped> {
        let row = self.link.row("get", || self.about(&self.statements.get, key)).await?;
        let text = row.map(|row| self.text(&row, 0)).transpose()?.flatten();
        Ok(text.map_or(Swapped::Gone, Swapped::Conflict))
    }

    fn text(&self, row: &PgRow, column: usize) -> Result<Option<Bytes>> {
        let text = row.try_get::<Option<String>, _>(column).map_err(|error| self.decoding(error))?;
        Ok(text.map(Bytes::from))
    }

    /// Checks that a value is text of a size that can be stored; whether it is JSON is for the server to say.
    fn json<'v>(&self, value: &'v [u8], operation: &'static str) -> Result<&'v str> {
        if value.len() > MAX_VALUE {
            let hint = format!("a value of {} bytes is larger than {MAX_VALUE}", value.len());
            return Err(self.error(ErrorKind::TooLarge, operation).hint(hint));
        }
        str::from_utf8(value).map_err(|_| self.no_json(operation))
    }

    /// Tells a value that the server does not take for JSON from other errors.
    fn refused(&self, error: Error, operation: &'static str) -> Error {
        if error.to_string().contains("SQLSTATE 22P02") { self.no_json(operation) } else { error }
    }

    fn no_json(&self, operation: &'static str) -> Error {
        let hint = "this table holds JSON alone: choose the profile of the Node program it belongs to";
        self.error(ErrorKind::Value, operation).hint(hint)
    }

    fn decoding(&self, error: sqlx::Error) -> Error {
        classify(error).error.store(self.layout.store)
    }

    fn error(&self, kind: ErrorKind, operation: &'static str) -> Error {
        Error::new(kind).operation(operation).store(self.layout.store)
    }
}

#[async_trait]
impl Sweep for Table {
    async fn sweep_batch(&self, _rows: u32) -> Result<More> {
        // Not fewer when it takes long: each statement looks through the table for them.
        let (sql, zone) = (&self.statements.sweep, self.time_zone.as_str());
        let sweep = || sqlx::query(sql.text()).bind(zone).bind(i64::from(BATCH));
        let swept = self.write("sweep", sweep).await?;
        Ok(if swept == u64::from(BATCH) { More::Maybe } else { More::No })
    }
}

/// Shows the table and the connections, never the address, a key or a value.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.layout.store)
            .field("schema", &self.names.schema())
            .field("table", &self.names.table())
            .field("time_zone", &self.time_zone)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A ttl as the server counts: 400 days at most, so the cast is exact.
const fn millis(ttl: Ttl) -> f64 {
    ttl.millis() as f64
}

/// Writes the traits of a store that is an `Arc<Table>`, under the name of its shape.
macro_rules! store_over_table {
    ($store:ident) => {
        #[cloakroom_core::async_trait]
        impl cloakroom_core::Store for $store {
            async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
                self.0.get(key).await
            }

            async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
                self.0.set(key, &value, ttl).await
            }

            async fn destroy(&self, key: &Key) -> Result<bool> {
                self.0.destroy(key).await
            }

            fn status(&self) -> StatusStream {
                self.0.status()
            }

            fn as_atomic(&self) -> Option<&dyn AtomicStore> {
                Some(self)
            }
        }

        #[cloakroom_core::async_trait]
        impl AtomicStore for $store {
            async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
                self.0.create(key, &value, ttl).await
            }

            async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
                self.0.replace(key, expected, &value, ttl).await
            }

            async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
                self.0.remove(key, expected).await
            }

            async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
                self.0.touch(key, ttl).await
            }
        }
    };
}

pub(super) use store_over_table;
