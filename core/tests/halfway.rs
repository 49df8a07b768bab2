//! A move to a new id that stops half-way, because the store goes away in the middle: the old session works again.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_core::{ErrorKind, Result, Session};
use support::{
    shape::{SHAPES, Stage, add},
    spy::Act,
};

async fn login(s: &Session) -> Result<()> {
    s.cycle_id().await?;
    s.set_ttl(Duration::from_secs(30 * 86_400))?;
    add(s)
}

#[tokio::test(start_paused = true)]
async fn a_login_whose_last_reply_is_lost_in_an_outage_is_undone_when_the_store_is_back() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Rejected, ErrorKind::Backend] {
        for outage in 0..15 {
            let mut stage = Stage::set(&SHAPES[0]).await;
            let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
            stage.spy.on("replace", 1, Act::LoseReply(ErrorKind::Timeout));
            // After load, create and the swap whose reply is lost.
            if outage > 0 {
                stage.spy.on_calls(4, outage, Act::Fail(kind));
            }
            let answer = stage.visitor.visit(&engine, async |s| login(s).await).await;
            let note = format!("{kind:?} for {outage} calls: {:?}", answer.outcome);
            tokio::time::sleep(Duration::from_secs(40)).await;
            engine.shutdown(Duration::from_secs(1)).await.expect("nothing is left to do");
            let n = if outage == 0 { 2 } else { 1 };
            assert_eq!(answer.outcome.is_ok(), outage == 0, "{note}");
            assert_eq!(stage.visitor.ticket == old.ticket, outage > 0, "{note}");
            assert_eq!(stage.seen(&stage.visitor).await, (Some(n), Some("x".into())), "{note}");
            assert_eq!(stage.sessions().await, 1, "{note}: {:?}", stage.records().await);
            // The old session's end is its own, not that of the login which did not happen.
            if outage > 0 {
                tokio::time::advance(Duration::from_secs(86_400)).await;
                assert_eq!(stage.sessions().await, 0, "{note}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_half_way_is_answered_before_the_cleaning_up_is_done() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    stage.spy.on("replace", 1, Act::LoseReply(ErrorKind::Timeout));
    stage.spy.on_calls(4, 10, Act::Hang);
    let start = tokio::time::Instant::now();
    let answer = stage.visitor.visit(&engine, async |s| login(s).await).await;
    assert_eq!(answer.kind(), Some(ErrorKind::Timeout));
    assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_arrives_after_its_login_was_given_up_finds_nothing_to_replace() {
    for late in 8..20 {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
        // All four tries get no answer, while reading shows that none was applied. They arrive later.
        for nth in 1..=4 {
            stage.spy.on("replace", nth, Act::Late(late));
        }
        let answer = stage.visitor.visit(&engine, async |s| login(s).await).await;
        assert_eq!(answer.kind(), Some(ErrorKind::Timeout), "{late}");
        engine.shutdown(Duration::from_secs(60)).await.unwrap();
        for _ in 0..20 {
            stage.seen(&old).await;
        }
        assert_eq!(stage.seen(&old).await, (Some(1), Some("x".into())), "{late}");
        assert_eq!(stage.sessions().await, 1, "{late}: {:?}", stage.records().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_during_the_cleaning_up_is_not_undone() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
    stage.spy.on("replace", 1, Act::LoseReply(ErrorKind::Timeout));
    stage.spy.on_calls(4, 10, Act::Fail(ErrorKind::Unavailable));
    stage.visitor.visit(&engine, async |s| login(s).await).await.outcome.unwrap_err();
    // An operator ends the session while it is a tombstone.
    cloakroom_core::Store::destroy(&stage.spy.store(), &old.key()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    engine.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(stage.records().await, Vec::<String>::new());
}
