//! The conformance suite over the store in an SQLite file with wrappers around it, among them that of `?prefix=`.
#![cfg(all(feature = "metrics", feature = "sqlite"))]

use std::time::Duration;

use cloakroom::{Error, Metered, Prefixed, Timeout};
use cloakroom_conformance::{Env, conformance_tests};

#[path = "sql/folder.rs"]
mod folder;

conformance_tests! {
    server: none,
    open: |env: Env| async move {
        let store = folder::Folder::shared(&env).store(env.namespace()).await?;
        let store = Timeout::new(Prefixed::new(store, "shop")?, Duration::from_secs(4))?;
        Ok::<_, Error>(Metered::new(store, "sessions"))
    },
    abilities: [atomic, indexed, admin],
    longest_key: 250,
}
