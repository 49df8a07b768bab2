//! What is saved, when, and what the browser then hears.

use crate::visitor::{SID, TEST_SID, Visitor};

#[tokio::test]
async fn a_handler_may_force_a_save_prevent_one_or_leave_it_to_the_rule() {
    let mut visitor = Visitor::at("override");
    for (path, body, cookies) in [
        ("update", "1, null", 2),
        ("update", "2, null", 2),
        ("update/prevent", "3, false", 0),
        ("read", "2, null", 0),
        ("read/force", "2, true", 2),
        ("read/prevent", "2, false", 0),
    ] {
        let answer = visitor.get(&format!("/session/{path}")).await;
        assert_eq!((answer.ok().body.as_str(), answer.cookies.len()), (body, cookies), "{path}");
    }
}

#[tokio::test]
async fn who_prevents_the_save_prevents_the_removal_too() {
    let mut visitor = Visitor::at("override");
    visitor.get("/session/update").await;
    assert_eq!(visitor.get("/session/remove/prevent").await.sets_nothing().body, "0, false");
    assert_eq!(visitor.get("/session/read").await.body, "1, null");
    visitor.get("/session/remove/force").await.takes_back(TEST_SID);
    assert!(visitor.look().await.0.is_empty());
}

#[tokio::test]
async fn a_forced_save_stores_an_empty_new_session() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/force").await.ok();
    let (key, row) = visitor.only_row().await;
    assert_eq!(key, format!("koa:sess:{}", visitor.jar[SID]));
    assert_eq!(row["value"].as_object().unwrap().keys().collect::<Vec<_>>(), ["cookie"]);
}

#[tokio::test]
async fn a_prevented_save_stores_nothing_of_a_session_that_is_there() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    visitor.get("/prevent").await.ok().sets_nothing();
    assert_eq!(visitor.get("/get").await.json()["session"]["n"], 1);
}

#[tokio::test]
async fn writing_what_is_there_already_saves_nothing() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/set?k=a&v=1").await;
    visitor.log().await;
    visitor.get("/set?k=a&v=1").await.ok().sets_nothing();
    assert_eq!(visitor.log().await, ["get"]);
}

#[tokio::test]
async fn every_save_sends_the_cookie_again_and_begins_the_time_anew() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    visitor.log().await;
    let again = visitor.get("/inc").await;
    assert_eq!(again.cookies.len(), 2);
    let (_, row) = visitor.only_row().await;
    assert_eq!(row["ttl"], 86_400_000);
}

#[tokio::test]
async fn with_rolling_every_request_with_a_session_renews_row_and_cookie() {
    let mut visitor = Visitor::at("rolling");
    visitor.get("/session/nothing").await.sets_nothing();
    visitor.get("/session/get").await;
    visitor.log().await;
    assert_eq!(visitor.get("/session/nothing").await.cookies.len(), 2);
    let log = visitor.log().await;
    assert_eq!((log.len(), log[0].as_str()), (2, "get"), "{log:?}");
    visitor.get("/session/remove").await.takes_back(TEST_SID);
    assert_eq!(visitor.get("/session/get").await.body, "1");
}

#[tokio::test]
async fn without_rolling_a_mere_read_renews_nothing_however_little_is_left() {
    let mut visitor = Visitor::at("ttlfn");
    visitor.get("/inc").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    visitor.log().await;
    visitor.get("/get").await.ok().sets_nothing();
    assert_eq!(visitor.log().await, ["get"]);
}

#[tokio::test]
async fn with_allow_empty_a_visitor_gets_a_row_once() {
    let mut visitor = Visitor::at("empty");
    assert_eq!(visitor.get("/get").await.cookies.len(), 2);
    assert_eq!(visitor.log().await, ["set"]);
    visitor.get("/get").await.sets_nothing();
    assert_eq!(visitor.log().await, ["get"]);
}

#[tokio::test]
async fn a_save_that_fails_sends_no_cookie() {
    let mut visitor = Visitor::at("plain");
    visitor.switch("fail&method=set&msg=boom").await;
    visitor.get("/inc").await.sets_nothing().fails("boom");
    visitor.switch("heal").await;
    assert!(visitor.look().await.0.is_empty());
}

#[tokio::test]
async fn ending_a_session_and_writing_again_makes_a_new_one() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    let old = visitor.jar[SID].clone();
    visitor.get("/unset-write").await.ok();
    assert_ne!(visitor.jar[SID], old);
    let (key, row) = visitor.only_row().await;
    assert_eq!(key, format!("koa:sess:{}", visitor.jar[SID]));
    assert_eq!(row["value"]["again"], true);
    assert!(row["value"].get("n").is_none());
}
