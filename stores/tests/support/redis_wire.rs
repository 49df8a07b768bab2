//! The Redis store in a cluster and behind sentinels where what goes over the wire is looked at: on one server, by a proxy.
//!
//! Six nodes would send their clients around the proxy, and before the nodes themselves it would count what replicas and
//! sentinels have to say.
#![allow(dead_code)] // Each test file takes a part of it.
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::time::Duration;

use cloakroom::{RedisStore, RedisStoreBuilder, Result};
use cloakroom_conformance::{Env, Server};
use redis::{Client, ConnectionAddr, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Describes a node that is to be a cluster of its own.
pub(crate) fn one_node() -> Server {
    Server::redis().arg("--cluster-enabled").arg("yes")
}

/// Makes a node a cluster that tells its clients to come to this port, unless it is one already.
pub(crate) async fn form_cluster(inside: &mut MultiplexedConnection, port: u16) {
    if is_formed(inside).await {
        return;
    }
    let port = port.to_string();
    for (setting, value) in [("cluster-announce-ip", "127.0.0.1"), ("cluster-announce-port", &port)] {
        let mut config = redis::cmd("CONFIG");
        let _: () = config.arg("SET").arg(setting).arg(value).query_async(inside).await.unwrap();
    }
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTS").arg((0..16_384_u16).collect::<Vec<_>>());
    let _: () = slots.query_async(inside).await.unwrap();
    // A node that has just started waits two seconds for others that may know better.
    while !is_formed(inside).await {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn is_formed(inside: &mut MultiplexedConnection) -> bool {
    let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(inside).await.unwrap();
    info.contains("cluster_state:ok")
}

/// Opens the store in a cluster of one node, which is behind the proxy at the address and announces that as its own.
pub(crate) async fn in_cluster(env: Env) -> Result<RedisStore> {
    let client = Client::open(env.url()).unwrap();
    let mut inside = client.get_multiplexed_async_connection().await.unwrap();
    form_cluster(&mut inside, port(env.url())).await;
    builder(&env).cluster([env.url()]).await
}

/// Opens the store behind a sentinel that calls the proxy at the address the master.
pub(crate) async fn behind_sentinel(env: Env) -> Result<RedisStore> {
    builder(&env).sentinel([&sentinel(port(env.url())).await], "mymaster").await
}

fn builder(env: &Env) -> RedisStoreBuilder {
    RedisStore::builder().prefix(format!("{}:", env.namespace()))
}

fn port(url: &str) -> u16 {
    match Client::open(url).unwrap().get_connection_info().addr() {
        ConnectionAddr::Tcp(_, port) => *port,
        other => panic!("{other} has no port"),
    }
}

/// Tells whoever comes that the master is at this port, as a sentinel does, and returns the address of that.
async fn sentinel(master: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(tell(client, master.to_string()));
        }
    });
    url
}

/// Answers commands, each of which comes as the number of its words, and before each word its length.
async fn tell(client: TcpStream, master: String) -> Option<()> {
    let (read, mut write) = client.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(head) = lines.next_line().await.ok()? {
        let mut words = Vec::new();
        for _ in 0..head.strip_prefix('*')?.parse().ok()? {
            lines.next_line().await.ok()??;
            words.push(lines.next_line().await.ok()??.to_ascii_uppercase());
        }
        let answer = match words.first()?.as_str() {
            "SENTINEL" => format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{master}\r\n", master.len()),
            "HELLO" => "%1\r\n+server\r\n+redis\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        write.write_all(answer.as_bytes()).await.ok()?;
    }
    Some(())
}
