//! The conformance suite over the MongoDB store.
#![cfg(feature = "mongo")]

use cloakroom::MongoStore;
use cloakroom_conformance::{Env, Server, conformance_tests};

conformance_tests! {
    server: Server::mongo,
    open: |env: Env| async move {
        MongoStore::builder().collection(env.namespace()).connect(env.url()).await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [DestroyUser: 2],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}
