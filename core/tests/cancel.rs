//! Futures dropped at every point, of whole requests and of single saves: before or after, never between.
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use cloakroom_core::{ErrorKind, Result, Session};
use futures_util::future::BoxFuture;
use http::StatusCode;
use support::{
    shape::{SHAPES, Shape, Stage, Work, add, add_now},
    spy::Act,
    visitor::{cookies, finish},
};

/// Polls `future` at most `times` times, and drops it.
async fn poll_at_most<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

/// The whole of a request: load, handle, finish.
async fn request(stage: &Stage, work: Work) -> Result<Vec<String>> {
    let lazy = stage.visitor.begin(&stage.engine);
    work(lazy.load().await?).await?;
    Ok(cookies(&finish(&stage.engine, &lazy, StatusCode::OK).await?))
}

/// Lets what goes on without us end.
async fn settle(stage: &Stage) {
    stage.engine.shutdown(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_at_any_point_leaves_the_session_before_or_after() {
    for shape in SHAPES {
        let mut whole = false;
        for times in 0..200 {
            let stage = Stage::set(shape).await;
            stage.spy.yields(true);
            let ended = poll_at_most(request(&stage, shape.work), times).await;
            settle(&stage).await;
            stage.spy.yields(false);
            let note = format!("{} dropped after {times} polls", shape.name);
            let records = stage.records().await;
            if let Some(outcome) = ended {
                assert_eq!(
                    outcome.unwrap().len(),
                    usize::from(!shape.stored || shape.moves || shape.due),
                    "{note}"
                );
                whole = true;
                break;
            }
            if !shape.stored {
                assert!(records.len() <= 1, "{note}");
                continue;
            }
            assert_eq!(records.len(), 1, "{note}: {records:?}");
            assert!(records[0].contains(r#""keep":"x""#), "{note}: {records:?}");
            let after = if shape.adds { 2 } else { 1 };
            assert!(
                records[0].contains(r#""n":1"#) || records[0].contains(&format!(r#""n":{after}"#)),
                "{note}: {records:?}"
            );
            // The next request of the same browser: with its session, or, once that has moved, as nobody.
            let (n, keep) = stage.seen(&stage.visitor).await;
            assert_eq!(n.is_some(), keep.is_some(), "{note}");
            if keep.is_some() {
                let mut visitor = stage.visitor.clone();
                visitor.visit(&stage.engine, async |session| add(session)).await.outcome.unwrap();
                assert_eq!(stage.seen(&visitor).await.0, n.map(|n| n + 1), "{note}");
            } else {
                assert!(shape.moves, "{note}");
            }
        }
        assert!(whole, "{} never ends", shape.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_has_begun_goes_on_without_its_client() {
    let mut begun = 0;
    for times in 0..50 {
        let stage = Stage::set(&SHAPES[0]).await;
        stage.spy.yields(true);
        let work: Work = |s| Box::pin(async move { s.destroy().await });
        let ended = poll_at_most(request(&stage, work), times).await.is_some();
        settle(&stage).await;
        let removed = stage.spy.take_calls().contains(&"remove");
        assert_eq!(stage.sessions().await, usize::from(!removed), "after {times} polls");
        begun += usize::from(removed && !ended);
        if ended {
            break;
        }
    }
    assert!(begun > 0, "never dropped between begin and end");
}

/// What a handler goes on to do after its save was dropped, with what it adds to `n` and whether the id changes.
const AFTER: &[(&str, Work, u64, bool)] = &[
    ("nothing", |_| Box::pin(async { Ok(()) }), 0, false),
    ("insert", |s| Box::pin(async move { s.insert("other", 1) }), 0, false),
    ("update", |s| Box::pin(async move { add(&s) }), 1, false),
    ("update_now", |s| Box::pin(add_now(s)), 1, false),
    ("save", |s| Box::pin(async move { s.save().await }), 0, false),
    ("save twice", save_twice, 1, false),
    ("cycle_id", |s| Box::pin(async move { s.cycle_id().await.map(|_| ()) }), 0, true),
    ("cycle_id and update", cycle_and_add, 1, true),
    ("cycle_id, saved", cycle_and_save, 1, true),
    ("bind", |s| Box::pin(async move { s.bind_user("alice") }), 0, false),
    ("ttl", |s| Box::pin(async move { s.set_ttl(Duration::from_secs(99)) }), 0, false),
];

fn save_twice(s: Session) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        s.save().await?;
        add(&s)?;
        s.save().await
    })
}

fn cycle_and_add(s: Session) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        s.cycle_id().await?;
        add(&s)
    })
}

fn cycle_and_save(s: Session) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let id = s.cycle_id().await?;
        add(&s)?;
        s.save().await?;
        assert_eq!(s.id(), Some(id));
        Ok(())
    })
}

/// Adds 1 to `n`, drops the save after `times` polls or lets the store keep it waiting, goes on, and checks.
async fn dropped_save(
    shape: &Shape,
    name: &str,
    after: Work,
    adds: u64,
    moves: bool,
    times: usize,
    act: Option<Act>,
) -> bool {
    let mut stage = Stage::set(shape).await;
    let (engine, spy) = (stage.engine.clone(), stage.spy.clone());
    let before = stage.visitor.clone();
    let ended = std::cell::Cell::new(false);
    let note = format!("{} {name} after {times} polls, {act:?}", shape.name);
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            session.insert("keep", "x")?;
            add(session)?;
            spy.yields(act.is_none());
            if let Some(act) = &act {
                spy.on(if shape.stored { "replace" } else { "create" }, 1, act.clone());
            }
            ended.set(poll_at_most(session.save(), times).await.is_some());
            spy.yields(false);
            after(session.clone()).await
        })
        .await;
    let late = matches!(act, Some(Act::Late(_)));
    if late && answer.outcome.is_err() {
        // A create that turns up after a second one under the same id was answered: an error is all that can be said.
        assert!(!shape.stored, "{note}: {:?}", answer.outcome);
        assert!(answer.cookies.is_empty(), "{note}");
        return ended.get();
    }
    answer.outcome.unwrap_or_else(|error| panic!("{note}: {error}"));
    settle(&stage).await;
    let one = if shape.stored { 2 } else { 1 };
    assert_eq!(stage.seen(&stage.visitor).await, (Some(one + adds), Some("x".into())), "{note}");
    assert_eq!(stage.sessions().await, 1, "{note}: {:?}", stage.records().await);
    if moves && shape.stored {
        assert_ne!(stage.visitor.ticket, before.ticket, "the promised id is not the one: {note}");
        assert_eq!(stage.seen(&before).await, (None, None), "{note}");
    }
    ended.get()
}

const NEW: Shape = Shape { stored: false, ..SHAPES[0] };

#[tokio::test(start_paused = true)]
async fn a_save_dropped_in_flight_doubles_nothing_and_loses_nothing_whatever_comes_after_it() {
    for shape in [&SHAPES[0], &NEW] {
        for &(name, after, adds, moves) in AFTER {
            let mut times = 0;
            while !dropped_save(shape, name, after, adds, moves, times, None).await {
                times += 1;
                assert!(times < 50);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_save_that_is_applied_at_once_or_late_is_known_again() {
    for shape in [&SHAPES[0], &NEW] {
        for &(name, after, adds, moves) in AFTER {
            for act in [Act::Hang, Act::HangApplied, Act::Late(1), Act::Late(2), Act::Late(3), Act::Late(4)] {
                dropped_save(shape, name, after, adds, moves, 3, Some(act)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_now_that_timed_out_and_was_applied_does_not_undo_a_login() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, spy, before) = (stage.engine.clone(), stage.spy.clone(), stage.visitor.clone());
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            // Applied, but neither the reply nor the read that would settle it comes back.
            spy.on("replace", 1, Act::LoseReply(ErrorKind::Timeout));
            spy.on("get", 1, Act::Fail(ErrorKind::Unavailable));
            assert!(add_now(session.clone()).await.is_err());
            session.cycle_id().await
        })
        .await;
    let promised = answer.outcome.unwrap();
    assert_eq!(stage.visitor.ticket(), promised.expose(), "the login's new id");
    assert_eq!(stage.seen(&before).await, (None, None));
    assert_eq!(stage.seen(&stage.visitor).await, (Some(2), Some("x".into())));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_is_refused_after_one_that_was_lost_does_not_hide_it() {
    // The first write is still on its way when a second is refused outright; then the first arrives.
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, spy) = (stage.engine.clone(), stage.spy.clone());
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            add(session)?;
            spy.on("replace", 1, Act::Late(3));
            spy.on("replace", 2, Act::Fail(ErrorKind::Rejected));
            assert!(session.save().await.is_err());
            session.insert("after", true)
        })
        .await;
    answer.outcome.unwrap();
    assert_eq!(stage.seen(&stage.visitor).await, (Some(2), Some("x".into())), "added once, not twice");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_fails_does_not_forget_an_earlier_write_that_is_still_on_its_way() {
    for late in 1..8 {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let (engine, spy) = (stage.engine.clone(), stage.spy.clone());
        let answer = stage
            .visitor
            .visit(&engine, async |session| {
                add(session)?;
                spy.on("replace", 1, Act::Late(late));
                poll_at_most(session.save(), 1).await;
                session.cycle_id().await?;
                spy.on("create", 1, Act::Fail(ErrorKind::Rejected));
                assert!(session.save().await.is_err());
                session.save().await
            })
            .await;
        assert!(answer.outcome.is_ok(), "{late}: {:?}", answer.outcome);
        assert_eq!(stage.seen(&stage.visitor).await, (Some(2), Some("x".into())), "late by {late}");
        assert_eq!(stage.sessions().await, 1);
    }
}
