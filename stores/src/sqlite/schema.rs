//! The tables in an SQLite file: their statements, how they are made, and what goes over all of them.

use std::{fs::OpenOptions, io, path::Path};

use cloakroom_core::{Error, ErrorKind, Result};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Inner, STORE, decoding, query};
use crate::{
    backoff::jittered,
    sql::{Names, PAGE, Sql, check_version},
};

/// The table unless the builder names another.
pub(super) const TABLE: &str = "cloakroom_sessions";

/// Milliseconds since 1970, as SQLite knows them: it reads the clock once a statement, after it has the lock.
pub(crate) const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)";

const GET: &str = "SELECT value FROM {values} WHERE key = ?1 AND expires_at > {now}";

// The clock counts whole milliseconds, and the one under way is not over: hence `1 +`.
const SET: &str = "INSERT INTO {values} (key, value, expires_at) VALUES (?1, ?2, {now} + 1 + ?3) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";

const CREATE: &str = "INSERT INTO {values} (key, value, expires_at) VALUES (?1, ?2, {now} + 1 + ?3) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at \
     WHERE expires_at <= {now}";

const DESTROY: &str = "DELETE FROM {values} WHERE key = ?1 AND expires_at > {now}";

const REPLACE: &str = "UPDATE {values} SET value = ?3, expires_at = {now} + 1 + ?4 \
     WHERE key = ?1 AND value = ?2 AND expires_at > {now}";

const REMOVE: &str = "DELETE FROM {values} WHERE key = ?1 AND value = ?2 AND expires_at > {now}";

const TOUCH: &str = "UPDATE {values} SET expires_at = {now} + 1 + ?2 WHERE key = ?1 AND expires_at > {now}";

const BIND: &str = "INSERT INTO {users} (key, user, expires_at, bound_at) VALUES (?1, ?2, {now} + 1 + ?3, {now}) \
     ON CONFLICT (key) DO UPDATE SET user = excluded.user, expires_at = excluded.expires_at, \
     bound_at = excluded.bound_at";

const KEYS_OF: &str = "SELECT b.key FROM {users} b JOIN {values} v ON v.key = b.key \
     WHERE b.user = ?1 AND b.expires_at > {now} AND v.expires_at > {now}";

const DESTROY_USER: &str = "DELETE FROM {values} WHERE expires_at > {now} AND key <> ?2 \
     AND key IN (SELECT key FROM {users} WHERE user = ?1 AND expires_at > {now})";

const PAGE_OF_KEYS: &str =
    "SELECT key FROM {values} WHERE key > ?1 AND expires_at > {now} ORDER BY key LIMIT ?2";

const COUNT: &str = "SELECT count(*) FILTER (WHERE expires_at > {now}), max(key) \
     FROM (SELECT key, expires_at FROM {values} WHERE key > ?1 ORDER BY key LIMIT ?2)";

const SWEEP: &str =
    "DELETE FROM {values} WHERE key IN (SELECT key FROM {values} WHERE expires_at <= {now} LIMIT ?1)";

const LAST_BINDING: &str =
    "SELECT max(key) FROM (SELECT key FROM {users} WHERE key > ?1 ORDER BY key LIMIT ?2)";

// One whose value is not there may be waiting for it, for 60 seconds.
const SWEEP_BINDINGS: &str = "DELETE FROM {users} WHERE key > ?1 AND key <= ?2 AND (expires_at <= {now} \
     OR bound_at <= {now} - 60000 AND NOT EXISTS \
     (SELECT 1 FROM {values} v WHERE v.key = {users}.key AND v.expires_at > {now}))";

const LAST_VALUE: &str =
    "SELECT max(key) FROM (SELECT key FROM {values} WHERE key > ?1 ORDER BY key LIMIT ?2)";

const CLEAR_BINDINGS: &str = "DELETE FROM {users} WHERE key > ?1 AND key <= ?2 \
     AND EXISTS (SELECT 1 FROM {values} v WHERE v.key = {users}.key)";

const CLEAR_LIVE: &str = "DELETE FROM {values} WHERE key > ?1 AND key <= ?2 AND expires_at > {now}";

const CLEAR_REST: &str = "DELETE FROM {values} WHERE key > ?1 AND key <= ?2";

/// What brings a schema from each version to the next; from nothing to 1 first.
const STEPS: &[&[&str]] = &[
    &[
        "CREATE TABLE IF NOT EXISTS {values} (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, \
         expires_at INTEGER NOT NULL) WITHOUT ROWID",
        // Without it a sweep would read every value, under the lock that all writers share.
        "CREATE INDEX IF NOT EXISTS {by_end} ON {values} (expires_at)",
    ],
    &[
        "CREATE TABLE IF NOT EXISTS {users} (key TEXT NOT NULL PRIMARY KEY, user BLOB NOT NULL, \
         expires_at INTEGER NOT NULL, bound_at INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE INDEX IF NOT EXISTS {by_user} ON {users} (user)",
    ],
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {version} \
     (id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL)";

const READ_VERSION: &str = "SELECT version FROM {version}";

const WRITE_VERSION: &str = "INSERT INTO {version} (id, version) VALUES (1, {number}) \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version";

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
            sweep: sql(SWEEP),
            last_binding: sql(LAST_BINDING),
            sweep_bindings: sql(SWEEP_BINDINGS),
            last_value: sql(LAST_VALUE),
            clear_bindings: sql(CLEAR_BINDINGS),
            clear_live: sql(CLEAR_LIVE),
            clear_rest: sql(CLEAR_REST),
        }
    }
}

/// Makes an empty file that only its owner can read, unless it is there. SQLite gives its companions the same mode.
pub(super) fn make_file(path: &Path) {
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut new, 0o600);
    // If it cannot be made, SQLite says why when it opens it.
    let _: io::Result<_> = new.open(path);
}

/// Puts the file into WAL mode, which it then stays in.
///
/// The switch needs the file for itself, and SQLite does not wait for that: when many processes start at once, each
/// tries again until one has done it, and as long as an operation may take at most.
pub(super) async fn switch_to_wal(inner: &Inner) -> Result<()> {
    let mut deadline = None;
    loop {
        let mut lease = inner.link.lease("connect").await?;
        let switched =
            sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(lease.conn()).await;
        // That of the first try: each lease has another one.
        let deadline = *deadline.get_or_insert(lease.deadline);
        match lease.end(Ok(switched)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let hint = "the file system or the VFS has no write-ahead log; put the file on a local disk";
                return Err(Error::new(ErrorKind::Rejected).operation("connect").store(STORE).hint(hint));
            }
            Err(fault) if fault.error.is_retryable() && Instant::now() < deadline => {}
            Err(fault) => return Err(fault.error),
        }
        sleep(jittered(std::time::Duration::from_millis(20))).await;
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
    let _turn = inner.writers.turn("migrate").await?;
    let mut lease = inner.link.lease("migrate").await?;
    let deadline = lease.deadline;
    let version = timeout_at(deadline, bring_up(lease.conn(), &inner.names)).await;
    let version = lease.end(version).map_err(|fault| fault.error)?;
    check_version(STORE, version, STEPS.len()).map(drop)
}

/// Takes the steps that are missing, in one transaction, and returns the version that was found.
async fn bring_up(conn: &mut SqliteConnection, names: &Names) -> sqlx::Result<i64> {
    // The write lock from the beginning: what is read after it stays true.
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    let run = |sql: String| sqlx::query(AssertSqlSafe(sql)).persistent(false);
    run(names.fill(VERSIONS, &[])).execute(&mut *transaction).await?;
    let read = sqlx::query_scalar(AssertSqlSafe(names.fill(READ_VERSION, &[]))).persistent(false);
    let found: i64 = read.fetch_optional(&mut *transaction).await?.unwrap_or(0);
    let missing = usize::try_from(found).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default();
    for sql in missing.iter().flat_map(|step| step.iter()) {
        run(names.fill(sql, &[])).execute(&mut *transaction).await?;
    }
    if !missing.is_empty() {
        run(write_version(names)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(found)
}

fn write_version(names: &Names) -> String {
    names.fill(WRITE_VERSION, &[("{number}", &STEPS.len().to_string())])
}

/// Removes all values with their bindings, a page at a time, and counts those that were live.
pub(super) async fn clear(inner: &Inner) -> Result<u64> {
    let (mut cleared, mut from) = (0, String::new());
    loop {
        let last = || query(&inner.statements.last_value).bind(from.as_str()).bind(PAGE);
        let row = inner.link.row("clear", last).await?;
        let to: Option<String> = row.map(|row| row.try_get(0).map_err(decoding)).transpose()?.flatten();
        let Some(to) = to else { return Ok(cleared) };
        let turn = inner.writers.turn("clear").await?;
        let mut lease = inner.link.lease("clear").await?;
        let began = Instant::now();
        let page = clear_page(lease.conn(), &inner.statements, &from, &to).await;
        cleared += lease.end(Ok(page)).map_err(|fault| fault.error)?;
        drop(turn);
        // As a sweep does, for the sake of writers.
        sleep(began.elapsed()).await;
        from = to;
    }
}

/// In one transaction: a binding that comes between must not be lost while its value stays.
async fn clear_page(
    conn: &mut SqliteConnection,
    sql: &Statements,
    from: &str,
    to: &str,
) -> sqlx::Result<u64> {
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    query(&sql.clear_bindings).bind(from).bind(to).execute(&mut *transaction).await?;
    let live = query(&sql.clear_live).bind(from).bind(to).execute(&mut *transaction).await?;
    query(&sql.clear_rest).bind(from).bind(to).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(live.rows_affected())
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    #[tokio::test]
    async fn the_clock_goes_on_after_the_year_2038() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.expect("a database in memory");
        for (time, millis) in [
            ("2038-01-19 03:14:07.999", 2_147_483_647_999_i64),
            ("2038-01-19 03:14:08.000", 2_147_483_648_000),
            ("2100-01-01 00:00:00.000", 4_102_444_800_000),
            ("2300-01-01 00:00:00.001", 10_413_792_000_001),
        ] {
            let clock = NOW.replace("'now'", &format!("'{time}'"));
            assert_ne!(clock, NOW);
            let now: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {clock}")))
                .fetch_one(&mut conn)
                .await
                .expect("a number");
            assert_eq!(now, millis, "{time}");
        }
    }
}
