//! The conformance suite over the table of koa-pg-session, and its rows and time zone.

use cloakroom::{Bytes, Key, Result, Store as _, Swapped, Ttl, shape::KoaPgSession};
use cloakroom_conformance::{Env, Server, conformance_tests};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    json::InJson,
    table::{self, KOA_PG_SESSION},
};

const HOUR: Ttl = Ttl::from_secs(3600);

async fn open_at(url: &str, name: &str, zone: &str) -> Result<KoaPgSession> {
    table::make(url, KOA_PG_SESSION, name).await;
    KoaPgSession::builder(zone).table(name).max_connections(4).connect(url).await
}

async fn open(env: Env) -> Result<InJson<KoaPgSession>> {
    open_at(env.url(), env.namespace(), "Europe/Berlin").await.map(InJson)
}

conformance_tests! {
    server: Server::postgres,
    open: open,
    abilities: [atomic],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}

fn key() -> Key {
    Key::new("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn row(n: u32) -> Bytes {
    format!(r#"{{"cookie":{{"maxAge":86400000,"signed":true}},"n":{n}}}"#).into()
}

#[tokio::test]
async fn the_end_is_written_and_read_in_the_zone_of_the_node_program() {
    table::ends_in_the_zone_of_node("zone_koa", "expiry", open_at).await;
}

#[tokio::test]
async fn a_row_of_koa_pg_session_is_read_and_written_as_it_is() {
    let server = Server::postgres().private().start().await.unwrap();
    let (url, name) = (server.url(), format!("koa_as_it_is_{}", std::process::id()));
    let store = open_at(url, &name, "Asia/Tokyo").await.unwrap();
    let mut node = PgConnection::connect(url).await.unwrap();
    sqlx::query("SET TIME ZONE 'Asia/Tokyo'").execute(&mut node).await.unwrap();
    let text = r#"{ "cookie" : {"maxAge":null},"b":1.0,"a":"\ud800", "a":2}"#;
    // Its own statements, and its own clock: seconds since 1970, and a part of one.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let insert = format!("INSERT INTO {name}(id, session, expiry) VALUES($1, $2::json, to_timestamp($3) );");
    let insert = sqlx::query(AssertSqlSafe(insert)).bind(key().as_str().to_owned()).bind(text);
    insert.bind(now + 2700.123).execute(&mut node).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap().as_deref(), Some(text.as_bytes()));
    let atomic = store.as_atomic().unwrap();
    assert!(!atomic.create(&key(), row(9), HOUR).await.unwrap());
    assert_eq!(atomic.replace(&key(), text.as_bytes(), row(2), HOUR).await.unwrap(), Swapped::Done);
    let stale = atomic.replace(&key(), text.as_bytes(), row(3), HOUR).await.unwrap();
    assert_eq!(stale, Swapped::Conflict(row(2)));
    let read = format!("SELECT session::text, extract(epoch FROM expiry::timestamptz)::float8 FROM {name}");
    let read = sqlx::query_as(AssertSqlSafe(read));
    let (found, ends): (String, f64) = read.fetch_one(&mut node).await.unwrap();
    assert_eq!(found.as_bytes(), row(2));
    assert!((now + 3600.0..now + 3660.0).contains(&ends), "{} s from then", ends - now);
    // Node reads a row that has ended until it deletes it. Here it is gone, and its place is free.
    let update = format!("UPDATE {name} SET session = $1::json, expiry = to_timestamp($2) WHERE id = $3;");
    let update = sqlx::query(AssertSqlSafe(update)).bind(text).bind(now - 0.5);
    update.bind(key().as_str().to_owned()).execute(&mut node).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(!store.destroy(&key()).await.unwrap() && !atomic.touch(&key(), HOUR).await.unwrap());
    assert!(atomic.create(&key(), row(4), HOUR).await.unwrap());
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(4)));
}
