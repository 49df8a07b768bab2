//! The conformance suite over the Redis store on a cluster of six nodes.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, Server, conformance_tests};

conformance_tests! {
    server: Server::redis_cluster,
    open: |env: Env| async move {
        RedisStore::builder().prefix(format!("{}:", env.namespace())).cluster(env.url().split(',')).await
    },
    abilities: [atomic, indexed, admin],
    addresses: many,
}
