//! The conformance suite over the table of koa-mysql-session, and its collation and character set.

use std::time::Duration;

use cloakroom::{Bytes, ErrorKind, Key, Result, Store, Swapped, Ttl, shape::KoaMysqlSession};
use cloakroom_conformance::{Env, Server, conformance_tests};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::json::InJson;

/// The table that koa-mysql-session 0.0.2 makes, in its words.
const TABLE: &str = "CREATE  TABLE IF NOT EXISTS `_mysql_session_store` (`id` VARCHAR(255) NOT NULL, \
     `expires` BIGINT NULL, `data` TEXT NULL, PRIMARY KEY (`id`));";

const HOUR: Ttl = Ttl::from_secs(3600);

/// Makes the table under another name and with a column `data` of this type.
async fn make(url: &str, name: &str, data: &str, collation: &str) {
    let table = TABLE.replace("_mysql_session_store", name).replace("`data` TEXT", &format!("`data` {data}"));
    execute(url, table.replace(");", &format!(") COLLATE {collation};"))).await;
}

async fn execute(url: &str, sql: String) {
    MySqlConnection::connect(url).await.unwrap().execute(AssertSqlSafe(sql)).await.unwrap();
}

async fn number(url: &str, sql: String) -> i64 {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
}

async fn open_at(url: &str, name: &str) -> Result<KoaMysqlSession> {
    KoaMysqlSession::builder().table(name).max_connections(4).sweep_every(None).connect(url).await
}

async fn open(env: Env) -> Result<InJson<KoaMysqlSession>> {
    // As who has made more room in it, for the suite's values are twice as long in JSON; and so that all keys are apart.
    make(env.url(), env.namespace(), "MEDIUMTEXT", "utf8mb4_bin").await;
    open_at(env.url(), env.namespace()).await.map(InJson)
}

conformance_tests! {
    server: Server::mariadb,
    open: open,
    abilities: [atomic],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 2, Remove: 2, Touch: 1],
}

fn key() -> Key {
    Key::new("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn row(n: u32) -> Bytes {
    format!(r#"{{"cookie":{{"maxAge":86400000,"signed":true}},"n":{n}}}"#).into()
}

/// A table of one test's own, as the package makes it on a server as it comes.
async fn fresh(url: &str, name: &str) -> String {
    let name = format!("{name}_{}", std::process::id());
    execute(url, TABLE.replace("_mysql_session_store", &name)).await;
    name
}

#[tokio::test]
async fn a_row_of_koa_mysql_session_is_read_and_written_as_it_is() {
    let server = Server::mariadb().shared().await.unwrap();
    let (url, name) = (server.url(), fresh(server.url(), "as_it_is").await);
    let store = open_at(url, &name).await.unwrap();
    let text = r#"{ "cookie" : {"maxAge":null},"b":1.0,"a":"\ud800 " }"#;
    // Its own statement, and its own clock: milliseconds since 1970.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let write = |expires: i64| {
        let (id, text) = (key(), text.replace('\\', "\\\\"));
        let id = id.as_str();
        format!(
            "INSERT INTO {name}(id, expires, data) VALUES('{id}', {expires}, '{text}') \
             ON DUPLICATE KEY UPDATE expires={expires}, data ='{text}'"
        )
    };
    execute(url, write(now + 3_600_000)).await;
    assert_eq!(store.get(&key()).await.unwrap().as_deref(), Some(text.as_bytes()));
    let atomic = store.as_atomic().unwrap();
    // One that differs in a space alone is another text.
    let other = text.replace("\\ud800 ", "\\ud800");
    let swapped = atomic.replace(&key(), other.as_bytes(), row(2), HOUR).await.unwrap();
    assert_eq!(swapped, Swapped::Conflict(text.into()));
    let swapped = atomic.replace(&key(), text.as_bytes(), row(2), HOUR).await.unwrap();
    assert_eq!(swapped, Swapped::Done);
    let ends = number(url, format!("SELECT expires FROM {name}")).await;
    assert!((now + 3_600_000..now + 3_660_000).contains(&ends), "{} ms from then", ends - now);
    // Node reads a row that has ended, and deletes none. Here it is gone, and its place is free.
    execute(url, write(now - 1)).await;
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(!store.destroy(&key()).await.unwrap() && !atomic.touch(&key(), HOUR).await.unwrap());
    assert!(atomic.create(&key(), row(3), HOUR).await.unwrap());
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(3)));
}

#[tokio::test]
async fn a_key_that_the_collation_takes_for_another_is_absent_and_harms_nobody() {
    let server = Server::mariadb().shared().await.unwrap();
    let (url, name) = (server.url(), fresh(server.url(), "collation").await);
    let store = open_at(url, &name).await.unwrap();
    store.set(&key(), row(1), HOUR).await.unwrap();
    let other = Key::new(key().as_str().to_ascii_lowercase()).unwrap();
    let atomic = store.as_atomic().unwrap();
    assert_eq!(store.get(&other).await.unwrap(), None);
    assert_eq!(store.set(&other, row(2), HOUR).await.unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(atomic.create(&other, row(2), HOUR).await.unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(
        atomic.replace(&other, &row(1), row(2), HOUR).await.unwrap(),
        Swapped::Gone,
        "of another session"
    );
    assert_eq!(atomic.remove(&other, &row(1)).await.unwrap(), Swapped::Gone);
    assert!(!store.destroy(&other).await.unwrap() && !atomic.touch(&other, HOUR).await.unwrap());
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn what_is_no_json_or_does_not_fit_is_refused_and_the_row_stays() {
    let server = Server::mariadb().shared().await.unwrap();
    let name = format!("refused_{}", std::process::id());
    make(server.url(), &name, "TEXT", "latin1_swedish_ci").await;
    let store = open_at(server.url(), &name).await.unwrap();
    store.set(&key(), row(1), HOUR).await.unwrap();
    let long = format!("\"{}\"", "x".repeat(65_534));
    for (value, kind) in [
        (&b"\xff\xfe"[..], ErrorKind::Value),
        (b"{", ErrorKind::Value),
        (b"", ErrorKind::Value),
        // Not in the column's character set.
        ("\"\u{1f9e5}\"".as_bytes(), ErrorKind::Value),
        (long.as_bytes(), ErrorKind::TooLarge),
    ] {
        let value = Bytes::copy_from_slice(value);
        assert_eq!(store.set(&key(), value, HOUR).await.unwrap_err().kind(), kind);
    }
    let atomic = store.as_atomic().unwrap();
    assert_eq!(atomic.remove(&key(), b"\xff").await.unwrap(), Swapped::Conflict(row(1)));
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
    let umlaut = Bytes::from("\"f\u{fc}r\"");
    assert_eq!(atomic.replace(&key(), &row(1), umlaut.clone(), HOUR).await.unwrap(), Swapped::Done);
    assert_eq!(atomic.replace(&key(), &umlaut, row(2), HOUR).await.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn without_the_table_of_node_the_store_does_not_open() {
    let server = Server::mariadb().shared().await.unwrap();
    let error = open_at(server.url(), "not_there").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")), "{error}");
}

#[tokio::test]
async fn rows_that_have_ended_are_deleted_in_the_background() {
    let server = Server::mariadb().shared().await.unwrap();
    let (url, name) = (server.url(), fresh(server.url(), "swept").await);
    let builder = KoaMysqlSession::builder().table(&name).sweep_every(Duration::from_millis(50));
    let store = builder.connect(url).await.unwrap();
    store.set(&key(), row(1), Ttl::from_millis(1)).await.unwrap();
    let other = Key::new("other").unwrap();
    store.set(&other, row(2), HOUR).await.unwrap();
    while number(url, format!("SELECT count(*) FROM {name}")).await != 1 {
        store.get(&other).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(&other).await.unwrap(), Some(row(2)));
}
