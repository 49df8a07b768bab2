//! The conformance suite over the Redis store on the oldest server that it works on.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, conformance_tests};

#[path = "support/packaged.rs"]
mod packaged;

conformance_tests! {
    server: packaged::oldest_redis,
    open: |env: Env| async move {
        RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(env.url()).await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [KeysOf: 2, DestroyUser: 2],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}
