//! The Redis store in a cluster when a reply is lost, a node is away or answers late: sent once, and within its time.
//!
//! A proxy can stand before a cluster of one node that names the proxy as its own address.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::time::{Duration, Instant};

use cloakroom::{AtomicStore, ErrorKind, Key, RedisStore, Result, Store};
use cloakroom_conformance::{FaultProxy, Running};
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

#[path = "support/redis.rs"]
mod support;
#[path = "support/redis_wire.rs"]
mod wire;

use support::{HOUR, ask, calls, inside, key, wait_until};

/// How much longer than promised something may take on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

struct Cluster {
    server: Running,
    proxy: FaultProxy,
    /// By the proxy.
    url: String,
    /// Past the proxy and the store.
    inside: MultiplexedConnection,
}

/// Starts a cluster of one node, whose clients all come by the proxy once the cluster has told them about itself.
async fn cluster() -> Cluster {
    let server = wire::one_node().start().await.unwrap();
    let (proxy, url) = server.proxied().await.unwrap();
    let mut inside = inside(server.url()).await;
    wire::form_cluster(&mut inside, proxy.port()).await;
    Cluster { server, proxy, url, inside }
}

/// Waits until the store has learnt its map anew after the last failure, which it asks for on the same connection: what is
/// lost next is then the reply to nothing else.
async fn settle(proxy: &FaultProxy) {
    loop {
        let before = proxy.traffic().bytes_up;
        for _ in 0..3 {
            sleep(Duration::from_millis(50)).await;
        }
        if proxy.traffic().bytes_up == before {
            return;
        }
    }
}

/// Every write of one session, with the command that the server counts it as.
const WRITES: [(&str, &str); 6] = [
    ("set", "set"),
    ("create", "set"),
    ("replace", "evalsha"),
    ("touch", "pexpire"),
    ("remove", "evalsha"),
    ("destroy", "unlink"),
];

/// Carries out one write, of which all but `create` want to find the value `old`.
async fn write(store: &RedisStore, key: &Key, write: &str) -> Result<()> {
    match write {
        "set" => store.set(key, "new".into(), HOUR).await,
        "create" => store.create(key, "new".into(), HOUR).await.map(drop),
        "replace" => store.replace(key, b"old", "new".into(), HOUR).await.map(drop),
        "touch" => store.touch(key, HOUR).await.map(drop),
        "remove" => store.remove(key, b"old").await.map(drop),
        _ => store.destroy(key).await.map(drop),
    }
}

#[tokio::test]
async fn a_write_in_a_cluster_whose_reply_is_lost_is_an_error_and_applied_once() {
    let Cluster { server: _server, proxy, url, mut inside } = cluster().await;
    let store = RedisStore::cluster([&url]).await.unwrap();
    for (name, counted) in WRITES {
        let one = key(name);
        if name != "create" {
            store.set(&one, "old".into(), HOUR).await.unwrap();
        }
        settle(&proxy).await;
        let before = calls(&mut inside, counted).await;
        proxy.reset_traffic();
        proxy.lose_reply_to(format!("cloakroom:{name}").as_bytes());
        let error = write(&store, &one, name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}");
        assert_eq!(proxy.traffic().lost_replies, 1, "{name}");
        // By now the node is connected again, and would have been sent it a second time.
        let left = store.get(&one).await.unwrap();
        let expected: Option<&[u8]> = match name {
            "touch" => Some(b"old"),
            "remove" | "destroy" => None,
            _ => Some(b"new"),
        };
        assert_eq!(left.as_deref(), expected, "{name} was applied");
        assert_eq!(calls(&mut inside, counted).await - before, 1, "{name} was sent again");
    }
}

#[tokio::test]
async fn a_write_in_a_cluster_that_is_lost_on_its_way_is_an_error_and_not_sent_again() {
    let Cluster { server: _server, proxy, url, mut inside } = cluster().await;
    let store = RedisStore::cluster([&url]).await.unwrap();
    for (name, counted) in WRITES {
        let one = key(name);
        settle(&proxy).await;
        let before = calls(&mut inside, counted).await;
        proxy.lose_request(format!("cloakroom:{name}").as_bytes());
        let error = write(&store, &one, name).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}");
        assert_eq!(store.get(&one).await.unwrap(), None);
        // The store cannot know that this one was not applied.
        assert_eq!(calls(&mut inside, counted).await - before, 0, "{name} was sent again");
    }
}

#[tokio::test]
async fn what_was_never_sent_waits_for_a_node_that_is_away_for_a_moment() {
    let Cluster { server: _server, proxy, url, mut inside } = cluster().await;
    let store = RedisStore::cluster([&url]).await.unwrap();
    for _ in 0..5 {
        proxy.refuse().await;
        wait_until(&store, false, Duration::from_secs(1)).await;
        let before = calls(&mut inside, "set").await;
        let one = key("one");
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.set(&one, "value".into(), HOUR).await }
        });
        sleep(Duration::from_millis(50)).await;
        proxy.heal().await;
        waiting.await.unwrap().unwrap();
        assert_eq!(calls(&mut inside, "set").await - before, 1);
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_connected_costs_a_command_its_time_and_no_more() {
    let Cluster { server, proxy, .. } = cluster().await;
    // The node itself answers, and names an address at which nobody does.
    proxy.stall();
    let response = Duration::from_millis(300);
    let store = RedisStore::builder().connect_timeout(Duration::from_secs(4)).response_timeout(response);
    let store = store.cluster([server.url()]).await.unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let error = store.get(&key("one")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < response + SLACK, "it took {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_node_that_is_connected_late_has_only_the_rest_of_the_time_for_its_reply() {
    let Cluster { server, proxy, mut inside, .. } = cluster().await;
    let _: () = ask(&mut inside, &format!("SET cloakroom:one {} PX 600000", "x".repeat(1 << 20))).await;
    proxy.stall();
    let response = Duration::from_secs(2);
    let store = RedisStore::builder().connect_timeout(Duration::from_secs(4)).response_timeout(response);
    let store = store.cluster([server.url()]).await.unwrap();
    let began = Instant::now();
    let getting = tokio::spawn(async move { store.get(&key("one")).await });
    // At half of the time the node can be connected, and its reply is on its way for longer than the time.
    while began.elapsed() < response / 2 {
        sleep(Duration::from_millis(20)).await;
    }
    proxy.heal().await;
    proxy.throttle(200_000);
    let error = getting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < response + SLACK, "it took {:?}", began.elapsed());
}
