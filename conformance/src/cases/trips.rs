//! Round trips: how many an operation takes, counted on the wire, the same number each time.

use std::time::Duration;

use cloakroom_core::{Key, Store, Swapped};
use tokio::time::Instant;

use crate::{
    cases::status::connect,
    context::{Cx, LONG, atomic, bytes, indexed, key},
    failure::{Failure, Verdict, check},
    fault_proxy::FaultProxy,
    operation::Operation,
};

/// Measurements of each kind of call, which must all be the same.
const SAMPLES: usize = 9;

/// Calls before them that prepare statements and load scripts.
const FIRST: usize = 2;

/// Rows of measurements that may differ because the driver had something of its own to say: at once, and more for each
/// [`PULSE`].
const STRAYS: u32 = 2;

/// A driver may look after its connections every now and then, such as one of MongoDB every ten seconds on each of two.
const PULSE: Duration = Duration::from_secs(5);

/// How an operation may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It did what it is there for.
    Done,
    /// Nothing was there: `None`, `false` or `Gone`.
    Absent,
    /// Something else was there: `Conflict`, or the `false` of `create`.
    Conflict,
}

impl End {
    /// Those of an operation that are measured.
    const fn of(operation: Operation) -> &'static [Self] {
        match operation {
            Operation::Get | Operation::Destroy | Operation::Touch => &[Self::Done, Self::Absent],
            Operation::Create => &[Self::Done, Self::Conflict],
            Operation::Replace | Operation::Remove => &[Self::Done, Self::Absent, Self::Conflict],
            _ => &[Self::Done],
        }
    }
}

/// How many round trips each operation takes.
#[derive(Debug, Default)]
pub(crate) struct Trips {
    pub(crate) done: Vec<(Operation, u64)>,
    /// Of those that can be refused: the refusal that takes most.
    pub(crate) refused: Vec<(Operation, u64)>,
}

pub(crate) async fn each_operation_takes_the_round_trips_it_declares(cx: Cx) -> Verdict {
    let proxy = cx.proxy()?;
    let Trips { done, refused } = measure(&cx, &proxy).await?;
    for (operation, seen) in &done {
        let declared = cx.round_trips(*operation);
        check!(
            *seen == declared,
            "an operation takes exactly as many round trips as the store declares, one unless it says otherwise",
            "{operation} took {seen} instead of {declared}"
        );
    }
    for (operation, seen) in refused {
        let usual = cx.round_trips(operation);
        let declared = cx.refusals(operation);
        check!(
            declared.map_or(seen <= usual + 1, |declared| seen == declared),
            "an operation that does nothing takes exactly as many round trips as the store declares for that, or else at \
             most one more than otherwise",
            "{operation} took {seen} instead of {}",
            declared.map_or_else(|| format!("at most {}", usual + 1), |declared| declared.to_string())
        );
    }
    connect(cx.store()).await
}

/// Measures the round trips of each operation of the abilities that the store declares, but for administration.
pub(crate) async fn measure(cx: &Cx, proxy: &FaultProxy) -> Verdict<Trips> {
    let store = cx.store();
    let mut operations = vec![Operation::Get, Operation::Set, Operation::Destroy];
    if store.as_atomic().is_some() {
        operations.extend([Operation::Create, Operation::Replace, Operation::Remove, Operation::Touch]);
    }
    if store.as_indexed().is_some() {
        operations.extend([Operation::Bind, Operation::KeysOf, Operation::DestroyUser]);
    }
    let mut trips = Trips::default();
    let mut strays = Strays { since: Instant::now(), seen: 0 };
    for operation in operations {
        let mut most_refused = None;
        for &end in End::of(operation) {
            let count = sample(store, proxy, operation, end, &mut strays).await?;
            match end {
                End::Done => trips.done.push((operation, count)),
                End::Absent | End::Conflict => most_refused = most_refused.max(Some(count)),
            }
        }
        trips.refused.extend(most_refused.map(|count| (operation, count)));
    }
    Ok(trips)
}

/// The rows that differed so far.
struct Strays {
    since: Instant,
    seen: u32,
}

impl Strays {
    /// Counts one more; `false` if there are more than a driver of its own accord is the reason of.
    fn allow(&mut self) -> bool {
        self.seen += 1;
        let pulses = self.since.elapsed().as_secs() / PULSE.as_secs();
        u64::from(self.seen) <= u64::from(STRAYS) + pulses
    }
}

/// Measures one operation that ends so.
async fn sample(
    store: &dyn Store,
    proxy: &FaultProxy,
    operation: Operation,
    end: End,
    strays: &mut Strays,
) -> Verdict<u64> {
    let key = key("one")?;
    loop {
        let mut samples = Vec::with_capacity(SAMPLES);
        for round in 0..FIRST + SAMPLES {
            prepare(store, &key, operation, end, round).await?;
            let before = proxy.traffic().round_trips;
            let seen = call(store, operation, &key, end).await?;
            if round >= FIRST {
                samples.push(proxy.traffic().round_trips - before);
            }
            check!(seen == end, "a call answers as it must", "{operation} was {seen:?} instead of {end:?}");
        }
        if samples.iter().all(|sample| *sample == samples[0]) {
            return Ok(samples[0]);
        }
        if !strays.allow() {
            let rule = "an operation takes the same number of round trips each time";
            return Err(Failure::new(rule, format!("{operation} took {samples:?}")));
        }
    }
}

/// Makes what the call is to meet.
async fn prepare(store: &dyn Store, key: &Key, operation: Operation, end: End, round: usize) -> Verdict {
    let is_live = match end {
        End::Done => operation != Operation::Create,
        End::Absent => false,
        End::Conflict => true,
    };
    if is_live {
        store.set(key, bytes("value"), LONG).await?;
    } else {
        store.destroy(key).await?;
    }
    if store.as_indexed().is_some() {
        indexed(store)?.bind(key, "alice", LONG).await?;
    }
    // So that what a store does at each second, or each third, call does not always meet the same one.
    for _ in 0..round % 2 {
        store.get(key).await?;
    }
    Ok(())
}

/// Makes the call, and says how it ended.
async fn call(store: &dyn Store, operation: Operation, key: &Key, end: End) -> Verdict<End> {
    let expected: &[u8] = if end == End::Conflict { b"another" } else { b"value" };
    let flag = |is_done| if is_done { End::Done } else { End::Absent };
    let swapped = |answer: Swapped| match answer {
        Swapped::Done => End::Done,
        Swapped::Conflict(_) => End::Conflict,
        Swapped::Gone => End::Absent,
    };
    Ok(match operation {
        Operation::Set => {
            store.set(key, bytes("other"), LONG).await?;
            End::Done
        }
        Operation::Destroy => flag(store.destroy(key).await?),
        Operation::Create => match atomic(store)?.create(key, bytes("other"), LONG).await? {
            true => End::Done,
            false => End::Conflict,
        },
        Operation::Replace => swapped(atomic(store)?.replace(key, expected, bytes("other"), LONG).await?),
        Operation::Remove => swapped(atomic(store)?.remove(key, expected).await?),
        Operation::Touch => flag(atomic(store)?.touch(key, LONG).await?),
        Operation::Bind => {
            indexed(store)?.bind(key, "alice", LONG).await?;
            End::Done
        }
        Operation::KeysOf => flag(!indexed(store)?.keys_of("alice").await?.is_empty()),
        Operation::DestroyUser => flag(indexed(store)?.destroy_user("alice", None).await? > 0),
        _ => flag(store.get(key).await?.is_some()),
    })
}
