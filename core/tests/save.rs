//! What a request decides about its session, and in which order: `destroy`, `save` and `set_save` in one handler.
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use cloakroom_core::{AdminStore, Bytes, Engine, ErrorKind, Key, Save, Store, Ttl};
use support::{spy::Spy, visitor::Visitor};

/// A visitor with a stored session.
async fn known() -> (Spy, Engine, Visitor) {
    let spy = Spy::new();
    let engine = Engine::builder(spy.clone()).build().unwrap();
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |s| s.insert("n", 1)).await.outcome.unwrap();
    spy.take_calls();
    (spy, engine, visitor)
}

/// The ancestor ends a session at the end of the request, and `sessionSave` decides about that too.
#[tokio::test]
async fn a_session_that_is_destroyed_is_so_at_once_whatever_is_decided_about_saving() {
    for (save, before, stores) in [
        (Save::IfChanged, false, false),
        (Save::Never, false, false),
        (Save::Never, true, false),
        (Save::Always, false, true),
        (Save::Always, true, true),
    ] {
        let (spy, engine, mut visitor) = known().await;
        let (old, key) = (visitor.ticket().to_owned(), visitor.key());
        let store = spy.store();
        let answer = visitor.visit(&engine, async |s| {
            if before {
                s.set_save(save);
            }
            s.destroy().await?;
            s.set_save(save);
            assert_eq!(store.get(&key).await?, None);
            Ok(())
        });
        let answer = answer.await;
        assert_eq!((answer.kind(), answer.cookies.len()), (None, 1), "{save:?}");
        let calls: &[&str] = if stores { &["get", "remove", "create"] } else { &["get", "remove"] };
        assert_eq!(spy.take_calls(), calls, "{save:?}");
        // Under `Always` what is stored is a new and empty session, with an id of its own.
        assert_eq!(visitor.ticket.is_some(), stores, "{save:?}");
        assert_ne!(visitor.ticket, Some(old));
        assert_eq!(spy.store().len().await.unwrap(), u64::from(stores));
    }
}

/// The ancestor destroys twice then, and takes the cookie back twice.
#[tokio::test]
async fn an_early_save_after_the_end_of_a_session_does_nothing_twice() {
    let (spy, engine, mut visitor) = known().await;
    let answer = visitor.visit(&engine, async |s| {
        s.destroy().await?;
        s.save().await?;
        s.save().await
    });
    let answer = answer.await;
    assert_eq!((answer.kind(), answer.cookies.len(), &visitor.ticket), (None, 1, &None));
    assert_eq!(spy.take_calls(), ["get", "remove"]);
    // What is written after it is a new session, which the early save stores.
    let (spy, engine, mut visitor) = known().await;
    let old = visitor.ticket().to_owned();
    let answer = visitor.visit(&engine, async |s| {
        s.destroy().await?;
        s.insert("again", true)?;
        s.save().await
    });
    let answer = answer.await;
    assert_eq!((answer.kind(), answer.cookies.len()), (None, 1));
    assert_eq!(spy.take_calls(), ["get", "remove", "create"]);
    assert_ne!(visitor.ticket(), old);
    let read = visitor.visit(&engine, async |s| Ok((s.get::<bool>("again")?, s.get::<u64>("n")?))).await;
    assert_eq!(read.outcome.unwrap(), (Some(true), None));
}

#[tokio::test]
async fn ids_that_cannot_be_made_harm_nobody_who_needs_none() {
    let spy = Spy::new();
    let builder = Engine::builder(spy.clone())
        .generate_id("0123456789abcdef", 32, async || Err(ErrorKind::Backend.into()));
    let engine = builder.build().unwrap();
    for work in 0..3 {
        let mut visitor = Visitor::new();
        let answer = visitor.visit(&engine, async |s| match work {
            0 => s.get::<u64>("n").map(drop),
            1 => s.insert("n", 1),
            _ => s.ensure_id().await.map(drop),
        });
        let answer = answer.await;
        assert_eq!(answer.kind(), (work > 0).then_some(ErrorKind::Backend), "{work}");
        assert!(answer.cookies.is_empty() && spy.take_calls().is_empty());
    }
}

/// The ancestor's `ctx.sessionStore`, which is there on every request, also outside the cookie's path.
#[tokio::test]
async fn the_engine_hands_out_the_store_itself() {
    let (spy, engine, _) = known().await;
    let key = Key::new("mine").unwrap();
    engine.store().set(&key, Bytes::from_static(b"1"), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(spy.store().get(&key).await.unwrap().unwrap(), b"1"[..]);
    assert!(engine.store().as_atomic().is_some() && engine.store().destroy(&key).await.unwrap());
    assert_eq!(spy.take_calls(), ["set", "destroy"]);
}
