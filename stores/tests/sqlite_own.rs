//! What is SQLite's own: the file, its locks, a full disk, several handles on one file.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

#[path = "sql/folder.rs"]
mod folder;
#[path = "sqlite_own/full.rs"]
mod full;
mod sql;

use std::time::{Duration, Instant};

use cloakroom::{AdminStore, ErrorKind, IndexedStore, Key, Result, SqliteStore, Store};
use cloakroom_conformance::Env;
use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::{
    folder::Folder,
    sql::place::{LONG, Place, key},
};

/// A file of its own.
struct File {
    folder: Folder,
    pool: SqlitePool,
}

impl Place for File {
    type Store = SqliteStore;

    const VERSION_1: &'static [&'static str] = &[
        "CREATE TABLE old (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL) \
         WITHOUT ROWID",
        "CREATE INDEX old_by_end ON old (expires_at)",
        "CREATE TABLE old_schema (id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL)",
        "INSERT INTO old_schema VALUES (1, 1)",
        "INSERT INTO old VALUES ('kept', CAST('from before' AS BLOB), 4102444800000)",
    ];

    const FILL: &'static str = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {rows}) \
         INSERT INTO many SELECT '{word}-' || n, CAST('value' AS BLOB), {end} FROM n";

    async fn make() -> Self {
        let folder = Folder::shared(&Env::new(""));
        let options: SqliteConnectOptions = folder.url().parse().unwrap();
        let options = options.create_if_missing(true).busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_lazy_with(options);
        Self { folder, pool }
    }

    async fn open(&self, table: &str) -> Result<SqliteStore> {
        let builder = SqliteStore::builder().table(table).max_connections(2).sweep_every(None);
        builder.timeout(Duration::from_secs(20)).connect(&self.folder.url()).await
    }

    async fn open_sweeping(&self, table: &str, every: Duration) -> SqliteStore {
        SqliteStore::builder().table(table).sweep_every(every).connect(&self.folder.url()).await.unwrap()
    }

    fn stop_sweeping(store: &SqliteStore) {
        store.stop_sweeping();
    }

    async fn migrate(store: &SqliteStore) -> Result<()> {
        store.migrate().await
    }

    fn ddl(store: &SqliteStore) -> String {
        store.ddl()
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }
}

sql::shared::sql_tests!(File);

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_its_companions_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let place = File::make().await;
    let store = place.table("secret").await;
    store.set(&key("a"), "value".into(), LONG).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(place.folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log and the index of that");
}

#[tokio::test]
async fn the_file_is_in_wal_mode_and_syncs_at_checkpoints() {
    let place = File::make().await;
    let store = place.table("modes").await;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(store.pool()).await.unwrap();
    assert_eq!(journal, "wal");
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(store.pool()).await.unwrap();
    assert_eq!(synchronous, 1, "NORMAL");
}

#[tokio::test]
async fn the_tables_have_no_hidden_key_beside_their_own() {
    let place = File::make().await;
    place.table("plain").await;
    let tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('plain', 'plain_users') \
                  AND sql LIKE '%WITHOUT ROWID'";
    assert_eq!(place.number(tables).await, 2);
}

#[tokio::test]
async fn a_database_in_memory_is_refused_and_so_is_another_scheme() {
    for url in [
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://a?mode=memory",
        "sqlite://",
        "postgres://a",
        "a.db",
    ] {
        let error = SqliteStore::connect(url).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("url")), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_options_is_named() {
    for (field, builder) in [
        ("timeout", SqliteStore::builder().timeout(Duration::ZERO)),
        ("sweep_every", SqliteStore::builder().sweep_every(Duration::ZERO)),
        ("max_connections", SqliteStore::builder().max_connections(0)),
        ("table", SqliteStore::builder().table("a b")),
        ("table", SqliteStore::builder().table("sqlite_sessions")),
        ("table", SqliteStore::builder().table("SQLite_sessions")),
    ] {
        let error = builder.connect("sqlite://never-made.db").await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
    }
}

#[tokio::test]
async fn a_missing_folder_and_a_file_that_is_no_database_are_clear_errors() {
    let place = File::make().await;
    let missing = format!("sqlite://{}/none/sessions.db", place.folder.path().display());
    let error = SqliteStore::connect(&missing).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("folder"), "{error}");

    let path = place.folder.path().join("text.db");
    std::fs::write(&path, "certainly no database, and longer than a header of one hundred bytes ".repeat(4))
        .unwrap();
    let error = SqliteStore::connect(&format!("sqlite://{}", path.display())).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(error.to_string().contains("no sound SQLite database"), "{error}");
}

#[tokio::test]
async fn a_file_opened_for_reading_only_rejects_writes() {
    let place = File::make().await;
    place.folder.store("fixed").await.unwrap().set(&key("a"), "value".into(), LONG).await.unwrap();
    let pool = SqlitePool::connect(&format!("{}?mode=ro", place.folder.url())).await.unwrap();
    let store = SqliteStore::builder().table("fixed").from_pool(pool).unwrap();
    assert!(store.get(&key("a")).await.unwrap().is_some());
    let error = store.set(&key("a"), "other".into(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_a_timeout_after_the_timeout_and_nothing_is_lost() {
    let place = File::make().await;
    place.table("locked").await.set(&key("a"), "before".into(), LONG).await.unwrap();
    let builder = SqliteStore::builder().table("locked").timeout(Duration::from_millis(500));
    let store = builder.connect(&place.folder.url()).await.unwrap();
    let mut other = SqliteConnection::connect(&place.folder.url()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let began = Instant::now();
    let error = store.set(&key("a"), "after".into(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("locked"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(400));
    // Readers do not mind a writer.
    assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&b"before"[..]));
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    store.set(&key("a"), "after".into(), LONG).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&b"after"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_to_a_file_that_somebody_never_lets_go_of_is_a_timeout() {
    let place = File::make().await;
    // Not in WAL mode yet: to put it there takes the file for itself. Under the one lock it cannot even be opened, under
    // the other it can.
    place.run("CREATE TABLE theirs (n INTEGER)").await;
    let url = place.folder.url();
    for lock in ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"] {
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
        let connecting = SqliteStore::builder().timeout(Duration::from_millis(200)).connect(&url);
        let outcome = tokio::time::timeout(Duration::from_secs(10), connecting).await.expect("it gives up");
        let error = outcome.map(drop).unwrap_err();
        assert_eq!(
            (error.kind(), error.failed_operation()),
            (ErrorKind::Timeout, Some("connect")),
            "{error}"
        );
        assert!(error.to_string().contains("locked"), "{error}");
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    }
    place.table("ours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_closed_in_the_midst_of_traffic_is_soon_closed() {
    let place = File::make().await;
    let store = place.table("closing").await;
    let calls: Vec<_> = (0..4)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(error) = store.set(&key(&format!("of-{number}")), "value".into(), LONG).await {
                        return error;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::time::timeout(Duration::from_secs(10), store.pool().close()).await.expect("nothing is held back");
    for call in calls {
        let error = call.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_a_timeout_that_names_it() {
    let place = File::make().await;
    place.table("few").await;
    let pool = SqlitePoolOptions::new().max_connections(1).connect(&place.folder.url()).await.unwrap();
    let builder = SqliteStore::builder().table("few").timeout(Duration::from_millis(100));
    let store = builder.from_pool(pool.clone()).unwrap();
    let held = pool.acquire().await.unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");
    drop(held);
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_two_handles_of_one_file_all_succeed() {
    let place = File::make().await;
    let handles = [place.table("busy").await, place.open("busy").await.unwrap()];
    let writers: Vec<_> = (0..32)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    store.set(&key(&format!("of-{number}")), format!("{round}").into(), LONG).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(handles[0].len().await.unwrap(), 32);
}

#[tokio::test]
async fn the_longest_key_and_user_fit() {
    let place = File::make().await;
    let store = place.table("long").await;
    let (longest, user) = (Key::new("k".repeat(255)).unwrap(), "u".repeat(255));
    store.set(&longest, "value".into(), LONG).await.unwrap();
    store.bind(&longest, &user, LONG).await.unwrap();
    assert_eq!(store.keys_of(&user).await.unwrap(), [longest]);
}

#[tokio::test]
async fn debug_shows_the_table_and_no_path() {
    let place = File::make().await;
    let shown = format!("{:?}", place.open("shown").await.unwrap());
    assert!(shown.contains("shown") && !shown.contains("sessions.db"), "{shown}");
}
