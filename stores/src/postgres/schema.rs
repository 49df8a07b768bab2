//! The tables in a PostgreSQL database: their statements, and how they are made.

use std::time::Duration;

use cloakroom_core::Result;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, timeout_at};

use super::{Inner, STORE};
use crate::sql::{Names, Sql, check_version};

/// The table unless the builder names another.
pub(super) const TABLE: &str = "cloakroom_sessions";

/// Milliseconds since 1970 by the server's clock, whatever its time zone; in writes the millisecond under way counts
/// as whole. Not `now()`, which stands still while a statement waits for a row.
const NOW: &str = "floor(date_part('epoch', clock_timestamp()) * 1000)::bigint";
const SOON: &str = "ceil(date_part('epoch', clock_timestamp()) * 1000)::bigint";

const GET: &str = "SELECT value FROM {values} WHERE key = $1 AND expires_at > {now}";

const SET: &str = "INSERT INTO {values} (key, value, expires_at) VALUES ($1, $2, {soon} + $3) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";

const CREATE: &str = "INSERT INTO {values} AS v (key, value, expires_at) VALUES ($1, $2, {soon} + $3) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at \
     WHERE v.expires_at <= {now}";

const DESTROY: &str = "DELETE FROM {values} WHERE key = $1 AND expires_at > {now}";

const TOUCH: &str = "UPDATE {values} SET expires_at = {soon} + $2 WHERE key = $1 AND expires_at > {now}";

// What is there is read in the statement's own snapshot, while the write waits for the row and sees its latest
// version. If they disagree, the snapshot still shows what was expected: then the form below decides.
const REPLACE: &str = "WITH done AS (UPDATE {values} SET value = $3, expires_at = {soon} + $4 \
     WHERE key = $1 AND value = $2 AND expires_at > {now} RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), (SELECT value FROM {values} \
     WHERE key = $1 AND expires_at > {now} AND NOT EXISTS (SELECT 1 FROM done))";

const REPLACE_HELD: &str = "WITH held AS MATERIALIZED \
     (SELECT value, expires_at > {now} AS live FROM {values} WHERE key = $1 FOR UPDATE), \
     done AS (UPDATE {values} v SET value = $3, expires_at = {soon} + $4 FROM held \
     WHERE v.key = $1 AND held.live AND held.value = $2 RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), \
     (SELECT value FROM held WHERE live AND NOT EXISTS (SELECT 1 FROM done))";

const REMOVE: &str = "WITH done AS (DELETE FROM {values} \
     WHERE key = $1 AND value = $2 AND expires_at > {now} RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), (SELECT value FROM {values} \
     WHERE key = $1 AND expires_at > {now} AND NOT EXISTS (SELECT 1 FROM done))";

const REMOVE_HELD: &str = "WITH held AS MATERIALIZED \
     (SELECT value, expires_at > {now} AS live FROM {values} WHERE key = $1 FOR UPDATE), \
     done AS (DELETE FROM {values} v USING held \
     WHERE v.key = $1 AND held.live AND held.value = $2 RETURNING 1) \
     SELECT EXISTS (SELECT 1 FROM done), \
     (SELECT value FROM held WHERE live AND NOT EXISTS (SELECT 1 FROM done))";

const BIND: &str = "INSERT INTO {users} (key, \"user\", expires_at, bound_at) \
     VALUES ($1, $2, {soon} + $3, {soon}) ON CONFLICT (key) DO UPDATE \
     SET \"user\" = excluded.\"user\", expires_at = excluded.expires_at, bound_at = excluded.bound_at";

const KEYS_OF: &str = "SELECT b.key FROM {users} b JOIN {values} v ON v.key = b.key \
     WHERE b.\"user\" = $1 AND b.expires_at > {now} AND v.expires_at > {now}";

// In the order of the keys, so that two of these do not wait for each other.
const DESTROY_USER: &str = "WITH theirs AS MATERIALIZED \
     (SELECT v.key FROM {users} b JOIN {values} v ON v.key = b.key \
     WHERE b.\"user\" = $1 AND b.expires_at > {now} AND v.key <> $2 ORDER BY v.key FOR UPDATE OF v) \
     DELETE FROM {values} v USING theirs WHERE v.key = theirs.key AND v.expires_at > {now}";

const PAGE_OF_KEYS: &str =
    "SELECT key FROM {values} WHERE key > $1 AND expires_at > {now} ORDER BY key LIMIT $2";

const COUNT: &str = "SELECT count(*) FILTER (WHERE expires_at > {now}), max(key) \
     FROM (SELECT key, expires_at FROM {values} WHERE key > $1 ORDER BY key LIMIT $2) p";

const CLEAR: &str = "WITH page AS MATERIALIZED \
     (SELECT key FROM {values} WHERE key > $1 ORDER BY key LIMIT $2), \
     gone AS (DELETE FROM {values} v USING page WHERE v.key = page.key \
     RETURNING v.key, v.expires_at > {now} AS live), \
     unbound AS (DELETE FROM {users} b USING gone WHERE b.key = gone.key) \
     SELECT (SELECT count(*) FROM gone WHERE live), max(key) FROM page";

// A page of the table, in the order of the keys, is read without a lock; only what is over is locked, and only while it
// is deleted. Rows that somebody is about to write anew are left to the next round. It answers how many it deleted, and
// from where to go on: from the last that it took on, if there may be more on the page, else from the end of that.
const SWEEP: &str = "WITH page AS MATERIALIZED \
     (SELECT key, ctid AS place, expires_at FROM {values} WHERE key > $1 ORDER BY key LIMIT $2), \
     due AS MATERIALIZED (SELECT key, place FROM page WHERE expires_at <= {now} ORDER BY key LIMIT $3), \
     held AS MATERIALIZED (SELECT ctid AS place FROM {values} \
     WHERE ctid = ANY (ARRAY (SELECT place FROM due)) AND expires_at <= {now} FOR UPDATE SKIP LOCKED), \
     gone AS (DELETE FROM {values} WHERE ctid = ANY (ARRAY (SELECT place FROM held)) AND expires_at <= {now} \
     RETURNING 1) \
     SELECT (SELECT count(*) FROM gone), CASE WHEN (SELECT count(*) FROM due) = $3 \
     THEN (SELECT max(key) FROM due) ELSE (SELECT max(key) FROM page) END";

const LAST_BINDING: &str =
    "SELECT max(key) FROM (SELECT key FROM {users} WHERE key > $1 ORDER BY key LIMIT $2) p";

// One whose value is not there may be waiting for it, for 60 seconds.
const SWEEP_BINDINGS: &str = "DELETE FROM {users} b WHERE b.key > $1 AND b.key <= $2 AND (b.expires_at <= {now} \
     OR b.bound_at <= {now} - 60000 AND NOT EXISTS \
     (SELECT 1 FROM {values} v WHERE v.key = b.key AND v.expires_at > {now}))";

const NEW_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS {schema}";

/// What brings a schema from each version to the next; from nothing to 1 first.
const STEPS: &[&[&str]] = &[
    // No index on `expires_at`: with one, no renewal could be a heap-only update. A fifth of each page stays free for
    // those.
    &["CREATE TABLE IF NOT EXISTS {values} (key text COLLATE \"C\" NOT NULL PRIMARY KEY, \
         value bytea NOT NULL, expires_at bigint NOT NULL) WITH (fillfactor = 80)"],
    &[
        "CREATE TABLE IF NOT EXISTS {users} (key text COLLATE \"C\" NOT NULL PRIMARY KEY, \
         \"user\" bytea NOT NULL, expires_at bigint NOT NULL, bound_at bigint NOT NULL) WITH (fillfactor = 80)",
        "CREATE INDEX IF NOT EXISTS {by_user} ON {users} (\"user\")",
    ],
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {version} \
     (id integer NOT NULL PRIMARY KEY CHECK (id = 1), version bigint NOT NULL)";

const IS_THERE: &str = "SELECT to_regclass($1) IS NOT NULL";

const SCHEMA_IS_THERE: &str = "SELECT to_regnamespace($1) IS NOT NULL";

const READ_VERSION: &str = "SELECT version FROM {version}";

const WRITE_VERSION: &str = "INSERT INTO {version} (id, version) VALUES (1, {number}) \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version";

/// Held while tables are made: `CREATE … IF NOT EXISTS` by several at once fails now and then. One number for all
/// tables of ours, since a schema can be made by two stores at once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7164776637498519410)";

/// How long the migration may take, most of it waiting for those of other processes.
const MIGRATION: Duration = Duration::from_secs(60);

/// The statements of one store, with its names in them.
pub(super) struct Statements {
    pub(super) get: Sql,
    pub(super) set: Sql,
    pub(super) create: Sql,
    pub(super) destroy: Sql,
    pub(super) replace: [Sql; 2],
    pub(super) remove: [Sql; 2],
    pub(super) touch: Sql,
    pub(super) bind: Sql,
    pub(super) keys_of: Sql,
    pub(super) destroy_user: Sql,
    pub(super) page: Sql,
    pub(super) count: Sql,
    pub(super) clear: Sql,
    pub(super) sweep: Sql,
    pub(super) last_binding: Sql,
    pub(super) sweep_bindings: Sql,
}

impl Statements {
    pub(super) fn new(names: &Names) -> Self {
        let sql = |template| names.render(template, &[("{now}", NOW), ("{soon}", SOON)]);
        Self {
            get: sql(GET),
            set: sql(SET),
            create: sql(CREATE),
            destroy: sql(DESTROY),
            replace: [sql(REPLACE), sql(REPLACE_HELD)],
            remove: [sql(REMOVE), sql(REMOVE_HELD)],
            touch: sql(TOUCH),
            bind: sql(BIND),
            keys_of: sql(KEYS_OF),
            destroy_user: sql(DESTROY_USER),
            page: sql(PAGE_OF_KEYS),
            count: sql(COUNT),
            clear: sql(CLEAR),
            sweep: sql(SWEEP),
            last_binding: sql(LAST_BINDING),
            sweep_bindings: sql(SWEEP_BINDINGS),
        }
    }
}

/// Returns what makes the tables from nothing.
pub(super) fn ddl(names: &Names) -> String {
    let mut all = Vec::new();
    if names.schema().is_some() {
        all.push(names.fill(NEW_SCHEMA, &[]));
    }
    all.extend(STEPS.iter().flat_map(|step| step.iter()).map(|sql| names.fill(sql, &[])));
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

/// Takes the steps that are missing, in one transaction, and returns the version that was found.
async fn bring_up(conn: &mut PgConnection, names: &Names) -> sqlx::Result<i64> {
    let mut transaction = conn.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    // Who may not make tables may still find them up to date.
    let found = version(&mut transaction, names).await?;
    if missing(found).is_empty() {
        transaction.commit().await?;
        return Ok(found);
    }
    let run = |sql: String| sqlx::query(AssertSqlSafe(sql)).persistent(false);
    run(LOCK.to_owned()).execute(&mut *transaction).await?;
    if names.schema().is_some()
        && !is_there(&mut transaction, SCHEMA_IS_THERE, names.fill("{schema}", &[])).await?
    {
        run(names.fill(NEW_SCHEMA, &[])).execute(&mut *transaction).await?;
    }
    // Another process may have done it while this one waited.
    let found = version(&mut transaction, names).await?;
    for sql in missing(found).iter().flat_map(|step| step.iter()) {
        run(names.fill(sql, &[])).execute(&mut *transaction).await?;
    }
    if !missing(found).is_empty() {
        run(names.fill(VERSIONS, &[])).execute(&mut *transaction).await?;
        run(write_version(names)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(found)
}

/// Returns the steps that a schema of this version lacks: none if the version is not one of ours.
fn missing(found: i64) -> &'static [&'static [&'static str]] {
    usize::try_from(found).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default()
}

/// Reads the version that is there, or 0.
async fn version(conn: &mut PgConnection, names: &Names) -> sqlx::Result<i64> {
    if !is_there(conn, IS_THERE, names.fill("{version}", &[])).await? {
        return Ok(0);
    }
    let read = sqlx::query_scalar(AssertSqlSafe(names.fill(READ_VERSION, &[]))).persistent(false);
    Ok(read.fetch_optional(conn).await?.unwrap_or(0))
}

async fn is_there(conn: &mut PgConnection, sql: &'static str, name: String) -> sqlx::Result<bool> {
    sqlx::query_scalar(sql).bind(name).persistent(false).fetch_one(conn).await
}

fn write_version(names: &Names) -> String {
    names.fill(WRITE_VERSION, &[("{number}", &STEPS.len().to_string())])
}
