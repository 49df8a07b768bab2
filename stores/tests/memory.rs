//! The conformance suite over the memory store.
#![cfg(feature = "memory")]

use cloakroom::{Error, MemoryStore};
use cloakroom_conformance::{Env, conformance_tests};

conformance_tests! {
    server: none,
    open: |env: Env| async move { Ok::<_, Error>(env.shared(MemoryStore::new)) },
    abilities: [atomic, indexed, admin],
}
