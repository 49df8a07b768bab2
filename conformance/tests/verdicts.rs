//! The suite's own verdicts: stores that are coarse or slow pass, ones that hang, panic or do not open fail.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cloakroom_conformance::{Ability, Env, Plain, Reference, Report, Subject, Switch, run, runner};
use cloakroom_core::{Bytes, Error, ErrorKind, Guarantee, Key, Result, Store, Ttl, async_trait};
use tokio::time::{Instant, sleep};

fn reference() -> Subject {
    let open = |env: Env| async move { Ok::<_, Error>(env.shared(Reference::new)) };
    Subject::new(open, Ability::ALL).name("reference")
}

#[track_caller]
fn assert_passed(report: &Report) {
    assert!(report.passed(), "{}", report.to_markdown());
}

#[tokio::test(start_paused = true)]
async fn the_reference_passes_and_is_strict() {
    let report = reference().run().await;
    assert_passed(&report);
    assert_eq!(report.guarantee(), Guarantee::Strict);
    assert!(report.absent().is_empty());
    assert!(report.to_markdown().starts_with("## reference\n\nGuarantee: strict\n"));
}

#[tokio::test(start_paused = true)]
async fn a_plain_store_passes_and_its_abilities_are_listed_as_absent() {
    let open = |env: Env| async move { Ok::<_, Error>(Plain::new(env.shared(Reference::new))) };
    let report = run(open, []).await;
    assert_passed(&report);
    assert_eq!(report.guarantee(), Guarantee::LastWriterWins);
    assert_eq!(report.absent(), Ability::ALL);
    assert!(report.to_json().contains(r#""absent":["atomic","indexed","admin"]"#));
}

/// Counts in whole seconds, rounding up when it writes and when it reads.
#[derive(Clone, Debug)]
struct Coarse {
    inner: Reference,
    start: Instant,
}

#[async_trait]
impl Store for Coarse {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let dies = self.start.elapsed() + ttl.duration();
        let whole = Duration::from_secs(dies.as_secs() + 2);
        self.inner.set(key, value, Ttl::new(whole - self.start.elapsed())).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.inner.destroy(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_counts_in_seconds_passes() {
    let coarse = || Coarse { inner: Reference::new(), start: Instant::now() };
    assert_passed(&run(move |env: Env| async move { Ok::<_, Error>(env.shared(coarse)) }, []).await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_passes() {
    // Slower than the shortest ttls, so that the cases have to try again with longer ones.
    for millis in [20, 90, 400] {
        let open = move |env: Env| async move {
            let store = env.shared(|| Switch::new(Reference::new()));
            store.latency(Duration::from_millis(millis));
            Ok::<_, Error>(store)
        };
        let subject = Subject::new(open, Ability::ALL).deadline(Duration::from_secs(6 * 60 * 60));
        assert_passed(&subject.run().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stalls_now_and_then_passes() {
    let calls = AtomicU64::new(0);
    let open = move |env: Env| {
        // Each case meets another delay, as on a machine with other things to do.
        let millis = calls.fetch_add(37, Ordering::Relaxed) % 200;
        async move {
            let store = env.shared(|| Switch::new(Reference::new()));
            store.latency(Duration::from_millis(millis));
            Ok::<_, Error>(store)
        }
    };
    let subject = Subject::new(open, Ability::ALL).deadline(Duration::from_secs(6 * 60 * 60));
    for _ in 0..5 {
        assert_passed(&subject.run().await);
    }
}

/// Does something else than to answer.
struct Rude(Manner);

#[derive(Clone, Copy)]
enum Manner {
    Panics,
    Hangs,
}

impl fmt::Debug for Rude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rude")
    }
}

impl Rude {
    async fn act<T>(&self) -> Result<T> {
        if matches!(self.0, Manner::Panics) {
            std::panic::resume_unwind(Box::new("rudely"));
        }
        loop {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[async_trait]
impl Store for Rude {
    async fn get(&self, _: &Key) -> Result<Option<Bytes>> {
        self.act().await
    }

    async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> {
        self.act().await
    }

    async fn destroy(&self, _: &Key) -> Result<bool> {
        self.act().await
    }
}

async fn failure_of(manner: Manner) -> String {
    let report = run(move |_| async move { Ok::<_, Error>(Rude(manner)) }, []).await;
    let case = report.failures().find(|case| case.id() == "base::an_absent_key_is_none");
    case.and_then(|case| case.failure()).map(ToString::to_string).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hang_are_failures_of_their_case() {
    let panicked = failure_of(Manner::Panics).await;
    assert_eq!(panicked, "rule: a store never panics\n  seen: panicked: rudely");
    let hung = failure_of(Manner::Hangs).await;
    assert_eq!(hung, "rule: a case ends before its deadline\n  seen: still running after 60 s");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_open_fails_every_case_and_says_why() {
    let report = run(|_| async { Err::<Reference, _>("no such host") }, []).await;
    assert_eq!(report.failures().count(), report.cases().len());
    let seen =
        report.failures().next().and_then(|case| case.failure()).map(|failure| failure.seen().to_owned());
    assert_eq!(seen.as_deref(), Some("no such host"));
}

#[tokio::test(start_paused = true)]
async fn case_names_are_unique_and_begin_with_their_group() {
    let report = reference().run().await;
    let ids: std::collections::BTreeSet<String> = report.cases().iter().map(|case| case.id()).collect();
    assert_eq!(ids.len(), report.cases().len());
}

/// Says in a task of its own, as the connection of a driver does, what it was asked for.
#[derive(Clone, Debug)]
struct Chatty(Reference);

#[async_trait]
impl Store for Chatty {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let (said, key_text) = (key.clone(), key.as_str().to_owned());
        tokio::spawn(async move { tracing::trace!("-> GET {key_text}") })
            .await
            .map_err(|_| ErrorKind::Backend)?;
        self.0.get(&said).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.set(key, value, ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.0.destroy(key).await
    }
}

#[test]
fn what_a_driver_logs_in_a_task_of_its_own_is_heard_too() {
    let open = |env: Env| async move { Ok::<_, Error>(Chatty(env.shared(Reference::new))) };
    let id = "base::a_log_shows_neither_key_nor_value";
    let failure = runner::test(&Subject::new(open, []), id).expect_err("it logs the key");
    assert!(failure.to_string().contains("a log shows neither"), "{failure}");
    let quiet = |env: Env| async move { Ok::<_, Error>(Plain::new(env.shared(Reference::new))) };
    runner::test(&Subject::new(quiet, []), id).expect("this one says nothing");
}
