//! The index of sessions by user: complete whenever a cookie is out, and never in the way of a tombstone.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_core::{Engine, ErrorKind, IndexedStore, Result, Session};
use support::{
    shape::{SHAPES, Stage},
    visitor::Visitor,
};

async fn login(s: &Session, user: &str) -> Result<()> {
    s.cycle_id().await?;
    s.bind_user(user)
}

/// The keys of a user once entries that run out have run out.
async fn keys_of(stage: &Stage, user: &str) -> Vec<cloakroom_core::Key> {
    tokio::time::advance(Duration::from_millis(2)).await;
    stage.spy.store().keys_of(user).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_users_session_is_listed_once_under_its_newest_key() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    for _ in 0..3 {
        stage.visitor.visit(&engine, async |s| login(s, "alice").await).await.outcome.unwrap();
        assert_eq!(keys_of(&stage, "alice").await, [stage.visitor.key()]);
    }
    stage.visitor.visit(&engine, async |s| login(s, "bob").await).await.outcome.unwrap();
    assert_eq!(keys_of(&stage, "alice").await, []);
    assert_eq!(keys_of(&stage, "bob").await, [stage.visitor.key()]);
    stage.visitor.visit(&engine, async |s| s.regenerate().await.map(|_| ())).await.outcome.unwrap();
    assert_eq!(keys_of(&stage, "bob").await, [], "a session begun anew belongs to nobody");
}

#[tokio::test(start_paused = true)]
async fn ending_the_other_sessions_ends_those_and_counts_no_tombstone() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    let mut others = [const { Visitor { ticket: None } }; 3];
    for other in &mut others {
        other.visit(&engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    }
    let old = stage.visitor.clone();
    stage.visitor.visit(&engine, async |s| login(s, "alice").await).await.outcome.unwrap();
    stage.visitor.visit(&engine, async |s| login(s, "alice").await).await.outcome.unwrap();
    tokio::time::advance(Duration::from_millis(2)).await;
    let ended = stage.visitor.visit(&engine, async |s| s.destroy_others().await).await;
    assert_eq!(ended.outcome.unwrap(), 3);
    for other in &others {
        assert_eq!(stage.seen(other).await, (None, None));
        assert_eq!(other.peek(&engine, async |s| Ok(s.user())).await.outcome.unwrap(), None);
    }
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1));
    // The tombstone still keeps a request that was under way from replacing the login's cookie.
    let late = old.peek(&engine, async |s| s.insert("late", 1)).await;
    assert_eq!((late.kind(), late.cookies.len()), (Some(ErrorKind::WritesRefused), 0));
    let nobody = Visitor::new().peek(&engine, async |s| s.destroy_others().await).await;
    assert_eq!(nobody.kind(), Some(ErrorKind::Unsupported));
}

#[tokio::test(start_paused = true)]
async fn a_user_bound_by_a_hook_is_in_the_index_too() {
    for first in [true, false] {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let engine = Engine::builder(stage.spy.clone())
            .before_save(|_, session: Session| async move { session.bind_user("alice") })
            .build()
            .unwrap();
        if first {
            stage.visitor = Visitor::new();
        }
        stage.visitor.visit(&engine, async |s| s.insert("a", 1)).await.outcome.unwrap();
        let user = stage.visitor.visit(&engine, async |s| Ok(s.user())).await.outcome.unwrap();
        assert_eq!(user.as_deref(), Some("alice"));
        assert_eq!(keys_of(&stage, "alice").await, [stage.visitor.key()], "new: {first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_leaves_no_live_entry() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    stage.visitor.visit(&engine, async |s| login(s, "alice").await).await.outcome.unwrap();
    stage.visitor.visit(&engine, async |s| s.destroy().await).await.outcome.unwrap();
    assert_eq!(keys_of(&stage, "alice").await, []);
}

#[tokio::test]
async fn what_is_no_user_is_refused() {
    let stage = Stage::set(&SHAPES[0]).await;
    let session = stage.visitor.begin(&stage.engine).load().await.unwrap();
    for user in [String::new(), "x".repeat(256)] {
        assert_eq!(session.bind_user(&user).unwrap_err().kind(), ErrorKind::Value);
    }
    let plain = cloakroom_conformance::Plain::new(stage.spy.store());
    let engine = Engine::builder(plain).build().unwrap();
    let session = stage.visitor.begin(&engine).load().await.unwrap();
    assert_eq!(session.bind_user("alice").unwrap_err().kind(), ErrorKind::Unsupported);
}
