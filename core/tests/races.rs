//! Parallel requests on one session: nothing is lost, nothing that has ended comes back.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::{sync::Arc, time::Duration};

use cloakroom_conformance::Reference;
use cloakroom_core::{
    AdminStore, Engine, ErrorKind, Expiry, IndexedStore, LazySession, Save, Session, Store,
};
use futures_util::future::join_all;
use http::StatusCode;
use support::{
    Clock,
    shape::{SHAPES, Stage, Work, add, add_now},
    spy::{Act, meanwhile},
    visitor::{Visitor, cookies, finish, ticket_in},
};

fn engine(store: &Reference) -> Engine {
    Engine::builder(store.clone()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_lose_none_of_a_thousand_changes_each() {
    const TASKS: u64 = 64;
    // Half a minute without optimisation: it is the one long test, and it runs beside the others.
    const CHANGES: u64 = 1000;
    let store = Reference::new();
    let engines = [engine(&store), engine(&store)];
    let mut visitor = Visitor::new();
    visitor.visit(&engines[0], async |s| s.insert("n", 0)).await.outcome.unwrap();
    let tasks = (0..TASKS).map(|task| {
        let (visitor, engine) = (visitor.clone(), engines[task as usize % 2].clone());
        tokio::spawn(async move {
            let mut contended = 0_u64;
            for change in 1..=CHANGES {
                loop {
                    let lazy = visitor.begin(&engine);
                    let session = lazy.load().await.unwrap();
                    add(&session).unwrap();
                    session.insert(&format!("task{task}"), change).unwrap();
                    if change % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                    match finish(&engine, &lazy, StatusCode::OK).await {
                        Ok(headers) => break assert!(cookies(&headers).is_empty()),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Contention, "{error}"),
                    }
                    contended += 1;
                }
            }
            contended
        })
    });
    let mut contended = 0;
    for task in join_all(tasks).await {
        contended += task.unwrap();
    }
    println!("{contended} of {} requests met 16 other writers and were made again", TASKS * CHANGES);
    let session = visitor.begin(&engines[0]).load().await.unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(TASKS * CHANGES));
    for task in 0..TASKS {
        assert_eq!(session.get::<u64>(&format!("task{task}")).unwrap(), Some(CHANGES));
    }
}

/// What a request can do that may not bring anything back.
const WRITES: &[(&str, Work)] = &[
    ("insert", |s| Box::pin(async move { s.insert("slow", true) })),
    ("update", |s| Box::pin(async move { add(&s) })),
    ("update_now", |s| Box::pin(add_now(s))),
    ("clear", |s| Box::pin(async move { s.clear() })),
    ("remove", |s| Box::pin(async move { s.remove("n").map(|_| ()) })),
    ("set_ttl", |s| Box::pin(async move { s.set_ttl(Duration::from_secs(77)) })),
    ("bind_user", |s| Box::pin(async move { s.bind_user("mallory") })),
    ("cycle_id", |s| Box::pin(async move { s.cycle_id().await.map(|_| ()) })),
    ("regenerate", |s| Box::pin(async move { s.regenerate().await.map(|_| ()) })),
    ("destroy", |s| Box::pin(async move { s.destroy().await })),
    ("reload", |s| Box::pin(async move { s.reload().await })),
    ("save always", |s| {
        Box::pin(async move {
            s.set_save(Save::Always);
            s.save().await
        })
    }),
    ("insert twice", |s| {
        Box::pin(async move {
            s.insert("slow", true)?;
            let _ = s.save().await;
            s.insert("slow", false)
        })
    }),
    ("everything", |s| {
        Box::pin(async move {
            let _ = s.regenerate().await;
            let _ = s.save().await;
            let _ = s.insert("slow", 1);
            let _ = s.destroy().await;
            let _ = s.insert("slow", 2);
            let _ = s.reload().await;
            let _ = s.bind_user("mallory");
            let _ = s.ensure_id().await;
            s.set_save(Save::Always);
            s.save().await
        })
    }),
];

/// A session of alice's, and the clock that its expiry goes by.
async fn alice() -> (Stage, Clock) {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let clock = Clock::new();
    stage.engine = Engine::builder(stage.spy.clone())
        .expiry(Expiry::idle(Duration::from_secs(86_400)))
        .clock(clock.reader())
        .build()
        .unwrap();
    let engine = stage.engine.clone();
    stage.visitor.visit(&engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    (stage, clock)
}

/// Loads in one request, lets `meanwhile` happen, and then does `work` in that first request.
async fn slow(stage: &Stage, work: Work, meanwhile: impl Future<Output = ()>) -> Vec<String> {
    let lazy = stage.visitor.begin(&stage.engine);
    let session = lazy.load().await.unwrap();
    meanwhile.await;
    let _ = work(session).await;
    match finish(&stage.engine, &lazy, StatusCode::OK).await {
        Ok(headers) => cookies(&headers),
        Err(_) => Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_brings_nothing_back_after_a_logout_an_expiry_or_a_logout_everywhere() {
    for how in ["logout", "expiry", "everywhere", "flush"] {
        for &(name, work) in WRITES {
            let (stage, clock) = alice().await;
            let other = stage.visitor.clone();
            let sent = slow(&stage, work, async {
                match how {
                    "logout" => other.peek(&stage.engine, async |s| s.destroy().await).await.outcome.unwrap(),
                    "expiry" => {
                        clock.advance(Duration::from_secs(86_401));
                        tokio::time::advance(Duration::from_secs(86_401)).await;
                    }
                    "flush" => assert_eq!(stage.spy.store().clear().await.unwrap(), 1),
                    _ => assert_eq!(stage.spy.store().destroy_user("alice", None).await.unwrap(), 1),
                }
            })
            .await;
            assert_eq!(sent, Vec::<String>::new(), "{name} after {how}");
            assert_eq!(stage.records().await, Vec::<String>::new(), "{name} after {how}");
            assert_eq!(stage.seen(&stage.visitor).await, (None, None), "{name} after {how}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_neither_changes_nor_replaces_a_session_that_has_moved() {
    for regenerate in [false, true] {
        for &(name, work) in WRITES {
            let (stage, _) = alice().await;
            let mut winner = stage.visitor.clone();
            let sent = slow(&stage, work, async {
                let login = winner.visit(&stage.engine, async |s| {
                    if regenerate {
                        s.regenerate().await?
                    } else {
                        s.cycle_id().await?
                    };
                    s.insert("n", 5)?;
                    s.insert("keep", "x")
                });
                login.await.outcome.unwrap();
            })
            .await;
            assert_eq!(sent, Vec::<String>::new(), "{name}");
            assert_eq!(stage.seen(&winner).await, (Some(5), Some("x".into())), "{name}");
            assert_eq!(stage.seen(&stage.visitor).await, (None, None), "{name}");
            assert_eq!(stage.sessions().await, 1, "{name}: {:?}", stage.records().await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_absolute_end_that_passes_during_a_request_is_the_end() {
    for &(name, work) in WRITES {
        let (mut stage, clock) = (Stage::set(&SHAPES[0]).await, Clock::new());
        let expiry = Expiry::idle(Duration::from_secs(60)).absolute(Duration::from_secs(60));
        stage.engine =
            Engine::builder(stage.spy.clone()).expiry(expiry).clock(clock.reader()).build().unwrap();
        stage.visitor = Visitor::new();
        let engine = stage.engine.clone();
        stage.visitor.visit(&engine, async |s| s.insert("n", 1)).await.outcome.unwrap();
        // Only the application's clock has moved on: the store still has the record.
        slow(&stage, work, async { clock.advance(Duration::from_secs(61)) }).await;
        let answer = stage.visitor.peek(&engine, async |s| Ok(s.is_empty() && s.is_new())).await;
        assert!(answer.outcome.unwrap(), "{name}");
    }
}

/// Of several requests that move one session at once, and all wait at every store call.
async fn contend(parties: usize, works: &[Work]) {
    let stage = Stage::set(&SHAPES[0]).await;
    let mut requests: Vec<(LazySession, Session)> = Vec::new();
    for _ in 0..parties {
        let lazy = stage.visitor.begin(&stage.engine);
        let session = lazy.load().await.unwrap();
        requests.push((lazy, session));
    }
    stage.spy.yields(true);
    let moves = requests.into_iter().enumerate().map(|(n, (lazy, session))| {
        let (engine, work) = (stage.engine.clone(), works[n % works.len()]);
        async move {
            work(session.clone()).await.unwrap();
            session.insert("winner", n).unwrap();
            let saved = session.save().await;
            let sent = cookies(&finish(&engine, &lazy, StatusCode::OK).await.unwrap());
            (saved, sent)
        }
    });
    let outcomes = join_all(moves).await;
    stage.spy.yields(false);
    let mut winners = Vec::new();
    for (n, (saved, sent)) in outcomes.into_iter().enumerate() {
        match saved {
            Ok(()) => winners.push((n, sent)),
            Err(error) => {
                assert_eq!((error.kind(), sent), (ErrorKind::Gone, Vec::new()));
            }
        }
    }
    let [(winner, sent)] = &winners[..] else { unreachable!("{} winners of {parties}", winners.len()) };
    let ticket = Visitor::with(ticket_in(&sent[0]).unwrap());
    let records = stage.records().await;
    assert_eq!(records.len(), 1, "an orphan is left: {records:?}");
    assert!(records[0].contains(&format!("\"winner\":{winner}")));
    assert!(stage.seen(&ticket).await.0.is_some() || records[0].contains("regenerated"));
    assert_eq!(stage.seen(&stage.visitor).await, (None, None));
}

#[tokio::test]
async fn of_two_to_sixteen_parallel_moves_exactly_one_wins() {
    let cycle: Work = |s| Box::pin(async move { s.cycle_id().await.map(|_| ()) });
    let regenerate: Work = |s| {
        Box::pin(async move {
            s.regenerate().await?;
            s.insert("regenerated", true)
        })
    };
    let login: Work = |s| {
        Box::pin(async move {
            s.cycle_id().await?;
            s.bind_user("alice")
        })
    };
    for parties in 2..=16 {
        contend(parties, &[cycle]).await;
        contend(parties, &[cycle, regenerate, login]).await;
    }
}

const LOGIN: Work = |s| {
    Box::pin(async move {
        s.bind_user("alice")?;
        s.insert("user", "alice")?;
        s.cycle_id().await.map(|_| ())
    })
};
const LOGOUT: Work = |s| Box::pin(async move { s.destroy().await });

#[tokio::test]
async fn a_login_and_a_logout_at_once_end_in_one_of_both_in_every_order_of_their_calls() {
    for (outer, inner) in [(LOGIN, LOGOUT), (LOGOUT, LOGIN), (LOGIN, LOGIN), (LOGOUT, LOGOUT)] {
        // From the second call on: the first is the load, and what ends before it is no race.
        for call in 2..10 {
            for before in [true, false] {
                let stage = Stage::set(&SHAPES[0]).await;
                let quiet = Engine::builder(stage.spy.store()).build().unwrap();
                // The other request has loaded when the first one makes its call.
                let lazy = stage.visitor.begin(&quiet);
                let session = lazy.load().await.unwrap();
                let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
                let note = Arc::clone(&heard);
                let other = meanwhile(move || {
                    let (quiet, lazy, session, note) =
                        (quiet.clone(), lazy.clone(), session.clone(), Arc::clone(&note));
                    async move {
                        let _ = inner(session).await;
                        let sent = cookies(&finish(&quiet, &lazy, StatusCode::OK).await.unwrap());
                        note.lock().extend(sent);
                    }
                });
                stage.spy.on_call(call, if before { Act::Before(other) } else { Act::After(other) });
                let answer = stage.visitor.peek(&stage.engine, async |s| outer(s.clone()).await).await;
                if stage.spy.is_armed() {
                    break;
                }
                let sent: Vec<String> = answer.cookies.into_iter().chain(heard.lock().drain(..)).collect();
                // Either order of the two responses leaves the browser with the truth.
                assert_eq!(sent.len(), 1, "exactly one has won: {sent:?}");
                let sessions = stage.sessions().await;
                match ticket_in(&sent[0]) {
                    Some(ticket) => {
                        assert_eq!(sessions, 1);
                        assert_eq!(stage.seen(&Visitor::with(ticket)).await, (Some(1), Some("x".into())));
                        assert_eq!(
                            stage.spy.store().keys_of("alice").await.unwrap(),
                            [Visitor::with(ticket).key()],
                        );
                    }
                    None => assert_eq!(sessions, 0),
                }
                assert_eq!(stage.seen(&stage.visitor).await, (None, None), "the old id is dead either way");
            }
        }
    }
}

#[tokio::test]
async fn logout_slow_and_login_leave_the_browser_with_the_truth_in_every_order() {
    const SLOW: Work = |s| Box::pin(async move { s.insert("slow", true) });
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for stored in orders {
        for arrived in orders {
            let stage = Stage::set(&SHAPES[0]).await;
            let works = [LOGOUT, SLOW, LOGIN];
            let mut requests = Vec::new();
            for _ in works {
                let lazy = stage.visitor.begin(&stage.engine);
                let session = lazy.load().await.unwrap();
                requests.push((lazy, session));
            }
            let mut responses = [const { Vec::new() }; 3];
            for party in stored {
                let (lazy, session) = &requests[party];
                let _ = works[party](session.clone()).await;
                responses[party] = cookies(&finish(&stage.engine, lazy, StatusCode::OK).await.unwrap());
            }
            let mut browser = stage.visitor.clone();
            for party in arrived {
                browser.take(&responses[party]);
            }
            let login_first = stored.iter().position(|&p| p == 2) < stored.iter().position(|&p| p == 0);
            let note = format!("stored in order {stored:?}, heard in order {arrived:?}");
            if login_first {
                assert_eq!(stage.seen(&browser).await, (Some(1), Some("x".into())), "{note}");
            } else {
                assert_eq!((browser.ticket, stage.sessions().await), (None, 0), "{note}");
            }
        }
    }
}

#[tokio::test]
async fn what_others_write_between_the_two_steps_of_a_login_comes_along() {
    for writers in 0..=20_u64 {
        for before in [true, false] {
            let mut stage = Stage::set(&SHAPES[0]).await;
            let (old, engine) = (stage.visitor.clone(), stage.engine.clone());
            let quiet = Engine::builder(stage.spy.store()).build().unwrap();
            for nth in 1..=writers {
                let (old, quiet) = (old.clone(), quiet.clone());
                let other = meanwhile(move || {
                    let (old, quiet) = (old.clone(), quiet.clone());
                    async move { old.peek(&quiet, async |s| add(s)).await.outcome.unwrap() }
                });
                // Each try at retiring the old record is preceded by one more writer: after `create` at first, then
                // after each rewriting of the new record.
                let at = usize::try_from(nth).unwrap();
                match (before, at) {
                    (false, 1) => stage.spy.on("create", 1, Act::After(other)),
                    _ => stage.spy.on("replace", 2 * at - 1, Act::Before(other)),
                }
            }
            let answer = stage
                .visitor
                .visit(&engine, async |s| {
                    s.cycle_id().await?;
                    add(s)
                })
                .await;
            stage.spy.heal();
            if writers <= 16 {
                answer.outcome.unwrap();
                assert_ne!(stage.visitor.ticket, old.ticket);
                assert_eq!(stage.seen(&stage.visitor).await, (Some(2 + writers), Some("x".into())));
                assert_eq!(stage.seen(&old).await, (None, None));
            } else {
                assert_eq!(answer.kind(), Some(ErrorKind::Contention));
                assert_eq!(stage.visitor.ticket, old.ticket);
                assert_eq!(stage.seen(&old).await, (Some(1 + 17), Some("x".into())));
            }
            assert_eq!(stage.sessions().await, 1, "{writers} writers: {:?}", stage.records().await);
        }
    }
}

#[tokio::test]
async fn a_user_bound_between_the_two_steps_of_a_login_is_bound_to_the_new_id() {
    for own in [None, Some("alice")] {
        for regenerate in [false, true] {
            let mut stage = Stage::set(&SHAPES[0]).await;
            let (old, engine) = (stage.visitor.clone(), stage.engine.clone());
            let quiet = Engine::builder(stage.spy.store()).build().unwrap();
            let other = meanwhile(move || {
                let (old, quiet) = (old.clone(), quiet.clone());
                async move { old.peek(&quiet, async |s| s.bind_user("bob")).await.outcome.unwrap() }
            });
            stage.spy.on("create", 1, Act::After(other));
            let answer = stage.visitor.visit(&engine, async |s| {
                if regenerate {
                    s.regenerate().await?
                } else {
                    s.cycle_id().await?
                };
                own.map_or(Ok(()), |user| s.bind_user(user))
            });
            answer.await.outcome.unwrap();
            let user = stage.visitor.peek(&engine, async |s| Ok(s.user())).await.outcome.unwrap();
            let expected = own.or((!regenerate).then_some("bob"));
            assert_eq!(user.as_deref(), expected);
            let store = stage.spy.store();
            for name in ["alice", "bob"] {
                let mut live = Vec::new();
                for key in store.keys_of(name).await.unwrap() {
                    let value = store.get(&key).await.unwrap().unwrap();
                    live.extend((!value.windows(7).any(|part| part == b"\"moved\"")).then_some(key));
                }
                let expected = if expected == Some(name) { vec![stage.visitor.key()] } else { Vec::new() };
                assert_eq!(live, expected, "{name}, own {own:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_renewal_does_not_put_the_index_entry_of_another_user_back() {
    let due = SHAPES.iter().find(|shape| shape.name == "update, due").unwrap();
    let mut stage = Stage::set(due).await;
    let (old, engine) = (stage.visitor.clone(), stage.engine.clone());
    old.peek(&Engine::builder(stage.spy.store()).build().unwrap(), async |s| s.bind_user("alice"))
        .await
        .outcome
        .unwrap();
    let quiet = Engine::builder(stage.spy.store()).build().unwrap();
    let other = meanwhile(move || {
        let (old, quiet) = (old.clone(), quiet.clone());
        async move { old.peek(&quiet, async |s| s.bind_user("bob")).await.outcome.unwrap() }
    });
    stage.spy.on("bind", 1, Act::Before(other));
    stage.visitor.visit(&engine, async |s| add(s)).await.outcome.unwrap();
    assert_eq!(
        stage.visitor.peek(&engine, async |s| Ok(s.user())).await.outcome.unwrap().as_deref(),
        Some("bob")
    );
    let store = stage.spy.store();
    assert_eq!(store.keys_of("bob").await.unwrap(), [stage.visitor.key()]);
    assert_eq!(store.keys_of("alice").await.unwrap(), []);
}
