//! The conformance suite over views under a prefix; the neighbours of a case are other prefixes of the same store.
#![cfg(feature = "memory")]

use cloakroom::{MemoryStore, Prefixed};
use cloakroom_conformance::{Env, Plain, Reference, Switch, conformance_tests};

/// As long as a namespace and its end can get, so that every case has keys of the same length.
fn prefix(env: &Env) -> String {
    format!("{:.<26}", env.namespace())
}

/// What that leaves of 255 bytes, less one for the end of a prefix.
const LONGEST_KEY: usize = 228;

mod of_a_memory_store {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            Prefixed::new(env.shared_with_neighbours(MemoryStore::new), prefix(&env))
        },
        abilities: [atomic, indexed, admin],
        longest_key: LONGEST_KEY,
    }
}

mod of_a_store_without_abilities {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            Prefixed::new(Plain::new(env.shared_with_neighbours(Reference::new)), prefix(&env))
        },
        abilities: [],
        longest_key: LONGEST_KEY,
    }
}

mod of_a_store_that_can_be_cut_off {
    use super::*;

    fn switched(env: &Env) -> Switch<Reference> {
        env.shared_with_neighbours(|| Switch::new(Reference::new()))
    }

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Prefixed::new(switched(&env), prefix(&env)) },
        abilities: [atomic, indexed, admin],
        longest_key: LONGEST_KEY,
        outage: switched,
    }
}

/// A prefix of the greatest length leaves what every store has to take.
mod of_the_longest_prefix {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            let prefix = format!("{:.<1$}", env.namespace(), Prefixed::<MemoryStore>::MAX_LEN - 1);
            Prefixed::new(env.shared_with_neighbours(MemoryStore::new), prefix)
        },
        abilities: [atomic, indexed, admin],
        longest_key: 128,
    }
}
