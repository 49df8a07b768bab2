//! The conformance suite over the Redis store, on a server of the suite's own.
#![cfg(feature = "redis")]

use cloakroom::RedisStore;
use cloakroom_conformance::{Env, conformance_tests};

fn open(env: Env) -> impl Future<Output = cloakroom::Result<RedisStore>> {
    let url = std::env::var("CLOAKROOM_TEST_REDIS_URL").unwrap();
    async move { RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(&url).await }
}

conformance_tests! {
    server: none,
    open: open,
    abilities: [atomic, indexed, admin],
}
