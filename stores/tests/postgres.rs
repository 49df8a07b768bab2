//! The conformance suite over the store in a PostgreSQL database, a table for each case.
#![cfg(feature = "postgres")]

use cloakroom::PostgresStore;
use cloakroom_conformance::{Env, conformance_tests};

conformance_tests! {
    server: none,
    open: |env: Env| async move {
        let url = std::env::var("CLOAKROOM_TEST_POSTGRES_URL").unwrap();
        let store = PostgresStore::builder().table(env.namespace()).max_connections(4).sweep_every(None).connect(&url).await?;
        store.migrate().await?;
        Ok::<_, cloakroom::Error>(store)
    },
    abilities: [atomic, indexed, admin],
}
