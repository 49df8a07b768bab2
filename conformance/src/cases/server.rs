//! A server that dies, stands still or forgets, with requests under way: an error in time, and never a wrong answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cloakroom_core::{Engine, ErrorKind, Status};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    cases::{
        parallel::all,
        status::{connect, wait_connected, wait_disconnected},
    },
    context::{BOUND, Cx, LONG, key},
    failure::{Failure, Verdict, check, check_eq, show_found},
    recorder::Recorder,
    visitor::{self, Visitor},
};

/// How much longer than promised something may take on a machine with other things to do.
pub(crate) const SLACK: Duration = Duration::from_millis(500);

/// How long an engine of these cases waits for one operation of the store.
const OPERATION: Duration = Duration::from_secs(2);

/// How long an engine of these cases waits for the store to come back.
const RECONNECT: Duration = Duration::from_millis(1_000);

/// How soon after the server's return a request must have succeeded.
const SOON: Duration = Duration::from_secs(1);

/// An engine that waits as long as these cases expect.
pub(crate) fn patient(cx: &Cx) -> Verdict<Engine> {
    visitor::engine(cx.handle(), |builder| {
        builder.operation_timeout(OPERATION).reconnect_timeout(Duration::from_secs(10))
    })
}

pub(crate) async fn the_status_follows_the_servers_death_and_return(cx: Cx) -> Verdict {
    let (store, machine) = (cx.store(), cx.machine()?);
    connect(store).await?;
    for _ in 0..2 {
        machine.kill().await?;
        wait_disconnected(store).await?;
        machine.start().await?;
        wait_connected(store).await?;
    }
    // And in peace.
    machine.stop().await?;
    wait_disconnected(store).await?;
    machine.start().await?;
    wait_connected(store).await
}

pub(crate) async fn a_request_waits_for_the_server_no_longer_than_it_may(cx: Cx) -> Verdict {
    let (store, machine) = (cx.store(), cx.machine()?);
    let engine = visitor::engine(cx.handle(), |builder| {
        builder.operation_timeout(OPERATION).reconnect_timeout(RECONNECT)
    })?;
    let mut visitor = Visitor::default();
    visitor::count(&mut visitor, &engine).await?;
    connect(store).await?;
    machine.kill().await?;
    let began = wait_disconnected(store).await?;
    let rule = "in an outage a request waits for the store until the reconnect timeout, and then fails";
    let answer = timeout(RECONNECT + SLACK, visitor::read(&mut visitor, &engine)).await;
    let ended = began.elapsed();
    let answer = answer.map_err(|_| {
        Failure::new(rule, format!("it was still under way {} ms after the outage began", ended.as_millis()))
    })?;
    check!(ended >= RECONNECT, rule, "it failed {} ms after the outage began", ended.as_millis());
    check!(
        answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable),
        "a request that has waited in vain is Unavailable",
        "it was {answer:?}"
    );
    Ok(())
}

pub(crate) async fn the_first_request_after_the_return_succeeds(cx: Cx) -> Verdict {
    let (store, machine) = (cx.store(), cx.machine()?);
    let engine = patient(&cx)?;
    visitor::count(&mut Visitor::default(), &engine).await?;
    for _ in 0..2 {
        machine.kill().await?;
        wait_disconnected(store).await?;
        // It waits at the gate while the server starts.
        let waiting = tokio::spawn({
            let engine = engine.clone();
            async move {
                let counted = visitor::count(&mut Visitor::default(), &engine).await;
                (counted, Instant::now())
            }
        });
        machine.start().await?;
        let back = Instant::now();
        let (counted, answered) =
            waiting.await.map_err(|error| Failure::new("a store never panics", error.to_string()))?;
        let rule = "the first request after the server's return succeeds, within a second of it";
        check!(counted.is_ok(), rule, "it was {counted:?}");
        let late = answered.saturating_duration_since(back);
        check!(late <= SOON + SLACK, rule, "it took {} ms", late.as_millis());
    }
    Ok(())
}

/// What one task of a crowd has seen of its own session.
struct Tally {
    visitor: Visitor,
    /// The highest number that was answered.
    counted: u64,
    /// How often a request failed, and may or may not have counted since then.
    doubtful: u64,
}

impl Tally {
    /// Judges the number that the session has, if there is one.
    fn judge(&self, seen: Option<u64>, keeps_data: bool) -> Verdict {
        let rule = "a request that was answered has counted, one that failed has counted once or not at all";
        match seen {
            Some(seen) => check!(
                (self.counted..=self.counted + self.doubtful).contains(&seen),
                rule,
                "the number is {seen} after {} was answered and {} requests failed",
                self.counted,
                self.doubtful
            ),
            None => check!(
                !keeps_data || self.counted == 0,
                rule,
                "the session is gone after {} was answered, of a server that keeps what it has",
                self.counted
            ),
        }
        Ok(())
    }
}

/// A crowd's work, as seen from outside.
#[derive(Default)]
struct Load {
    stops: AtomicBool,
    /// How many requests have succeeded.
    answered: AtomicU64,
}

impl Load {
    /// Waits for a request that succeeds, now that the server answers: the first one, since none has in the outage.
    async fn wait_for_success(&self) -> Verdict {
        let (back, before) = (Instant::now(), self.answered.load(SeqCst));
        loop {
            // Looked at before the count, so that a success that came in time is not taken for a late one.
            let waited = back.elapsed();
            if self.answered.load(SeqCst) > before {
                return Ok(());
            }
            check!(
                waited <= SOON + SLACK,
                "of many requests that wait for the server's return the first succeeds within a second of it",
                "none has after {} ms",
                waited.as_millis()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Counts in a session of its own until it is told to stop. Each request ends in time.
async fn count_on(engine: Engine, load: Arc<Load>, keeps_data: bool) -> Verdict<Tally> {
    let mut tally = Tally { visitor: Visitor::default(), counted: 0, doubtful: 0 };
    let longest = Duration::from_secs(10) + OPERATION * 2 + SLACK;
    while !load.stops.load(SeqCst) {
        let before = tally.visitor.cookie().map(ToOwned::to_owned);
        let counting = timeout(longest, visitor::count(&mut tally.visitor, &engine));
        let counted = counting.await.map_err(|_| {
            let seen = format!("one was still under way after {} s", longest.as_secs());
            Failure::new("no request hangs when the server dies", seen)
        })?;
        if counted.is_ok() {
            load.answered.fetch_add(1, SeqCst);
        }
        match counted {
            // The session ended with the server's memory, and a new one began.
            Ok(number) if before.as_deref() != tally.visitor.cookie() => {
                check!(
                    before.is_none() || !keeps_data,
                    "a session outlives its server's death where the server keeps what it has",
                    "a new one began"
                );
                check_eq!(number, 1, "a new session begins with nothing in it");
                (tally.counted, tally.doubtful) = (1, 0);
            }
            Ok(number) => {
                tally.judge(Some(number.saturating_sub(1)), keeps_data)?;
                (tally.counted, tally.doubtful) = (number, 0);
            }
            Err(error) => {
                let kind = error.kind();
                // A server that keeps what it has forgets nobody, and nobody logs out here.
                let may_be_gone = kind == ErrorKind::Gone && !keeps_data;
                check!(
                    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout) || may_be_gone,
                    "a request fails in an outage as Unavailable or Timeout, or as Gone where the server forgot",
                    "it failed as {kind:?}, of a server that {}",
                    if keeps_data { "keeps what it has" } else { "forgets" }
                );
                tally.doubtful += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(tally)
}

pub(crate) async fn a_kill_under_load_hangs_no_request_and_answers_nothing_wrong(cx: Cx) -> Verdict {
    let machine = cx.machine()?;
    let engine = patient(&cx)?;
    connect(cx.store()).await?;
    let (load, keeps_data) = (Arc::new(Load::default()), machine.keeps_data());
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        tasks.spawn(count_on(engine.clone(), Arc::clone(&load), keeps_data));
    }
    for _ in 0..2 {
        // Long enough for every task to be in the middle of something.
        sleep(Duration::from_millis(100)).await;
        machine.kill().await?;
        // Returns as soon as the server answers, be it one process or a whole cluster that has found itself again.
        machine.start().await?;
        load.wait_for_success().await?;
        wait_connected(cx.store()).await?;
    }
    sleep(Duration::from_millis(100)).await;
    load.stops.store(true, SeqCst);
    for mut tally in all(tasks).await? {
        let seen = visitor::read(&mut tally.visitor, &engine).await?;
        tally.judge(seen, keeps_data)?;
    }
    Ok(())
}

pub(crate) async fn a_server_that_stands_still_costs_an_operation_no_more_than_the_bound(cx: Cx) -> Verdict {
    let (store, machine) = (cx.store(), cx.machine()?);
    let keys = (0..8).map(|number| key(&format!("key-{number}"))).collect::<Verdict<Vec<_>>>()?;
    for key in &keys {
        store.set(key, key.as_str().to_owned().into(), LONG).await?;
    }
    machine.pause().await?;
    let mut calls = JoinSet::new();
    for key in keys.clone() {
        let store = cx.handle();
        calls.spawn(async move {
            let rule = "an operation on a server that stands still ends in bounded time";
            let late = Failure::new(rule, format!("get was under way after {} s", BOUND.as_secs()));
            Verdict::Ok(timeout(BOUND + SLACK, store.get(&key)).await.map_err(|_| late)?.err())
        });
    }
    let answers = all(calls).await;
    machine.resume().await?;
    for error in answers? {
        let kind = error.map(|error| error.kind());
        check!(
            matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Unavailable)),
            "an operation on a server that stands still is an error, of kind Timeout or Unavailable",
            "get answered {kind:?}"
        );
    }
    wait_connected(store).await?;
    // What the server answers late belongs to nobody.
    for key in keys.iter().rev() {
        let found = store.get(key).await?;
        check!(
            found.as_deref() == Some(key.as_bytes()),
            "the late answer to one operation is never taken for that of another",
            "get of {} returned {}",
            key.as_str(),
            show_found(found.as_deref())
        );
    }
    Ok(())
}

pub(crate) async fn an_emptied_server_ends_sessions_and_adopts_no_id(cx: Cx) -> Verdict {
    let machine = cx.machine()?;
    let recorded = Recorder::over(cx.handle());
    let engine = visitor::engine(Arc::new(recorded.clone()), |builder| builder)?;
    let mut visitors = vec![Visitor::default(); 8];
    for visitor in &mut visitors {
        visitor::count(visitor, &engine).await?;
    }
    connect(cx.store()).await?;
    // One request is under way all the while: it loaded its session before.
    let pending = visitors[0].begin(&engine);
    let session = pending.load().await?;
    machine.kill().await?;
    wait_disconnected(cx.store()).await?;
    machine.start().await?;
    wait_connected(cx.store()).await?;
    let emptier = cx.second_handle().await?;
    let old = recorded.keys();
    for key in &old {
        // A server that keeps what it has is emptied by hand.
        emptier.destroy(key).await?;
    }
    let late = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await;
    let kind = late.as_ref().err().map(cloakroom_core::Error::kind);
    check_eq!(kind, Some(ErrorKind::Gone), "a session whose record is lost is gone");
    let mut first = visitors[0].clone();
    let _ = first.end(&engine, &pending, late).await;
    check!(first.cookie() == visitors[0].cookie(), "a session that is gone sends no cookie", "it sent one");
    for visitor in &mut visitors {
        let before = visitor.cookie().map(ToOwned::to_owned);
        let seen = visitor::read(visitor, &engine).await?;
        check_eq!(seen, None, "an emptied server has no sessions");
        let counted = visitor::count(visitor, &engine).await?;
        check_eq!(counted, 1, "a new session begins with nothing in it");
        check!(
            visitor.cookie() != before.as_deref(),
            "an id that the server does not know is never adopted",
            "a session began under the id that the visitor brought"
        );
    }
    for key in &old {
        let found = emptier.get(key).await?;
        let rule = "nothing comes back under a key of before";
        check!(found.is_none(), rule, "get returned {}", show_found(found.as_deref()));
    }
    check_eq!(cx.store().status().current(), Status::Connected, "an empty server is no outage");
    Ok(())
}
