//! Numbers for operators: the conformance suite through them, and what is counted.
#![cfg(all(feature = "memory", feature = "metrics"))]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use cloakroom::{AdminStore, AtomicStore, ErrorKind, Key, MemoryStore, Metered, Store, Ttl};
use cloakroom_conformance::{Env, Operation, Plain, Reference, Switch, conformance_tests};
use futures_util::TryStreamExt;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

const TTL: Ttl = Ttl::from_secs(3600);

fn key() -> Key {
    Key::new("canary-key").expect("the key is valid")
}

/// Keeps what is reported: for each series its sum, or the last value of a gauge, and how often it was told.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<String, (f64, u64)>>>);

/// One series.
struct Series(Kept, String);

impl Kept {
    fn series(&self, key: &metrics::Key) -> Arc<Series> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Series(self.clone(), format!("{} {}", key.name(), labels.join(" "))))
    }

    fn of(&self, series: &str) -> (f64, u64) {
        self.0.lock().expect("nobody panics").get(series).copied().unwrap_or_default()
    }

    fn all(&self) -> String {
        self.0.lock().expect("nobody panics").keys().map(|series| format!("{series}\n")).collect()
    }

    /// Runs `test` with what it reports kept here.
    fn keep(&self, test: impl Future<Output = ()>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it can be built");
        metrics::with_local_recorder(self, || runtime.block_on(test));
    }
}

impl Series {
    fn tell(&self, change: impl FnOnce(f64) -> f64) {
        let mut kept = self.0.0.lock().expect("nobody panics");
        let series = kept.entry(self.1.clone()).or_default();
        *series = (change(series.0), series.1 + 1);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.tell(|sum| sum + value as f64);
    }
    fn absolute(&self, value: u64) {
        self.tell(|_| value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.tell(|now| now + value);
    }
    fn decrement(&self, value: f64) {
        self.tell(|now| now - value);
    }
    fn set(&self, value: f64) {
        self.tell(|_| value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.tell(|sum| sum + value);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }
    fn register_gauge(&self, key: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }
    fn register_histogram(&self, key: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

fn operations(kept: &Kept, operation: &str, outcome: &str) -> f64 {
    kept.of(&format!("cloakroom_store_operations_total store=s operation={operation} outcome={outcome}")).0
}

#[test]
fn every_outcome_is_counted_under_its_own_name() {
    let kept = Kept::default();
    kept.keep(async {
        let store = Metered::new(MemoryStore::new(), "s");
        let value = || "canary-value".into();
        store.get(&key()).await.expect("it answers");
        store.create(&key(), value(), TTL).await.expect("it answers");
        store.create(&key(), value(), TTL).await.expect("it answers");
        store.get(&key()).await.expect("it answers");
        store.replace(&key(), b"other", value(), TTL).await.expect("it answers");
        store.replace(&key(), b"canary-value", value(), TTL).await.expect("it answers");
        store.touch(&key(), TTL).await.expect("it answers");
        store.destroy(&key()).await.expect("it answers");
        store.destroy(&key()).await.expect("it answers");
        store.replace(&key(), b"canary-value", value(), TTL).await.expect("it answers");
        store.touch(&key(), TTL).await.expect("it answers");
        store.remove(&key(), b"canary-value").await.expect("it answers");
        store.set(&key(), value(), TTL).await.expect("it answers");
        store.as_indexed().expect("it has one").keys_of("canary-user").await.expect("it answers");
        store.scan().try_collect::<Vec<_>>().await.expect("it answers");
    });
    for (operation, outcome) in [
        ("get", "absent"),
        ("create", "done"),
        ("create", "conflict"),
        ("get", "found"),
        ("replace", "conflict"),
        ("replace", "done"),
        ("replace", "gone"),
        ("touch", "done"),
        ("touch", "gone"),
        ("remove", "gone"),
        ("destroy", "done"),
        ("destroy", "absent"),
        ("set", "done"),
        ("keys_of", "done"),
        ("scan", "done"),
    ] {
        assert_eq!(operations(&kept, operation, outcome), 1.0, "{operation} {outcome}");
    }
    assert_eq!(kept.of("cloakroom_store_operation_seconds store=s operation=replace").1, 3);
    assert!(!kept.all().contains("canary"), "{}", kept.all());
}

#[test]
fn errors_are_counted_by_kind_and_calls_that_nobody_waits_for_as_dropped() {
    let kept = Kept::default();
    kept.keep(async {
        let switch = Switch::new(Reference::new());
        let store = Metered::new(switch.clone(), "s");
        switch.fail_nth_of(Operation::Get, 1, ErrorKind::Timeout);
        store.get(&key()).await.expect_err("it fails");
        switch.fail_nth_of(Operation::Scan, 1, ErrorKind::Rejected);
        store.scan().try_collect::<Vec<_>>().await.expect_err("it fails");
        switch.stall();
        let wait = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(wait, store.destroy(&key())).await.is_err());
    });
    assert_eq!(operations(&kept, "get", "timed out"), 1.0, "{}", kept.all());
    assert_eq!(operations(&kept, "scan", "rejected"), 1.0, "{}", kept.all());
    assert_eq!(operations(&kept, "destroy", "dropped"), 1.0, "{}", kept.all());
}

#[test]
fn outages_are_counted_and_the_connection_is_shown() {
    let kept = Kept::default();
    let connected = || kept.of("cloakroom_store_connected store=s").0;
    kept.keep(async {
        let switch = Switch::new(Reference::new());
        let store = Metered::new(switch.clone(), "s");
        store.get(&key()).await.expect("it answers");
        tokio::task::yield_now().await;
        assert_eq!(connected(), 1.0);
        for _ in 0..2 {
            switch.disconnect();
            tokio::task::yield_now().await;
            assert_eq!(connected(), 0.0);
            switch.connect();
            tokio::task::yield_now().await;
        }
        assert_eq!(connected(), 1.0);
        drop(store);
        tokio::task::yield_now().await;
        switch.disconnect();
        tokio::task::yield_now().await;
        assert_eq!(connected(), 1.0, "nobody watches once the last clone is gone");
    });
    assert_eq!(kept.of("cloakroom_store_outages_total store=s").0, 2.0);
}

mod of_a_memory_store {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, cloakroom::Error>(Metered::new(env.shared(MemoryStore::new), "s")) },
        abilities: [atomic, indexed, admin],
    }
}

mod of_a_store_without_abilities {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            Ok::<_, cloakroom::Error>(Metered::new(Plain::new(env.shared(Reference::new)), "s"))
        },
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
        open: |env: Env| async move { Ok::<_, cloakroom::Error>(Metered::new(switched(&env), "s")) },
        abilities: [atomic, indexed, admin],
        outage: switched,
    }
}
