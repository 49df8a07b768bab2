//! The conformance suite over the Redis store on a cluster of six nodes.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, Server, conformance_tests};

#[path = "support/redis_wire.rs"]
mod wire;

conformance_tests! {
    server: Server::redis_cluster,
    open: |env: Env| async move {
        RedisStore::builder().prefix(format!("{}:", env.namespace())).cluster(env.url().split(',')).await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [Bind: 2, KeysOf: 2, DestroyUser: 3],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
    addresses: many,
    wire: { server: wire::one_node, open: wire::in_cluster },
}
