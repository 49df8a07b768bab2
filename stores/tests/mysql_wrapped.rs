//! The conformance suite over views under a prefix of a table in a MariaDB database; the neighbours of a case are other
//! prefixes of the same table. Without the cases that stop a server or count, which `mysql.rs` has.
#![cfg(feature = "mysql")]

use std::time::Duration;

use cloakroom::{MySqlStore, Prefixed, Result};
use cloakroom_conformance::{Env, Server, conformance_tests};

async fn open(env: Env) -> Result<Prefixed<MySqlStore>> {
    let server = Server::mariadb().shared().await.expect("there is a server");
    let table = env.shared_with_neighbours(|| env.namespace().to_owned());
    let builder = MySqlStore::builder().table(table).max_connections(4).sweep_every(None);
    let store = builder.timeout(Duration::from_secs(4)).connect(server.url()).await?;
    store.migrate().await?;
    // As long as a namespace and its end can get, so that every case has keys of the same length.
    Prefixed::new(store, format!("{:.<26}", env.namespace()))
}

conformance_tests! {
    server: none,
    open: open,
    abilities: [atomic, indexed, admin],
    longest_key: 228,
}
