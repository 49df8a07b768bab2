//! What happens around a handler: where there is a session, whose it is, and what an untouched one costs.

use crate::visitor::{SID, TEST_SID, Visitor, signed};

#[tokio::test]
async fn the_first_write_makes_a_session_and_the_next_request_finds_it() {
    let mut visitor = Visitor::at("main");
    let first = visitor.get("/session/get").await;
    assert_eq!((first.ok().body.as_str(), first.cookies.len()), ("1", 2));
    let id = first.cookie(TEST_SID).value.clone();
    let second = visitor.get("/session/get").await;
    assert_eq!((second.body.as_str(), &second.cookie(TEST_SID).value), ("2", &id));
    assert_eq!(visitor.another().get("/session/get").await.body, "1");
}

#[tokio::test]
async fn who_only_looks_around_leaves_no_trace() {
    let mut visitor = Visitor::at("main");
    visitor.get("/session/notuse").await.ok().sets_nothing();
    assert!(visitor.log().await.is_empty());
    let (rows, _) = visitor.look().await;
    assert!(rows.is_empty());
}

#[tokio::test]
async fn a_request_that_only_reads_asks_the_store_once_and_tells_the_browser_nothing() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        visitor.log().await;
        assert_eq!(visitor.get("/session/nothing").await.sets_nothing().body, "1");
        assert_eq!(visitor.log().await, ["get"], "{app}");
    }
}

#[tokio::test]
async fn outside_the_path_of_the_cookie_there_is_no_session() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        visitor.log().await;
        for (path, there) in [
            ("/", "no session"),
            ("/wrongpath", "no session"),
            ("/Session", "no session"),
            ("/session", "has session"),
            ("/session/", "has session"),
            ("/session/x?y=/z", "has session"),
        ] {
            assert_eq!(visitor.get(path).await.sets_nothing().body, there, "{app} {path}");
        }
        // Only those inside, of the application that does not wait for its handler.
        assert_eq!(visitor.log().await.len(), if app == "main" { 3 } else { 0 });
    }
}

#[tokio::test]
async fn a_layer_within_a_layer_steps_back() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        assert_eq!(visitor.get("/session/get").await.cookies.len(), 2);
        assert_eq!(visitor.log().await, ["set"]);
        assert_eq!(visitor.get("/session/get").await.body, "2");
        assert_eq!(visitor.log().await, ["get", "set"]);
    }
}

#[tokio::test]
async fn an_unknown_id_is_never_adopted() {
    let visitor = Visitor::at("plain");
    let invented = "A".repeat(32);
    let answer = visitor.send("/inc", &[("cookie", &signed(SID, &invented, "keys"))]).await;
    assert_eq!(answer.body, "1");
    assert_ne!(answer.cookie(SID).value, invented);
    let (key, _) = visitor.only_row().await;
    assert!(!key.contains(&invented));
}

#[tokio::test]
async fn an_id_that_the_application_names_is_loaded_and_an_unknown_one_is_not_adopted() {
    let mut visitor = Visitor::at("main");
    let id = visitor.get("/session/get").await.cookie(TEST_SID).value.clone();
    let named = visitor.send(&format!("/session/id?force_session_id={id}"), &[]).await;
    assert_eq!(named.ok().body, id);
    let unknown = "B".repeat(32);
    let named = visitor.send(&format!("/session/id?force_session_id={unknown}"), &[]).await;
    assert_ne!(named.body, unknown);
    assert_eq!(named.body.len(), 32);
}

#[tokio::test]
async fn a_session_that_validate_refuses_is_nobodys_and_its_row_stays() {
    let mut visitor = Visitor::at("main");
    let first = visitor.get("/session/get").await;
    let jar = visitor.jar.clone();
    visitor.get("/session/nothing?valid=false").await.takes_back(TEST_SID);
    let (key, _) = visitor.only_row().await;
    assert_eq!(key, format!("koss:test{}", first.cookie(TEST_SID).value));
    visitor.jar = jar;
    assert_eq!(visitor.get("/session/nothing").await.body, "1");
}

#[tokio::test]
async fn a_handler_that_fails_is_saved_and_its_visitor_keeps_the_cookie() {
    let mut visitor = Visitor::at("main");
    let failed = visitor.get("/session/get_error").await;
    failed.fails("oops");
    assert_eq!(failed.cookies.len(), 2);
    assert_eq!(visitor.get("/session/get").await.body, "2");
}

#[tokio::test]
async fn a_route_that_is_not_there_is_not_there() {
    assert_eq!(Visitor::at("main").get("/favicon.ico").await.status, 404);
}

#[tokio::test]
async fn a_lazy_session_that_nobody_takes_costs_nothing() {
    let mut visitor = Visitor::at("defer");
    visitor.get("/session/get").await;
    visitor.log().await;
    assert_eq!(visitor.get("/session/notuse").await.sets_nothing().body, "no session");
    assert!(visitor.log().await.is_empty());
}
