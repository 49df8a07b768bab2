//! The table of koa-mysql-session, a store of koa-generic-session in MySQL and MariaDB.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cloakroom_core::{
    AtomicStore, Error, ErrorKind, Key, Result, StatusStream, Store, Swapped, Ttl, async_trait,
};
use sqlx::{
    MySql, MySqlPool, Row,
    mysql::{MySqlArguments, MySqlRow},
    query::Query,
};

use super::json::json;
use crate::{
    mysql::{NOW, classify, open_pool, probe},
    sql::{Connections, Line, Link, Names, Preparing, Quote, Sql, TIMEOUT, check_times},
    sweep::{MOST, More, Sweep, Sweeper},
};

/// The name of this store in errors.
const STORE: &str = "koa-mysql-session";

/// The table that the Node package makes. It knows no other.
const TABLE: &str = "_mysql_session_store";

/// The largest value, in bytes, if the column was made to hold more than `TEXT` does.
const MAX_VALUE: usize = 16 * 1024 * 1024;

/// How often a swap is tried that meets its own expected value again between its two statements.
const SWAPS: u32 = 8;

// Whatever collation the table was made with: keys and texts are compared byte by byte. The first half of `{key}` is for
// the index.
const KEY_IS: &str = "id = ? AND CAST(id AS BINARY) = ?";
const TEXT_IS: &str = "CAST(CONVERT(COALESCE(data, '') USING utf8mb4) AS BINARY) = ?";
const SAME: &str = "CAST(id AS BINARY) = CAST(VALUES(id) AS BINARY)";

/// Whether a row has not ended. The column may be `NULL`, which Node never writes and reads as no end.
const LIVE: &str = "COALESCE(expires > {now}, TRUE)";

const GET: &str = "SELECT COALESCE(data, '') FROM {values} WHERE {key_is} AND {live}";

// The clock counts whole milliseconds, and the one under way is not over: hence `1 +`. A row that is kept leaves a number
// in `LAST_INSERT_ID(..)`, which the server's answer repeats: 1 if it is the key's own, 2 if the table's collation takes
// the key for that of another session.
const SET: &str = "INSERT INTO {values} (id, expires, data) VALUES (?, {now} + 1 + ?, ?) \
     ON DUPLICATE KEY UPDATE data = IF({same}, VALUES(data), data), \
     expires = IF({same}, VALUES(expires), expires + 0 * LAST_INSERT_ID(2))";

const CREATE: &str = "INSERT INTO {values} (id, expires, data) VALUES (?, {now} + 1 + ?, ?) \
     ON DUPLICATE KEY UPDATE data = IF({same} AND NOT {live}, VALUES(data), data), \
     expires = IF({same} AND NOT {live}, VALUES(expires), expires + 0 * LAST_INSERT_ID(IF({same}, 1, 2)))";

const DESTROY: &str = "DELETE FROM {values} WHERE {key_is} AND {live}";

const REPLACE: &str =
    "UPDATE {values} SET data = ?, expires = {now} + 1 + ? WHERE {key_is} AND {text_is} AND {live}";

const REMOVE: &str = "DELETE FROM {values} WHERE {key_is} AND {text_is} AND {live}";

const TOUCH: &str = "UPDATE {values} SET expires = {now} + 1 + ? WHERE {key_is} AND {live}";

// Searched for without a lock, and deleted by key: a `DELETE` that searched itself would lock what it passes.
const DUE: &str = "SELECT id FROM {values} WHERE expires <= {now} LIMIT ?";

const SWEEP: &str = "DELETE FROM {values} WHERE id IN ({batch}) AND expires <= {now}";

/// The room in the column, and an error if one of the three is not there.
const CHECK: &str = "SELECT (SELECT CAST(character_octet_length AS SIGNED) FROM information_schema.columns \
     WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'data'), \
     EXISTS (SELECT id, expires, data FROM {values})";

/// The table of [koa-mysql-session](https://www.npmjs.com/package/koa-mysql-session) 0.0.2: `id varchar(255)`,
/// `expires bigint`, `data text`. It goes with the profile of Koa, whose keys stand there whole.
///
/// It is strict: it compares and swaps on the text of the JSON, in one statement; a second one reads the latest text if
/// it did not fit. Node's own writes compare nothing. A row that has ended is absent here, by the server's clock;
/// koa-mysql-session itself reads it for ever, and never deletes one. The row of a session whose cookie ends with the
/// browser says that it ends after 45 minutes, unless koa-generic-session is given a `ttl`.
///
/// ```no_run
/// use cloakroom::shape::KoaMysqlSession;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = KoaMysqlSession::builder().connect("mysql://app:secret@localhost/shop").await?;
/// # Ok(()) }
/// ```
///
/// # Limits
///
/// The column is a `TEXT`: a value of more than 65,535 bytes is [`ErrorKind::TooLarge`], unless the column was made
/// larger before the store was opened. What the column's character set does not have is [`ErrorKind::Value`].
///
/// Most collations take `a` and `A` for the same letter. To Node two such ids are then one session; here the second one
/// is absent, and writing it is [`ErrorKind::Backend`]. No two ids that were drawn at random meet like that.
#[derive(Clone, Debug)]
pub struct KoaMysqlSession(Arc<Table>);

struct Table {
    link: Link<MySql>,
    names: Names,
    statements: Statements,
    sweeper: Sweeper,
    /// How many bytes the column holds.
    room: usize,
}

struct Statements {
    get: Sql,
    set: Sql,
    create: Sql,
    destroy: Sql,
    replace: Sql,
    remove: Sql,
    touch: Sql,
    due: Sql,
    sweep: Sql,
}

impl KoaMysqlSession {
    /// Starts a store over the table of a Node program.
    pub const fn builder() -> KoaMysqlSessionBuilder {
        KoaMysqlSessionBuilder { table: None, max_connections: 10, sweep_every: None }
    }
}

/// Says where the table of a Node program is.
#[derive(Clone, Debug)]
#[must_use]
pub struct KoaMysqlSessionBuilder {
    table: Option<String>,
    max_connections: u32,
    sweep_every: Option<Duration>,
}

impl KoaMysqlSessionBuilder {
    /// Names the table: 1 to 48 ASCII letters, digits and underscores, no digit first. `_mysql_session_store` by
    /// default, as in Node.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// The most connections that are opened. 10 by default.
    pub const fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// How often rows that have ended are deleted, on average; `None` for never, which is the default: Node reads such
    /// rows for ever, so who has one would be logged out there. Give a time when Node is gone.
    ///
    /// The table has no index on their end, so each time all rows are looked at.
    pub fn sweep_every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.sweep_every = every.into();
        self
    }

    /// Connects, and looks whether the table is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `table`, `sweep_every` or `max_connections`; [`ErrorKind::Rejected`] for a wrong user,
    /// password or database; [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] if the server cannot be reached.
    pub async fn connect(self, url: &str) -> Result<KoaMysqlSession> {
        let named = |error: Error| error.operation("connect").store(STORE);
        self.check().map_err(named)?;
        let pool = open_pool(url, self.max_connections, TIMEOUT).await.map_err(named)?;
        self.open(Connections::of_the_store(pool)).await
    }

    /// Uses a pool of the application's, and looks whether the table is there.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_pool(self, pool: MySqlPool) -> Result<KoaMysqlSession> {
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

    async fn open(self, connections: Connections<MySql>) -> Result<KoaMysqlSession> {
        let named = |error: Error| error.operation("connect").store(STORE);
        let names =
            Names::new(self.table.as_deref().unwrap_or(TABLE), None, Quote::Backtick).map_err(named)?;
        let link = Link::new(Line::new(connections, STORE, TIMEOUT, Preparing::Once, classify, Some(probe)));
        link.reach().await?;
        let room = room(&link, &names).await.map_err(named)?;
        let (statements, sweeper) = (Statements::new(&names), Sweeper::new(self.sweep_every));
        Ok(KoaMysqlSession(Arc::new(Table { link, names, statements, sweeper, room })))
    }
}

/// Looks whether the table is there, and how many bytes a value may have.
async fn room(link: &Link<MySql>, names: &Names) -> Result<usize> {
    let check = names.render(CHECK, &[]);
    let row = link.row("connect", || sqlx::query(check.text()).bind(names.table())).await;
    let row = row.map_err(|error| match error.to_string().contains("(error 1146)") {
        true => Error::config("table", "is not there: the Node program makes it when it starts"),
        false => error,
    })?;
    let room = row.map(|row| row.try_get::<Option<i64>, _>(0).map_err(decoding)).transpose()?.flatten();
    // The server hides the columns from who may not see them; then they are as Node made them.
    Ok(room.map_or(65_535, |room| usize::try_from(room).unwrap_or(MAX_VALUE).min(MAX_VALUE)))
}

impl Statements {
    fn new(names: &Names) -> Self {
        let batch = vec!["?"; MOST as usize].join(", ");
        // In this order: `{live}` holds `{now}`.
        let replacing = [
            ("{key_is}", KEY_IS),
            ("{text_is}", TEXT_IS),
            ("{same}", SAME),
            ("{batch}", batch.as_str()),
            ("{live}", LIVE),
            ("{now}", NOW),
        ];
        let sql = |template| names.render(template, &replacing);
        Self {
            get: sql(GET),
            set: sql(SET),
            create: sql(CREATE),
            destroy: sql(DESTROY),
            replace: sql(REPLACE),
            remove: sql(REMOVE),
            touch: sql(TOUCH),
            due: sql(DUE),
            sweep: sql(SWEEP),
        }
    }
}

#[async_trait]
impl Store for KoaMysqlSession {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get("get", key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.insert("set", &self.0.statements.set, key, &value, ttl).await.map(drop)
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        Ok(self.0.write("destroy", || about(query(&self.0.statements.destroy), key)).await? > 0)
    }

    fn status(&self) -> StatusStream {
        self.0.link.status()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for KoaMysqlSession {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.0.insert("create", &self.0.statements.create, key, &value, ttl).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let (sql, text) = (&self.0.statements.replace, self.0.json("replace", &value)?);
        let swap = || about(query(sql).bind(text).bind(millis(ttl)), key).bind(expected);
        self.0.swap("replace", key, expected, swap).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let sql = &self.0.statements.remove;
        self.0.swap("remove", key, expected, || about(query(sql), key).bind(expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let sql = &self.0.statements.touch;
        Ok(self.0.write("touch", || about(query(sql).bind(millis(ttl)), key)).await? > 0)
    }
}

impl Table {
    async fn get(self: &Arc<Self>, operation: &'static str, key: &Key) -> Result<Option<Bytes>> {
        self.sweeper.wake(|| Arc::downgrade(self));
        let row = self.link.row(operation, || about(query(&self.statements.get), key)).await?;
        row.map(|row| text(&row).map(Bytes::from)).transpose()
    }

    /// Writes a row unless the statement finds one that it keeps; `false` if that is the key's own.
    async fn insert(
        &self,
        operation: &'static str,
        sql: &Sql,
        key: &Key,
        value: &[u8],
        ttl: Ttl,
    ) -> Result<bool> {
        let text = self.json(operation, value)?;
        let insert = || query(sql).bind(key.as_str()).bind(millis(ttl)).bind(text);
        let answer = self.link.run(operation, insert).await.map_err(|error| refused(error, operation))?;
        match answer.result.last_insert_id() {
            0 => Ok(true),
            1 => Ok(false),
            _ => {
                let hint = "the table's collation takes this key for that of another session, which is kept: give \
                            the column `id` a binary one";
                Err(Error::new(ErrorKind::Backend).operation(operation).store(STORE).hint(hint))
            }
        }
    }

    /// Carries a write out and returns how many rows it concerned.
    async fn write<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, MySql, MySqlArguments> + Send,
    ) -> Result<u64> {
        let answer = self.link.run(operation, make).await.map_err(|error| refused(error, operation))?;
        Ok(answer.result.rows_affected())
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

    fn json<'v>(&self, operation: &'static str, value: &'v [u8]) -> Result<&'v str> {
        json(value, self.room).map_err(|error| error.operation(operation).store(STORE))
    }
}

#[async_trait]
impl Sweep for Table {
    async fn sweep_batch(&self, most: u32) -> Result<More> {
        let due = || query(&self.statements.due).bind(i64::from(most));
        let rows = self.link.run("sweep", due).await?.rows;
        if rows.is_empty() {
            return Ok(More::No);
        }
        let keys = rows.iter().map(text).collect::<Result<Vec<_>>>()?;
        // One statement for every number of keys: what is left of it is filled with the first.
        let padded = || keys.iter().chain(std::iter::repeat(&keys[0])).take(MOST as usize);
        let delete = || padded().fold(query(&self.statements.sweep), |query, key| query.bind(key.as_str()));
        self.write("sweep", delete).await?;
        Ok(if keys.len() == most as usize { More::Maybe } else { More::No })
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

fn query<'q>(sql: &Sql) -> Query<'q, MySql, MySqlArguments> {
    sqlx::query(sql.text())
}

/// Binds what `{key_is}` compares with.
fn about<'q>(query: Query<'q, MySql, MySqlArguments>, key: &'q Key) -> Query<'q, MySql, MySqlArguments> {
    query.bind(key.as_str()).bind(key.as_bytes())
}

/// Tells text that the column's character set does not have from other errors.
fn refused(error: Error, operation: &'static str) -> Error {
    if !error.to_string().contains("(error 1366)") {
        return error;
    }
    let hint = "the column's character set does not have all of the value's characters: make it utf8mb4";
    Error::new(ErrorKind::Value).operation(operation).store(STORE).hint(hint)
}

fn text(row: &MySqlRow) -> Result<String> {
    row.try_get(0).map_err(decoding)
}

/// A ttl as the server counts: 400 days at most, so the cast is exact.
const fn millis(ttl: Ttl) -> i64 {
    ttl.millis() as i64
}

fn decoding(error: sqlx::Error) -> Error {
    classify(error).error.store(STORE)
}
