//! The conformance suite over the store in a MySQL or MariaDB database, a table for each case.
#![cfg(feature = "mysql")]

use cloakroom::MySqlStore;
use cloakroom_conformance::{Env, conformance_tests};

conformance_tests! {
    server: none,
    open: |env: Env| async move {
        let url = std::env::var("CLOAKROOM_TEST_MARIADB_URL").unwrap();
        let store = MySqlStore::builder().table(env.namespace()).max_connections(4).sweep_every(None).connect(&url).await?;
        store.migrate().await?;
        Ok::<_, cloakroom::Error>(store)
    },
    abilities: [atomic, indexed, admin],
}
