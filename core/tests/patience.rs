//! How long a session tries: writes that clones keep overtaking end, and explicit saves that cannot be say so.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cloakroom_core::{Data, ErrorKind, Save, Session};
use support::{
    shape::{SHAPES, Stage, add},
    visitor::Visitor,
};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visit {
    n: u64,
}

/// A closure of the user's that writes through a clone of the session each time it runs, and counts its runs.
fn meddler(session: &Session, runs: &Arc<AtomicU64>) -> impl Fn() + Send + 'static {
    let (session, runs) = (session.clone(), Arc::clone(runs));
    move || {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        session.insert("n", 1000 + run).unwrap();
    }
}

#[tokio::test]
async fn an_update_that_clones_keep_overtaking_ends_in_contention() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, runs) = (stage.engine.clone(), Arc::new(AtomicU64::new(0)));
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            let meddle = meddler(session, &runs);
            session.update("n", move |n: Option<u64>| {
                meddle();
                n.unwrap_or(0) + 1
            })
        })
        .await;
    assert_eq!(answer.kind(), Some(ErrorKind::Contention));
    assert_eq!(runs.load(Ordering::SeqCst), 16);
    // What the clone wrote is no part of the failure.
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1015));
}

#[tokio::test]
async fn a_struct_that_clones_keep_overtaking_ends_in_contention() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, runs) = (stage.engine.clone(), Arc::new(AtomicU64::new(0)));
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            let meddle = meddler(session, &runs);
            Data::<Visit>::of(session.clone())?.update(move |visit| {
                meddle();
                visit.n += 1;
            })
        })
        .await;
    assert_eq!(answer.kind(), Some(ErrorKind::Contention));
    assert_eq!(runs.load(Ordering::SeqCst), 16);
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1015));
}

#[tokio::test]
async fn a_view_that_clones_keep_changing_while_it_is_made_anew_ends_in_contention_and_loses_nothing() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, runs) = (stage.engine.clone(), Arc::new(AtomicU64::new(0)));
    let mut rival = stage.visitor.clone();
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            // The first commit stores `other`; its update runs again when the view is made anew.
            let (clone, seen) = (session.clone(), Arc::clone(&runs));
            session.update("late", move |n: Option<u64>| {
                let run = seen.fetch_add(1, Ordering::SeqCst);
                // Not in the handler, nor in the replay before the store is asked: in those of the view.
                if run > 1 {
                    clone.insert("clone", run).unwrap();
                }
                n.unwrap_or(0) + 1
            })?;
            rival.visit(&engine, async |s| s.insert("rival", 1)).await.outcome?;
            let clone = session.clone();
            // Stored meanwhile, so that the view has to be made anew; what the clone writes then is in the log.
            session.update("n", move |n: Option<u64>| {
                clone.insert("noise", 1).unwrap();
                n.unwrap_or(0)
            })?;
            session.save().await
        })
        .await;
    let stored =
        stage.visitor.peek(&engine, async |s| Ok((s.contains("rival"), s.get::<u64>("late")?))).await;
    let (rival, late) = stored.outcome.unwrap();
    // Whatever became of the view: the rival's change is there, and ours was made once.
    assert!(rival, "{:?}", answer.outcome);
    assert_eq!(late, Some(1), "{:?}", answer.outcome);
}

#[tokio::test]
async fn an_explicit_save_of_changes_under_save_never_is_refused_and_nothing_is_stored() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let answer = stage
        .visitor
        .visit(&engine, async |session| {
            session.set_save(Save::Never);
            session.save().await?;
            add(session)?;
            session.save().await
        })
        .await;
    assert_eq!(answer.kind(), Some(ErrorKind::WritesRefused), "the first one had nothing to save");
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1));
    assert!(!stage.spy.take_calls().contains(&"replace"));
    // Allowed again, it is saved.
    let allowed = async |session: &Session| {
        session.set_save(Save::Never);
        add(session)?;
        assert!(session.save().await.is_err());
        session.set_save(Save::IfChanged);
        session.save().await
    };
    stage.visitor.visit(&engine, allowed).await.outcome.unwrap();
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(2));
}

#[tokio::test]
async fn a_new_session_under_save_never_is_refused_alike() {
    let stage = Stage::set(&SHAPES[0]).await;
    let answer = Visitor::new()
        .visit(&stage.engine, async |session| {
            session.insert("a", 1)?;
            session.set_save(Save::Never);
            session.save().await
        })
        .await;
    assert_eq!((answer.kind(), answer.cookies.len()), (Some(ErrorKind::WritesRefused), 0));
}
