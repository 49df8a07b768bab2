//! The conformance suite over the Redis store.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, Server, conformance_tests};

conformance_tests! {
    server: Server::redis,
    open: |env: Env| async move {
        RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(env.url()).await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [KeysOf: 2, DestroyUser: 2],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}
