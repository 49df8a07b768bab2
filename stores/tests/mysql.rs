//! The conformance suite over the store in a MariaDB database, a table for each case.
#![cfg(feature = "mysql")]

use std::time::Duration;

use cloakroom::{MySqlStore, Result};
use cloakroom_conformance::{Env, Server, conformance_tests};

async fn open(env: Env) -> Result<MySqlStore> {
    let builder = MySqlStore::builder().table(env.namespace()).max_connections(4).sweep_every(None);
    // Eight mebibytes take a while on a busy machine; all of the outages' operations must end within 5 seconds.
    let store = builder.timeout(Duration::from_secs(4)).connect(env.url()).await?;
    store.migrate().await?;
    Ok(store)
}

conformance_tests! {
    server: Server::mariadb,
    open: open,
    abilities: [atomic, indexed, admin],
    // One that finds something else than it expected has to look whether there is anything at all.
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 2, Remove: 2, Touch: 1],
}
