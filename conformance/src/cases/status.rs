//! The status of a store: a level and its changes, true within a second, whoever listens.

use std::time::Duration;

use cloakroom_core::{Status, Store};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cases::server::SLACK,
    context::{BOUND, Cx, LONG, bytes, expect_value, key},
    failure::{Failure, Verdict, check, check_eq},
    outage::Outage,
};

/// Between two looks at a status.
const TICK: Duration = Duration::from_millis(20);

/// Looks at a status in the second that a store has to notice.
const LOOKS: u32 = 50;

/// How long a store may take to notice, whatever the looks take: a second, and what a busy machine may add.
const NOTICE: Duration = Duration::from_secs(1).saturating_add(SLACK);

/// The second that a store has to notice in.
struct Second {
    began: Instant,
    looks: u32,
    /// The longest call that was made meanwhile. The end of the second may fall into it, and it has bounds of its own.
    call: Duration,
}

impl Second {
    fn new() -> Self {
        Self { began: Instant::now(), looks: 0, call: Duration::ZERO }
    }

    /// Whether there is time left; to be asked for each look.
    fn goes_on(&mut self) -> bool {
        self.looks += 1;
        self.looks <= LOOKS && self.is_on_time()
    }

    fn is_on_time(&self) -> bool {
        self.began.elapsed() <= NOTICE + self.call
    }

    /// As [`attempt`], within this second.
    async fn attempt(&mut self, store: &dyn Store) -> Verdict {
        let began = Instant::now();
        attempt(store).await?;
        self.call = self.call.max(began.elapsed());
        Ok(())
    }

    /// What to say of how long it took.
    fn took(&self) -> String {
        format!(
            "{} ms have passed, of which a call took {}",
            self.began.elapsed().as_millis(),
            self.call.as_millis()
        )
    }
}

/// How many outages there are in a row: the second, but where the server is restarted for each only as many as fit into
/// [`FLAPPING`], and the first at least.
const OUTAGES: (u32, u32) = (3, 50);

/// How long outages go on at most: a cluster that is killed and started again takes seconds until it is one.
const FLAPPING: Duration = Duration::from_secs(25);

const fn is_disconnected(status: Status) -> bool {
    matches!(status, Status::Disconnected { .. })
}

/// Calls `get` once, whatever it answers, but no longer than an operation may take.
async fn attempt(store: &dyn Store) -> Verdict {
    let absent = key("never-set")?;
    if timeout(BOUND, store.get(&absent)).await.is_err() {
        let seen = format!("a get was still under way after {} s", BOUND.as_secs());
        return Err(Failure::new("an operation in an outage ends in bounded time", seen));
    }
    Ok(())
}

/// Waits until the store says that it is connected; nobody calls it meanwhile.
pub(crate) async fn wait_connected(store: &dyn Store) -> Verdict {
    let mut second = Second::new();
    while second.goes_on() {
        let status = store.status().current();
        if status == Status::Connected && second.is_on_time() {
            return Ok(());
        }
        sleep(TICK).await;
    }
    let rule = "within a second of the end of a short outage the status is Connected, though nobody calls";
    Err(Failure::new(rule, format!("it is {:?}; {}", store.status().current(), second.took())))
}

/// Makes calls until the store says that it is disconnected, and returns since when.
pub(crate) async fn wait_disconnected(store: &dyn Store) -> Verdict<Instant> {
    let mut second = Second::new();
    while second.goes_on() {
        second.attempt(store).await?;
        if let Status::Disconnected { since } = store.status().current()
            && second.is_on_time()
        {
            return Ok(since);
        }
        sleep(TICK).await;
    }
    let rule = "within a second of the first operation that fails in an outage the status is Disconnected";
    Err(Failure::new(rule, format!("it is {:?}; {}", store.status().current(), second.took())))
}

/// Connects, and shows that it is: what an outage is to break must be there.
pub(crate) async fn connect(store: &dyn Store) -> Verdict {
    store.set(&key("warm-up")?, bytes("value"), LONG).await?;
    wait_connected(store).await
}

/// Begins an outage and waits until the store has noticed.
pub(crate) async fn begin(store: &dyn Store, outage: &dyn Outage) -> Verdict<Instant> {
    outage.begin().await;
    wait_disconnected(store).await
}

/// Ends an outage and waits until the store has noticed.
pub(crate) async fn end(store: &dyn Store, outage: &dyn Outage) -> Verdict {
    outage.end().await;
    wait_connected(store).await
}

pub(crate) async fn a_store_that_cannot_be_cut_off_stays_connected(cx: Cx) -> Verdict {
    let store = cx.store();
    connect(store).await?;
    let mut changes = store.status().into_stream();
    let rule =
        "a store without outages is Connected for always: nothing that is absent, full or bad is an outage";
    check_eq!(changes.next().await, Some(Status::Connected), rule);
    let (one, absent) = (key("one")?, key("never-set")?);
    store.get(&absent).await?;
    store.destroy(&absent).await?;
    store.set(&one, bytes("value"), LONG).await?;
    // Refused or not, it is no outage.
    let _ = store.set(&one, vec![0; 8 * 1024 * 1024].into(), LONG).await;
    if let Some(atomic) = store.as_atomic() {
        atomic.create(&one, bytes("other"), LONG).await?;
        atomic.replace(&absent, b"expected", bytes("other"), LONG).await?;
        atomic.remove(&one, b"expected").await?;
        atomic.touch(&absent, LONG).await?;
    }
    if let Some(indexed) = store.as_indexed() {
        let _ = indexed.bind(&one, "", LONG).await;
        indexed.keys_of("nobody").await?;
    }
    store.destroy(&one).await?;
    let change = timeout(TICK, changes.next()).await;
    check!(change.is_err(), rule, "the status changed to {:?}", change.ok().flatten());
    check_eq!(store.status().current(), Status::Connected, rule);
    Ok(())
}

/// Waits for the next state of a stream while calls are made.
async fn next(store: &dyn Store, states: &mut (impl StreamExt<Item = Status> + Unpin)) -> Verdict<Status> {
    let mut second = Second::new();
    while second.goes_on() {
        second.attempt(store).await?;
        if let Ok(Some(status)) = timeout(TICK, states.next()).await {
            return Ok(status);
        }
    }
    Err(Failure::new("the status stream yields every change that lasts", "it yielded nothing for a second"))
}

pub(crate) async fn the_stream_yields_the_level_first_and_then_each_change(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    connect(store).await?;
    let mut early = store.status().into_stream();
    let first = next(store, &mut early).await?;
    check_eq!(first, Status::Connected, "the status stream yields the level first");
    let since = begin(store, &*outage).await?;
    let rule = "the status stream yields each change";
    check_eq!(next(store, &mut early).await?, Status::Disconnected { since }, rule);
    let mut late = store.status().into_stream();
    let first = next(store, &mut late).await?;
    check_eq!(first, Status::Disconnected { since }, "the status stream yields the level first");
    end(store, &*outage).await?;
    for states in [&mut early, &mut late] {
        check_eq!(next(store, states).await?, Status::Connected, rule);
    }
    Ok(())
}

pub(crate) async fn an_outage_shows_within_a_second(cx: Cx) -> Verdict {
    let outage = cx.outage()?;
    connect(cx.store()).await?;
    begin(cx.store(), &*outage).await.map(drop)
}

pub(crate) async fn the_end_of_an_outage_shows_within_a_second_though_nobody_calls(cx: Cx) -> Verdict {
    let outage = cx.outage()?;
    connect(cx.store()).await?;
    begin(cx.store(), &*outage).await?;
    end(cx.store(), &*outage).await
}

pub(crate) async fn the_start_of_an_outage_does_not_move(cx: Cx) -> Verdict {
    let outage = cx.outage()?;
    connect(cx.store()).await?;
    let since = begin(cx.store(), &*outage).await?;
    for _ in 0..5 {
        sleep(TICK).await;
        attempt(cx.store()).await?;
        let status = cx.store().status().current();
        let rule = "`since` is when the outage began, and a repeated failure does not move it";
        check_eq!(status, Status::Disconnected { since }, rule);
    }
    Ok(())
}

pub(crate) async fn every_outage_has_a_start_of_its_own(cx: Cx) -> Verdict {
    let outage = cx.outage()?;
    connect(cx.store()).await?;
    for _ in 0..2 {
        sleep(TICK).await;
        let before = Instant::now();
        let since = begin(cx.store(), &*outage).await?;
        let rule = "`since` is when this outage began";
        check!(since >= before, rule, "it lies {} ms before it", (before - since).as_millis());
        end(cx.store(), &*outage).await?;
    }
    Ok(())
}

pub(crate) async fn two_handles_both_notice_an_outage_and_its_end(cx: Cx) -> Verdict {
    let (outage, other) = (cx.outage()?, cx.second_handle().await?);
    let handles = [cx.store(), &*other];
    for handle in handles {
        connect(handle).await?;
    }
    outage.begin().await;
    for handle in handles {
        wait_disconnected(handle).await?;
    }
    outage.end().await;
    for handle in handles {
        wait_connected(handle).await?;
    }
    Ok(())
}

pub(crate) async fn slow_and_dropped_subscribers_block_nobody(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    connect(store).await?;
    let unread: Vec<_> = (0..10).map(|_| store.status()).collect();
    let began = Instant::now();
    for round in 0..8 {
        if cx.restarts_for_an_outage() && round >= OUTAGES.0 && began.elapsed() > FLAPPING {
            break;
        }
        drop(store.status());
        drop(store.status().into_stream());
        begin(store, &*outage).await?;
        end(store, &*outage).await?;
        let set = timeout(BOUND, store.set(&key("one")?, bytes("value"), LONG)).await;
        let rule = "a subscriber that does not read, or is gone, blocks no operation";
        check!(set.is_ok(), rule, "a set was still under way after {} s", BOUND.as_secs());
    }
    for subscriber in &unread {
        let rule = "a subscriber that has not read yet sees the current level";
        check_eq!(subscriber.current(), Status::Connected, rule);
    }
    Ok(())
}

pub(crate) async fn many_outages_in_a_row_end_in_the_right_state(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    connect(store).await?;
    let began = Instant::now();
    for round in 0..OUTAGES.1 {
        if cx.restarts_for_an_outage() && round >= OUTAGES.0 && began.elapsed() > FLAPPING {
            break;
        }
        outage.begin().await;
        attempt(store).await?;
        outage.end().await;
    }
    wait_connected(store).await?;
    // And it stays so: nothing that is left of many outages comes late.
    for _ in 0..LOOKS {
        sleep(TICK).await;
        let status = store.status().current();
        check!(
            !is_disconnected(status),
            "the end of an outage is the end of its reports",
            "it is {status:?}"
        );
    }
    store.set(&key("one")?, bytes("value"), LONG).await?;
    expect_value(store, &key("one")?, b"value", "after many outages the store works").await?;
    begin(store, &*outage).await.map(drop)
}
