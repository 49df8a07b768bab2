//! No id that was presented and is not a live session's is ever adopted, whatever a handler does with the session.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_core::{Data, Engine, Expiry, Save, Session};
use http::StatusCode;
use proptest::{collection::vec, prelude::*, sample::select};
use serde::{Deserialize, Serialize};
use support::{
    Clock, key_of,
    spy::Spy,
    visitor::{Visitor, begin, cookies, finish, ticket_in},
};

/// Everything a handler can do with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Insert,
    Remove,
    Take,
    Clear,
    Update,
    UpdateNow,
    Save,
    Reload,
    CycleId,
    Regenerate,
    Destroy,
    DestroyOthers,
    EnsureId,
    SetTtl,
    BindUser,
    UnbindUser,
    Cookie,
    SaveAlways,
    SaveNever,
    SaveIfChanged,
    DataUpdate,
    DataWrite,
    Load,
    Read,
}

const OPS: &[Op] = &[
    Op::Insert,
    Op::Remove,
    Op::Take,
    Op::Clear,
    Op::Update,
    Op::UpdateNow,
    Op::Save,
    Op::Reload,
    Op::CycleId,
    Op::Regenerate,
    Op::Destroy,
    Op::DestroyOthers,
    Op::EnsureId,
    Op::SetTtl,
    Op::BindUser,
    Op::UnbindUser,
    Op::Cookie,
    Op::SaveAlways,
    Op::SaveNever,
    Op::SaveIfChanged,
    Op::DataUpdate,
    Op::DataWrite,
    Op::Load,
    Op::Read,
];

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    views: u64,
    note: Option<String>,
}

/// Does one thing, and does not care whether it is refused.
async fn act(session: &Session, lazy: &cloakroom_core::LazySession, op: Op) {
    match op {
        Op::Insert => drop(session.insert("user", "victim")),
        Op::Remove => drop(session.remove("user")),
        Op::Take => drop(session.take::<String>("user")),
        Op::Clear => drop(session.clear()),
        Op::Update => drop(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)),
        Op::UpdateNow => drop(session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await),
        Op::Save => drop(session.save().await),
        Op::Reload => drop(session.reload().await),
        Op::CycleId => drop(session.cycle_id().await),
        Op::Regenerate => drop(session.regenerate().await),
        Op::Destroy => drop(session.destroy().await),
        Op::DestroyOthers => drop(session.destroy_others().await),
        Op::EnsureId => drop(session.ensure_id().await),
        Op::SetTtl => drop(session.set_ttl(Duration::from_secs(500))),
        Op::UnbindUser => drop(session.unbind_user()),
        Op::BindUser => drop(session.bind_user("victim")),
        Op::Cookie => drop(session.cookie(|cookie| cookie.http_only(false))),
        Op::SaveAlways => session.set_save(Save::Always),
        Op::SaveNever => session.set_save(Save::Never),
        Op::SaveIfChanged => session.set_save(Save::IfChanged),
        Op::DataUpdate => drop(Data::<Visit>::of(session.clone()).map(|data| data.update(|v| v.views += 1))),
        Op::DataWrite => {
            let data = Data::<Visit>::of(session.clone());
            if let Ok(mut guard) = data.as_ref().map_err(|_| ()).and_then(|data| data.write().map_err(|_| ()))
            {
                guard.note = Some("written".into());
            }
        }
        Op::Load => drop(lazy.load().await),
        Op::Read => {
            let _ = (session.keys(), session.id(), session.is_new(), session.expires_at(), session.user());
        }
    }
}

/// Where the presented id comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    NeverIssued,
    Expired,
    Destroyed,
    Moved,
    AbsoluteEnd,
}

struct Scene {
    spy: Spy,
    engine: Engine,
    ticket: String,
}

async fn scene(origin: Origin, allow_empty: bool, rolling: bool) -> Scene {
    let (spy, clock) = (Spy::new(), Clock::new());
    let engine = Engine::builder(spy.clone())
        .expiry(Expiry::idle(Duration::from_secs(1000)).absolute(Duration::from_secs(5000)))
        .clock(clock.reader())
        .allow_empty(allow_empty)
        .rolling(rolling)
        .build()
        .unwrap();
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |session| session.insert("user", "attacker")).await.outcome.unwrap();
    let ticket = visitor.ticket().to_owned();
    match origin {
        Origin::NeverIssued => {}
        Origin::Expired => tokio::time::advance(Duration::from_secs(1001)).await,
        Origin::AbsoluteEnd => clock.advance(Duration::from_secs(5001)),
        Origin::Destroyed => visitor.visit(&engine, async |s| s.destroy().await).await.outcome.unwrap(),
        Origin::Moved => {
            visitor.visit(&engine, async |s| s.cycle_id().await.map(|_| ())).await.outcome.unwrap();
        }
    }
    let ticket = if matches!(origin, Origin::NeverIssued) {
        "attackers-choice-0123456789-0123456789-abcd".into()
    } else {
        ticket
    };
    assert_eq!(ticket.len(), 43);
    spy.take_calls();
    Scene { spy, engine, ticket }
}

fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// Runs `ops` in one request that presents `ticket`; returns its Set-Cookies and the session's ids on the way.
async fn run(scene: &Scene, ticket: &str, ops: &[Op], status: StatusCode) -> (Vec<String>, Vec<String>) {
    let lazy = begin(&scene.engine, Some(ticket));
    let session = lazy.load().await.unwrap();
    let mut ids = Vec::new();
    for &op in ops {
        act(&session, &lazy, op).await;
        ids.extend(session.id().map(|id| id.expose().to_owned()));
    }
    let sent =
        finish(&scene.engine, &lazy, status).await.map(|headers| cookies(&headers)).unwrap_or_default();
    (sent, ids)
}

fn sequences() -> impl Strategy<Value = Vec<Op>> {
    vec(select(OPS), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_adopts_an_id_that_is_no_live_sessions(
        origin in select(&[Origin::NeverIssued, Origin::Expired, Origin::Destroyed, Origin::AbsoluteEnd][..]),
        ops in sequences(),
        allow_empty: bool,
        rolling: bool,
        failed: bool,
    ) {
        paused(async {
            let scene = scene(origin, allow_empty, rolling).await;
            let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            let (sent, ids) = run(&scene, &scene.ticket, &ops, status).await;
            let key = key_of(&scene.ticket);
            for cookie in &sent {
                assert_ne!(ticket_in(cookie), Some(&*scene.ticket), "{ops:?}");
            }
            assert!(!ids.contains(&scene.ticket), "{ops:?}");
            for call in scene.spy.take_all() {
                let touched = call.key.as_ref() == Some(&key);
                assert!(!touched || call.op == "get", "{} on the presented id's key: {ops:?}", call.op);
                if let Some(at) = &call.key {
                    assert_ne!(at.as_str(), &*scene.ticket);
                }
            }
            // It still opens nothing.
            let lazy = begin(&scene.engine, Some(&scene.ticket));
            assert!(lazy.load().await.unwrap().is_new());
        });
    }

    #[test]
    fn a_request_that_meets_a_tombstone_writes_nothing_and_sends_nothing(
        ops in sequences(),
        allow_empty: bool,
        rolling: bool,
    ) {
        paused(async {
            let scene = scene(Origin::Moved, allow_empty, rolling).await;
            let (sent, ids) = run(&scene, &scene.ticket, &ops, StatusCode::OK).await;
            assert_eq!((sent, ids), (Vec::new(), Vec::new()), "{ops:?}");
            let calls = scene.spy.take_calls();
            assert!(calls.iter().all(|&op| op == "get"), "{ops:?}: {calls:?}");
        });
    }

    #[test]
    fn a_malformed_cookie_is_no_cookie(
        ops in sequences(),
        value in prop_oneof!["[!-:<-~]{0,42}", "[!-:<-~]{44,60}", "[A-Za-z0-9_-]{42}[!%+/=.~|]"],
    ) {
        paused(async {
            let scene = scene(Origin::NeverIssued, false, false).await;
            let (sent, ids) = run(&scene, &value, &ops, StatusCode::OK).await;
            for cookie in &sent {
                assert_ne!(ticket_in(cookie), Some(&*value), "{ops:?}");
            }
            assert!(!ids.contains(&value));
            for call in scene.spy.take_all() {
                assert!(call.key.is_none_or(|key| key.as_str() != value), "{ops:?}");
            }
        });
    }

    #[test]
    fn after_a_destroy_the_old_id_stays_dead_whatever_follows(
        before in sequences(),
        after in sequences(),
        second in sequences(),
        allow_empty: bool,
    ) {
        paused(async {
            let mut scene = scene(Origin::NeverIssued, allow_empty, false).await;
            let mut visitor = Visitor::new();
            visitor.visit(&scene.engine, async |s| s.insert("user", "alice")).await.outcome.unwrap();
            scene.ticket = visitor.ticket().to_owned();
            let mut ops: Vec<Op> = before.into_iter().filter(|&op| op != Op::Destroy).collect();
            ops.push(Op::Destroy);
            ops.extend(after);
            let (sent, _) = run(&scene, &scene.ticket, &ops, StatusCode::OK).await;
            let told: Vec<_> = sent.iter().filter_map(|cookie| ticket_in(cookie)).collect();
            assert!(sent.len() <= 1 && !told.contains(&&*scene.ticket), "{ops:?}: {sent:?}");
            // Not by a second request with the old cookie either.
            let (sent, ids) = run(&scene, &scene.ticket, &second, StatusCode::OK).await;
            let told: Vec<_> = sent.iter().filter_map(|cookie| ticket_in(cookie)).collect();
            assert!(!told.contains(&&*scene.ticket) && !ids.contains(&scene.ticket), "{second:?}");
            let lazy = begin(&scene.engine, Some(&scene.ticket));
            let session = lazy.load().await.unwrap();
            assert!(session.is_new() && session.is_empty(), "{ops:?} {second:?}");
        });
    }

    #[test]
    fn what_the_browser_is_sent_is_what_is_stored(
        ops in sequences(),
        second in sequences(),
        known: bool,
        failed: bool,
    ) {
        paused(async {
            let scene = scene(Origin::NeverIssued, false, false).await;
            let mut visitor = Visitor::new();
            if known {
                visitor.visit(&scene.engine, async |s| s.insert("user", "alice")).await.outcome.unwrap();
            }
            let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            for ops in [&ops, &second] {
                let lazy = visitor.begin(&scene.engine);
                let session = lazy.load().await.unwrap();
                for &op in ops {
                    act(&session, &lazy, op).await;
                }
                let headers = finish(&scene.engine, &lazy, status).await.unwrap();
                visitor.take(&cookies(&headers));
                // A cookie that is sent, or was kept, opens the session that the handler left behind.
                let saved = session.save().await;
                let lazy = visitor.begin(&scene.engine);
                let again = lazy.load().await.unwrap();
                match &visitor.ticket {
                    Some(ticket) if !again.is_new() => {
                        assert_eq!(again.id().map(|id| id.expose().to_owned()).as_ref(), Some(ticket));
                        // An id asked for and not saved is no id.
                        if saved.is_ok() && !session.is_new() && !ops.contains(&Op::SaveNever) {
                            assert_eq!(session.id(), again.id(), "{ops:?}");
                        }
                    }
                    Some(_) => assert!(session.is_new(), "{ops:?}: the handler's session is not the browser's"),
                    None => assert!(session.is_new(), "{ops:?}: stored, and the browser does not know it"),
                }
            }
        });
    }
}
