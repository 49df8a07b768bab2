//! Records that cannot be read: the visitor is anonymous, writes are refused, and the bytes stay as they are.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_core::{Bytes, Data, Engine, ErrorKind, Result, Save, Session, Store, Ttl};
use support::{
    logs::Logs,
    shape::{SHAPES, Stage},
    spy::{Act, meanwhile},
    visitor::Visitor,
};

const CANARY: &str = "canary-7f3a";

/// Bytes that are no readable session record, by name.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let whole = format!(r#"{{"v":1,"nonce":"0.0","created":1,"renewed":2,"data":{{"user":"{CANARY}"}}}}"#);
    let with = |from: &str, to: &str| whole.replace(from, to).into_bytes();
    let mut binary = whole.clone().into_bytes();
    binary[40] = 0xff;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let keys: Vec<_> = (0..1100).map(|n| format!("\"k{n}\":0")).collect();
    vec![
        ("empty", Vec::new()),
        ("truncated", whole.as_bytes()[..whole.len() - 3].to_vec()),
        ("cut in the middle of a value", whole.as_bytes()[..whole.find(CANARY).unwrap() + 4].to_vec()),
        ("extended", format!("{whole}{CANARY}").into_bytes()),
        ("of a future version", with("\"v\":1", "\"v\":2")),
        ("of a future version in another shape", format!(r#"{{"v":99,"user":"{CANARY}"}}"#).into_bytes()),
        ("with a field of the future", with("\"data\"", "\"flags\":3,\"data\"")),
        ("without its times", with("\"created\":1,", "")),
        ("with a negative time", with("\"created\":1", "\"created\":-1")),
        ("with a key twice", with("\"data\":{", "\"data\":{\"user\":1,")),
        ("with too many keys", with("\"data\":{", &format!("\"data\":{{{},", keys.join(",")))),
        ("too deep", with("\"data\":{", &format!("\"data\":{{\"deep\":{deep},"))),
        ("too large", with(CANARY, &CANARY.repeat(100_000))),
        ("both a session and a tombstone", with("\"data\"", "\"moved\":1,\"data\"")),
        ("of a Koa service", format!(r#"{{"user":"{CANARY}","cookie":{{"maxAge":86400000}}}}"#).into_bytes()),
        ("not JSON", CANARY.as_bytes().to_vec()),
        ("not UTF-8", binary),
        ("zeros", vec![0; 64]),
        ("null", b"null".to_vec()),
    ]
}

/// A visitor whose record has become `bytes`.
async fn stage(bytes: &[u8]) -> Stage {
    let stage = Stage::set(&SHAPES[0]).await;
    stage
        .spy
        .store()
        .set(&stage.visitor.key(), Bytes::copy_from_slice(bytes), Ttl::from_secs(1000))
        .await
        .unwrap();
    stage
}

async fn stored(stage: &Stage, visitor: &Visitor) -> Vec<u8> {
    stage.spy.store().get(&visitor.key()).await.unwrap().expect("the bytes are still there").to_vec()
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visit {
    views: u64,
}

#[tokio::test]
async fn every_write_is_refused_and_the_bytes_are_untouched() {
    for (name, bytes) in unreadable() {
        let (logs, _guard) = Logs::listen();
        let mut stage = stage(&bytes).await;
        let (engine, visitor) = (stage.engine.clone(), stage.visitor.clone());
        let answer = stage
            .visitor
            .visit(&engine, async |s| {
                assert!(s.is_new() && s.is_empty() && s.id().is_none() && s.user().is_none(), "{name}");
                let data = Data::<Visit>::of(s.clone())?;
                let refused: Vec<Result<()>> = vec![
                    s.insert("user", 1),
                    s.remove("user").map(|_| ()),
                    s.clear(),
                    s.update("n", |n: Option<u64>| n.unwrap_or(0)).map(|_| ()),
                    s.update_now("n", |n: Option<u64>| n.unwrap_or(0)).await.map(|_| ()),
                    s.save().await,
                    s.reload().await,
                    s.cycle_id().await.map(|_| ()),
                    s.regenerate().await.map(|_| ()),
                    s.ensure_id().await.map(|_| ()),
                    s.set_ttl(Duration::from_secs(1)),
                    s.bind_user("alice"),
                    s.destroy_others().await.map(|_| ()),
                    data.update(|visit| visit.views += 1),
                    data.write().map(|_| ()),
                ];
                for (at, outcome) in refused.into_iter().enumerate() {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::WritesRefused, "{name}, {at}");
                    assert!(error.to_string().contains("cannot be read"), "{error}");
                    assert!(!format!("{error:?}").contains("canary"));
                }
                assert_eq!(s.take::<u8>("user")?, None);
                s.set_save(Save::Always);
                Ok(format!("{s:?}"))
            })
            .await;
        assert_eq!(answer.cookies, Vec::<String>::new(), "{name}");
        assert_eq!(answer.outcome.unwrap(), "Session(Corrupt)", "{name}");
        assert_eq!(stage.spy.take_calls(), ["get"], "{name}");
        assert_eq!(stored(&stage, &visitor).await, bytes, "{name}");
        let said = logs.text();
        assert!(said.contains("ERROR cloakroom") && said.contains("cannot be read"), "{name}: {said}");
        assert!(!said.contains("canary") && !said.contains(visitor.ticket()), "{name}: {said}");
        assert!(!said.contains(visitor.key().as_str()), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_logout_frees_the_visitor_and_leaves_the_bytes() {
    for (name, bytes) in unreadable() {
        let mut stage = stage(&bytes).await;
        let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
        let gone = stage.visitor.visit(&engine, async |s| s.destroy().await).await;
        gone.outcome.unwrap();
        assert_eq!((gone.cookies.len(), &stage.visitor.ticket), (1, &None), "{name}");
        assert_eq!(stored(&stage, &old).await, bytes, "{name}");
        // In one request: out, and in again under a new id.
        stage.visitor = old.clone();
        let fresh = stage.visitor.visit(&engine, async |s| {
            s.destroy().await?;
            s.insert("n", 7)
        });
        fresh.await.outcome.unwrap();
        assert_ne!(stage.visitor.ticket, old.ticket, "{name}");
        assert_eq!(stage.seen(&stage.visitor).await.0, Some(7), "{name}");
        assert_eq!(stored(&stage, &old).await, bytes, "{name}");
    }
}

#[tokio::test]
async fn a_record_that_becomes_unreadable_during_a_request_is_left_as_it_is() {
    let works: &[(&str, support::shape::Work)] = &[
        ("update", |s: Session| Box::pin(async move { support::shape::add(&s) })),
        ("cycle_id", |s: Session| Box::pin(async move { s.cycle_id().await.map(|_| ()) })),
        ("destroy", |s: Session| Box::pin(async move { s.destroy().await })),
        ("reload", |s: Session| Box::pin(async move { s.reload().await })),
    ];
    for (name, bytes) in unreadable() {
        for &(what, work) in works {
            let mut stage = Stage::set(&SHAPES[0]).await;
            let (store, key, now) = (stage.spy.store(), stage.visitor.key(), Bytes::from(bytes.clone()));
            let spoil = meanwhile(move || {
                let (store, key, now) = (store.clone(), key.clone(), now.clone());
                async move { store.set(&key, now, Ttl::from_secs(99)).await.unwrap() }
            });
            stage.spy.on("get", 1, Act::After(spoil));
            let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
            let answer = stage.visitor.visit(&engine, async |s| work(s.clone()).await).await;
            let note = format!("{what} of a record {name}: {:?}", answer.outcome);
            assert_eq!(stored(&stage, &old).await, bytes, "{note}");
            if what == "destroy" {
                assert!(answer.outcome.is_ok() && stage.visitor.ticket.is_none(), "{note}");
            } else {
                let kind = answer.kind().expect(&note);
                assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::WritesRefused), "{note}");
                assert_eq!(answer.cookies, Vec::<String>::new(), "{note}");
            }
        }
    }
}

/// Stores that keep documents find something else than bytes in them, and say so themselves.
#[tokio::test]
async fn what_the_store_cannot_read_is_no_outage_and_is_treated_alike() {
    let (logs, _guard) = Logs::listen();
    let mut stage = Stage::set(&SHAPES[0]).await;
    let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
    let before = stored(&stage, &old).await;
    stage.spy.on_calls(1, 9, Act::Fail(ErrorKind::Corrupt));
    let answer = stage
        .visitor
        .visit(&engine, async |s| {
            assert!(s.is_new() && s.is_empty() && s.id().is_none());
            let refused = s.insert("n", 7).unwrap_err();
            assert!(refused.to_string().contains("cannot be read"), "{refused}");
            assert_eq!(s.save().await.unwrap_err().kind(), ErrorKind::WritesRefused);
            s.set_save(Save::Always);
            Ok(format!("{s:?}"))
        })
        .await;
    assert_eq!((answer.outcome.unwrap().as_str(), answer.cookies.len()), ("Session(Corrupt)", 0));
    assert_eq!(stage.spy.take_calls(), ["get"]);
    assert!(logs.text().contains("stored session cannot be read"), "{}", logs.text());
    // Only a logout begins anew.
    let fresh = stage.visitor.visit(&engine, async |s| {
        assert_eq!(s.insert("n", 7).unwrap_err().kind(), ErrorKind::WritesRefused);
        s.destroy().await
    });
    fresh.await.outcome.unwrap();
    assert_eq!((stage.spy.take_calls(), &stage.visitor.ticket), (vec!["get"], &None));
    stage.spy.heal();
    assert_eq!(stored(&stage, &old).await, before, "neither overwritten nor deleted");
}

#[tokio::test]
async fn what_the_store_can_no_longer_read_is_left_by_a_logout_and_by_reading_again() {
    let works: &[(&str, usize, support::shape::Work)] = &[
        ("remove", 1, |s: Session| Box::pin(async move { s.destroy().await })),
        ("get", 2, |s: Session| Box::pin(async move { s.reload().await })),
    ];
    for &(call, nth, work) in works {
        let mut stage = Stage::set(&SHAPES[0]).await;
        let (engine, old) = (stage.engine.clone(), stage.visitor.clone());
        let before = stored(&stage, &old).await;
        stage.spy.on(call, nth, Act::Fail(ErrorKind::Corrupt));
        let answer = stage.visitor.visit(&engine, async |s| work(s.clone()).await).await;
        let expected = if call == "remove" { (None, 1) } else { (Some(ErrorKind::WritesRefused), 0) };
        assert_eq!((answer.kind(), answer.cookies.len()), expected);
        assert_eq!(stored(&stage, &old).await, before);
    }
}

#[tokio::test]
async fn a_list_of_sessions_goes_on_behind_one_that_the_store_cannot_read() {
    let stage = Stage::set(&SHAPES[0]).await;
    for _ in 0..3 {
        let mut visitor = Visitor::new();
        visitor.visit(&stage.engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    }
    stage.spy.on("get", 2, Act::Fail(ErrorKind::Corrupt));
    assert_eq!(stage.engine.sessions_of("alice").await.unwrap().len(), 2);
    assert_eq!(stage.engine.sessions_of("alice").await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_readable_session_beside_an_unreadable_one_is_taken() {
    let mut stage = stage(b"not a record").await;
    let bad = stage.visitor.ticket().to_owned();
    let mut good = Visitor::new();
    let engine: Engine = stage.engine.clone();
    good.visit(&engine, async |s| s.insert("n", 3)).await.outcome.unwrap();
    for pair in [[&bad, good.ticket()], [good.ticket(), &bad]] {
        // The first cookie's value, and a second cookie of the same name behind it.
        stage.visitor = Visitor::with(&format!("{}; {}={}", pair[0], support::COOKIE, pair[1]));
        assert_eq!(stage.seen(&stage.visitor).await.0, Some(3));
    }
}
