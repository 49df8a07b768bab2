//! The conformance suite over two stores as one, with sessions that begin in either.
#![cfg(feature = "memory")]

mod atomic_only;
mod costs;
mod fleet;
mod naive;
mod races;
mod steps;

use cloakroom::{ErrorKind, Guarantee, Key, MemoryStore, Migrating, Status, Store, Ttl, async_trait};
use cloakroom_conformance::{Env, Outage, Plain, Reference, Subject, Switch, conformance_tests};

use crate::fleet::Fleet;

type Stores = Migrating<Switch<Reference>, Switch<Reference>>;

/// One pair of stores for a case.
fn pair(env: &Env) -> Stores {
    env.shared(|| {
        let switched = || Switch::new(Reference::new());
        Migrating::new(switched(), switched()).expect("both compare and swap")
    })
}

#[test]
fn both_stores_must_compare_and_swap() {
    let store = || MemoryStore::new();
    let plain = || Plain::new(MemoryStore::new());
    for (error, field) in
        [(Migrating::new(plain(), store()).err(), "from"), (Migrating::new(store(), plain()).err(), "to")]
    {
        let error = error.expect("it cannot be made");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
    }
}

#[tokio::test]
async fn its_guarantee_is_a_class_of_its_own_in_the_report() {
    let open = |_: Env| async { Migrating::new(MemoryStore::new(), MemoryStore::new()) };
    let store = open(Env::new("")).await.expect("both compare and swap");
    assert_eq!(Guarantee::of(&store), Guarantee::Migrating);
    let boxed: Box<dyn Store> = Box::new(Switch::new(store));
    assert_eq!(Guarantee::of(&*boxed), Guarantee::Migrating);
    let report = Subject::new(open, []).name("migrating").run().await;
    assert!(report.to_markdown().contains("Guarantee: migrating"), "{}", report.to_markdown());
}

/// Nothing is in the old store.
mod after_the_move {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            env.shared(|| Migrating::new(MemoryStore::new(), MemoryStore::new()))
        },
        abilities: [atomic, indexed, admin],
    }
}

/// Every session begins in the old store, put there by an instance that leaves sessions in place, and every call after
/// that is made by one that moves them.
mod in_the_middle_of_the_move {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            Ok::<_, cloakroom::Error>(env.shared(|| Fleet::new(MemoryStore::new(), MemoryStore::new())))
        },
        abilities: [atomic, indexed, admin],
    }
}

/// Only instances that leave sessions where they are.
mod in_place {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            env.shared(|| Migrating::new(MemoryStore::new(), MemoryStore::new()).map(Migrating::in_place))
        },
        abilities: [atomic, indexed, admin],
    }
}

#[tokio::test]
async fn while_the_old_store_is_away_only_what_has_moved_can_be_read() {
    let (store, ttl) = (pair(&Env::new("")), Ttl::from_secs(60));
    let (left, moved) = (Key::new("left").expect("valid"), Key::new("moved").expect("valid"));
    store.from().set(&left, "value".into(), ttl).await.expect("it is stored");
    store.set(&moved, "value".into(), ttl).await.expect("it is stored");
    store.from().disconnect();
    assert!(matches!(store.status().current(), Status::Disconnected { .. }));
    assert_eq!(store.get(&moved).await.expect("it is in the new store").as_deref(), Some(&b"value"[..]));
    for key in [&left, &Key::new("unknown").expect("valid")] {
        assert_eq!(store.get(key).await.expect_err("nobody can know").kind(), ErrorKind::Unavailable);
    }
    for destroyed in [&left, &moved] {
        let error = store.destroy(destroyed).await.expect_err("nobody can know where it is");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

/// Takes both away.
struct Everything(Stores);

#[async_trait]
impl Outage for Everything {
    async fn begin(&self) {
        self.0.from().disconnect();
        self.0.to().disconnect();
    }
    async fn end(&self) {
        self.0.to().connect();
        self.0.from().connect();
    }
}

mod while_both_are_away {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, cloakroom::Error>(pair(&env)) },
        abilities: [atomic, indexed, admin],
        outage: |env: &Env| Everything(pair(env)),
    }
}

mod while_the_new_store_is_away {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, cloakroom::Error>(pair(&env)) },
        abilities: [atomic, indexed, admin],
        outage: |env: &Env| pair(env).to().clone(),
    }
}

mod of_stores_without_an_index {
    use super::*;
    use crate::atomic_only::AtomicOnly;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            env.shared(|| Migrating::new(AtomicOnly::default(), MemoryStore::new()))
        },
        abilities: [atomic],
    }
}
