//! The conformance suite over the Redis store on a master that sentinels watch.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, Server, conformance_tests};

#[path = "support/redis_wire.rs"]
mod wire;

conformance_tests! {
    server: Server::redis_sentinel,
    open: |env: Env| async move {
        let store = RedisStore::builder().prefix(format!("{}:", env.namespace()));
        store.sentinel(env.url().split(','), "mymaster").await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [KeysOf: 2, DestroyUser: 2],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
    addresses: many,
    wire: { server: Server::redis, open: wire::behind_sentinel },
}
