//! Deadlines: the conformance suite through them, and what happens when one passes.
#![cfg(feature = "memory")]

use std::time::Duration;

use cloakroom::{AdminStore, AtomicStore, ErrorKind, Guarantee, Key, MemoryStore, Store, Timeout, Ttl};
use cloakroom_conformance::{Env, Plain, Reference, Switch, conformance_tests};
use futures_util::TryStreamExt;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(2);
/// For calls that are to take longer.
const BRIEF: Duration = Duration::from_millis(10);
const TTL: Ttl = Ttl::from_secs(3600);

fn key() -> Key {
    Key::new("a-key").expect("the key is valid")
}

fn stalled() -> (Switch<Reference>, Timeout<Switch<Reference>>) {
    let store = Switch::new(Reference::new());
    store.stall();
    (store.clone(), Timeout::new(store, BRIEF).expect("the deadline is longer than zero"))
}

#[test]
fn a_deadline_of_zero_is_refused_by_name() {
    let error = Timeout::new(MemoryStore::new(), Duration::ZERO).expect_err("it is zero");
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("timeout")));
    let store = Timeout::new(MemoryStore::new(), DEADLINE).expect("it is longer than zero");
    let error = store.administration(Duration::ZERO).expect_err("it is zero");
    assert_eq!(error.field(), Some("administration"));
}

#[tokio::test]
async fn every_operation_ends_at_the_deadline_with_its_name() {
    let (_, store) = stalled();
    let (atomic, indexed) = (store.as_atomic().expect("atomic"), store.as_indexed().expect("indexed"));
    let errors = [
        store.get(&key()).await.err(),
        store.set(&key(), "value".into(), TTL).await.err(),
        store.destroy(&key()).await.err(),
        atomic.create(&key(), "value".into(), TTL).await.err(),
        atomic.replace(&key(), b"value", "value".into(), TTL).await.err(),
        atomic.remove(&key(), b"value").await.err(),
        atomic.touch(&key(), TTL).await.err(),
        indexed.bind(&key(), "ann", TTL).await.err(),
        indexed.keys_of("ann").await.err(),
        indexed.destroy_user("ann", None).await.err(),
        store.scan().try_collect::<Vec<_>>().await.err(),
        store.len().await.err(),
        store.clear().await.err(),
        store.sweep(1).await.err(),
    ];
    let names = [
        "get",
        "set",
        "destroy",
        "create",
        "replace",
        "remove",
        "touch",
        "bind",
        "keys_of",
        "destroy_user",
        "scan",
        "len",
        "clear",
        "sweep",
    ];
    for (error, name) in errors.into_iter().zip(names) {
        let error = error.expect("nothing answers");
        assert_eq!((error.kind(), error.failed_operation()), (ErrorKind::Timeout, Some(name)));
    }
}

#[tokio::test]
async fn administration_may_have_longer() {
    let (_, store) = stalled();
    let store = store.administration(5 * BRIEF).expect("it is longer than zero");
    let start = Instant::now();
    for counted in [store.len().await, store.clear().await, store.sweep(1).await] {
        assert_eq!(counted.expect_err("nothing answers").kind(), ErrorKind::Timeout);
    }
    assert!(start.elapsed() >= 15 * BRIEF);
}

#[tokio::test]
async fn what_was_dropped_at_the_deadline_is_not_applied_later() {
    let (inner, store) = stalled();
    assert!(store.set(&key(), "late".into(), TTL).await.is_err());
    inner.resume();
    tokio::time::sleep(BRIEF).await;
    assert_eq!(inner.get(&key()).await.expect("it answers"), None);
    store.create(&key(), "value".into(), TTL).await.expect("it answers again");
}

#[test]
fn the_guarantee_is_that_of_the_store_within() {
    let plain = Timeout::new(Plain::new(MemoryStore::new()), DEADLINE).expect("it is longer than zero");
    assert_eq!(Guarantee::of(&plain), Guarantee::LastWriterWins);
    assert_eq!(Guarantee::of(&stalled().1), Guarantee::Strict);
}

mod of_a_memory_store {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Timeout::new(env.shared(MemoryStore::new), DEADLINE) },
        abilities: [atomic, indexed, admin],
    }
}

mod of_a_store_without_abilities {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Timeout::new(Plain::new(env.shared(Reference::new)), DEADLINE) },
        abilities: [],
    }
}

mod of_a_store_that_can_be_cut_off {
    use super::*;

    fn switched(env: &Env) -> Switch<Reference> {
        env.shared(|| Switch::new(Reference::new()))
    }

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Timeout::new(switched(&env), DEADLINE) },
        abilities: [atomic, indexed, admin],
        outage: switched,
    }
}
