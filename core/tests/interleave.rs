//! Random requests in random interleavings of their store calls, held to a model: every acknowledged change is there.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use cloakroom_core::{ErrorKind, Result};
use http::StatusCode;
use proptest::{collection::vec, prelude::*, sample::select};
use support::{
    shape::{SHAPES, Stage, add},
    spy::Act,
    visitor::{Visitor, cookies, finish, ticket_in},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Adds 1 to `n` and inserts a key of its own.
    Add,
    /// The same with `update_now`, twice.
    AddNow,
    /// The same under a new id.
    Login,
    Logout,
    Read,
    /// Saves, forgets the save half-way, and saves again at its end.
    Hasty,
}

const KINDS: &[Kind] =
    &[Kind::Add, Kind::Add, Kind::AddNow, Kind::Login, Kind::Logout, Kind::Read, Kind::Hasty];

/// What one request heard and told.
#[derive(Debug, Default)]
struct Told {
    /// How often it was told that 1 had been added.
    added: u64,
    /// How often it may have been added, though an error was told.
    perhaps: u64,
    numbers: Vec<u64>,
    cookies: Vec<String>,
}

async fn request(stage: &Stage, kind: Kind, name: &str) -> Told {
    let mut told = Told::default();
    let lazy = stage.visitor.begin(&stage.engine);
    let Ok(session) = lazy.load().await else { return told };
    if session.is_new() && session.writable().is_ok() {
        // It came after the logout: a new session, and no part of the race.
        return told;
    }
    let next = |n: Option<u64>| n.unwrap_or(0) + 1;
    let mut changes = 0;
    let outcome: Result<()> = async {
        match kind {
            Kind::Read => {}
            Kind::Logout => session.destroy().await?,
            Kind::Add | Kind::Login | Kind::Hasty => {
                if kind == Kind::Login {
                    session.cycle_id().await?;
                }
                add(&session)?;
                changes = 1;
                session.insert(name, true)?;
                if kind == Kind::Hasty {
                    let mut save = Box::pin(session.save());
                    poll_fn(|context| {
                        let _ = save.as_mut().poll(context);
                        Poll::Ready(())
                    })
                    .await;
                }
                session.save().await?;
            }
            Kind::AddNow => {
                session.insert(name, true)?;
                for _ in 0..2 {
                    changes += 1;
                    told.numbers.push(session.update_now("n", next).await?);
                    told.added += 1;
                    changes -= 1;
                }
            }
        }
        Ok(())
    }
    .await;
    let finished = finish(&stage.engine, &lazy, StatusCode::OK).await;
    match (&outcome, &finished) {
        (Ok(()), _) => told.added += changes,
        // The session ended meanwhile: it is certain that nothing was stored.
        (Err(error), _) if matches!(error.kind(), ErrorKind::Gone | ErrorKind::WritesRefused) => {}
        _ => told.perhaps += changes,
    }
    told.cookies = finished.map(|headers| cookies(&headers)).unwrap_or_default();
    told
}

/// Polls the requests in the given order, and then in turn until all have ended. Time passes when nothing else does.
async fn interleave<'a>(
    stage: &Stage,

    mut requests: Vec<Pin<Box<dyn Future<Output = Told> + 'a>>>,
    order: &[usize],
) -> Vec<Told> {
    let mut told: Vec<Option<Told>> = requests.iter().map(|_| None).collect();
    let count = requests.len();
    let turns = order.iter().copied().chain((0..count).cycle());
    let (mut calls, mut idle) = (0, 0);
    for turn in turns.map(|turn| turn % count).take(100_000) {
        if told[turn].is_none() {
            told[turn] = poll_fn(|context| {
                Poll::Ready(match requests[turn].as_mut().poll(context) {
                    Poll::Ready(told) => Some(told),
                    Poll::Pending => None,
                })
            })
            .await;
        }
        if told.iter().all(Option::is_some) {
            return told.into_iter().flatten().collect();
        }
        // Commits of several steps run in tasks.
        tokio::task::yield_now().await;
        idle = if stage.spy.calls() == calls { idle + 1 } else { 0 };
        calls = stage.spy.calls();
        if idle > 10 * count {
            idle = 0;
            tokio::time::advance(Duration::from_secs(2)).await;
        }
    }
    unreachable!("the requests do not end");
}

async fn check(kinds: &[Kind], order: &[usize], due: bool, fault: Option<(usize, Act)>) {
    let shape =
        SHAPES.iter().find(|shape| shape.due == due && shape.stored && !shape.moves).expect("there is one");
    let stage = Stage::set(shape).await;
    stage.spy.yields(true);
    let faulty = fault.is_some();
    if let Some((call, act)) = fault {
        stage.spy.on_call(call, act);
    }
    let names: Vec<String> = (0..kinds.len()).map(|n| format!("r{n}")).collect();
    let requests = kinds
        .iter()
        .zip(&names)
        .map(|(&kind, name)| -> Pin<Box<dyn Future<Output = Told>>> {
            let (stage, name) = (stage.clone(), name.clone());
            Box::pin(async move { request(&stage, kind, &name).await })
        })
        .collect();
    let told = interleave(&stage, requests, order).await;
    stage.spy.yields(false);
    stage.spy.heal();

    let note = format!("{kinds:?} {order:?} {told:?}");
    let moved: Vec<&str> =
        told.iter().flat_map(|told| &told.cookies).filter_map(|cookie| ticket_in(cookie)).collect();
    let new_ids: Vec<&str> = moved.into_iter().filter(|ticket| *ticket != stage.visitor.ticket()).collect();
    let removed =
        told.iter().flat_map(|told| &told.cookies).filter(|cookie| ticket_in(cookie).is_none()).count();
    let records = stage.records().await;
    if removed > 0 {
        assert_eq!((new_ids.len(), records.len()), (0, 0), "logged out: {note}");
        return;
    }
    assert!(new_ids.len() <= 1, "two ids were handed out: {note}");
    if faulty && records.is_empty() {
        // A logout whose reply was lost and that could not be settled.
        assert!(kinds.contains(&Kind::Logout), "{note}");
        return;
    }
    assert_eq!(records.len(), 1, "{note}: {records:?}");
    let browser = new_ids.first().map_or_else(|| stage.visitor.clone(), |ticket| Visitor::with(ticket));
    let (n, keep) = stage.seen(&browser).await;
    assert_eq!(keep.as_deref(), Some("x"), "{note}: {records:?}");
    let (added, perhaps) =
        told.iter().fold((1, 0), |(added, perhaps), told| (added + told.added, perhaps + told.perhaps));
    let n = n.expect("the session has its counter");
    assert!((added..=added + perhaps).contains(&n), "{n} is not in {added}..={}: {note}", added + perhaps);
    for (told, name) in told.iter().zip(&names).filter(|(told, _)| told.added > 0) {
        assert!(records[0].contains(&format!("\"{name}\":true")), "{name} is lost: {note} {told:?}");
    }
    let mut numbers: Vec<u64> = told.iter().flat_map(|told| told.numbers.clone()).collect();
    numbers.sort_unstable();
    let given = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), given, "a number was given out twice: {note}");
}

fn paused(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_change_is_there_in_every_interleaving(
        kinds in vec(select(KINDS), 2..6),
        order in vec(0_usize..6, 0..60),
        due: bool,
    ) {
        paused(check(&kinds, &order, due, None));
    }

    #[test]
    fn so_it_is_when_one_call_fails_or_its_reply_is_lost(
        kinds in vec(select(KINDS), 2..5),
        order in vec(0_usize..6, 0..60),
        due: bool,
        call in 1_usize..20,
        act in select(vec![
            Act::Fail(ErrorKind::Unavailable),
            Act::Fail(ErrorKind::Rejected),
            Act::LoseReply(ErrorKind::Timeout),
            Act::LoseReply(ErrorKind::Unavailable),
            Act::Hang,
            Act::HangApplied,
            Act::Late(3),
        ]),
    ) {
        paused(check(&kinds, &order, due, Some((call, act))));
    }
}
