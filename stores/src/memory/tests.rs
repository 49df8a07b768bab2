//! Tests of what is special about the memory store: memory, bounds, sweeping, and the index's housekeeping.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use cloakroom_core::{AdminStore, AtomicStore, Bytes, ErrorKind, IndexedStore, Key, Store, Swapped, Ttl};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::{MemoryStats, MemoryStore, shard::GRACE};

const HOUR: Ttl = Ttl::from_secs(3600);
const SHORT: Ttl = Ttl::from_millis(10);

fn key(number: usize) -> Key {
    Key::new(format!("key-{number}")).unwrap()
}

fn bytes(len: usize) -> Bytes {
    vec![b'v'; len].into()
}

/// The calls of this store never wait, so that most tests need no runtime.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn set(store: &MemoryStore, number: usize, ttl: Ttl) {
    now(store.set(&key(number), bytes(100), ttl)).unwrap();
}

fn has(store: &MemoryStore, number: usize) -> bool {
    now(store.get(&key(number))).unwrap().is_some()
}

/// Looks at the store from outside until it is as expected, without reading a value.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("still not so after 10 s: {what}");
}

fn entries(store: &MemoryStore) -> u64 {
    store.stats().entries
}

#[test]
fn expired_values_leave_without_being_read() {
    let store = MemoryStore::new();
    (0..10_000).for_each(|number| set(&store, number, SHORT));
    set(&store, 10_000, HOUR);
    eventually("one is left", || entries(&store) == 1);
    let MemoryStats { bytes, expired, evicted, .. } = store.stats();
    assert_eq!((expired, evicted), (10_000, 0));
    assert_eq!(bytes, 9 + 100 + MemoryStore::ENTRY_OVERHEAD);
    assert!(store.inner.footprint().1 <= 64 * 80, "the tables shrank");
    assert!(has(&store, 10_000));
}

#[test]
fn a_renewed_value_outlives_its_first_ttl_and_leaves_after_its_last() {
    let store = MemoryStore::new();
    set(&store, 1, HOUR);
    store.inner.advance(Duration::from_secs(3000));
    assert!(now(store.touch(&key(1), HOUR)).unwrap());
    store.inner.advance(Duration::from_secs(3000));
    assert!(has(&store, 1));
    store.inner.advance(Duration::from_secs(601));
    assert!(!has(&store, 1));
    eventually("it left", || entries(&store) == 0);
}

#[test]
fn a_shortened_ttl_frees_the_memory_by_the_new_one() {
    let store = MemoryStore::new();
    (0..4).for_each(|number| set(&store, number, HOUR));
    assert!(now(store.touch(&key(0), SHORT)).unwrap());
    now(store.set(&key(1), bytes(9), SHORT)).unwrap();
    let swapped = now(store.replace(&key(2), &bytes(100), bytes(9), SHORT)).unwrap();
    assert_eq!(swapped, Swapped::Done);
    eventually("three left", || entries(&store) == 1);
    assert!(has(&store, 3));
}

#[test]
fn a_value_due_before_all_others_wakes_a_sleeping_sweeper() {
    let store = MemoryStore::new();
    set(&store, 1, HOUR);
    let inner = &store.inner;
    // Asleep until the only value is due, to the nanosecond: it does not look in between.
    eventually("it sleeps", || {
        inner.alarm.sleeps_past(inner.next_due() - 1) && !inner.alarm.sleeps_past(inner.next_due())
    });
    set(&store, 2, SHORT);
    eventually("the second left", || entries(&store) == 1);
}

#[test]
fn the_sweeper_stops_when_the_last_clone_is_dropped() {
    let store = MemoryStore::new();
    let alarm = Arc::downgrade(&store.inner.alarm);
    assert_eq!(alarm.strong_count(), 1, "no thread before the first entry");
    set(&store, 1, HOUR);
    assert_eq!(alarm.strong_count(), 2);
    let (clone, inner) = (store.clone(), Arc::downgrade(&store.inner));
    drop(store);
    assert!(has(&clone, 1));
    drop(clone);
    eventually("values and thread are gone", || inner.strong_count() == 0 && alarm.strong_count() == 0);
}

#[test]
fn one_store_serves_several_runtimes_and_outlives_the_first() {
    let store = MemoryStore::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime().block_on(store.set(&key(1), bytes(1), HOUR)).unwrap();
    assert!(runtime().block_on(store.get(&key(1))).unwrap().is_some());
    set(&store, 2, SHORT);
    eventually("the second left", || entries(&store) == 1);
}

#[test]
fn a_million_changes_of_one_key_leave_no_garbage() {
    let store = MemoryStore::new();
    set(&store, 1, HOUR);
    let before = (store.stats(), store.inner.footprint());
    for round in 0..250_000_u64 {
        now(store.touch(&key(1), Ttl::from_secs(4000 - round % 2000))).unwrap();
        now(store.replace(&key(1), &bytes(100), bytes(100), HOUR)).unwrap();
        assert!(now(store.destroy(&key(1))).unwrap());
        assert!(now(store.create(&key(1), bytes(100), HOUR)).unwrap());
    }
    assert_eq!((store.stats(), store.inner.footprint()), before);
}

/// A store without a sweeper thread, so that expired entries are there to be met.
fn unswept() -> MemoryStore {
    let store = MemoryStore::new();
    store.inner.alarm.fail();
    store
}

#[test]
fn without_a_thread_writes_sweep_what_they_add() {
    let store = unswept();
    for _ in 0..20 {
        (0..2000).for_each(|_| set(&store, rare(), Ttl::from_secs(1)));
        store.inner.advance(Duration::from_secs(2));
    }
    assert!(entries(&store) <= 3000, "{} of 40,000", entries(&store));
}

/// A number that was not there before.
fn rare() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn an_expired_entry_is_absent_before_it_is_swept() {
    let store = unswept();
    (0..300).for_each(|number| set(&store, number, Ttl::from_secs(1)));
    (300..400).for_each(|number| set(&store, number, HOUR));
    now(store.bind(&key(0), "ann", HOUR)).unwrap();
    store.inner.advance(Duration::from_secs(2));
    assert_eq!(entries(&store), 400);
    assert!(!has(&store, 0));
    assert!(!now(store.touch(&key(0), HOUR)).unwrap());
    assert!(!now(store.destroy(&key(0))).unwrap());
    let gone = now(store.replace(&key(0), &bytes(100), bytes(1), HOUR)).unwrap();
    assert_eq!(gone, Swapped::Gone);
    assert_eq!(now(AtomicStore::remove(&store, &key(0), &bytes(100))).unwrap(), Swapped::Gone);
    assert_eq!(now(store.keys_of("ann")).unwrap(), []);
    assert_eq!(now(store.destroy_user("ann", None)).unwrap(), 0);
    let listed: Vec<_> = now_blocking(store.scan().try_collect()).unwrap();
    assert_eq!(listed.len(), 100);
    assert!(now(store.create(&key(0), bytes(1), HOUR)).unwrap());
}

#[test]
fn a_sweep_by_hand_takes_no_more_than_its_limit_and_nothing_live() {
    let store = unswept();
    (0..3000).for_each(|number| set(&store, number, Ttl::from_secs(1)));
    (3000..3100).for_each(|number| set(&store, number, HOUR));
    store.inner.advance(Duration::from_secs(2));
    for (limit, swept) in [(0, 0), (1, 1), (999, 999), (5000, 2000), (5000, 0)] {
        assert_eq!(now_blocking(store.sweep(limit)).unwrap(), swept);
    }
    assert_eq!((entries(&store), store.stats().expired), (100, 3000));
}

#[test]
fn the_expired_are_not_counted_by_len_nor_by_clear() {
    let store = unswept();
    (0..3000).for_each(|number| set(&store, number, Ttl::from_secs(1)));
    (3000..3100).for_each(|number| set(&store, number, HOUR));
    store.inner.advance(Duration::from_secs(2));
    assert_eq!(now_blocking(store.clone().clear()).unwrap(), 100);
    assert_eq!(entries(&store), 0);
    (0..3000).for_each(|number| set(&store, number, Ttl::from_secs(1)));
    (3000..3100).for_each(|number| set(&store, number, HOUR));
    store.inner.advance(Duration::from_secs(2));
    assert_eq!(now_blocking(store.len()).unwrap(), 100);
}

#[test]
fn at_the_bound_the_entry_nearest_to_expiry_leaves_and_is_counted() {
    let store = MemoryStore::builder().max_entries(100).build().unwrap();
    (0..100).for_each(|number| set(&store, number, Ttl::from_secs(1000 + number as u64)));
    assert_eq!((entries(&store), store.evicted()), (100, 0));
    now(store.touch(&key(0), HOUR)).unwrap();
    set(&store, 100, Ttl::from_secs(10));
    assert!(!has(&store, 1), "the nearest left, now that 0 was renewed");
    set(&store, 101, HOUR);
    assert!(!has(&store, 100));
    assert_eq!((entries(&store), store.evicted()), (100, 2));
    assert!(has(&store, 0) && (2..100).all(|number| has(&store, number)));
}

#[test]
fn a_value_that_is_not_written_evicts_nothing() {
    let store = MemoryStore::builder().max_entries(2).build().unwrap();
    (0..2).for_each(|number| set(&store, number, HOUR));
    assert!(!now(store.create(&key(0), bytes(9), HOUR)).unwrap());
    let gone = now(store.replace(&key(7), b"", bytes(9), HOUR)).unwrap();
    assert_eq!(gone, Swapped::Gone);
    let conflict = now(store.replace(&key(0), b"", bytes(9), HOUR)).unwrap();
    assert_eq!(conflict, Swapped::Conflict(bytes(100)));
    set(&store, 1, HOUR);
    assert_eq!((entries(&store), store.evicted()), (2, 0));
}

#[test]
fn an_expired_entry_makes_room_and_is_not_called_evicted() {
    let store = MemoryStore::builder().max_entries(2).build().unwrap();
    set(&store, 0, HOUR);
    set(&store, 1, SHORT);
    thread::sleep(Duration::from_millis(12));
    set(&store, 2, HOUR);
    assert!(has(&store, 0) && has(&store, 2));
    assert_eq!((store.evicted(), store.stats().expired), (0, 1));
}

#[test]
fn the_bound_in_bytes_holds_when_a_value_grows_and_the_growing_one_stays() {
    let entry = |len: u64| 5 + len + MemoryStore::ENTRY_OVERHEAD;
    let store = MemoryStore::builder().max_bytes(entry(100) * 3).build().unwrap();
    set(&store, 0, Ttl::from_secs(10));
    set(&store, 1, Ttl::from_secs(20));
    set(&store, 2, HOUR);
    let swapped = now(store.replace(&key(0), &bytes(100), bytes(101), Ttl::from_secs(10))).unwrap();
    assert_eq!(swapped, Swapped::Done);
    assert!(has(&store, 0) && !has(&store, 1) && has(&store, 2));
    let largest = (store.stats().bytes, entry(100) * 3 - entry(0));
    assert!(largest.0 <= entry(100) * 3);
    now(store.set(&key(0), bytes(largest.1 as usize), SHORT)).unwrap();
    assert_eq!((entries(&store), store.stats().bytes), (1, entry(100) * 3));
}

#[test]
fn a_value_larger_than_the_store_is_too_large_and_the_old_one_stays() {
    let store = MemoryStore::builder().max_bytes(1000).build().unwrap();
    set(&store, 1, HOUR);
    for error in [
        now(store.set(&key(1), bytes(1000), HOUR)).unwrap_err(),
        now(store.create(&key(2), bytes(1000), HOUR)).unwrap_err(),
        now(store.replace(&key(1), &bytes(100), bytes(1000), HOUR)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
    assert!(has(&store, 1));
    assert_eq!(store.evicted(), 0);
}

#[test]
fn many_writers_at_once_never_exceed_the_bounds() {
    let store = MemoryStore::builder().max_entries(50).max_bytes(50 * 240).build().unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..3000_usize {
                    let (number, len) = (round * 7 % 200 + writer, round % 150);
                    let ttl = Ttl::from_secs(1 + (round % 90) as u64);
                    now(store.set(&key(number), bytes(len), ttl)).unwrap();
                    let stats = store.stats();
                    assert!(stats.entries <= 50 && stats.bytes <= 50 * 240, "{stats:?}");
                }
            });
        }
    });
    let stats = store.stats();
    assert!(stats.entries <= 50 && stats.bytes <= 50 * 240 && stats.evicted > 0, "{stats:?}");
    assert_eq!(now_blocking(store.clear()).unwrap(), stats.entries);
    assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
}

#[test]
fn bounds_without_room_are_errors_that_name_the_field() {
    let error = MemoryStore::builder().max_entries(0).build().unwrap_err();
    assert_eq!(error.field(), Some("max_entries"));
    let none = MemoryStore::ENTRY_OVERHEAD;
    for bytes in [0, none] {
        let error = MemoryStore::builder().max_bytes(bytes).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("max_bytes")));
    }
}

#[test]
fn debug_shows_no_key_and_no_value() {
    let store = MemoryStore::new();
    now(store.set(&Key::new("topsecret").unwrap(), "topsecret".into(), HOUR)).unwrap();
    now(store.bind(&Key::new("topsecret").unwrap(), "topsecret", HOUR)).unwrap();
    let shown = format!("{store:?} {store:#?} {:?}", store.stats());
    assert!(!shown.contains("topsecret") && shown.contains("entries: 1"), "{shown}");
}

#[test]
fn a_scan_yields_what_lives_all_the_while_though_others_come_and_go() {
    let store = MemoryStore::new();
    (0..20_000).for_each(|number| set(&store, number, HOUR));
    let mut scan = store.scan();
    let mut seen = HashSet::new();
    let mut passing = 0;
    while let Some(key) = now_blocking(scan.next()) {
        seen.insert(key.unwrap());
        // Even numbers leave and new ones come, faster than the scan goes on.
        for _ in 0..2 {
            now(store.destroy(&key_even(passing))).unwrap();
            set(&store, 20_000 + passing, HOUR);
            passing += 1;
        }
    }
    drop(scan);
    assert!((1..20_000).step_by(2).all(|number| seen.contains(&key(number))));
}

fn key_even(number: usize) -> Key {
    key(number * 2 % 20_000)
}

/// For the calls that let other tasks run in between.
fn now_blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn bindings(store: &MemoryStore) -> (u64, usize) {
    (store.stats().bindings, store.inner.footprint().0)
}

fn grace() -> Duration {
    Duration::from_nanos(GRACE + 1)
}

#[test]
fn bindings_leave_after_their_values_without_being_read() {
    let store = MemoryStore::new();
    for number in 0..1000 {
        let user = format!("user-{}", number % 10);
        now(store.bind(&key(number), &user, Ttl::MAX)).unwrap();
        set(&store, number, if number % 2 == 0 { SHORT } else { HOUR });
    }
    eventually("half expired", || entries(&store) == 500);
    assert_eq!(bindings(&store), (1000, 10));
    store.inner.advance(grace());
    eventually("their bindings left", || bindings(&store) == (500, 5));
    for number in (1..1000).step_by(2) {
        assert!(now(store.destroy(&key(number))).unwrap());
    }
    store.inner.advance(grace());
    eventually("all bindings left", || bindings(&store) == (0, 0));
}

#[test]
fn a_binding_without_a_value_leaves_in_the_end() {
    let store = MemoryStore::new();
    now(store.bind(&key(1), "ann", Ttl::MAX)).unwrap();
    store.inner.advance(grace());
    eventually("it left", || bindings(&store) == (0, 0));
}

#[test]
fn a_binding_survives_lists_and_sweeps_until_its_value_is_written() {
    let store = MemoryStore::new();
    now(store.bind(&key(1), "ann", HOUR)).unwrap();
    assert_eq!(now(store.keys_of("ann")).unwrap(), []);
    assert_eq!(now(store.destroy_user("ann", None)).unwrap(), 0);
    now(store.sweep(100)).unwrap();
    set(&store, 1, HOUR);
    assert_eq!(now(store.keys_of("ann")).unwrap(), [key(1)]);
    store.inner.advance(grace());
    eventually("the sweeper looked", || store.inner.next_due() > store.inner.clock.now());
    assert_eq!(now(store.destroy_user("ann", None)).unwrap(), 1);
}

#[test]
fn a_lapsed_binding_binds_no_longer() {
    let store = MemoryStore::new();
    set(&store, 1, Ttl::MAX);
    now(store.bind(&key(1), "ann", HOUR)).unwrap();
    store.inner.advance(Duration::from_secs(3601));
    assert_eq!(now(store.keys_of("ann")).unwrap(), []);
    assert_eq!(now(store.destroy_user("ann", None)).unwrap(), 0);
    eventually("it left", || bindings(&store) == (0, 0));
    assert!(has(&store, 1));
}

#[test]
fn a_user_of_many_keys_is_listed_and_destroyed_whole() {
    let store = MemoryStore::new();
    for number in 0..1000 {
        set(&store, number, HOUR);
        now(store.bind(&key(number), "ann", HOUR)).unwrap();
    }
    now(store.bind(&key(0), "bob", HOUR)).unwrap();
    let listed: HashSet<_> = now_blocking(store.keys_of("ann")).unwrap().into_iter().collect();
    assert_eq!(listed, (1..1000).map(key).collect());
    let destroyed = now_blocking(store.destroy_user("ann", Some(&key(5)))).unwrap();
    assert_eq!(destroyed, 998);
    let left: Vec<_> = now_blocking(store.scan().try_collect()).unwrap();
    assert_eq!(left.into_iter().collect::<HashSet<_>>(), HashSet::from([key(0), key(5)]));
}

#[test]
fn a_user_without_a_name_or_with_an_endless_one_is_refused() {
    let store = MemoryStore::new();
    for user in ["", &"u".repeat(256)] {
        let error = now(store.bind(&key(1), user, HOUR)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
    }
    now(store.bind(&key(1), &"u".repeat(255), HOUR)).unwrap();
}
