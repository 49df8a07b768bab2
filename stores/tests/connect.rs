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

use std::{path::Path, sync::Arc};

use cloakroom::{Key, Store, Swapped, Ttl, connect};
use cloakroom_conformance::{Env, Server};

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
