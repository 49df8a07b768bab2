//! One option after the other, where it differs from its default.

use crate::visitor::{SID, TEST_SID, Visitor, ends_in, signed};

#[tokio::test]
async fn the_defaults_are_the_ancestors() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    let (key, row) = visitor.only_row().await;
    assert_eq!(key, format!("koa:sess:{}", visitor.jar[SID]));
    assert_eq!(row["ttl"], 86_400_000);
    let expected = "{\"cookie\":{\"httpOnly\":true,\"path\":\"/\",\"overwrite\":true,\"signed\":true,\
                    \"maxAge\":86400000},\"n\":1}";
    assert_eq!(row["raw"], expected, "byte for byte what the ancestor stores");
}

#[tokio::test]
async fn prefix_and_ttl_are_the_applications() {
    let mut visitor = Visitor::at("main");
    visitor.get("/session/get").await;
    let (key, row) = visitor.only_row().await;
    assert_eq!(key, format!("koss:test{}", visitor.jar[TEST_SID]));
    assert_eq!(row["ttl"], 1000);
    assert_eq!((&row["value"]["count"], &row["value"]["path"]), (&1.into(), &"/session/get".into()));
}

#[tokio::test]
async fn without_a_ttl_the_row_lives_as_long_as_the_cookie() {
    let mut visitor = Visitor::at("defer");
    visitor.get("/session/get").await;
    let (key, row) = visitor.only_row().await;
    assert_eq!((key, &row["ttl"]), (format!("koa:sess:{}", visitor.jar[TEST_SID]), &86_400.into()));
}

#[tokio::test]
async fn the_ttl_may_be_a_function_of_the_session() {
    let mut visitor = Visitor::at("ttlfn");
    for n in 1..=3 {
        visitor.get("/inc").await;
        assert_eq!(visitor.only_row().await.1["ttl"], n * 1000);
    }
}

/// `ttl` is about the row: the cookie goes by its own `maxAge`, which the row keeps.
#[tokio::test]
async fn a_function_for_the_ttl_leaves_the_cookie_alone_and_may_have_nothing_to_say() {
    let mut visitor = Visitor::at("ttlfn");
    for path in ["/inc", "/inc", "/set?k=a&v=1"] {
        let answer = visitor.get(path).await;
        ends_in(answer.cookie(SID), 86_400.0);
        let row = visitor.only_row().await.1;
        assert_eq!(row["value"]["cookie"]["maxAge"], 86_400_000, "{path}");
    }
    // Without `n` there is no answer, and the row lives as long as the cookie.
    let mut visitor = Visitor::at("ttlfn");
    visitor.get("/set?k=a&v=1").await;
    assert_eq!(visitor.only_row().await.1["ttl"], 86_400_000);
}

#[tokio::test]
async fn ids_may_be_made_for_the_request() {
    let id = Visitor::at("main").get("/session/id?test_sid_append=test").await.ok().body.clone();
    assert!(id.len() == 36 && id.ends_with("test"), "{id}");
    let id = Visitor::at("main").get("/session/id").await.body;
    assert_eq!(id.len(), 32);
}

#[tokio::test]
async fn before_save_changes_what_is_saved() {
    let mut visitor = Visitor::at("main");
    visitor.get("/session/rewrite").await;
    let (_, row) = visitor.only_row().await;
    assert_eq!((&row["value"]["foo"], &row["value"]["path"]), (&"bar".into(), &"/session/rewrite".into()));
}

#[tokio::test]
async fn ids_may_travel_in_a_header() {
    let visitor = Visitor::at("header");
    let first = visitor.send("/inc", &[]).await;
    let id = first.sets_nothing().headers["x-session-id"].to_str().unwrap().to_owned();
    let second = visitor.send("/inc", &[("x-session-id", &id)]).await;
    assert_eq!((second.body.as_str(), second.headers["x-session-id"].to_str().unwrap()), ("2", id.as_str()));
    let read = visitor.send("/get", &[("x-session-id", &id)]).await;
    assert!(read.json()["session"]["n"] == 2 && !read.headers.contains_key("x-session-id"));
    let gone = visitor.send("/remove", &[("x-session-id", &id)]).await;
    assert_eq!(gone.headers["x-session-id"], "reset");
    assert_eq!(visitor.send("/inc", &[("x-session-id", &id)]).await.body, "1");
    // The cookie counts for nothing there.
    let answer = visitor.send("/get", &[("cookie", &signed(SID, &id, "keys"))]).await;
    assert!(answer.json()["session"].get("n").is_none());
}
