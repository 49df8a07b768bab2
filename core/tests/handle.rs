//! One state behind every clone of a session: what clones see of each other, during a commit, and after the response.
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cloakroom_core::{
    Engine, Error, ErrorKind, Expiry, IndexedStore, LazySession, Result, Save, Session, Store,
};
use http::StatusCode;
use support::{
    Clock,
    shape::{SHAPES, Stage, add, add_now},
    spy::{Act, Spy, meanwhile},
    visitor::{Visitor, cookies, finish},
};

fn next(n: Option<u64>) -> u64 {
    n.unwrap_or(0) + 1
}

async fn stage() -> Stage {
    Stage::set(&SHAPES[0]).await
}

async fn loaded(stage: &Stage) -> (LazySession, Session) {
    let lazy = stage.visitor.begin(&stage.engine);
    let session = lazy.load().await.unwrap();
    (lazy, session)
}

async fn end(stage: &Stage, lazy: &LazySession) -> Vec<String> {
    cookies(&finish(&stage.engine, lazy, StatusCode::OK).await.unwrap())
}

#[tokio::test]
async fn clones_share_one_state() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    let (other, again) = (session.clone(), lazy.load().await.unwrap());
    session.insert("a", 1).unwrap();
    assert_eq!(other.get::<u8>("a").unwrap(), Some(1));
    assert_eq!(again.update("a", next).unwrap(), 2);
    assert_eq!(session.take::<u8>("a").unwrap(), Some(2));
    assert!(!other.contains("a"));
    other.set_save(Save::Never);
    end(&stage, &lazy).await;
    assert_eq!(stage.spy.take_calls(), ["get"]);
}

#[tokio::test]
async fn after_the_response_every_write_says_that_it_comes_too_late() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    let data = cloakroom_core::Data::<Visit>::of(session.clone()).unwrap();
    end(&stage, &lazy).await;
    let late: Vec<Result<()>> = vec![
        session.insert("a", 1),
        session.remove("n").map(|_| ()),
        session.clear(),
        session.take::<u64>("n").map(|_| ()),
        session.update("n", next).map(|_| ()),
        session.set_ttl(Duration::from_secs(1)),
        session.bind_user("alice"),
        session.cycle_id().await.map(|_| ()),
        session.regenerate().await.map(|_| ()),
        data.update(|visit| visit.n += 1),
        data.write().map(|_| ()),
    ];
    for outcome in late {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Committed);
    }
    session.save().await.unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(1), "reading goes on");
    assert_eq!(stage.spy.take_calls(), ["get"]);
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visit {
    n: u64,
}

#[tokio::test]
async fn after_the_response_update_now_and_destroy_still_act() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    end(&stage, &lazy).await;
    assert_eq!(session.update_now("n", next).await.unwrap(), 2);
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(2));
    session.destroy().await.unwrap();
    assert_eq!(stage.sessions().await, 0);
    // What would need a cookie comes too late.
    assert_eq!(session.update_now("n", next).await.unwrap_err().kind(), ErrorKind::Committed);
    assert_eq!(stage.sessions().await, 0);
}

#[tokio::test]
async fn after_the_response_a_new_session_that_was_stored_can_be_updated_and_one_that_was_not_cannot() {
    for (stored, expected) in [(true, Ok(2)), (false, Err(ErrorKind::Committed))] {
        let mut stage = stage().await;
        stage.visitor = Visitor::new();
        let (lazy, session) = loaded(&stage).await;
        if stored {
            session.insert("n", 1).unwrap();
        }
        assert_eq!(end(&stage, &lazy).await.len(), usize::from(stored));
        assert_eq!(session.update_now("n", next).await.map_err(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn an_update_after_the_response_does_not_renew_since_the_cookie_cannot_be_sent() {
    let (spy, clock) = (Spy::new(), Clock::new());
    let expiry = Expiry::idle(Duration::from_secs(100));
    let engine = Engine::builder(spy.clone()).expiry(expiry).clock(clock.reader()).build().unwrap();
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |session| session.insert("n", 1)).await;
    let lazy = visitor.begin(&engine);
    let session = lazy.load().await.unwrap();
    finish(&engine, &lazy, StatusCode::OK).await.unwrap();
    clock.advance(Duration::from_secs(60));
    session.update_now("n", next).await.unwrap();
    // Had it renewed, the browser's cookie would end at 100 s and no request before 110 s would send another.
    assert_eq!(visitor.visit(&engine, async |_| Ok::<_, Error>(())).await.cookies.len(), 1);
}

#[tokio::test]
async fn a_response_that_is_committed_while_an_update_runs_refuses_the_update() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    session.insert("a", 1).unwrap();
    let (engine, inside) = (stage.engine.clone(), lazy.clone());
    let commit = Arc::new(parking_lot::Mutex::new(None));
    let made = Arc::clone(&commit);
    let outcome = session.update("n", move |n: Option<u64>| {
        *made.lock() = engine.finish(&inside, StatusCode::OK);
        next(n)
    });
    let commit = commit.lock().take().unwrap();
    commit.await.unwrap();
    // Either it is stored or it is refused: never dropped in silence.
    let stored = stage.seen(&stage.visitor).await.0;
    assert_eq!((outcome.map_err(|error| error.kind()), stored), (Err(ErrorKind::Committed), Some(1)));
}

#[tokio::test]
async fn what_a_clone_writes_while_a_save_is_under_way_is_saved_by_the_next() {
    let writes: &[fn(&Session) -> Result<()>] = &[
        |s| s.insert("late", 1),
        |s| s.bind_user("alice"),
        |s| s.set_ttl(Duration::from_secs(9)),
        |s| s.remove("keep").map(|_| ()),
        |s| add(s),
    ];
    for (at, write) in writes.iter().copied().enumerate() {
        for new in [false, true] {
            let mut stage = stage().await;
            if new {
                stage.visitor = Visitor::new();
            }
            let (spy, store) = (stage.spy.clone(), stage.spy.store());
            let answer = stage
                .visitor
                .visit(&stage.engine.clone(), async |session| {
                    session.insert("first", 1)?;
                    let clone = session.clone();
                    let late = meanwhile(move || {
                        let clone = clone.clone();
                        async move { write(&clone).unwrap() }
                    });
                    spy.on(if new { "create" } else { "replace" }, 1, Act::Before(late));
                    session.save().await
                })
                .await;
            answer.outcome.unwrap();
            assert!(!spy.is_armed());
            let seen = stage
                .visitor
                .peek(&stage.engine, async |s| {
                    let left = s.expires_at().duration_since(s.created_at()).unwrap();
                    assert_eq!(s.get::<u8>("first")?, Some(1));
                    Ok((s.contains("late"), s.user(), left.as_secs(), s.contains("keep"), s.get::<u64>("n")?))
                })
                .await
                .outcome
                .unwrap();
            match at {
                0 => assert!(seen.0, "insert"),
                1 => {
                    assert_eq!(seen.1.as_deref(), Some("alice"), "bind");
                    assert_eq!(store.keys_of("alice").await.unwrap(), [stage.visitor.key()]);
                }
                2 => {
                    assert_eq!(seen.2, 9, "ttl");
                    assert!(answer.cookies[0].contains("Max-Age=9"), "{:?}", answer.cookies);
                }
                3 => assert!(!seen.3, "remove"),
                _ => assert_eq!(seen.4, Some(if new { 1 } else { 2 }), "update"),
            }
        }
    }
}

#[tokio::test]
async fn a_new_id_asked_for_while_a_save_is_under_way_is_the_one_that_counts() {
    for regenerate in [false, true] {
        for first in ["insert", "create", "cycle"] {
            let mut stage = stage().await;
            let before = stage.visitor.clone();
            if first == "create" {
                stage.visitor = Visitor::new();
            }
            let spy = stage.spy.clone();
            let answer = stage
                .visitor
                .visit(&stage.engine.clone(), async |session| {
                    session.insert("first", 1)?;
                    session.bind_user("alice")?;
                    if first == "cycle" {
                        session.cycle_id().await?;
                    }
                    let promised = Arc::new(parking_lot::Mutex::new(None));
                    let (clone, note) = (session.clone(), Arc::clone(&promised));
                    let late = meanwhile(move || {
                        let (clone, note) = (clone.clone(), Arc::clone(&note));
                        async move {
                            let id =
                                if regenerate { clone.regenerate().await } else { clone.cycle_id().await };
                            clone.insert("second", 1).unwrap();
                            *note.lock() = Some(id.unwrap());
                        }
                    });
                    spy.on(if first == "insert" { "replace" } else { "create" }, 1, Act::After(late));
                    session.save().await?;
                    let promised = promised.lock().clone().unwrap();
                    assert_eq!(session.id(), Some(promised.clone()));
                    Ok(promised)
                })
                .await;
            let promised = answer.outcome.unwrap();
            let note = format!("{first}, regenerate: {regenerate}");
            assert_eq!(stage.visitor.ticket(), promised.expose(), "{note}");
            let seen =
                stage.visitor.peek(&stage.engine, async |s| Ok((s.keys(), s.user()))).await.outcome.unwrap();
            assert!(seen.0.contains(&"second".into()), "{note}: {seen:?}");
            assert_eq!(seen.0.contains(&"first".into()), !regenerate, "{note}: {seen:?}");
            assert_eq!(seen.1.is_some(), !regenerate, "the user is dropped with the data: {note}");
            if first != "create" {
                assert_eq!(stage.seen(&before).await, (None, None), "{note}");
            }
        }
    }
}

#[tokio::test]
async fn an_id_settled_on_while_the_first_save_is_under_way_is_the_one_that_counts() {
    let spy = Spy::new();
    let engine = Engine::builder(spy.clone()).build().unwrap();
    let mut visitor = Visitor::new();
    let answer = visitor
        .visit(&engine, async |session| {
            session.insert("n", 1)?;
            let clone = session.clone();
            let promised = Arc::new(parking_lot::Mutex::new(None));
            let note = Arc::clone(&promised);
            spy.on(
                "create",
                1,
                Act::Before(meanwhile(move || {
                    let (clone, note) = (clone.clone(), Arc::clone(&note));
                    async move { *note.lock() = Some(clone.ensure_id().await.unwrap()) }
                })),
            );
            session.save().await?;
            let promised = promised.lock().clone().unwrap();
            Ok(promised)
        })
        .await;
    assert_eq!(answer.outcome.unwrap().expose(), visitor.ticket());
}

#[tokio::test]
async fn of_two_clones_that_save_a_session_that_is_gone_both_hear_of_it() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    let other = session.clone();
    stage.visitor.peek(&stage.engine, async |s| s.destroy().await).await.outcome.unwrap();
    let (one, two) = tokio::join!(session.update_now("n", next), async { other.update_now("n", next).await });
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(two.unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(end(&stage, &lazy).await.len(), 0);
}

#[tokio::test]
async fn two_clones_that_update_now_at_once_get_two_numbers() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    stage.spy.yields(true);
    let calls = (0..8).map(|_| session.update_now("n", next));
    let mut numbers: Vec<u64> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=9).collect::<Vec<_>>());
    end(&stage, &lazy).await;
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(9));
}

#[tokio::test]
async fn update_now_under_save_never_hands_out_no_number() {
    let mut stage = stage().await;
    let engine = stage.engine.clone();
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            session.set_save(Save::Never);
            session.update_now("n", next).await
        })
        .await;
    assert_eq!(answer.kind(), Some(ErrorKind::WritesRefused));
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1));
}

#[tokio::test]
async fn a_clone_in_a_task_that_outlives_the_response_is_never_half_in() {
    for rounds in 0..40 {
        let stage = stage().await;
        stage.spy.yields(true);
        let (lazy, session) = loaded(&stage).await;
        session.insert("a", 1).unwrap();
        let clone = session.clone();
        let task = tokio::spawn(async move {
            for _ in 0..rounds % 8 {
                tokio::task::yield_now().await;
            }
            let written = clone.insert("late", 1);
            let counted = add_now(clone.clone()).await;
            (written, counted)
        });
        let commit = stage.engine.finish(&lazy, StatusCode::OK).unwrap();
        for _ in 0..rounds / 8 {
            tokio::task::yield_now().await;
        }
        commit.await.unwrap();
        let (written, counted) = task.await.unwrap();
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Committed);
        counted.unwrap();
        let seen = stage.visitor.peek(&stage.engine, async |s| Ok((s.keys(), s.get::<u64>("n")?))).await;
        assert_eq!(seen.outcome.unwrap(), (vec!["keep".into(), "n".into(), "a".into()], Some(2)));
    }
}

#[tokio::test]
async fn a_closure_runs_again_on_what_others_stored_and_update_now_returns_what_it_made_of_it() {
    let mut stage = stage().await;
    let (engine, spy, other) = (stage.engine.clone(), stage.spy.clone(), stage.visitor.clone());
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let quiet = Engine::builder(stage.spy.store()).build().unwrap();
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            let others = meanwhile(move || {
                let (quiet, other) = (quiet.clone(), other.clone());
                async move { other.peek(&quiet, async |s| s.insert("n", 41)).await.outcome.unwrap() }
            });
            spy.on("replace", 1, Act::Before(others));
            session
                .update_now("n", move |n: Option<u64>| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    n.unwrap_or(0) + 1
                })
                .await
        })
        .await;
    assert_eq!((answer.outcome.unwrap(), runs.load(Ordering::SeqCst)), (42, 2));
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(42));
}

#[tokio::test]
async fn a_closure_that_panics_where_it_is_called_leaves_the_session_usable() {
    let stage = stage().await;
    let (lazy, session) = loaded(&stage).await;
    let clone = session.clone();
    let task =
        tokio::spawn(async move { clone.update("n", |_: Option<u64>| -> u64 { panic!("in the closure") }) });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(session.update("n", next).unwrap(), 2);
    end(&stage, &lazy).await;
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(2));
}

#[tokio::test]
async fn a_closure_that_panics_when_it_runs_again_is_an_error_and_stores_nothing() {
    let mut stage = stage().await;
    let (engine, spy, other) = (stage.engine.clone(), stage.spy.clone(), stage.visitor.clone());
    let quiet = Engine::builder(stage.spy.store()).build().unwrap();
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            let others = meanwhile(move || {
                let (quiet, other) = (quiet.clone(), other.clone());
                async move { other.peek(&quiet, async |s| s.insert("n", 41)).await.outcome.unwrap() }
            });
            spy.on("replace", 1, Act::Before(others));
            session.update("n", |n: Option<u64>| {
                assert_ne!(n, Some(41), "not this one");
                n.unwrap_or(0) + 1
            })
        })
        .await;
    assert_eq!(answer.kind(), Some(ErrorKind::Value));
    assert_eq!(stage.seen(&stage.visitor).await, (Some(41), Some("x".into())));
}

#[tokio::test]
async fn reload_drops_changes_shows_what_is_stored_and_ends_with_the_session() {
    let (spy, clock) = (Spy::new(), Clock::new());
    let expiry = Expiry::idle(Duration::from_secs(100)).absolute(Duration::from_secs(150));
    let engine = Engine::builder(spy.clone()).expiry(expiry).clock(clock.reader()).build().unwrap();
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |session| session.insert("n", 1)).await;
    let lazy = visitor.begin(&engine);
    let session = lazy.load().await.unwrap();
    session.insert("n", 7).unwrap();
    visitor.peek(&engine, async |s| s.insert("other", 1)).await.outcome.unwrap();
    session.reload().await.unwrap();
    assert_eq!((session.get::<u64>("n").unwrap(), session.contains("other")), (Some(1), true));
    clock.advance(Duration::from_secs(151));
    assert_eq!(session.reload().await.unwrap_err().kind(), ErrorKind::Gone, "its absolute end has passed");
    assert_eq!(session.insert("n", 8).unwrap_err().kind(), ErrorKind::Gone);
    assert!(session.is_empty() && session.is_new());
    assert!(cookies(&finish(&engine, &lazy, StatusCode::OK).await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_new_session_reloads_as_an_empty_one() {
    let stage = stage().await;
    let session = Visitor::new().begin(&stage.engine).load().await.unwrap();
    session.insert("n", 1).unwrap();
    session.reload().await.unwrap();
    assert!(session.is_empty() && session.is_new());
    assert!(stage.spy.get(&stage.visitor.key()).await.unwrap().is_some());
}
