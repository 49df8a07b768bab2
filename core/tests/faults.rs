//! Whatever call of the store fails, hangs or loses its reply: one working session, nothing doubled, nothing lost.
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::time::Duration;

use cloakroom_core::{Engine, Error, ErrorKind};
use support::{
    shape::{SHAPES, Shape, Stage, add},
    spy::{Act, Spy},
    visitor::Visitor,
};

const KINDS: [ErrorKind; 6] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Backend,
    ErrorKind::Rejected,
    ErrorKind::TooLarge,
    ErrorKind::Unsupported,
];

/// The kinds after which nobody knows whether a write was applied.
const LOST: [ErrorKind; 3] = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Backend];

/// Runs `shape` with `act` at its k-th call and `times - 1` more, for every k. Returns how many runs were hit.
async fn sweep(
    shape: &Shape,
    act: &Act,
    times: usize,
    check: impl AsyncFn(&str, &Stage, &Visitor, Option<ErrorKind>),
) -> usize {
    for k in 1..50 {
        let mut stage = Stage::set(shape).await;
        let before = stage.visitor.clone();
        stage.spy.on_calls(k, times, act.clone());
        let (engine, spy) = (stage.engine.clone(), stage.spy.clone());
        let answer = stage.visitor.visit(&engine, async |session| (shape.work)(session.clone()).await).await;
        let calls = spy.take_calls();
        if calls.len() < k {
            assert!(answer.outcome.is_ok(), "{}: {:?}", shape.name, answer.outcome);
            return k - 1;
        }
        spy.heal();
        // What could not be undone at once is undone as soon as the store is back.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let note =
            format!("{} with call {k} of {calls:?} {act:?} x{times}: {:?}", shape.name, answer.outcome);
        check(&note, &stage, &before, answer.kind()).await;
    }
    unreachable!("no request makes 50 calls")
}

/// What holds after a request that met a single fault.
async fn one_working_session(
    shape: &Shape,
    note: &str,
    stage: &Stage,
    before: &Visitor,
    failed: Option<ErrorKind>,
) {
    let visitor = &stage.visitor;
    if visitor.ticket.is_none() {
        assert!(!shape.stored && failed.is_some(), "a session and no cookie: {note}");
        assert!(stage.sessions().await <= 1, "{note}");
        return;
    }
    let (n, keep) = stage.seen(visitor).await;
    assert_eq!(keep.as_deref(), Some("x"), "data is lost: {note}");
    let after = if shape.adds { 2 } else { 1 };
    match failed {
        None => assert_eq!(n, Some(after), "success was reported: {note}"),
        Some(_) => assert!(n == Some(1) || n == Some(after), "{n:?}: {note}"),
    }
    assert_eq!(stage.sessions().await, 1, "exactly one session: {note}");
    if shape.moves && failed.is_none() {
        assert_ne!(visitor.ticket, before.ticket, "success, and the id did not change: {note}");
    }
    if visitor.ticket != before.ticket && shape.stored {
        assert_eq!(stage.seen(before).await, (None, None), "the old id still works: {note}");
    }
    // The next request of this visitor works, and counts on.
    let mut visitor = visitor.clone();
    visitor.visit(&stage.engine, async |session| add(session)).await.outcome.expect(note);
    assert_eq!(stage.seen(&visitor).await.0, n.map(|n| n + 1), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_unapplied_leaves_one_working_session() {
    for shape in SHAPES {
        let mut hits = 0;
        for kind in KINDS {
            hits += sweep(shape, &Act::Fail(kind), 1, async |note, stage, before, failed| {
                one_working_session(shape, note, stage, before, failed).await;
            })
            .await;
        }
        assert!(hits >= KINDS.len(), "{} was never hit", shape.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_applied_and_whose_reply_is_lost_leaves_one_working_session() {
    for shape in SHAPES {
        for kind in LOST {
            sweep(shape, &Act::LoseReply(kind), 1, async |note, stage, before, failed| {
                one_working_session(shape, note, stage, before, failed).await;
                // Reading tells what became of a write, so none of them needs to fail. A `bind` cannot be read, and a
                // lost `get` is a failed load.
                let unreadable = note.contains("\"bind\"") || note.contains("call 1 of [\"get\"");
                assert!(failed.is_none() || unreadable, "{note}");
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_leaves_one_working_session() {
    for shape in SHAPES {
        for act in [Act::Hang, Act::HangApplied, Act::Late(1), Act::Late(2), Act::Late(3), Act::Late(4)] {
            sweep(shape, &act, 1, async |note, stage, before, failed| {
                one_working_session(shape, note, stage, before, failed).await;
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_together_with_the_next_ones_leaves_a_working_session() {
    for shape in SHAPES {
        for times in [2, 3, 4, 5, 6] {
            for act in [Act::Fail(ErrorKind::Unavailable), Act::Fail(ErrorKind::Rejected), Act::Hang] {
                sweep(shape, &act, times, async |note, stage, before, failed| {
                    one_working_session(shape, note, stage, before, failed).await;
                })
                .await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_of_a_request_leaves_a_working_session() {
    for shape in SHAPES {
        for act in [Act::Fail(ErrorKind::Unavailable), Act::Fail(ErrorKind::Rejected), Act::Hang] {
            sweep(shape, &act, 1000, async |note, stage, _, failed| {
                if stage.visitor.ticket.is_some() {
                    let (n, keep) = stage.seen(&stage.visitor).await;
                    assert_eq!(keep.as_deref(), Some("x"), "data is lost: {note}");
                    assert!(failed.is_some() || n == Some(if shape.adds { 2 } else { 1 }), "{note}");
                }
                assert!(stage.sessions().await <= 1, "{note}");
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_followed_by_an_outage_leaves_one_working_session() {
    for shape in SHAPES {
        for (k, outage) in (1..8).flat_map(|k| (1..12).map(move |outage| (k, outage))) {
            let mut stage = Stage::set(shape).await;
            let (engine, before) = (stage.engine.clone(), stage.visitor.clone());
            stage.spy.on_call(k, Act::LoseReply(ErrorKind::Timeout));
            stage.spy.on_calls(k + 1, outage, Act::Fail(ErrorKind::Unavailable));
            let answer = stage.visitor.visit(&engine, async |s| (shape.work)(s.clone()).await).await;
            let calls = stage.spy.take_calls();
            tokio::time::sleep(Duration::from_secs(60)).await;
            stage.spy.heal();
            let note = format!("{}: {k}, {outage} of {calls:?}: {:?}", shape.name, answer.outcome);
            one_working_session(shape, &note, &stage, &before, answer.kind()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_sends_no_cookie_and_says_when_to_come_back() {
    for shape in SHAPES {
        for k in 1..4 {
            let stage = Stage::set(shape).await;
            stage.spy.on_calls(k, 1000, Act::Fail(ErrorKind::Unavailable));
            let answer =
                stage.visitor.peek(&stage.engine, async |session| (shape.work)(session.clone()).await).await;
            if let Err(error) = answer.outcome {
                assert!(answer.cookies.is_empty(), "{}", shape.name);
                assert!(error.is_retryable(), "{}: {error}", shape.name);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_changes_nothing_whatever_the_handler_does_about_it() {
    for kind in KINDS {
        let stage = Stage::set(&SHAPES[0]).await;
        stage.spy.on("get", 1, Act::Fail(kind));
        let lazy = stage.visitor.begin(&stage.engine);
        assert_eq!(lazy.load().await.unwrap_err().kind(), kind);
        // The handler answers all the same.
        assert!(stage.engine.finish(&lazy, http::StatusCode::OK).is_none());
        assert_eq!(stage.spy.take_calls(), ["get"]);
        assert_eq!(stage.seen(&stage.visitor).await, (Some(1), Some("x".into())));
        // A second try of the same request loads.
        let lazy = stage.visitor.begin(&stage.engine);
        stage.spy.on("get", 1, Act::Fail(kind));
        assert!(lazy.load().await.is_err());
        let session = lazy.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_a_timeout_at_the_deadline() {
    let spy = Spy::new();
    let engine = Engine::builder(spy.clone()).operation_timeout(Duration::from_millis(700)).build().unwrap();
    spy.on_calls(1, 1000, Act::Hang);
    let start = tokio::time::Instant::now();
    let error = Visitor::with(&"a".repeat(43)).begin(&engine).load().await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Timeout, Duration::from_millis(700)));
    assert!(error.to_string().contains("get") && error.to_string().contains("700ms"), "{error}");
    let start = tokio::time::Instant::now();
    let answer = Visitor::new().visit(&engine, async |session| session.insert("n", 1)).await;
    assert_eq!(answer.kind(), Some(ErrorKind::Timeout));
    assert!(start.elapsed() <= Duration::from_millis(1400), "the write and the read that was to settle it");
}

#[tokio::test(start_paused = true)]
async fn a_failed_save_is_made_up_for_at_the_end_of_the_request() {
    for act in [
        Act::Fail(ErrorKind::Unavailable),
        Act::Fail(ErrorKind::Rejected),
        Act::LoseReply(ErrorKind::Timeout),
        Act::Hang,
        Act::HangApplied,
    ] {
        for times in 1..4 {
            let mut stage = Stage::set(&SHAPES[0]).await;
            let spy = stage.spy.clone();
            let answer = stage
                .visitor
                .visit(&stage.engine, async |session| {
                    add(session)?;
                    spy.on_calls(1, times, act.clone());
                    let saved = session.save().await;
                    spy.heal();
                    session.insert("after", true)?;
                    add(session)?;
                    Ok(saved.is_ok())
                })
                .await;
            let note = format!("{act:?} x{times}: {:?}", answer.outcome);
            answer.outcome.unwrap();
            assert_eq!(stage.seen(&stage.visitor).await, (Some(3), Some("x".into())), "{note}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_update_now_is_taken_back_and_the_next_number_is_the_next() {
    for act in
        [Act::Fail(ErrorKind::Rejected), Act::Fail(ErrorKind::Unavailable), Act::Fail(ErrorKind::TooLarge)]
    {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let spy = stage.spy.clone();
        let answer = stage
            .visitor
            .visit(&stage.engine, async |session| {
                let next = |n: Option<u64>| n.unwrap_or(0) + 1;
                spy.on_calls(1, 1000, act.clone());
                let first = session.update_now("n", next).await;
                spy.heal();
                assert!(first.is_err());
                assert_eq!(session.get::<u64>("n")?, Some(1), "taken back");
                session.update_now("n", next).await
            })
            .await;
        assert_eq!(answer.outcome.unwrap(), 2, "{act:?}");
        assert_eq!(stage.seen(&stage.visitor).await.0, Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_fails_leaves_the_session_and_one_that_succeeds_leaves_none() {
    for k in 1..6 {
        let mut acts: Vec<Act> = KINDS.map(Act::Fail).into();
        acts.extend(LOST.map(Act::LoseReply));
        acts.extend([Act::Hang, Act::HangApplied, Act::Late(1), Act::Late(2)]);
        for act in acts {
            for times in [1, 2, 100] {
                let mut stage = Stage::set(&SHAPES[0]).await;
                let before = stage.visitor.clone();
                stage.spy.on_calls(k, times, act.clone());
                let engine = stage.engine.clone();
                let answer = stage.visitor.visit(&engine, async |session| session.destroy().await).await;
                stage.spy.heal();
                let note = format!("{act:?} x{times} at {k}: {:?}", answer.outcome);
                let (n, keep) = stage.seen(&before).await;
                if answer.outcome.is_ok() {
                    assert_eq!((n, keep, stage.sessions().await), (None, None, 0), "{note}");
                    assert_eq!(stage.visitor.ticket, None, "{note}");
                } else {
                    assert_eq!(stage.visitor.ticket, before.ticket, "{note}");
                    assert!(n == keep.map(|_| 1), "{note}");
                    // Once more, and it is done.
                    stage
                        .visitor
                        .visit(&engine, async |session| session.destroy().await)
                        .await
                        .outcome
                        .unwrap();
                    assert_eq!(stage.sessions().await, 0, "{note}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_after_a_save_whose_outcome_is_unknown_leaves_no_record() {
    for act in [Act::HangApplied, Act::LoseReply(ErrorKind::Timeout)] {
        for shape in SHAPES.iter().filter(|shape| !shape.due) {
            let mut stage = Stage::set(shape).await;
            let (engine, spy) = (stage.engine.clone(), stage.spy.clone());
            let answer = stage
                .visitor
                .visit(&engine, async |session| {
                    (shape.work)(session.clone()).await?;
                    spy.on_calls(1, 2, act.clone());
                    let _ = session.save().await;
                    spy.heal();
                    session.destroy().await
                })
                .await;
            assert!(answer.outcome.is_ok(), "{}: {:?}", shape.name, answer.outcome);
            assert_eq!(stage.records().await, Vec::<String>::new(), "{}", shape.name);
            assert!(stage.visitor.ticket.is_none(), "{}", shape.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_does_not_fail_the_response_and_one_whose_reply_is_lost_sends_its_cookie() {
    let due = SHAPES.iter().find(|shape| shape.name == "read, due").unwrap();
    for (act, cookies) in [
        (Act::Fail(ErrorKind::Unavailable), 0),
        (Act::Fail(ErrorKind::Rejected), 0),
        (Act::Hang, 0),
        (Act::LoseReply(ErrorKind::Timeout), 1),
    ] {
        let mut stage = Stage::set(due).await;
        let engine = stage.engine.clone();
        stage.spy.on("replace", 1, act.clone());
        let answer = stage.visitor.visit(&engine, async |_| Ok::<_, Error>(())).await;
        assert!(answer.outcome.is_ok(), "{act:?}");
        assert_eq!(answer.cookies.len(), cookies, "{act:?}");
        // Else the cookie would end before the record says so.
        let again = stage.visitor.visit(&engine, async |_| Ok::<_, Error>(())).await;
        assert_eq!(again.cookies.len(), 1 - cookies, "{act:?}");
    }
}
