//! The conformance suite over the store in a PostgreSQL database, a table for each case.
#![cfg(feature = "postgres")]

use cloakroom::{PostgresStore, Result};
use cloakroom_conformance::{Env, Server, conformance_tests};

async fn open(env: Env) -> Result<PostgresStore> {
    let builder = PostgresStore::builder().table(env.namespace()).max_connections(4).sweep_every(None);
    let store = builder.connect(env.url()).await?;
    store.migrate().await?;
    Ok(store)
}

conformance_tests! { server: Server::postgres, open: open, abilities: [atomic, indexed, admin] }
