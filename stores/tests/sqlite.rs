//! The conformance suite over the store in an SQLite file; the cases beside one another share a file.
#![cfg(feature = "sqlite")]

use cloakroom_conformance::{Env, conformance_tests};

#[path = "sql/folder.rs"]
mod folder;

conformance_tests! {
    server: none,
    open: |env: Env| async move { folder::Folder::shared(&env).store(env.namespace()).await },
    abilities: [atomic, indexed, admin],
}
