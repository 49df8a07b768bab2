//! What a case works with: handles, keys, ttls, and the ways to wait that a busy machine cannot turn into a lie.
//!
//! Two rules keep time out of the verdicts. "It is still there" is only judged when the read ended before the ttl
//! can have passed, by the case's own watch; otherwise the case tries again with a longer ttl. "It is gone" is
//! polled for, and only judged when the read began later than the ttl plus the subject's patience.

use std::{sync::Arc, time::Duration};

use cloakroom_core::{AdminStore, AtomicStore, Bytes, IndexedStore, Key, Store, Swapped, Ttl};
use tokio::time::{Instant, sleep};

use crate::{
    ear::Ear,
    env::Env,
    failure::{Failure, Verdict, check, show, show_found, show_swapped},
    fault_proxy::FaultProxy,
    machine::{Machine, Place, Stage},
    operation::Operation,
    outage::Outage,
    subject::{Ability, Subject},
};

/// A ttl that outlives every case, so that a value that is missing was not lost to the clock.
pub(crate) const LONG: Ttl = Ttl::from_secs(24 * 60 * 60);

/// A ttl to wait for.
pub(crate) const SHORT: Ttl = Ttl::from_millis(60);

/// The longest single sleep.
const NAP: Duration = Duration::from_millis(50);

/// The case's view of the subject: one open handle in a namespace of its own.
#[derive(Clone)]
pub(crate) struct Cx {
    subject: Subject,
    place: Place,
    store: Arc<dyn Store>,
    ear: Ear,
}

/// How long an operation may take while the backend is away.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

impl Cx {
    pub(crate) async fn open(subject: Subject, stage: Stage, ear: Ear) -> Verdict<Self> {
        let subject = subject.at(stage);
        let place = Place::prepare(&subject, stage).await?;
        let store = subject.open(&place.env).await?;
        Ok(Self { subject, place, store, ear })
    }

    /// What hears the logs of a case about them.
    pub(crate) const fn ear(&self) -> &Ear {
        &self.ear
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The same handle, for a task.
    pub(crate) fn handle(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// An independent handle onto the same data.
    pub(crate) async fn second_handle(&self) -> Verdict<Arc<dyn Store>> {
        self.open_handle(&self.place.env).await
    }

    /// A handle onto the data of another place.
    pub(crate) async fn open_handle(&self, env: &Env) -> Verdict<Arc<dyn Store>> {
        self.subject.open(env).await
    }

    /// How to break this case's connection.
    pub(crate) fn outage(&self) -> Verdict<Box<dyn Outage>> {
        match self.subject.make_outage(&self.place.env) {
            Some(outage) => Ok(outage),
            None => self.place.outage(),
        }
    }

    /// Whether every outage of this case is a restart of the whole server, which takes seconds where it is a cluster.
    pub(crate) fn restarts_for_an_outage(&self) -> bool {
        !self.subject.has_outage_of_its_own() && self.place.proxy.is_none() && self.place.machine.is_some()
    }

    /// The server of this case.
    pub(crate) fn machine(&self) -> Verdict<&dyn Machine> {
        let none = || Failure::new("a case about servers runs where there is one", "there is none");
        self.place.machine.as_deref().ok_or_else(none)
    }

    /// The proxy before the server.
    pub(crate) fn proxy(&self) -> Verdict<FaultProxy> {
        let none = || {
            Failure::new(
                "a case about the wire runs before a server of one address",
                "this one has several; say so with `addresses: many`, and with `wire` what stands in for it",
            )
        };
        self.place.proxy.clone().ok_or_else(none)
    }

    /// How many round trips the store declares for an operation.
    pub(crate) fn round_trips(&self, operation: Operation) -> u64 {
        self.subject.round_trips_of(operation)
    }

    /// How many round trips the store declares for an operation that does nothing.
    pub(crate) fn refusals(&self, operation: Operation) -> Option<u64> {
        self.subject.refusals_of(operation)
    }

    /// Where random walks begin, if the subject says so.
    pub(crate) const fn seed(&self) -> Option<u64> {
        self.subject.seed
    }

    /// Whether the declared abilities have this operation.
    pub(crate) fn can(&self, operation: Operation) -> bool {
        operation.ability().is_none_or(|ability| self.declares(ability))
    }

    /// The length of the longest key, in bytes.
    pub(crate) const fn longest_key(&self) -> usize {
        self.subject.longest_key
    }

    pub(crate) fn url(&self) -> &str {
        self.place.env.url()
    }

    /// Stores beside this one, in namespaces with names close to its own.
    pub(crate) async fn neighbours(&self) -> Verdict<Vec<Arc<dyn Store>>> {
        let mut stores = Vec::new();
        for env in self.place.env.neighbours() {
            stores.push(self.open_handle(&env).await?);
        }
        Ok(stores)
    }

    pub(crate) fn declares(&self, ability: Ability) -> bool {
        self.subject.declares(ability)
    }

    pub(crate) const fn patience(&self) -> Duration {
        self.subject.patience
    }

    /// Waits until whatever was written before this call, with no longer a `ttl`, has expired; nobody reads it.
    ///
    /// A witness written now expires no earlier, whatever clock the store goes by and however it rounds. So the
    /// expired rows themselves are still as the store left them, unread and unswept.
    pub(crate) async fn outlive(&self, ttl: Ttl) -> Verdict {
        let witness = Key::new("the-witness")?;
        self.store.set(&witness, Bytes::from_static(b"witness"), ttl).await?;
        self.wait_gone(self.store(), &witness, ttl, "a value is absent when its ttl has passed").await
    }

    /// Waits until `key` is gone. To be called right after a write with `ttl` has returned.
    pub(crate) async fn wait_gone(&self, store: &dyn Store, key: &Key, ttl: Ttl, rule: &str) -> Verdict {
        self.wait_gone_since(store, key, Instant::now(), ttl, rule).await
    }

    /// Waits until `key`, which was written with `ttl` no later than `written`, is gone.
    pub(crate) async fn wait_gone_since(
        &self,
        store: &dyn Store,
        key: &Key,
        written: Instant,
        ttl: Ttl,
        rule: &str,
    ) -> Verdict {
        let mut nap = Duration::from_millis(1);
        sleep_until(written + ttl.duration()).await;
        loop {
            let waited = written.elapsed();
            let Some(value) = store.get(key).await? else {
                return Ok(());
            };
            check!(
                waited <= ttl.duration() + self.patience(),
                rule,
                "get returned {} {} ms after a write with a ttl of {} ms",
                show(&value),
                waited.as_millis(),
                ttl.millis()
            );
            sleep(nap).await;
            nap = (nap * 2).min(NAP);
        }
    }
}

/// Sleeps until `until` in naps, so that no single sleep is long.
pub(crate) async fn sleep_until(until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            return;
        }
        sleep(left.min(NAP)).await;
    }
}

/// The ttls to try in turn where a stalled machine could spoil the verdict.
pub(crate) fn growing_ttls() -> impl Iterator<Item = Ttl> {
    [150, 600, 2_400, 9_600].into_iter().map(Ttl::from_millis)
}

/// Whether a value written with `ttl` after `start` cannot have expired yet.
pub(crate) fn cannot_have_expired(start: Instant, ttl: Ttl) -> bool {
    start.elapsed() < ttl.duration()
}

pub(crate) fn key(text: &str) -> Verdict<Key> {
    Ok(Key::new(text)?)
}

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) fn atomic(store: &dyn Store) -> Verdict<&dyn AtomicStore> {
    store.as_atomic().ok_or_else(|| missing(Ability::Atomic))
}

pub(crate) fn indexed(store: &dyn Store) -> Verdict<&dyn IndexedStore> {
    store.as_indexed().ok_or_else(|| missing(Ability::Indexed))
}

pub(crate) fn admin(store: &dyn Store) -> Verdict<&dyn AdminStore> {
    store.as_admin().ok_or_else(|| missing(Ability::Admin))
}

fn missing(ability: Ability) -> Failure {
    Failure::new("a declared ability is there", format!("as_{ability} returned None"))
}

/// Fails unless `get` returns exactly `value`.
pub(crate) async fn expect_value(store: &dyn Store, key: &Key, value: &[u8], rule: &str) -> Verdict {
    let found = store.get(key).await?;
    check!(
        found.as_deref() == Some(value),
        rule,
        "get returned {} instead of {}",
        show_found(found.as_deref()),
        show(value)
    );
    Ok(())
}

/// Fails unless `get` returns `None`.
pub(crate) async fn expect_none(store: &dyn Store, key: &Key, rule: &str) -> Verdict {
    let found = store.get(key).await?;
    check!(found.is_none(), rule, "get returned {}", show_found(found.as_deref()));
    Ok(())
}

/// Fails unless a conditional write answered `expected`.
pub(crate) fn expect_swapped(seen: &Swapped, expected: &Swapped, rule: &str) -> Verdict {
    check!(
        seen == expected,
        rule,
        "the answer was {} instead of {}",
        show_swapped(seen),
        show_swapped(expected)
    );
    Ok(())
}
