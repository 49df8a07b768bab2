//! The conformance suite over the table of connect-pg-simple, and its time zone.

use std::time::Duration;

use cloakroom::{Bytes, ErrorKind, Key, Result, Store, Swapped, Ttl, shape::ConnectPgSimple};
use cloakroom_conformance::{Env, Server, conformance_tests};

use crate::{
    json::InJson,
    table::{self, CONNECT_PG_SIMPLE},
};

async fn open_at(url: &str, name: &str, zone: &str) -> Result<ConnectPgSimple> {
    table::make(url, CONNECT_PG_SIMPLE, name).await;
    ConnectPgSimple::builder(zone).table(name).max_connections(4).sweep_every(None).connect(url).await
}

async fn open(env: Env) -> Result<InJson<ConnectPgSimple>> {
    open_at(env.url(), env.namespace(), "Asia/Tokyo").await.map(InJson)
}

conformance_tests! {
    server: Server::postgres,
    open: open,
    abilities: [atomic],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}

fn key() -> Key {
    Key::new("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn row(n: u32) -> Bytes {
    format!(r#"{{"cookie":{{"originalMaxAge":3600000}},"n":{n}}}"#).into()
}

#[tokio::test]
async fn the_end_is_written_and_read_in_the_zone_of_the_node_program() {
    table::ends_in_the_zone_of_node("zone_simple", "expire", open_at).await;
}

#[tokio::test]
async fn a_zone_that_the_server_does_not_know_is_a_mistake_of_the_configuration() {
    let server = Server::postgres().private().start().await.unwrap();
    let error = open_at(server.url(), "zone_wrong", "Middle/Earth").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("time_zone")), "{error}");
}

#[tokio::test]
async fn the_text_of_the_json_comes_back_as_node_wrote_it() {
    let server = Server::postgres().private().start().await.unwrap();
    let store = open_at(server.url(), "json_text", "UTC").await.unwrap();
    let text = r#"{ "cookie" : {"expires":null},"b":1.0,"a":"\ud800", "a":2}"#;
    let insert = format!(
        "INSERT INTO json_text VALUES ('{}', '{text}', clock_timestamp() AT TIME ZONE 'UTC' + interval '1 hour')",
        key().as_str()
    );
    table::execute(server.url(), insert).await;
    assert_eq!(store.get(&key()).await.unwrap().as_deref(), Some(text.as_bytes()));
    let atomic = store.as_atomic().unwrap();
    let swapped = atomic.replace(&key(), text.as_bytes(), row(2), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(swapped, Swapped::Done);
    let stale = atomic.replace(&key(), text.as_bytes(), row(3), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(stale, Swapped::Conflict(row(2)));
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_the_row_stays() {
    let server = Server::postgres().private().start().await.unwrap();
    let store = open_at(server.url(), "no_json", "UTC").await.unwrap();
    store.set(&key(), row(1), Ttl::from_secs(60)).await.unwrap();
    for value in [&b"\xff\xfe"[..], b"{", b""] {
        let value = Bytes::copy_from_slice(value);
        let error = store.set(&key(), value, Ttl::from_secs(60)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value, "{error}");
    }
    let atomic = store.as_atomic().unwrap();
    assert_eq!(atomic.remove(&key(), b"\xff").await.unwrap(), Swapped::Conflict(row(1)));
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn rows_that_have_ended_are_deleted_in_the_background() {
    let server = Server::postgres().private().start().await.unwrap();
    table::make(server.url(), CONNECT_PG_SIMPLE, "swept").await;
    let builder = ConnectPgSimple::builder("UTC").table("swept").sweep_every(Duration::from_millis(50));
    let store = builder.connect(server.url()).await.unwrap();
    store.set(&key(), row(1), Ttl::from_millis(1)).await.unwrap();
    let other = Key::new("other").unwrap();
    store.set(&other, row(2), Ttl::from_secs(60)).await.unwrap();
    let count = || table::text(server.url(), "SELECT count(*)::text FROM swept".to_owned());
    while count().await.as_deref() != Some("1") {
        store.get(&other).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(&other).await.unwrap(), Some(row(2)));
}
