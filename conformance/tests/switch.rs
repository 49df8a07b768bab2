//! Every switch of `Switch` does what it says.

use std::{future::Future, time::Duration};

use cloakroom_conformance::{Operation, Plain, Reference, Switch};
use cloakroom_core::{AtomicStore, Bytes, ErrorKind, Key, Result, Status, Store, Swapped, Ttl};
use tokio::time::{Instant, timeout};

const TTL: Ttl = Ttl::from_secs(600);

fn store() -> (Switch<Reference>, Key) {
    (Switch::new(Reference::new()), Key::new("a-key").expect("the key is valid"))
}

fn value() -> Bytes {
    Bytes::from_static(b"value")
}

async fn kind<T: std::fmt::Debug>(call: impl Future<Output = Result<T>>) -> ErrorKind {
    call.await.expect_err("the switch makes it fail").kind()
}

#[tokio::test]
async fn an_outage_shows_in_the_status_and_in_every_operation() {
    let (store, key) = store();
    let mut status = store.status();
    assert_eq!(status.current(), Status::Connected);
    store.disconnect();
    assert!(matches!(status.changed().await, Status::Disconnected { .. }));
    assert_eq!(kind(store.set(&key, value(), TTL)).await, ErrorKind::Unavailable);
    assert_eq!(kind(store.as_admin().unwrap().len()).await, ErrorKind::Unavailable);
    store.connect();
    assert_eq!(status.changed().await, Status::Connected);
    assert_eq!(store.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_store_may_begin_unconnected() {
    let store = Switch::connecting(Reference::new());
    assert_eq!(store.status().current(), Status::Connecting);
    let key = Key::new("k").unwrap();
    assert_eq!(kind(store.get(&key)).await, ErrorKind::Unavailable);
    store.connect();
    assert!(store.get(&key).await.is_ok());
}

#[tokio::test]
async fn the_nth_call_fails_once_and_unapplied() {
    let (store, key) = store();
    store.fail_nth(2, ErrorKind::Backend);
    store.fail_nth_of(Operation::Set, 2, ErrorKind::Rejected);
    assert!(store.set(&key, value(), TTL).await.is_ok());
    assert_eq!(kind(store.destroy(&key)).await, ErrorKind::Backend);
    assert_eq!(store.get(&key).await.unwrap(), Some(value()));
    assert_eq!(kind(store.set(&key, Bytes::new(), TTL)).await, ErrorKind::Rejected);
    assert_eq!(store.get(&key).await.unwrap(), Some(value()));
    assert!(store.set(&key, value(), TTL).await.is_ok());
}

#[tokio::test]
async fn an_operation_fails_until_healed() {
    let (store, key) = store();
    store.fail(Operation::Get, ErrorKind::Timeout);
    for _ in 0..3 {
        assert_eq!(kind(store.get(&key)).await, ErrorKind::Timeout);
        assert!(!store.destroy(&key).await.unwrap());
    }
    store.fail_all(ErrorKind::Backend);
    assert_eq!(kind(store.destroy(&key)).await, ErrorKind::Backend);
    store.heal();
    assert!(store.get(&key).await.is_ok() && store.destroy(&key).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_every_call_until_it_ends() {
    let (store, key) = store();
    store.stall();
    assert!(timeout(Duration::from_secs(60), store.get(&key)).await.is_err());
    let waiting = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.set(&key, value(), TTL).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(store.inner().get(&key).await.unwrap(), None);
    store.resume();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some(value()));
}

#[tokio::test]
async fn a_lost_reply_is_of_a_write_that_was_applied() {
    let (store, key) = store();
    store.lose_reply();
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(kind(store.create(&key, value(), TTL)).await, ErrorKind::Timeout);
    assert_eq!(store.get(&key).await.unwrap(), Some(value()));
    assert!(!store.create(&key, value(), TTL).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn latency_is_that_of_every_call() {
    let (store, key) = store();
    store.latency(Duration::from_millis(250));
    let start = Instant::now();
    store.get(&key).await.unwrap();
    store.get(&key).await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 500);
}

#[tokio::test]
async fn a_pause_makes_an_exact_interleaving() {
    let (store, key) = store();
    store.set(&key, value(), TTL).await.unwrap();
    let pause = store.pause_before(Operation::Replace);
    let writer = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.replace(&key, b"value", Bytes::new(), TTL).await }
    });
    pause.reached().await;
    assert!(store.destroy(&key).await.unwrap());
    pause.release();
    assert_eq!(writer.await.unwrap().unwrap(), Swapped::Gone);
}

#[tokio::test]
async fn a_pause_after_an_operation_holds_its_answer_only() {
    let (store, key) = store();
    let pause = store.pause_after(Operation::Set);
    let writer = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.set(&key, value(), TTL).await }
    });
    pause.reached().await;
    assert_eq!(store.get(&key).await.unwrap(), Some(value()));
    assert!(!writer.is_finished());
    drop(pause);
    writer.await.unwrap().unwrap();
    // One pause holds one call.
    store.set(&key, value(), TTL).await.unwrap();
}

#[tokio::test]
async fn the_log_has_operations_and_keys_in_order() {
    let (store, key) = store();
    store.get(&key).await.unwrap();
    store.as_indexed().unwrap().keys_of("user").await.unwrap();
    let log = store.log();
    assert_eq!(log[0].operation(), Operation::Get);
    assert_eq!((log[0].key(), log[1].key()), (Some(&key), None));
    assert_eq!(store.operations(), [Operation::Get, Operation::KeysOf]);
    store.clear_log();
    assert!(store.log().is_empty());
    assert!(!format!("{store:?} {log:?}").contains("a-key"));
}

#[test]
fn abilities_are_those_of_the_inner_store() {
    let plain = Switch::new(Plain::new(Reference::new()));
    assert!(plain.as_atomic().is_none() && plain.as_indexed().is_none() && plain.as_admin().is_none());
    let full = Switch::new(Reference::new());
    assert!(full.as_atomic().is_some() && full.as_indexed().is_some() && full.as_admin().is_some());
}
