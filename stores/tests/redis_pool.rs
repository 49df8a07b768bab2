//! The conformance suite over the Redis store on a pool of the application's own.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)] // A pool that cannot be made is a test that fails.

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, Server, conformance_tests};
use deadpool_redis::{Config, Runtime};

conformance_tests! {
    server: Server::redis,
    open: |env: Env| async move {
        let pool = Config::from_url(env.url()).create_pool(Some(Runtime::Tokio1)).unwrap();
        RedisStore::builder().prefix(format!("{}:", env.namespace())).from_pool(pool).await
    },
    abilities: [atomic, indexed, admin],
    // deadpool-redis pings a connection before it hands it out.
    round_trips: [
        Get: 2, Set: 2, Destroy: 2, Create: 2, Replace: 2, Remove: 2, Touch: 2, Bind: 2, KeysOf: 4, DestroyUser: 4
    ],
    refusals: [Get: 2, Destroy: 2, Create: 2, Replace: 2, Remove: 2, Touch: 2],
}
