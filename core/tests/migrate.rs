//! Sessions that move over from another format and its store: honoured once, never lost, never two.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::time::Duration;

use cloakroom_core::{
    AdminStore, BearerTransport, Bytes, CookieConfig, Engine, ErrorKind, Expiry, NoStore, Profile, Save,
    Store, Ttl,
};
use futures_util::StreamExt;
use http::{StatusCode, header};
use support::{
    house::{House, Jar, add},
    side::KEYS,
    spy::{Act, Spy},
};

#[tokio::test(start_paused = true)]
async fn an_old_ticket_is_honoured_once_and_its_session_is_ours_from_then_on() {
    let mut house = House::new().await;
    let before = house.jar.clone();
    assert_eq!(house.jar.names(), ["koa.sid", "koa.sid.sig"]);
    // Also by a request that only reads.
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
    assert_eq!(house.jar.names(), ["__Host-sid"], "the new cookie is there, the old ones are gone");
    assert_eq!(
        (house.own.take_calls(), house.old.take_calls()),
        (vec!["create", "create"], vec!["get", "remove"])
    );
    assert_eq!(house.both().await, (1, 0));
    // From here on it is like any other: with times of its own, and room for a user.
    house.jar.visit(&house.engine, async |s| s.bind_user("alice")).await.unwrap();
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
    assert!(house.old.take_calls().is_empty());
    // The old ticket is worth nothing any more, and takes nothing away.
    let mut late = before;
    assert_eq!(
        late.visit(&house.engine, async |s| s.get::<u64>("n").map(|n| assert_eq!(n, None))).await.unwrap(),
        [""; 0]
    );
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_the_request_does_is_part_of_the_move() {
    let mut house = House::new().await;
    let set = house
        .jar
        .visit(&house.engine, async |s| {
            assert!(!s.is_new() && s.id().is_none(), "the id of another format is nobody's business");
            add(s)?;
            s.insert("new", true)?;
            let id = s.ensure_id().await?;
            assert_eq!(s.id(), Some(id));
            s.bind_user("alice")
        })
        .await
        .unwrap();
    assert_eq!(set.len(), 3, "{set:?}");
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(2));
    assert_eq!(house.engine.sessions_of("alice").await.unwrap().len(), 1);
    assert_eq!(house.both().await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_logout_with_an_old_ticket_ends_the_session_where_it_is() {
    let mut house = House::new().await;
    house.jar.visit(&house.engine, async |s| s.destroy().await).await.unwrap();
    assert_eq!((house.both().await, house.jar.names().len()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_old_ticket_is_asked_for_no_note() {
    let mut house = House::new().await;
    house.jar.visit(&house.engine, async |_| Ok(())).await.unwrap();
    house.own.take_calls();
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
    assert_eq!((house.own.take_calls(), house.old.take_calls().len()), (vec!["get"], 2));
    assert_eq!(Jar::default().n(&house.engine).await.unwrap(), None);
    assert_eq!((house.own.calls(), house.old.calls()), (0, 0));
}

/// Where others read the records of the new home as well there are no notes, as there are no tombstones.
#[tokio::test(start_paused = true)]
async fn a_move_into_a_format_of_node_leaves_no_note_that_node_could_read() {
    let (own, house) = (Spy::new(), House::new().await);
    let builder = Engine::builder(own.clone()).profile(Profile::express(["s3cret"]));
    let engine = builder.migrate_from(Profile::koa(KEYS), house.old.clone()).build().unwrap();
    let mut jar = house.jar.clone();
    assert_eq!(jar.n(&engine).await.unwrap(), Some(1));
    assert_eq!((jar.names(), own.take_calls()), (vec!["connect.sid"], vec!["create"]));
    let mut late = house.jar.clone();
    assert_eq!(late.n(&engine).await.unwrap(), None);
    assert!(own.take_calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_moved_lives_as_the_new_layer_is_configured() {
    let old = Spy::new();
    let day = Engine::builder(old.clone()).profile(Profile::koa(KEYS)).build().unwrap();
    let mut jar = Jar::default();
    jar.visit(&day, async |s| add(s)).await.unwrap();
    let own = Spy::new();
    let builder = Engine::builder(own.clone()).expiry(Expiry::idle(Duration::from_secs(1800)));
    let engine = builder.migrate_from(Profile::koa(KEYS), old).build().unwrap();
    let set = jar.visit(&engine, async |s| add(s)).await.unwrap();
    assert!(set[0].starts_with("__Host-sid=") && set[0].contains("Max-Age=1800;"), "{set:?}");
    let write = own.take_all().into_iter().find(|call| call.op == "create").unwrap();
    assert_eq!(write.ttl, Some(Ttl::from_secs(1800)));
    let row = String::from_utf8(write.value.unwrap().to_vec()).unwrap();
    assert!(!row.contains(r#""ttl""#), "it has no time of its own: {row}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_the_old_row_meanwhile_comes_along_and_a_logout_there_is_final() {
    for ends in [false, true] {
        let mut house = House::new().await;
        let (store, engine) = (house.old.store(), house.engine.clone());
        let key = store.scan().next().await.unwrap().unwrap();
        let row = String::from_utf8(store.get(&key).await.unwrap().unwrap().to_vec()).unwrap();
        let set = house
            .jar
            .visit(&engine, async |s| {
                add(s)?;
                if ends {
                    return store.destroy(&key).await.map(|_| ());
                }
                let changed = row.replace(r#""n":1"#, r#""n":10,"theirs":true"#);
                store.set(&key, Bytes::from(changed), Ttl::from_secs(60)).await
            })
            .await
            .unwrap();
        if ends {
            assert_eq!((set.len(), house.both().await), (0, (0, 0)), "nothing rises again");
            continue;
        }
        assert_eq!(house.both().await, (1, 0));
        let mut seen = (None, false);
        house
            .jar
            .visit(&engine, async |s| {
                seen = (s.get::<u64>("n")?, s.contains("theirs"));
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(seen, (Some(11), true));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_on_the_way_the_visitor_stays_logged_in() {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Rejected, ErrorKind::Timeout, ErrorKind::Backend];
    for kind in kinds {
        // The record, and the note that the session has moved.
        for (own, call, nth) in
            [(true, "create", 1), (true, "create", 2), (false, "get", 1), (false, "remove", 1)]
        {
            let mut house = House::new().await;
            let spy = if own { &house.own } else { &house.old };
            spy.on(call, nth, Act::Fail(kind));
            let note = format!("{call} {nth} fails with {kind:?}");
            let outcome = house.jar.visit(&house.engine, async |s| add(s)).await;
            house.engine.shutdown(Duration::from_secs(90)).await.unwrap();
            // Some failures are mended on the spot: a lost reply is settled by reading.
            let done = u64::from(outcome.is_ok());
            assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1 + done), "{note}");
            assert_eq!(house.both().await, (1, 0), "{note}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_store_that_is_down_is_an_error_and_never_no_session() {
    let mut house = House::new().await;
    house.old.on_calls(1, 2, Act::Fail(ErrorKind::Unavailable));
    let before = house.jar.0.clone();
    assert_eq!(house.jar.n(&house.engine).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((house.jar.0.clone(), house.both().await), (before, (0, 1)));
    // Who has no old ticket does not notice.
    assert_eq!(Jar::default().n(&house.engine).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_saves_nothing_moves_nothing() {
    let mut house = House::new().await;
    let set = house
        .jar
        .visit(&house.engine, async |s| {
            s.set_save(Save::Never);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!((set.len(), house.both().await), (0, (0, 1)));
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_old_ticket_under_an_older_key_stays_where_it_is_until_its_session_moves() {
    let house = House::new().await;
    let koa = Profile::koa(["the newest", KEYS[0]]);
    let engine = Engine::builder(house.own.clone()).migrate_from(koa, house.old.clone()).build().unwrap();
    let (mut jar, before) = (house.jar.clone(), house.jar.0.clone());
    let set = jar.visit(&engine, async |s| {
        s.set_save(Save::Never);
        Ok(())
    });
    assert_eq!(set.await.unwrap(), [""; 0]);
    assert_eq!((&jar.0, house.both().await), (&before, (0, 1)));
    assert_eq!(jar.n(&engine).await.unwrap(), Some(1));
    assert_eq!((jar.names(), house.both().await), (vec!["__Host-sid"], (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_stays_and_a_forged_ticket_leads_nowhere() {
    let mut house = House::new().await;
    let store = house.old.store();
    let key = store.scan().next().await.unwrap().unwrap();
    store.set(&key, Bytes::from_static(b"{\"cookie\":5}"), Ttl::from_secs(60)).await.unwrap();
    let outcome = house.jar.visit(&house.engine, async |s| s.insert("n", 1)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WritesRefused);
    assert_eq!(store.get(&key).await.unwrap().unwrap(), b"{\"cookie\":5}"[..]);
    house.old.take_calls();
    house.jar.0.insert("koa.sid.sig".into(), "A".repeat(27));
    assert_eq!(house.jar.n(&house.engine).await.unwrap(), None);
    assert!(house.old.take_calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_ticket_that_leads_nowhere_goes_with_the_first_cookie_of_a_new_session() {
    let mut house = House::new().await;
    let engine = house.engine.clone();
    house.jar.clone().visit(&engine, async |s| s.destroy().await).await.unwrap();
    // A mere look says nothing to the browser.
    assert_eq!(house.jar.visit(&engine, async |_| Ok(())).await.unwrap(), [""; 0]);
    assert_eq!(house.jar.visit(&engine, async |s| add(s)).await.unwrap().len(), 3);
    assert_eq!(house.jar.names(), ["__Host-sid"]);
    house.own.take_calls();
    house.old.take_calls();
    assert_eq!(house.jar.n(&engine).await.unwrap(), Some(1));
    assert_eq!((house.own.take_calls(), house.old.calls()), (vec!["get"], 0));
    // One that was never ours stays, as it costs no look, and so does one that is not needed.
    let mut house = House::new().await;
    let engine = house.engine.clone();
    let mut forged = house.jar.clone();
    forged.0.insert("koa.sid.sig".into(), "A".repeat(27));
    assert_eq!(forged.visit(&engine, async |s| add(s)).await.unwrap().len(), 1);
    house.jar.0.insert("__Host-sid".into(), forged.0["__Host-sid"].clone());
    let set = house.jar.visit(&engine, async |s| s.set_ttl(Duration::from_secs(99))).await.unwrap();
    assert_eq!((set.len(), house.both().await), (1, (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_logout_with_an_old_ticket_to_a_row_that_cannot_be_read_takes_the_ticket_back() {
    let mut house = House::new().await;
    let (store, engine) = (house.old.store(), house.engine.clone());
    let key = store.scan().next().await.unwrap().unwrap();
    store.set(&key, Bytes::from_static(b"5"), Ttl::from_secs(60)).await.unwrap();
    house.jar.visit(&engine, async |s| s.destroy().await).await.unwrap();
    assert_eq!((house.jar.names().len(), store.get(&key).await.unwrap().unwrap()), (0, Bytes::from("5")));
}

#[tokio::test(start_paused = true)]
async fn what_a_store_cannot_read_keeps_its_visitor_from_writing_in_either_home() {
    let mut house = House::new().await;
    let (engine, before) = (house.engine.clone(), house.jar.clone());
    house.old.on("get", 1, Act::Fail(ErrorKind::Corrupt));
    let outcome = house.jar.visit(&engine, async |s| s.insert("n", 7)).await;
    assert_eq!((outcome.unwrap_err().kind(), house.both().await), (ErrorKind::WritesRefused, (0, 1)));
    house.jar.n(&engine).await.unwrap();
    // The note that it has moved.
    house.own.on("get", 1, Act::Fail(ErrorKind::Corrupt));
    let outcome = before.clone().visit(&engine, async |s| s.insert("n", 7)).await;
    assert_eq!((outcome.unwrap_err().kind(), house.both().await), (ErrorKind::WritesRefused, (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn sessions_move_from_express_and_from_cookies_as_well() {
    let old = Spy::new();
    let express = Engine::builder(old.clone()).profile(Profile::express(["s3cret"])).build().unwrap();
    let mut jar = Jar::default();
    jar.visit(&express, async |s| add(s)).await.unwrap();
    let engine = Engine::builder(Spy::new()).migrate_from(Profile::express(["s3cret"]), old.clone());
    let engine = engine.build().unwrap();
    assert_eq!(jar.n(&engine).await.unwrap(), Some(1));
    assert_eq!((jar.names(), House::records(&old).await), (vec!["__Host-sid"], 0));

    let in_cookies = Engine::builder(NoStore).profile(Profile::koa_session(KEYS)).build().unwrap();
    let mut jar = Jar::default();
    jar.visit(&in_cookies, async |s| add(s)).await.unwrap();
    let own = Spy::new();
    let engine =
        Engine::builder(own.clone()).migrate_from(Profile::koa_session(KEYS), NoStore).build().unwrap();
    jar.visit(&engine, async |s| add(s)).await.unwrap();
    assert_eq!((jar.names(), House::records(&own).await), (vec!["__Host-sid"], 1));
    assert_eq!(jar.n(&engine).await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn caches_are_told_of_the_old_cookie_where_ids_travel_in_a_header_from_now_on() {
    let house = House::new().await;
    let builder = Engine::builder(Spy::new()).transport(BearerTransport::new("x-session").unwrap());
    let engine = builder.migrate_from(Profile::koa(KEYS), house.old.clone()).build().unwrap();
    let lazy = house.jar.begin(&engine);
    assert_eq!(lazy.load().await.unwrap().get::<u64>("n").unwrap(), Some(1));
    let headers = support::visitor::finish(&engine, &lazy, StatusCode::OK).await.unwrap();
    let vary: Vec<_> = headers.get_all(header::VARY).iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(vary, ["Cookie", "authorization"]);
}

#[test]
fn what_cannot_be_taken_over_from_is_an_error_of_build() {
    let own = || Engine::builder(Spy::new());
    let koa = || Profile::koa(KEYS).with_cookie(CookieConfig::new().name("__Host-sid"));
    for (builder, cure) in [
        (own().migrate_from(koa(), Spy::new()), "called `__Host-sid`"),
        (own().migrate_from(Profile::koa(KEYS), NoStore), "instead of `NoStore`"),
        (own().migrate_from(Profile::koa_session(KEYS), Spy::new()), "give the layer `NoStore`"),
        (own().migrate_from(Profile::koa([""; 0]), Spy::new()), "no secret"),
        (
            own().migrate_from(Profile::koa(KEYS).with_cookie(CookieConfig::new().name("a b")), Spy::new()),
            "token",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("migrate_from")), "{error}");
        assert!(error.to_string().contains(cure), "{error}");
    }
}
