//! The conformance suite over the store in MongoDB with every wrapper around it.
#![cfg(all(feature = "memory", feature = "metrics", feature = "mongo"))]

use std::time::Duration;

use cloakroom::{MemoryStore, Metered, Migrating, MongoStore, Prefixed, Result, Timeout};
use cloakroom_conformance::{Env, Server, conformance_tests};

async fn mongo(env: &Env) -> Result<MongoStore> {
    MongoStore::builder().collection(env.namespace()).connect(env.url()).await
}

mod in_a_prefix_with_a_deadline_and_numbers {
    use super::*;

    conformance_tests! {
        server: Server::mongo,
        open: |env: Env| async move {
            let store = Prefixed::new(mongo(&env).await?, "shop")?;
            Ok::<_, cloakroom::Error>(Metered::new(Timeout::new(store, Duration::from_secs(4))?, "sessions"))
        },
        abilities: [atomic, indexed, admin],
        longest_key: 250,
        round_trips: [DestroyUser: 2],
        refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
    }
}

mod as_the_new_store_of_a_move {
    use super::*;

    conformance_tests! {
        server: Server::mongo,
        open: |env: Env| async move { Migrating::new(env.shared(MemoryStore::new), mongo(&env).await?) },
        abilities: [atomic, indexed, admin],
        round_trips: [Touch: 2, DestroyUser: 2],
        // What is in neither may have moved since the first look: the new store is asked again.
        refusals: [Get: 2, Destroy: 1, Create: 2, Replace: 2, Remove: 2, Touch: 2],
    }
}
