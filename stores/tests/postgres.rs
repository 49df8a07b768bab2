//! The conformance suite over the store in a PostgreSQL database, a table for each case.
#![cfg(feature = "postgres")]

use std::time::Duration;

use cloakroom::{PostgresStore, Result};
use cloakroom_conformance::{Env, Server, conformance_tests};

async fn open(env: Env) -> Result<PostgresStore> {
    let builder = PostgresStore::builder().table(env.namespace()).max_connections(4).sweep_every(None);
    // Eight mebibytes take a while on a busy machine; all of the outages' operations must end within 5 seconds.
    let store = builder.timeout(Duration::from_secs(4)).connect(env.url()).await?;
    store.migrate().await?;
    Ok(store)
}

conformance_tests! {
    server: Server::postgres,
    open: open,
    abilities: [atomic, indexed, admin],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}
