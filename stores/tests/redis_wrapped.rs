//! The conformance suite over the store in Redis with wrappers around it.
#![cfg(all(feature = "metrics", feature = "redis", feature = "sqlite"))]

use std::time::Duration;

use cloakroom::{Error, Metered, Migrating, Prefixed, RedisStore, Result, Timeout};
use cloakroom_conformance::{Env, Server, conformance_tests};

#[path = "migrating/fleet.rs"]
mod fleet;
#[path = "sql/folder.rs"]
mod folder;

async fn redis(env: &Env, url: &str) -> Result<RedisStore> {
    RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(url).await
}

mod in_a_prefix_with_a_deadline_and_numbers {
    use super::*;

    conformance_tests! {
        server: Server::redis,
        open: |env: Env| async move {
            let store = Prefixed::new(redis(&env, env.url()).await?, "shop")?;
            Ok::<_, Error>(Metered::new(Timeout::new(store, Duration::from_secs(4))?, "sessions"))
        },
        abilities: [atomic, indexed, admin],
        longest_key: 250,
        round_trips: [KeysOf: 2, DestroyUser: 2],
        refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
    }
}

/// Every session begins on the server, and none is in the file: what a move costs that is over.
mod as_the_new_store_of_a_move {
    use super::*;
    use crate::folder::Folder;

    conformance_tests! {
        server: Server::redis,
        open: |env: Env| async move {
            let from = Folder::shared(&env).store(env.namespace()).await?;
            Migrating::new(from, redis(&env, env.url()).await?)
        },
        abilities: [atomic, indexed, admin],
        round_trips: [Touch: 2, KeysOf: 2, DestroyUser: 2],
        // What is in neither may have moved since the first look: the new store is asked again.
        refusals: [Get: 2, Destroy: 1, Create: 2, Replace: 2, Remove: 2, Touch: 2],
    }
}

/// Every session begins in a file, and moves to the server with its first change. Without the cases about what goes over
/// the wire, which ask that each write goes over it.
mod in_the_middle_of_a_move_from_a_file {
    use super::*;
    use crate::{fleet::Fleet, folder::Folder};

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            let server = Server::redis().shared().await.expect("there is a server");
            let from = Folder::shared(&env).store(env.namespace()).await?;
            Ok::<_, Error>(Fleet::new(from, redis(&env, server.url()).await?))
        },
        abilities: [atomic, indexed, admin],
    }
}
