//! The tables in a MySQL or MariaDB database: their statements, how they are made, and what goes over all of them.

use std::time::Duration;

use cloakroom_core::Result;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::time::{Instant, timeout_at};

use super::{Inner, STORE, query, text};
use crate::{
    sql::{Names, PAGE, Sql, Tells, check_version},
    sweep::MOST,
};

/// The table unless the builder names another.
pub(super) const TABLE: &str = "cloakroom_sessions";

/// Milliseconds since 1970 by the server's clock, whatever its time zone, and beyond 2038, where `UNIX_TIMESTAMP`
/// ends on some servers. It stands still while a statement waits for a row.
pub(crate) const NOW: &str =
    "(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000)";

const GET: &str = "SELECT value FROM {values} WHERE `key` = ? AND expires_at > {now}";

// The clock counts whole milliseconds, and the one under way is not over: hence `1 +`. `VALUES()` and not an alias,
// which MariaDB does not know.
const SET: &str = "INSERT INTO {values} (`key`, value, expires_at) VALUES (?, ?, {now} + 1 + ?) \
     ON DUPLICATE KEY UPDATE value = VALUES(value), expires_at = VALUES(expires_at)";

// The driver counts a row that was found and kept like one that was made, so the number of rows does not tell what
// happened. `LAST_INSERT_ID(..)`, evaluated only if a live row is in the way, does: the server's answer repeats it.
const CREATE: &str = "INSERT INTO {values} (`key`, value, expires_at) VALUES (?, ?, {now} + 1 + ?) \
     ON DUPLICATE KEY UPDATE value = IF(expires_at <= {now}, VALUES(value), value), \
     expires_at = IF(expires_at <= {now}, VALUES(expires_at), LAST_INSERT_ID(expires_at))";

const DESTROY: &str = "DELETE FROM {values} WHERE `key` = ? AND expires_at > {now}";

const REPLACE: &str = "UPDATE {values} SET value = ?, expires_at = {now} + 1 + ? \
     WHERE `key` = ? AND value = ? AND expires_at > {now}";

const REMOVE: &str = "DELETE FROM {values} WHERE `key` = ? AND value = ? AND expires_at > {now}";

const TOUCH: &str = "UPDATE {values} SET expires_at = {now} + 1 + ? WHERE `key` = ? AND expires_at > {now}";

const BIND: &str = "INSERT INTO {users} (`key`, `user`, expires_at, bound_at) \
     VALUES (?, ?, {now} + 1 + ?, {now}) ON DUPLICATE KEY UPDATE `user` = VALUES(`user`), \
     expires_at = VALUES(expires_at), bound_at = VALUES(bound_at)";

const KEYS_OF: &str = "SELECT b.`key` FROM {users} b JOIN {values} v ON v.`key` = b.`key` \
     WHERE b.`user` = ? AND b.expires_at > {now} AND v.expires_at > {now}";

const DESTROY_USER: &str = "DELETE v FROM {values} v JOIN {users} b ON b.`key` = v.`key` \
     WHERE b.`user` = ? AND v.`key` <> ? AND b.expires_at > {now} AND v.expires_at > {now}";

const PAGE_OF_KEYS: &str =
    "SELECT `key` FROM {values} WHERE `key` > ? AND expires_at > {now} ORDER BY `key` LIMIT ?";

const COUNT: &str = "SELECT count(CASE WHEN p.expires_at > {now} THEN 1 END), max(p.`key`) \
     FROM (SELECT `key`, expires_at FROM {values} WHERE `key` > ? ORDER BY `key` LIMIT ?) p";

// What is due is searched for without a lock, and deleted by key: a `DELETE` that searched itself would lock what it
// passes. In the order of the index, from where the last batch ended: what others hold stays, and is found only once.
const DUE: &str = "SELECT `key`, expires_at FROM {values} \
     WHERE expires_at >= ? AND expires_at <= {now} AND NOT (expires_at = ? AND `key` <= ?) \
     ORDER BY expires_at, `key` LIMIT ?";

// `DELETE` knows no `SKIP LOCKED`, so it waits for nobody because of this.
const HELD: &str = "SELECT `key` FROM {values} FORCE INDEX (PRIMARY) \
     WHERE `key` IN ({batch}) AND expires_at <= {now} FOR UPDATE SKIP LOCKED";

const SWEEP: &str = "DELETE v FROM {values} v FORCE INDEX (PRIMARY) \
     WHERE v.`key` IN ({batch}) AND v.expires_at <= {now}";

const LAST_BINDING: &str =
    "SELECT max(p.`key`) FROM (SELECT `key` FROM {users} WHERE `key` > ? ORDER BY `key` LIMIT ?) p";

// One whose value is not there may be waiting for it, for 60 seconds.
const SWEEP_BINDINGS: &str = "DELETE b FROM {users} b LEFT JOIN {values} v \
     ON v.`key` = b.`key` AND v.expires_at > {now} WHERE b.`key` > ? AND b.`key` <= ? \
     AND (b.expires_at <= {now} OR b.bound_at <= {now} - 60000 AND v.`key` IS NULL)";

const LAST_VALUE: &str =
    "SELECT max(p.`key`) FROM (SELECT `key` FROM {values} WHERE `key` > ? ORDER BY `key` LIMIT ?) p";

const CLEAR_BINDINGS: &str = "DELETE b FROM {users} b JOIN {values} v ON v.`key` = b.`key` \
     WHERE v.`key` > ? AND v.`key` <= ?";

const CLEAR_LIVE: &str = "DELETE FROM {values} WHERE `key` > ? AND `key` <= ? AND expires_at > {now}";

const CLEAR_REST: &str = "DELETE FROM {values} WHERE `key` > ? AND `key` <= ?";

/// What brings a schema from each version to the next; from nothing to 1 first. Each is a transaction of its own
/// here, whether one likes it or not, so each may be run again.
const STEPS: &[&[&str]] = &[
    &["CREATE TABLE IF NOT EXISTS {values} (`key` VARBINARY(255) NOT NULL PRIMARY KEY, \
       value LONGBLOB NOT NULL, expires_at BIGINT NOT NULL, KEY {by_end} (expires_at)) ENGINE = InnoDB"],
    &["CREATE TABLE IF NOT EXISTS {users} (`key` VARBINARY(255) NOT NULL PRIMARY KEY, \
       `user` VARBINARY(255) NOT NULL, expires_at BIGINT NOT NULL, bound_at BIGINT NOT NULL, \
       KEY {by_user} (`user`)) ENGINE = InnoDB"],
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {version} \
     (id INT NOT NULL PRIMARY KEY, version BIGINT NOT NULL) ENGINE = InnoDB";

const IS_THERE: &str = "SELECT count(*) FROM information_schema.tables \
     WHERE table_schema = DATABASE() AND table_name = ?";

const READ_VERSION: &str = "SELECT version FROM {version} WHERE id = 1";

const WRITE_VERSION: &str = "INSERT INTO {version} (id, version) VALUES (1, {number}) \
     ON DUPLICATE KEY UPDATE version = VALUES(version)";

/// Held by the one process that makes tables. It ends with the connection, whatever happens.
const LOCK: &str = "SELECT CAST(COALESCE(GET_LOCK('cloakroom migrate', 60), 0) AS SIGNED)";

const UNLOCK: &str = "DO RELEASE_LOCK('cloakroom migrate')";

/// How long the migration may take, most of it waiting for those of other processes.
const MIGRATION: Duration = Duration::from_secs(60);

/// How often a page is cleared or swept again that the server rolled back.
pub(super) const ATTEMPTS: u32 = 8;

/// The statements of one store, with its names in them.
pub(super) struct Statements {
    pub(super) get: Sql,
    pub(super) set: Sql,
    pub(super) create: Sql,
    pub(super) destroy: Sql,
    pub(super) replace: Sql,
    pub(super) remove: Sql,
    pub(super) touch: Sql,
    pub(super) bind: Sql,
    pub(super) keys_of: Sql,
    pub(super) destroy_user: Sql,
    pub(super) page: Sql,
    pub(super) count: Sql,
    pub(super) due: Sql,
    pub(super) held: Sql,
    pub(super) sweep: Sql,
    pub(super) last_binding: Sql,
    pub(super) sweep_bindings: Sql,
    last_value: Sql,
    clear_bindings: Sql,
    clear_live: Sql,
    clear_rest: Sql,
}

impl Statements {
    pub(super) fn new(names: &Names) -> Self {
        let sql = |template| names.render(template, &[("{now}", NOW)]);
        let batch = vec!["?"; MOST as usize].join(", ");
        let of_batch = |template| names.render(template, &[("{now}", NOW), ("{batch}", &batch)]);
        Self {
            get: sql(GET),
            set: sql(SET),
            create: sql(CREATE),
            destroy: sql(DESTROY),
            replace: sql(REPLACE),
            remove: sql(REMOVE),
            touch: sql(TOUCH),
            bind: sql(BIND),
            keys_of: sql(KEYS_OF),
            destroy_user: sql(DESTROY_USER),
            page: sql(PAGE_OF_KEYS),
            count: sql(COUNT),
            due: sql(DUE),
            held: of_batch(HELD),
            sweep: of_batch(SWEEP),
            last_binding: sql(LAST_BINDING),
            sweep_bindings: sql(SWEEP_BINDINGS),
            last_value: sql(LAST_VALUE),
            clear_bindings: sql(CLEAR_BINDINGS),
            clear_live: sql(CLEAR_LIVE),
            clear_rest: sql(CLEAR_REST),
        }
    }
}

/// Returns what makes the tables from nothing.
pub(super) fn ddl(names: &Names) -> String {
    let mut all: Vec<String> =
        STEPS.iter().flat_map(|step| step.iter()).map(|sql| names.fill(sql, &[])).collect();
    all.push(names.fill(VERSIONS, &[]));
    all.push(write_version(names));
    all.iter().map(|sql| format!("{sql};\n")).collect()
}

/// Brings the tables up to date, one process at a time.
pub(super) async fn migrate(inner: &Inner) -> Result<()> {
    let mut lease = inner.link.lease("migrate").await?;
    let version = timeout_at(Instant::now() + MIGRATION, bring_up(lease.conn(), &inner.names)).await;
    let version = lease.end(version).map_err(|fault| fault.error)?;
    check_version(STORE, version, STEPS.len()).map(drop)
}

/// Takes the steps that are missing, under a lock, and returns the version that was found.
async fn bring_up(conn: &mut MySqlConnection, names: &Names) -> sqlx::Result<i64> {
    // Who may not make tables may still find them up to date.
    let found = version(conn, names).await?;
    if missing(found).is_empty() {
        return Ok(found);
    }
    let locked: i64 = sqlx::query_scalar(LOCK).persistent(false).fetch_one(&mut *conn).await?;
    if locked != 1 {
        return Err(sqlx::Error::PoolTimedOut);
    }
    let outcome = step(conn, names).await;
    sqlx::raw_sql(UNLOCK).execute(conn).await?;
    outcome
}

async fn step(conn: &mut MySqlConnection, names: &Names) -> sqlx::Result<i64> {
    // Another process may have done it while this one waited.
    let found = version(conn, names).await?;
    for sql in missing(found).iter().flat_map(|step| step.iter()) {
        sqlx::raw_sql(AssertSqlSafe(names.fill(sql, &[]))).execute(&mut *conn).await?;
    }
    if !missing(found).is_empty() {
        sqlx::raw_sql(AssertSqlSafe(names.fill(VERSIONS, &[]))).execute(&mut *conn).await?;
        sqlx::raw_sql(AssertSqlSafe(write_version(names))).execute(conn).await?;
    }
    Ok(found)
}

/// Returns the steps that a schema of this version lacks: none if the version is not one of ours.
fn missing(found: i64) -> &'static [&'static [&'static str]] {
    usize::try_from(found).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default()
}

/// Reads the version that is there, or 0.
async fn version(conn: &mut MySqlConnection, names: &Names) -> sqlx::Result<i64> {
    let table = format!("{}_schema", names.table());
    let there: i64 = sqlx::query_scalar(IS_THERE).bind(table).persistent(false).fetch_one(&mut *conn).await?;
    if there == 0 {
        return Ok(0);
    }
    let read = sqlx::query_scalar(AssertSqlSafe(names.fill(READ_VERSION, &[]))).persistent(false);
    Ok(read.fetch_optional(conn).await?.unwrap_or(0))
}

fn write_version(names: &Names) -> String {
    names.fill(WRITE_VERSION, &[("{number}", &STEPS.len().to_string())])
}

/// Removes all values with their bindings, a page at a time, and counts those that were live.
pub(super) async fn clear(inner: &Inner) -> Result<u64> {
    let (mut cleared, mut from) = (0, String::new());
    loop {
        let last = || query(&inner.statements.last_value).bind(from.as_bytes()).bind(PAGE);
        let row = inner.link.row("clear", last).await?;
        let Some(to) = row.map(|row| text(&row, 0)).transpose()?.flatten() else { return Ok(cleared) };
        let mut attempts = 0;
        cleared += loop {
            let mut lease = inner.link.lease("clear").await?;
            let deadline = lease.deadline;
            let page = timeout_at(deadline, clear_page(lease.conn(), &inner.statements, &from, &to)).await;
            attempts += 1;
            match lease.end(page) {
                Ok(live) => break live,
                Err(fault) if fault.tells == Tells::RolledBack && attempts < ATTEMPTS => {}
                Err(fault) => return Err(fault.error),
            }
        };
        from = to;
    }
}

/// In one transaction: a binding that comes between must not be lost while its value stays.
async fn clear_page(conn: &mut MySqlConnection, sql: &Statements, from: &str, to: &str) -> sqlx::Result<u64> {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut transaction = conn.begin().await?;
    query(&sql.clear_bindings).bind(from).bind(to).execute(&mut *transaction).await?;
    let live = query(&sql.clear_live).bind(from).bind(to).execute(&mut *transaction).await?;
    query(&sql.clear_rest).bind(from).bind(to).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(live.rows_affected())
}
