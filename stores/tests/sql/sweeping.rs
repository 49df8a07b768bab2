//! What every SQL store must do when it is swept: beside writers, beside other sweeps, in the background.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use cloakroom::{AdminStore, AtomicStore, IndexedStore, Store, Ttl};

use super::place::{LONG, Place, key};

/// How many rows one statement of a sweep deletes at most.
const BATCH: u64 = 250;

/// Fills the table `many` with rows that are over, or live for as long as the test does.
pub(crate) async fn fill<P: Place>(place: &P, rows: u64, word: &str) {
    let end = if word == "live" { "4102444800000" } else { "1000" };
    let sql = P::FILL.replace("{rows}", &rows.to_string()).replace("{word}", word).replace("{end}", end);
    place.run(&sql).await;
}

async fn over(place: &impl Place) -> i64 {
    place.number("SELECT count(*) FROM many WHERE expires_at = 1000").await
}

pub(crate) async fn a_sweep_takes_stale_bindings_after_a_minute_and_no_others(place: &impl Place) {
    let store = place.table("stale").await;
    store.set(&key("live"), "value".into(), LONG).await.unwrap();
    for name in ["live", "stale"] {
        store.bind(&key(name), "ada", LONG).await.unwrap();
    }
    place.run("UPDATE stale_users SET bound_at = 1000").await;
    store.bind(&key("ended"), "ada", LONG).await.unwrap();
    place.run("UPDATE stale_users SET expires_at = 1000 WHERE bound_at > 1000").await;
    store.bind(&key("waiting"), "ada", LONG).await.unwrap();
    // Page after page; the second round begins anew.
    for _ in 0..4 {
        assert_eq!(store.sweep(10).await.unwrap(), 0);
    }
    assert_eq!(place.number("SELECT count(*) FROM stale_users").await, 2);
    store.set(&key("waiting"), "value".into(), LONG).await.unwrap();
    assert_eq!(store.keys_of("ada").await.unwrap().len(), 2);
}

pub(crate) async fn a_sweep_beside_writers_deletes_what_is_over_and_nothing_else<P: Place>(place: &P) {
    const ROWS: u64 = 100_000;
    const STEP: usize = 500;
    let store = place.table("many").await;
    // As another process has it: it shares the database, and no queue.
    let other = place.open("many").await.unwrap();
    fill(place, ROWS, "over").await;
    fill(place, ROWS, "live").await;
    let (written, elsewhere) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let write = async |store: &P::Store, from: u64, written: &AtomicUsize| {
        for number in (from..=ROWS).step_by(STEP) {
            // Short lives become long ones, values change, and keys whose time is over come back to life.
            let live = key(&format!("live-{number}"));
            assert!(store.touch(&live, Ttl::from_secs(1000)).await.unwrap());
            store.set(&live, "changed".into(), LONG).await.unwrap();
            let over = key(&format!("over-{number}"));
            assert!(store.create(&over, "again".into(), LONG).await.unwrap());
            written.fetch_add(3, SeqCst);
        }
    };
    let sweep = async {
        let swept = store.sweep(u32::MAX).await.unwrap();
        (swept, [&written, &elsewhere].map(|writes| writes.load(SeqCst)))
    };
    let ((first, [beside, beside_elsewhere]), ..) =
        futures_util::join!(sweep, write(&store, 1, &written), write(&other, 2, &elsewhere));
    // Not one statement that everybody waits for, nor a row of them with no gap: writers go on all the time, those of
    // other processes included. Beside a single one nobody gets further than what was under way when it began.
    assert!(
        beside >= 100 && beside_elsewhere >= 100,
        "only {beside} and {beside_elsewhere} writes came through"
    );
    let rest = store.sweep(u32::MAX).await.unwrap();
    let again = 2 * ROWS.div_ceil(STEP as u64);
    assert!((ROWS - again..=ROWS).contains(&(first + rest)), "swept {first} and {rest}");
    assert_eq!(store.len().await.unwrap(), ROWS + again);
    assert_eq!(place.number("SELECT count(*) FROM many").await, i64::try_from(ROWS + again).unwrap());
    for number in (1..=ROWS).step_by(STEP) {
        let again = store.get(&key(&format!("over-{number}"))).await.unwrap();
        assert_eq!(again.as_deref(), Some(&b"again"[..]));
    }
}

pub(crate) async fn a_sweep_takes_no_more_than_it_is_told_and_goes_on_where_it_ended<P: Place>(place: &P) {
    let store = place.table("many").await;
    fill(place, 4 * BATCH, "over").await;
    fill(place, 10 * BATCH, "live").await;
    let mut left = 4 * BATCH;
    for limit in [0, 1, BATCH - 1, BATCH, BATCH + 7] {
        assert_eq!(store.sweep(u32::try_from(limit).unwrap()).await.unwrap(), limit);
        left -= limit;
        assert_eq!(over(place).await, i64::try_from(left).unwrap());
    }
    // What is over before the place it came to is found as well.
    place.run("UPDATE many SET expires_at = 1000 WHERE expires_at > 1000").await;
    assert_eq!(store.sweep(u32::MAX).await.unwrap(), left + 10 * BATCH);
    assert_eq!(store.sweep(u32::MAX).await.unwrap(), 0);
}

/// No leader: whoever sweeps, sweeps, and no row is deleted or counted twice.
pub(crate) async fn sweeps_at_the_same_time_share_the_work<P: Place>(place: &P) {
    const ROWS: u64 = 20_000;
    let stores =
        [place.table("many").await, place.open("many").await.unwrap(), place.open("many").await.unwrap()];
    fill(place, ROWS, "over").await;
    fill(place, 10, "live").await;
    let sweeps = stores.map(|store| tokio::spawn(async move { store.sweep(u32::MAX).await.unwrap() }));
    let mut swept = 0;
    for sweep in sweeps {
        swept += sweep.await.unwrap();
    }
    assert_eq!(swept, ROWS);
    assert_eq!(place.number("SELECT count(*) FROM many").await, 10);
}

/// Also of a process that only creates sessions, or only ends them.
pub(crate) async fn every_operation_sees_to_it_that_the_background_task_sweeps<P: Place>(place: &P) {
    place.table("many").await;
    for operation in ["get", "set", "create", "replace", "remove", "touch", "destroy", "bind"] {
        fill(place, 3, "over").await;
        let (store, one) = (place.open_sweeping("many", Duration::from_millis(50)).await, key("one"));
        match operation {
            "get" => store.get(&one).await.map(drop),
            "set" => store.set(&one, "value".into(), LONG).await,
            "create" => store.create(&one, "value".into(), LONG).await.map(drop),
            "replace" => store.replace(&one, b"value", "other".into(), LONG).await.map(drop),
            "remove" => store.remove(&one, b"value").await.map(drop),
            "touch" => store.touch(&one, LONG).await.map(drop),
            "destroy" => store.destroy(&one).await.map(drop),
            _ => store.bind(&one, "ada", LONG).await,
        }
        .unwrap();
        let mut looked = 0;
        while over(place).await > 0 {
            looked += 1;
            assert!(looked < 400, "after a {operation} nobody sweeps");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

pub(crate) async fn a_store_that_is_told_to_stop_sweeping_does<P: Place>(place: &P) {
    place.table("many").await;
    let store = place.open_sweeping("many", Duration::from_millis(20)).await;
    let other = store.clone();
    fill(place, 3, "over").await;
    store.get(&key("one")).await.unwrap();
    while over(place).await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    P::stop_sweeping(&other);
    P::stop_sweeping(&store);
    fill(place, 3, "over").await;
    let (mut quiet, mut under_way) = (0, 0);
    while quiet < 20 {
        store.get(&key("one")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        quiet += 1;
        if over(place).await < 3 {
            // The server may have been sent a statement before, and carries it out later: one, and no more.
            under_way += 1;
            assert_eq!(under_way, 1, "it goes on sweeping");
            place.run("DELETE FROM many WHERE expires_at = 1000").await;
            fill(place, 3, "over").await;
            quiet = 0;
        }
    }
    assert_eq!(store.sweep(10).await.unwrap(), 3);
}

/// For databases that lock rows. Somebody holds the first of those that are over.
#[allow(dead_code)]
pub(crate) async fn a_row_that_somebody_holds_is_left_and_all_others_are_swept<P: Place>(
    place: &P,
    store: &P::Store,
) {
    let left = 3 * BATCH - 1;
    // Not one fewer, as if that had been all.
    assert_eq!(within(store.sweep(10)).await, 10);
    assert_eq!(within(store.sweep(u32::MAX)).await, left - 10);
    assert_eq!(within(store.sweep(u32::MAX)).await, 0);
    assert_eq!(over(place).await, 1);
}

/// Much sooner than a wait for a lock would end.
#[allow(dead_code)]
async fn within<T>(call: impl Future<Output = cloakroom::Result<T>>) -> T {
    tokio::time::timeout(Duration::from_secs(10), call).await.expect("it waits for nobody").unwrap()
}
