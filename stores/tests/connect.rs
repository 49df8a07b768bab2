//! Every kind of address opens its store on a real server, with our options and without a word from anybody else.
#![cfg(all(
    feature = "memory",
    feature = "mongo",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use cloakroom::{ErrorKind, Key, PostgresStore, SqliteStore, Store, Swapped, Ttl, connect};
use cloakroom_conformance::{Env, Server};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

const LIFE: Ttl = Ttl::from_secs(600);

/// Opens two stores of different prefixes and table names at an address, and uses them side by side.
async fn works(url: &str, table: &str) {
    let name = Env::new("").namespace().to_owned();
    let separator = if url.contains('?') { '&' } else { '?' };
    let table = if table.is_empty() { String::new() } else { format!("&{table}={name}") };
    let open = async |prefix: &str| -> Arc<dyn Store> {
        connect(format!("{url}{separator}prefix={name}{prefix}{table}")).await.expect("it opens")
    };
    // The one would be a part of the other, if a prefix were only put before a key.
    let (shop, shop_eu) = (open("").await, open("%3Aeu").await);
    let key = Key::new("one").unwrap();
    shop.set(&key, "ours".into(), LIFE).await.unwrap();
    assert_eq!(shop_eu.get(&key).await.unwrap(), None);
    shop_eu.set(&key, "theirs".into(), LIFE).await.unwrap();
    let atomic = shop.as_atomic().expect("every store here compares and swaps");
    assert_eq!(atomic.replace(&key, b"ours", "new".into(), LIFE).await.unwrap(), Swapped::Done);
    let admin = shop.as_admin().expect("every store here can be cleared");
    assert_eq!(admin.len().await.unwrap(), 1);
    assert_eq!(admin.clear().await.unwrap(), 1);
    assert_eq!(shop.get(&key).await.unwrap(), None);
    assert_eq!(shop_eu.get(&key).await.unwrap().as_deref(), Some(&b"theirs"[..]));
}

#[tokio::test]
async fn in_this_process() {
    let store = connect("memory:?prefix=shop").await.unwrap();
    let key = Key::new("one").unwrap();
    store.set(&key, "ours".into(), LIFE).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn in_a_file() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(Env::new("").namespace());
    std::fs::create_dir_all(&folder).unwrap();
    works(&format!("sqlite://{}/sessions.db?timeout=4s&sweep_every=never", folder.display()), "table").await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn in_redis() {
    let server = Server::redis().shared().await.unwrap();
    works(&format!("{}/0?timeout=2s", server.url()), "").await;
    works(&format!("{}?protocol=resp3", server.url()), "").await;
}

#[tokio::test]
async fn in_a_redis_cluster() {
    let server = Server::redis_cluster().shared().await.unwrap();
    let nodes = server.url().replace("redis://", "");
    works(&format!("redis+cluster://{nodes}?timeout=2s"), "").await;
}

#[tokio::test]
async fn behind_redis_sentinels() {
    let server = Server::redis_sentinel().shared().await.unwrap();
    let sentinels = server.url().replace("redis://", "");
    works(&format!("redis+sentinel://{sentinels}/mymaster/0"), "").await;
}

#[tokio::test]
async fn in_postgresql() {
    let server = Server::postgres().shared().await.unwrap();
    works(&format!("{}?sslmode=prefer&timeout=4s&max_connections=2", server.url()), "table").await;
    works(&server.url().replacen("postgres://", "postgresql://", 1), "table").await;
}

#[tokio::test]
async fn in_mariadb() {
    let server = Server::mariadb().shared().await.unwrap();
    works(&format!("{}?timeout=4s&max_connections=2", server.url()), "table").await;
    works(&server.url().replace("mysql://", "mariadb://"), "table").await;
}

#[tokio::test]
async fn in_mongodb() {
    let server = Server::mongo().shared().await.unwrap();
    works(server.url(), "table").await;
}

/// A folder for a database, gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(Env::new("").namespace());
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn url(&self) -> String {
        format!("sqlite://{}/sessions.db", self.0.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_table_is_the_one_that_the_address_names() {
    let folder = Folder::new();
    let (key, url) = (Key::new("one").unwrap(), folder.url());
    let visits = connect(format!("{url}?table=visits")).await.unwrap();
    visits.set(&key, "ours".into(), LIFE).await.unwrap();
    for (table, there) in [(Some("visits"), true), (Some("others"), false), (None, false)] {
        let mut builder = SqliteStore::builder();
        if let Some(table) = table {
            builder = builder.table(table);
        }
        let store = builder.connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().is_some(), there, "{table:?}");
    }
}

#[tokio::test]
async fn tables_are_made_unless_the_address_says_not_to() {
    let folder = Folder::new();
    let (key, url) = (Key::new("one").unwrap(), folder.url());
    let bare = connect(format!("{url}?migrate=false")).await.unwrap();
    let error = bare.get(&key).await.unwrap_err();
    assert!(error.to_string().contains("migrate"), "{error}");
    for address in [url.clone(), format!("{url}?migrate=true"), format!("{url}?migrate=false")] {
        assert_eq!(connect(address).await.unwrap().get(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn expired_rows_are_swept_as_often_as_the_address_says_or_never() {
    let folder = Folder::new();
    let (key, url) = (Key::new("one").unwrap(), folder.url());
    let mut inside = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    let mut stores = Vec::new();
    for (table, every) in [("kept", "never"), ("swept", "20ms")] {
        let store = connect(format!("{url}?table={table}&sweep_every={every}")).await.unwrap();
        store.set(&key, "over".into(), Ttl::MIN).await.unwrap();
        // The first look wakes the sweeper.
        store.get(&key).await.unwrap();
        stores.push(store);
    }
    let rows = async |inside: &mut SqliteConnection, table: &str| -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(inside).await.unwrap()
    };
    let began = Instant::now();
    while rows(&mut inside, "swept").await > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it was never swept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rows(&mut inside, "kept").await, 1);
}

/// Of a table that somebody has locked nothing can be read: calls take their connections and wait for their deadlines.
#[tokio::test]
async fn connections_and_deadlines_are_those_of_the_address() {
    let server = Server::postgres().shared().await.unwrap();
    let (key, table) = (Key::new("one").unwrap(), Env::new("").namespace().to_owned());
    let url = format!("{}?table={table}&sweep_every=never", server.url());
    let store = connect(format!("{url}&max_connections=3&timeout=3s")).await.unwrap();
    let mut other = PgConnection::connect(server.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    let sql = AssertSqlSafe(format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
    sqlx::raw_sql(sql).execute(&mut *lock).await.unwrap();
    let began = Instant::now();
    let over = Cell::new(false);
    let calls = async {
        let answers = join_all((0..8).map(|_| store.get(&key))).await;
        over.set(true);
        (answers, began.elapsed())
    };
    let watched = async {
        let mut seen = Vec::new();
        while !over.get() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen.push(format!("{store:?}"));
        }
        seen
    };
    let ((answers, took), seen) = tokio::join!(calls, watched);
    for answer in answers {
        // No answer, or not even a connection.
        let kind = answer.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable), "{kind:?}");
    }
    // Longer than the 2 seconds that it would be otherwise.
    assert!((Duration::from_secs(3)..Duration::from_secs(20)).contains(&took), "it took {took:?}");
    assert!(seen.iter().any(|shown| shown.contains("connections: 3")), "{seen:?}");
    assert!(!seen.iter().any(|shown| shown.contains("connections: 4")), "{seen:?}");
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn the_schema_is_the_one_that_the_address_names() {
    let server = Server::postgres().shared().await.unwrap();
    let (key, schema) = (Key::new("one").unwrap(), Env::new("").namespace().to_owned());
    let mut inside = PgConnection::connect(server.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut inside).await.unwrap();
    let address = format!("{}?schema={schema}&table=visits&sweep_every=never", server.url());
    let store = connect(address).await.unwrap();
    store.set(&key, "ours".into(), LIFE).await.unwrap();
    let builder = PostgresStore::builder().schema(&schema).table("visits").sweep_every(None);
    let same = builder.connect(server.url()).await.unwrap();
    assert_eq!(same.get(&key).await.unwrap().as_deref(), Some(&b"ours"[..]));
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {schema}.visits"));
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut inside).await.unwrap(), 1);
}

/// Whoever accepts connections and says nothing.
#[tokio::test]
async fn a_redis_that_says_nothing_is_waited_for_as_long_as_the_address_says() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let began = Instant::now();
    let error = connect(format!("redis://user:canary@127.0.0.1:{port}/0?timeout=200ms")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    assert!(began.elapsed() < Duration::from_millis(1400), "it took {:?}", began.elapsed());
    assert!(!format!("{error:?} {error}").contains("canary"));
}
