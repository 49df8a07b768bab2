//! What is tested: how to open the store, what it declares, and how patient to be with it.

use std::{fmt, sync::Arc, time::Duration};

use cloakroom_core::{Key, Store};
use futures_util::future::BoxFuture;

use crate::{
    env::Env,
    failure::{Failure, Verdict},
    machine::{Source, Stage},
    operation::Operation,
    outage::Outage,
    report::Group,
};

/// An optional ability of a store, as [`Store`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ability {
    /// [`Store::as_atomic`]: create, compare-and-swap, compare-and-delete, touch.
    Atomic,
    /// [`Store::as_indexed`]: which keys belong to a user.
    Indexed,
    /// [`Store::as_admin`]: list, count, clear, sweep.
    Admin,
}

impl Ability {
    /// Every ability there is.
    pub const ALL: [Self; 3] = [Self::Atomic, Self::Indexed, Self::Admin];

    /// Returns the ability as [`conformance_tests!`](crate::conformance_tests) spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::Indexed => "indexed",
            Self::Admin => "admin",
        }
    }

    /// Returns whether `store` has it.
    pub(crate) fn is_in(self, store: &dyn Store) -> bool {
        match self {
            Self::Atomic => store.as_atomic().is_some(),
            Self::Indexed => store.as_indexed().is_some(),
            Self::Admin => store.as_admin().is_some(),
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long a key every store takes, in bytes.
const SHORTEST_LONGEST_KEY: usize = 128;

/// How many addresses the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    One,
    Many,
}

type Open = dyn Fn(Env) -> BoxFuture<'static, Result<Arc<dyn Store>, String>> + Send + Sync;

type MakeOutage = dyn Fn(&Env) -> Box<dyn Outage> + Send + Sync;

/// What stands in for a server of many addresses where what goes over the wire is looked at.
#[derive(Clone)]
struct StandIn {
    source: Arc<dyn Source>,
    open: Arc<Open>,
}

/// What is tested: a closure that opens the store, and the abilities the store declares.
///
/// [`conformance_tests!`](crate::conformance_tests) makes one by itself; make one by hand for
/// [`run`](Self::run).
#[derive(Clone)]
pub struct Subject {
    open: Arc<Open>,
    pub(crate) abilities: Vec<Ability>,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) patience: Duration,
    pub(crate) deadline: Duration,
    pub(crate) parallel: usize,
    pub(crate) longest_key: usize,
    outage: Option<Arc<MakeOutage>>,
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) addresses: Addresses,
    stand_in: Option<StandIn>,
    round_trips: Vec<(Operation, u64)>,
    refusals: Vec<(Operation, u64)>,
    pub(crate) seed: Option<u64>,
    groups: Vec<Group>,
}

impl Subject {
    /// Creates a subject from the closure that opens the store and the abilities that the store declares.
    ///
    /// `open` is called at least once for each case, and again with a clone of the same [`Env`] where a case needs
    /// a second handle onto the same data.
    pub fn new<O, F, S, E>(open: O, abilities: impl IntoIterator<Item = Ability>) -> Self
    where
        O: Fn(Env) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, E>> + Send + 'static,
        S: Store,
        E: fmt::Display,
    {
        let mut abilities: Vec<Ability> = abilities.into_iter().collect();
        abilities.sort_unstable();
        abilities.dedup();
        Self {
            open: opening(open),
            abilities,
            name: "store".into(),
            url: String::new(),
            patience: Duration::from_millis(2_500),
            deadline: Duration::from_secs(60),
            parallel: 8,
            longest_key: Key::MAX_LEN,
            outage: None,
            source: None,
            addresses: Addresses::One,
            stand_in: None,
            round_trips: Vec::new(),
            refusals: Vec::new(),
            seed: None,
            groups: Group::ALL.to_vec(),
        }
    }

    /// Sets the store's name, as the report shows it. `store` unless set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the address that [`Env::url`] hands to the closure. Empty unless set.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Sets how long after its ttl a value may still be seen before that is a failure. 2.5 s unless set.
    ///
    /// A store that counts in seconds rounds up, when it writes and when it reads: it may need nearly 2 s.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long one case may take in all; one that takes longer has failed. 60 s unless set.
    /// Those of the group `server` may take four times as long.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how many cases [`run`](Self::run) has under way at once; at least 1. 8 unless set.
    ///
    /// Many deadlines of the contract are of real time. Where cases start servers of their own, or the build is not
    /// optimised, 1 keeps what they cost each other out of the verdict.
    #[must_use]
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.max(1);
        self
    }

    /// Sets the longest key that the store takes, in bytes: 128 to 255, and 255 unless set.
    ///
    /// For a store that needs room in the key for something of its own, such as a prefix. What is less or more is
    /// brought to the nearer end.
    #[must_use]
    pub const fn longest_key(mut self, longest_key: usize) -> Self {
        self.longest_key = if longest_key < SHORTEST_LONGEST_KEY {
            SHORTEST_LONGEST_KEY
        } else if longest_key > Key::MAX_LEN {
            Key::MAX_LEN
        } else {
            longest_key
        };
        self
    }

    /// Sets how the backend of a case is taken away and brought back. Without it the status is not tested.
    ///
    /// `outage` is called at most once for each case, with the [`Env`] that the store was opened with.
    #[must_use]
    pub fn outage<F, O>(mut self, outage: F) -> Self
    where
        F: Fn(&Env) -> O + Send + Sync + 'static,
        O: Outage,
    {
        self.outage = Some(Arc::new(move |env| Box::new(outage(env)) as Box<dyn Outage>));
        self
    }

    /// Sets the server that the store talks to: every case gets its address by [`Env::url`], and the cases about
    /// outages and those of the group `server` are called for.
    ///
    /// Cases share one server, except those that stop, pause or empty it.
    #[cfg(feature = "servers")]
    #[must_use]
    pub fn server(mut self, server: crate::Server) -> Self {
        self.source = Some(Arc::new(server));
        self
    }

    /// Says that the server has several addresses, of which its clients learn from the server itself: a cluster.
    ///
    /// No proxy can stand before it then. The cases about what goes over the wire run on what [`wire`](Self::wire) says,
    /// or else not at all, and those about outages stop the whole server.
    #[must_use]
    pub const fn many_addresses(mut self) -> Self {
        self.addresses = Addresses::Many;
        self
    }

    /// Sets what stands in for a server of [many addresses](Self::many_addresses) where what goes over the wire is looked
    /// at: a server of one address, such as a cluster of one node, and how the same store is opened on it.
    ///
    /// The address that `open` gets is that of a proxy, by which all of the store must go: where it is told an address,
    /// it must be this one. Every case has such a server for itself, so `open` may change its settings. It is called
    /// again with a clone of the same [`Env`] for a second handle.
    #[cfg(feature = "servers")]
    #[must_use]
    pub fn wire<O, F, S, E>(mut self, server: crate::Server, open: O) -> Self
    where
        O: Fn(Env) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, E>> + Send + 'static,
        S: Store,
        E: fmt::Display,
    {
        self.stand_in = Some(StandIn { source: Arc::new(server), open: opening(open) });
        self
    }

    /// Sets how many round trips an operation takes, where it is not one.
    ///
    /// It is counted on the wire, and what is counted must be exactly what is declared.
    #[must_use]
    pub fn round_trips(mut self, operation: Operation, round_trips: u64) -> Self {
        self.round_trips.push((operation, round_trips));
        self
    }

    /// Sets how many round trips an operation takes that answers `None`, `false`, `Gone` or `Conflict`; of several such
    /// answers, the one that takes most.
    ///
    /// What is counted must be exactly what is declared. Where nothing is, it may be one more than otherwise, to read
    /// what is there instead, but no more than that.
    #[must_use]
    pub fn refusals(mut self, operation: Operation, round_trips: u64) -> Self {
        self.refusals.push((operation, round_trips));
        self
    }

    /// Sets where random walks begin. Unless set it is another place in each run, which a failure tells, and the
    /// variable `CLOAKROOM_SEED` can set.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the groups whose cases [`run`](Self::run) runs; all of them unless set.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = Group>) -> Self {
        self.groups = groups.into_iter().collect();
        self
    }

    pub(crate) fn round_trips_of(&self, operation: Operation) -> u64 {
        declared(&self.round_trips, operation).unwrap_or(1)
    }

    pub(crate) fn refusals_of(&self, operation: Operation) -> Option<u64> {
        declared(&self.refusals, operation)
    }

    pub(crate) fn wants(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// Whether what goes over the wire can be looked at.
    pub(crate) fn has_wire(&self) -> bool {
        self.source.is_some() && (self.addresses == Addresses::One || self.stand_in.is_some())
    }

    /// Whether what goes over the wire is looked at elsewhere than on the server itself.
    pub(crate) const fn has_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }

    /// The subject as a case of this stage has it.
    pub(crate) fn at(mut self, stage: Stage) -> Self {
        if stage == Stage::Wire
            && let Some(StandIn { source, open }) = &self.stand_in
        {
            (self.source, self.open) = (Some(Arc::clone(source)), Arc::clone(open));
        }
        self
    }

    /// Whether connections can be broken.
    pub(crate) const fn has_outage(&self) -> bool {
        self.outage.is_some() || self.source.is_some()
    }

    /// Whether the subject itself says how they are broken.
    pub(crate) const fn has_outage_of_its_own(&self) -> bool {
        self.outage.is_some()
    }

    /// Makes the outage of one case, if the subject says how.
    pub(crate) fn make_outage(&self, env: &Env) -> Option<Box<dyn Outage>> {
        self.outage.as_ref().map(|make| make(env))
    }

    /// Opens one handle onto the data of `env`.
    pub(crate) async fn open(&self, env: &Env) -> Verdict<Arc<dyn Store>> {
        (self.open)(env.clone()).await.map_err(|error| Failure::new("the store can be opened", error))
    }

    pub(crate) fn declares(&self, ability: Ability) -> bool {
        self.abilities.contains(&ability)
    }
}

/// The closure that opens a store, whatever its types are.
fn opening<O, F, S, E>(open: O) -> Arc<Open>
where
    O: Fn(Env) -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: Store,
    E: fmt::Display,
{
    Arc::new(move |env| {
        let opening = open(env);
        Box::pin(async move {
            match opening.await {
                Ok(store) => Ok(Arc::new(store) as Arc<dyn Store>),
                Err(error) => Err(error.to_string()),
            }
        })
    })
}

/// The number that was declared last for an operation.
fn declared(numbers: &[(Operation, u64)], operation: Operation) -> Option<u64> {
    numbers.iter().rev().find(|(declared, _)| *declared == operation).map(|(_, number)| *number)
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Subject")
            .field("name", &self.name)
            .field("abilities", &self.abilities)
            .finish_non_exhaustive()
    }
}
