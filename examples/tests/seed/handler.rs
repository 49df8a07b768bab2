//! What a handler can do with its session: replace it, end it, give it a new id, save it early.

use crate::visitor::{SID, TEST_SID, Visitor};

#[tokio::test]
async fn a_logout_ends_the_row_and_takes_both_cookies_back() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        let old = visitor.jar.clone();
        let answer = visitor.get("/session/remove").await;
        assert_eq!(answer.takes_back(TEST_SID).body, "0");
        assert!(answer.cookies.iter().all(|cookie| cookie.value.is_empty() || cookie.name.ends_with(".sig")));
        assert!(visitor.look().await.0.is_empty());
        visitor.jar = old.clone();
        assert_eq!(visitor.get("/session/get").await.body, "1");
        assert_ne!(visitor.jar[TEST_SID], old[TEST_SID]);
    }
}

#[tokio::test]
async fn a_logout_without_a_session_is_fine_and_touches_no_row() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        assert_eq!(visitor.get("/session/remove").await.ok().body, "0");
        assert!(visitor.look().await.0.is_empty());
    }
}

#[tokio::test]
async fn a_new_id_drops_the_data_and_the_old_row() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        let old = visitor.jar.clone();
        let answer = visitor.get("/session/regenerate").await;
        assert_eq!(answer.ok().body, visitor.jar[TEST_SID]);
        assert_ne!(visitor.jar[TEST_SID], old[TEST_SID]);
        let (key, row) = visitor.only_row().await;
        assert!(key.ends_with(&answer.body), "{app}");
        assert_eq!(row["value"]["data"], "foo");
        assert!(row["value"].get("count").is_none());
        visitor.jar = old;
        assert_eq!(visitor.get("/session/get").await.body, "1");
    }
}

#[tokio::test]
async fn a_new_id_drops_what_was_not_saved_yet() {
    for app in ["main", "defer"] {
        let answer = Visitor::at(app).get("/session/regenerateWithData").await;
        assert_eq!(answer.ok().json(), serde_json::json!({ "hasSession": true }), "{app}");
    }
}

#[tokio::test]
async fn the_whole_session_can_be_replaced_and_keeps_its_id() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        let id = visitor.jar[TEST_SID].clone();
        visitor.log().await;
        let answer = visitor.get("/session/rewrite").await;
        assert_eq!(answer.ok().json()["foo"], "bar");
        assert_eq!(visitor.jar[TEST_SID], id);
        let log = visitor.log().await;
        assert_eq!(log.iter().filter(|operation| *operation == "set").count(), 1, "{app}: {log:?}");
        let (_, row) = visitor.only_row().await;
        assert_eq!(row["value"]["foo"], "bar");
        assert!(row["value"].get("count").is_none());
    }
}

#[tokio::test]
async fn an_early_save_is_stored_once() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    visitor.log().await;
    visitor.get("/save").await.ok();
    let log = visitor.log().await;
    assert_eq!(log, ["get", "set"]);
    assert_eq!(visitor.get("/get").await.json()["session"]["n"], 2);
}

/// The ancestor with `defer` would not load it for that. Here a session is loaded before it is written, always: what is
/// saved is compared with what was there, and its id and end are kept.
#[tokio::test]
async fn a_lazy_session_that_is_only_assigned_is_loaded_first() {
    let mut visitor = Visitor::at("defer");
    visitor.get("/session/rewrite").await;
    assert_eq!(visitor.log().await, ["set"], "nothing to load");
    visitor.get("/session/get").await;
    visitor.log().await;
    visitor.get("/session/rewrite").await;
    assert_eq!(visitor.log().await, ["get", "set"]);
    // And one that is only ended, too: only what is there is destroyed.
    visitor.get("/session/remove").await;
    assert_eq!(visitor.log().await, ["get", "destroy"]);
    visitor.get("/session/remove").await.sets_nothing();
    assert!(visitor.log().await.is_empty(), "without a cookie there is nothing to end");
}

#[tokio::test]
async fn a_handler_knows_the_id_of_a_session_that_is_not_stored() {
    let mut visitor = Visitor::at("plain");
    let answer = visitor.get("/get").await;
    assert_eq!(answer.sets_nothing().json()["id"].as_str().unwrap().len(), 32);
    visitor.get("/inc").await;
    assert_eq!(visitor.get("/get").await.json()["id"], visitor.jar[SID]);
}
