//! Several requests with one old ticket, and moves that stop half-way: one session, and nobody is told otherwise.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{sync::Arc, time::Duration};

use cloakroom_core::{AdminStore, ErrorKind, Save, Store};
use futures_util::StreamExt;
use http::StatusCode;
use parking_lot::Mutex;
use support::{
    house::{House, add},
    spy::{Act, meanwhile},
};

/// The session lives on under its new id, and nobody may be told that it has ended.
#[tokio::test(start_paused = true)]
async fn a_logout_that_comes_second_to_a_move_is_an_error_and_never_a_logout_that_was_none() {
    for lost_reply in [false, true] {
        let mut house = House::new().await;
        let (engine, mut rival) = (house.engine.clone(), house.jar.clone());
        let before = house.jar.0.clone();
        let (own, old) = (house.own.clone(), house.old.clone());
        let outcome = house
            .jar
            .visit(&engine, async |s| {
                rival.visit(&engine, async |_| Ok(())).await?;
                if lost_reply {
                    old.on("remove", 1, Act::LoseReply(ErrorKind::Timeout));
                }
                // Whether it has moved cannot be asked: then nothing is known, and the next try finds out.
                own.on("get", 1, Act::Fail(ErrorKind::Unavailable));
                assert_eq!(s.destroy().await.unwrap_err().kind(), ErrorKind::Unavailable);
                assert_eq!(s.get::<u64>("n")?, Some(1), "as it was");
                s.destroy().await
            })
            .await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WritesRefused, "{lost_reply}");
        assert_eq!((house.jar.0, house.own.is_armed()), (before, false), "no cookie of any kind");
        assert_eq!(rival.n(&engine).await.unwrap(), Some(1));
        // With the cookie it has now, it can be ended.
        rival.visit(&engine, async |s| s.destroy().await).await.unwrap();
        assert_eq!(House::records(&house.own).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_comes_second_to_another_or_whose_reply_is_lost_is_one() {
    for lost_reply in [false, true] {
        let mut house = House::new().await;
        let (engine, mut rival) = (house.engine.clone(), house.jar.clone());
        if lost_reply {
            house.old.on("remove", 1, Act::LoseReply(ErrorKind::Timeout));
        }
        let outcome = house.jar.visit(&engine, async |s| {
            if !lost_reply {
                rival.visit(&engine, async |s| s.destroy().await).await?;
            }
            s.destroy().await
        });
        assert_eq!(outcome.await.unwrap().len(), if lost_reply { 3 } else { 0 });
        assert_eq!(house.both().await, (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_saves_or_reads_again_after_somebody_else_moved_the_session_cannot_end_it_either() {
    for saves in [false, true] {
        let mut house = House::new().await;
        let (engine, mut rival) = (house.engine.clone(), house.jar.clone());
        let outcome = house
            .jar
            .visit(&engine, async |s| {
                rival.visit(&engine, async |_| Ok(())).await?;
                let (tried, kind) = if saves {
                    (s.save().await, ErrorKind::Gone)
                } else {
                    (s.reload().await, ErrorKind::WritesRefused)
                };
                assert_eq!(tried.unwrap_err().kind(), kind);
                s.destroy().await
            })
            .await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WritesRefused, "{saves}");
        assert_eq!(rival.n(&engine).await.unwrap(), Some(1));
    }
}

/// A note that stands for nothing would keep the visitor from logging in.
#[tokio::test(start_paused = true)]
async fn a_note_does_not_outlive_a_move_after_which_no_session_is_left() {
    for how in ["the reply is lost", "the reply is lost and the old store down", "somebody ends it"] {
        let mut house = House::new().await;
        let (store, engine) = (house.old.store(), house.engine.clone());
        let key = store.scan().next().await.unwrap().unwrap();
        let end = meanwhile(move || {
            let (store, key) = (store.clone(), key.clone());
            async move { store.destroy(&key).await.map(|_| ()).unwrap() }
        });
        let down = how.ends_with("down");
        match how {
            "somebody ends it" => house.old.on("remove", 1, Act::Before(end)),
            _ => house.old.on("remove", 1, Act::LoseReply(ErrorKind::Timeout)),
        }
        if down {
            // After the load.
            house.old.on("get", 2, Act::Fail(ErrorKind::Unavailable));
        }
        let outcome = house.jar.visit(&engine, async |s| add(s)).await;
        assert_eq!(outcome.is_err(), down, "{how}");
        assert!(outcome.is_ok_and(|set| set.is_empty()) || down, "no cookie: {how}");
        assert_eq!(house.both().await, (0, 0), "{how}");
        // The visitor logs in.
        house.jar.visit(&engine, async |s| add(s)).await.expect(how);
        assert_eq!((house.jar.n(&engine).await.unwrap(), house.both().await), (Some(1), (1, 0)), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_note_of_who_moved_a_session_stands_whenever_a_rival_comes_and_whose_reply_is_lost() {
    let created = [("own", "create", 1), ("own", "create", 2)];
    let removed = [("old", "remove", 1), ("own", "remove", 1), ("own", "remove", 2)];
    for (home, call, nth) in created.into_iter().chain(removed) {
        for (before, lost) in [(false, 0), (true, 0), (false, 1), (true, 1), (false, 2), (true, 2)] {
            let house = House::new().await;
            let engine = house.engine.clone();
            if lost > 0 {
                house.old.on("remove", lost, Act::LoseReply(ErrorKind::Timeout));
            }
            // Has read the session before the other one moves it.
            let rival = house.jar.begin(&engine);
            add(&rival.load().await.unwrap()).unwrap();
            let heard = Arc::new(Mutex::new(Vec::new()));
            let (moving, hears) = (engine.clone(), Arc::clone(&heard));
            let come = meanwhile(move || {
                let (rival, engine, heard) = (rival.clone(), moving.clone(), Arc::clone(&hears));
                async move {
                    let headers = support::visitor::finish(&engine, &rival, StatusCode::OK).await.unwrap();
                    *heard.lock() = support::visitor::cookies(&headers);
                }
            });
            let spy = if home == "own" { &house.own } else { &house.old };
            spy.on(call, nth, if before { Act::Before(come) } else { Act::After(come) });
            let set = house.jar.clone().visit(&engine, async |s| add(s)).await.unwrap();
            let case = format!("{home} {call} {nth}, before: {before}, lost: {lost}, {set:?}, {heard:?}");
            let moved = usize::from(!set.is_empty()) + usize::from(!heard.lock().is_empty());
            assert_eq!(house.both().await, (moved, 0), "{case}");
            assert!(moved <= 1, "{case}");
            if moved == 1 {
                let late = house.jar.clone().visit(&engine, async |s| s.insert("late", 1)).await;
                assert_eq!(late.unwrap_err().kind(), ErrorKind::WritesRefused, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_requests_with_one_old_ticket_one_moves_the_session_and_the_other_changes_nothing() {
    let mut house = House::new().await;
    let mut rival = house.jar.clone();
    let engine = house.engine.clone();
    let slower = house
        .jar
        .visit(&engine, async |s| {
            add(s)?;
            // The whole of another request in between.
            rival.visit(&engine, async |s| s.insert("rival", 1)).await.map(|_| ())
        })
        .await
        .unwrap();
    assert_eq!(slower, Vec::<String>::new(), "no cookie of either kind");
    assert_eq!(house.both().await, (1, 0), "no second session");
    assert_eq!(rival.n(&engine).await.unwrap(), Some(1));
    // Saying so, to one that asks.
    let mut house = House::new().await;
    let (engine, mut rival) = (house.engine.clone(), house.jar.clone());
    let outcome = house
        .jar
        .visit(&engine, async |s| {
            rival.visit(&engine, async |_| Ok(())).await?;
            add(s)?;
            s.save().await
        })
        .await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Gone);
}

/// A page that was still loading when its visitor moved: it must not begin a session whose cookie logs the visitor out.
#[tokio::test(start_paused = true)]
async fn a_request_with_the_old_ticket_that_begins_after_the_move_writes_nothing_and_sends_nothing() {
    let mut house = House::new().await;
    let (engine, before) = (house.engine.clone(), house.jar.clone());
    house.jar.visit(&engine, async |s| add(s)).await.unwrap();
    house.own.take_calls();
    let mut late = before.clone();
    let outcome = late.visit(&engine, async |s| s.insert("rival", 1)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WritesRefused);
    assert_eq!(house.own.take_calls(), ["get"], "the note alone");
    assert_eq!(
        (late.0, house.both().await),
        (before.0.clone(), (1, 0)),
        "no cookie of any kind, and no rival"
    );
    // Whatever it tries.
    for attempt in 0..4 {
        let mut late = before.clone();
        let outcome = late.visit(&engine, async |s| match attempt {
            0 => s.destroy().await,
            1 => s.cycle_id().await.map(|_| ()),
            2 => s.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|_| ()),
            _ => {
                s.set_save(Save::Always);
                Ok(())
            }
        });
        assert_eq!(outcome.await.is_ok(), attempt == 3, "{attempt}");
        assert_eq!((late.0, house.both().await), (before.0.clone(), (1, 0)), "{attempt}");
    }
    assert_eq!(house.jar.n(&engine).await.unwrap(), Some(2));
    // After a minute nothing is under way any more, and the ticket is one that nobody knows.
    tokio::time::advance(Duration::from_secs(61)).await;
    let mut stranger = before;
    stranger.visit(&engine, async |s| add(s)).await.unwrap();
    assert_eq!((stranger.n(&engine).await.unwrap(), house.both().await), (Some(1), (2, 0)));
}

#[tokio::test(start_paused = true)]
async fn of_many_requests_at_once_with_one_old_ticket_one_moves_the_session_and_no_other_is_made() {
    for seed in 0..20_usize {
        let house = House::new().await;
        house.own.yields(true);
        house.old.yields(true);
        let requests = (0..8_usize).map(|number| {
            let (mut jar, engine) = (house.jar.clone(), house.engine.clone());
            async move {
                // They begin one after the other, some of them when the first has ended.
                for _ in 0..(number * seed) % 23 {
                    tokio::task::yield_now().await;
                }
                let outcome = jar.visit(&engine, async |s| add(s)).await;
                (outcome.is_ok_and(|set| !set.is_empty()), jar)
            }
        });
        let answers = futures_util::future::join_all(requests).await;
        let moved: Vec<_> = answers.into_iter().filter(|(heard, _)| *heard).collect();
        assert_eq!((moved.len(), house.both().await), (1, (1, 0)), "{seed}");
        let mut jar = moved.into_iter().next().unwrap().1;
        assert_eq!(jar.n(&house.engine).await.unwrap(), Some(2), "{seed}");
    }
}

/// The moment in which the old record is gone and the new cookie is not sent yet.
#[tokio::test(start_paused = true)]
async fn a_request_that_begins_right_after_the_old_record_is_gone_finds_the_note() {
    let mut house = House::new().await;
    let (jar, engine) = (house.jar.clone(), house.engine.clone());
    let outcome = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&outcome);
    let late = meanwhile(move || {
        let (mut jar, engine, seen) = (jar.clone(), engine.clone(), Arc::clone(&seen));
        async move {
            let refused = jar.visit(&engine, async |s| s.insert("rival", 1)).await;
            *seen.lock() = Some(refused.map_err(|error| error.kind()));
        }
    });
    house.old.on("remove", 1, Act::After(late));
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
    assert_eq!(outcome.lock().take(), Some(Err(ErrorKind::WritesRefused)));
    assert_eq!(house.both().await, (1, 0));
}

/// A crash between two steps: the note may be there before the old record is gone, and keeps nobody out.
#[tokio::test(start_paused = true)]
async fn a_move_that_stops_after_its_note_leaves_the_old_session_working() {
    let mut house = House::new().await;
    house.old.on_calls(2, 100, Act::Fail(ErrorKind::Unavailable));
    let outcome = house.jar.clone().visit(&house.engine, async |s| add(s)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    house.old.heal();
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
    assert_eq!(house.both().await, (1, 0));
}
