//! What the tests of the Redis store share: a server of their own, a store on it, and a look inside.
#![allow(dead_code)] // Each test file takes a part of it.
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::time::{Duration, Instant};

use cloakroom::{Error, ErrorKind, Key, RedisStore, Status, Store, Ttl};
use cloakroom_conformance::{Running, Server};
use redis::{FromRedisValue, aio::MultiplexedConnection};

pub(crate) const HOUR: Ttl = Ttl::from_secs(3600);

/// Starts a server that is nobody else's, for it is emptied and its settings are changed, and connects to it past the
/// store.
pub(crate) async fn server() -> (Running, MultiplexedConnection) {
    let server = Server::redis().private().start().await.unwrap();
    let inside = inside(server.url()).await;
    (server, inside)
}

pub(crate) async fn inside(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Sends a command, written as in `redis-cli`, past the store.
pub(crate) async fn ask<T: FromRedisValue>(inside: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut made = redis::cmd(words.next().unwrap());
    for word in words {
        made.arg(word);
    }
    made.query_async(inside).await.unwrap()
}

/// Returns how often the server was sent a command, as `INFO commandstats` counts.
pub(crate) async fn calls(inside: &mut MultiplexedConnection, command: &str) -> u64 {
    let stats: String = ask(inside, "INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Whether it is an error of an outage.
pub(crate) fn is_of_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// Waits until the status is, or is not, connected, and returns how long that took.
pub(crate) async fn wait_until(store: &RedisStore, connected: bool, limit: Duration) -> Duration {
    let began = Instant::now();
    while (store.status().current() == Status::Connected) != connected {
        assert!(began.elapsed() < limit, "the status is still {:?}", store.status().current());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
