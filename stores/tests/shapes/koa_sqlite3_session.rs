//! The conformance suite over the table of koa-sqlite3-session, and its file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cloakroom::{Bytes, ErrorKind, Key, Result, Store, Swapped, Ttl, shape::KoaSqlite3Session};
use cloakroom_conformance::{Env, conformance_tests};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::json::InJson;

/// The table that koa-sqlite3-session 2 makes, in its words.
const TABLE: &str = r#"CREATE TABLE IF NOT EXISTS "__session_store" (
                    id TEXT PRIMARY KEY NOT NULL,
                    expires INTEGER NOT NULL,
                    data TEXT);"#;

const HOUR: Ttl = Ttl::from_secs(3600);

/// A folder with the file of one Node program, gone with its last clone.
#[derive(Clone)]
struct Folder(Arc<Guard>);

struct Guard(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}_shape"));
        fs::create_dir_all(&path).unwrap();
        Self(Arc::new(Guard(path)))
    }

    fn of_this_test(name: &str) -> Self {
        Self::new(&format!("{name}_{}", std::process::id()))
    }

    fn url(&self) -> String {
        format!("sqlite://{}/node.db", self.0.0.display())
    }

    async fn connection(&self) -> SqliteConnection {
        let options: SqliteConnectOptions = self.url().parse().unwrap();
        SqliteConnection::connect_with(&options.create_if_missing(true)).await.unwrap()
    }

    /// Does what the Node program does: it makes the table.
    async fn make(&self, name: &str) {
        let table = TABLE.replace("__session_store", name);
        self.connection().await.execute(AssertSqlSafe(table)).await.unwrap();
    }

    async fn open(&self, name: &str) -> Result<KoaSqlite3Session> {
        let builder = KoaSqlite3Session::builder().table(name).max_connections(4).sweep_every(None);
        builder.connect(&self.url()).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn open(env: Env) -> Result<InJson<KoaSqlite3Session>> {
    let folder = env.shared_with_neighbours(|| Folder::new(env.namespace()));
    folder.make(env.namespace()).await;
    folder.open(env.namespace()).await.map(InJson)
}

conformance_tests! { server: none, open: open, abilities: [atomic] }

fn key() -> Key {
    Key::new("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn row(n: u32) -> Bytes {
    format!(r#"{{"cookie":{{"maxAge":86400000,"signed":true}},"n":{n}}}"#).into()
}

#[tokio::test]
async fn a_row_of_koa_sqlite3_session_is_read_and_written_as_it_is() {
    let folder = Folder::of_this_test("as_it_is");
    folder.make("__session_store").await;
    let store = KoaSqlite3Session::builder().connect(&folder.url()).await.unwrap();
    let mut node = folder.connection().await;
    let text = r#"{ "cookie" : {"maxAge":null},"b":1.0,"a":"\ud800" }"#;
    // Its own statement, and its own clock: milliseconds since 1970.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let write = r#"INSERT OR REPLACE INTO "__session_store" (id, expires, data) VALUES (?, ?, ?)"#;
    let write = |expires: i64| sqlx::query(write).bind(key().as_str().to_owned()).bind(expires).bind(text);
    write(now + 3_600_000).execute(&mut node).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap().as_deref(), Some(text.as_bytes()));
    let atomic = store.as_atomic().unwrap();
    assert_eq!(atomic.replace(&key(), text.as_bytes(), row(2), HOUR).await.unwrap(), Swapped::Done);
    let stale = atomic.replace(&key(), text.as_bytes(), row(3), HOUR).await.unwrap();
    assert_eq!(stale, Swapped::Conflict(row(2)));
    let read = r#"SELECT expires, typeof(expires), typeof(data), data FROM "__session_store""#;
    let found: (i64, String, String, String) = sqlx::query_as(read).fetch_one(&mut node).await.unwrap();
    assert!((now + 3_600_000..now + 3_660_000).contains(&found.0), "{} ms from then", found.0 - now);
    assert_eq!((&*found.1, &*found.2, found.3.as_bytes()), ("integer", "text", &row(2)[..]));
    write(now - 1).execute(&mut node).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(atomic.create(&key(), row(4), HOUR).await.unwrap());
}

#[tokio::test]
async fn the_file_stays_in_the_journal_mode_that_it_has() {
    for mode in ["delete", "wal"] {
        let folder = Folder::of_this_test(mode);
        folder.make("__session_store").await;
        let mut node = folder.connection().await;
        node.execute(AssertSqlSafe(format!("PRAGMA journal_mode = {mode}"))).await.unwrap();
        let store = KoaSqlite3Session::builder().connect(&folder.url()).await.unwrap();
        store.set(&key(), row(1), HOUR).await.unwrap();
        let found: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut node).await.unwrap();
        assert_eq!(found, mode);
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_the_row_stays() {
    let folder = Folder::of_this_test("no_json");
    folder.make("__session_store").await;
    let store = KoaSqlite3Session::builder().connect(&folder.url()).await.unwrap();
    store.set(&key(), row(1), HOUR).await.unwrap();
    for value in [&b"\xff\xfe"[..], b"{", b""] {
        let error = store.set(&key(), Bytes::copy_from_slice(value), HOUR).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value, "{error}");
    }
    let atomic = store.as_atomic().unwrap();
    assert_eq!(atomic.remove(&key(), b"\xff").await.unwrap(), Swapped::Conflict(row(1)));
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn without_the_file_and_the_table_of_node_the_store_does_not_open() {
    let folder = Folder::of_this_test("not_there");
    assert_eq!(folder.open("__session_store").await.unwrap_err().kind(), ErrorKind::Rejected);
    assert!(!folder.0.0.join("node.db").exists(), "the file is Node's to make");
    folder.make("another").await;
    let error = folder.open("__session_store").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")), "{error}");
}

#[tokio::test]
async fn rows_that_have_ended_are_deleted_in_the_background() {
    let folder = Folder::of_this_test("swept");
    folder.make("__session_store").await;
    let builder = KoaSqlite3Session::builder().sweep_every(Duration::from_millis(50));
    let store = builder.connect(&folder.url()).await.unwrap();
    store.set(&key(), row(1), Ttl::from_millis(1)).await.unwrap();
    let other = Key::new("other").unwrap();
    store.set(&other, row(2), HOUR).await.unwrap();
    let mut node = folder.connection().await;
    loop {
        store.get(&other).await.unwrap();
        let count = r#"SELECT count(*) FROM "__session_store""#;
        if sqlx::query_scalar::<_, i64>(count).fetch_one(&mut node).await.unwrap() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(&other).await.unwrap(), Some(row(2)));
}
