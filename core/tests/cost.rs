//! How many store operations each kind of request costs, and that visitors without a session cost none at all.
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use cloakroom_conformance::Reference;
use cloakroom_core::{AdminStore, Engine, Expiry, Session};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use std::time::Duration;
use support::{
    COOKIE, Clock,
    spy::Spy,
    visitor::{Visitor, begin, cookies, finish},
};

fn engine(spy: &Spy) -> Engine {
    Engine::builder(spy.clone()).build().unwrap()
}

/// A visitor with a stored session, and a spy that has forgotten how it was made.
async fn known(spy: &Spy) -> (Engine, Visitor) {
    let engine = engine(spy);
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |session| session.insert("n", 1)).await.outcome.unwrap();
    spy.take_calls();
    (engine, visitor)
}

#[tokio::test]
async fn ten_thousand_requests_without_a_cookie_leave_no_trace() {
    let spy = Spy::new();
    let engine = engine(&spy);
    for _ in 0..10_000 {
        let lazy = begin(&engine, None);
        assert!(engine.finish(&lazy, StatusCode::OK).is_none(), "nothing to await");
    }
    assert!(spy.take_calls().is_empty());
    assert_eq!(spy.store().len().await.unwrap(), 0);
}

#[tokio::test]
async fn ten_thousand_sessions_that_are_only_read_leave_no_trace() {
    let spy = Spy::new();
    let engine = engine(&spy);
    for _ in 0..10_000 {
        let answer = Visitor::new()
            .visit(&engine, async |session| {
                assert!(session.is_new() && session.is_empty() && session.id().is_none());
                session.get::<String>("user")
            })
            .await;
        assert_eq!((answer.outcome.unwrap(), answer.cookies.len()), (None, 0));
    }
    assert!(spy.take_calls().is_empty());
    assert_eq!(spy.store().len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_that_is_filled_and_emptied_again_leaves_no_trace() {
    let spy = Spy::new();
    let engine = engine(&spy);
    let answer = Visitor::new()
        .visit(&engine, async |session| {
            session.ensure_id().await?;
            session.cycle_id().await?;
            session.insert("n", 1)?;
            session.clear()?;
            session.insert("n", 2)?;
            session.take::<u8>("n")?;
            session.save().await
        })
        .await;
    assert_eq!((answer.kind(), answer.cookies.len()), (None, 0));
    assert!(spy.take_calls().is_empty());
}

#[tokio::test]
async fn an_untouched_session_with_a_live_cookie_costs_nothing() {
    let spy = Spy::new();
    let (engine, visitor) = known(&spy).await;
    let lazy = visitor.begin(&engine);
    assert!(engine.finish(&lazy, StatusCode::OK).is_none());
    assert!(spy.take_calls().is_empty());
}

/// Each kind of request with the exact operations it may cost.
macro_rules! costs {
    ($($name:ident: $work:expr => [$($op:literal),*], cookies: $cookies:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let spy = Spy::new();
            let (engine, mut visitor) = known(&spy).await;
            let work: fn(Session) -> std::pin::Pin<Box<dyn Future<Output = cloakroom_core::Result<()>>>> = $work;
            let answer = visitor.visit(&engine, async |session| work(session.clone()).await).await;
            answer.outcome.unwrap();
            let expected: &[&str] = &[$($op),*];
            assert_eq!(spy.take_calls(), expected);
            assert_eq!(answer.cookies.len(), $cookies);
        }
    )*};
}

costs! {
    reading_costs_one_get: |s| Box::pin(async move { s.get::<u8>("n").map(|_| ()) }) => ["get"], cookies: 0;
    writing_what_is_there_already_costs_one_get: |s| Box::pin(async move { s.insert("n", 1) }) => ["get"], cookies: 0;
    removing_what_is_not_there_costs_one_get: |s| Box::pin(async move { s.remove("x").map(|_| ()) }) => ["get"], cookies: 0;
    a_change_costs_one_get_and_one_replace: |s| Box::pin(async move { s.insert("n", 2) }) => ["get", "replace"], cookies: 0;
    many_changes_cost_one_replace: |s| Box::pin(async move {
        for n in 0..100 { s.insert(&format!("k{n}"), n)?; }
        s.update("n", |n: Option<u8>| n.unwrap_or(0) + 1)?;
        s.remove("k3").map(|_| ())
    }) => ["get", "replace"], cookies: 0;
    emptying_costs_one_replace: |s| Box::pin(async move { s.clear() }) => ["get", "replace"], cookies: 0;
    an_update_now_costs_one_replace: |s| Box::pin(async move {
        s.update_now("n", |n: Option<u8>| n.unwrap_or(0) + 1).await.map(|_| ())
    }) => ["get", "replace"], cookies: 0;
    a_save_and_nothing_after_it_costs_one_replace: |s| Box::pin(async move {
        s.insert("n", 2)?;
        s.save().await
    }) => ["get", "replace"], cookies: 0;
    a_save_without_changes_costs_nothing: |s| Box::pin(async move { s.save().await }) => ["get"], cookies: 0;
    a_reload_costs_one_get: |s| Box::pin(async move { s.reload().await }) => ["get", "get"], cookies: 0;
    a_logout_costs_one_get_and_one_remove: |s| Box::pin(async move { s.destroy().await }) => ["get", "remove"], cookies: 1;
    a_login_costs_get_create_replace: |s| Box::pin(async move { s.cycle_id().await.map(|_| ()) }) => ["get", "create", "replace"], cookies: 1;
    a_login_with_data_costs_no_more: |s| Box::pin(async move {
        s.insert("user", "alice")?;
        s.cycle_id().await.map(|_| ())
    }) => ["get", "create", "replace"], cookies: 1;
    two_new_ids_cost_one_move: |s| Box::pin(async move {
        s.cycle_id().await?;
        s.cycle_id().await.map(|_| ())
    }) => ["get", "create", "replace"], cookies: 1;
    regenerating_costs_get_create_replace: |s| Box::pin(async move { s.regenerate().await.map(|_| ()) }) => ["get", "create", "replace"], cookies: 1;
    a_logout_and_a_new_session_cost_get_remove_create: |s| Box::pin(async move {
        s.destroy().await?;
        s.insert("flash", "bye")
    }) => ["get", "remove", "create"], cookies: 1;
    a_ttl_of_its_own_costs_one_replace_and_sends_the_cookie: |s| Box::pin(async move { s.set_ttl(Duration::from_secs(9)) }) => ["get", "replace"], cookies: 1;
    binding_costs_one_bind_before_the_replace: |s| Box::pin(async move { s.bind_user("alice") }) => ["get", "bind", "replace"], cookies: 0;
    a_login_that_binds_writes_the_index_before_the_old_id_dies: |s| Box::pin(async move {
        s.bind_user("alice")?;
        s.cycle_id().await.map(|_| ())
    }) => ["get", "create", "bind", "replace"], cookies: 1;
}

#[tokio::test]
async fn a_new_session_costs_one_create() {
    let spy = Spy::new();
    let answer = Visitor::new().visit(&engine(&spy), async |session| session.insert("n", 1)).await;
    assert_eq!(answer.cookies.len(), 1);
    assert_eq!(spy.take_calls(), ["create"]);
}

#[tokio::test]
async fn a_renewal_costs_one_get_and_one_replace() {
    let (spy, clock) = (Spy::new(), Clock::new());
    let engine = Engine::builder(spy.clone())
        .expiry(Expiry::idle(Duration::from_secs(100)))
        .clock(clock.reader())
        .build()
        .unwrap();
    let mut visitor = Visitor::new();
    visitor.visit(&engine, async |session| session.insert("n", 1)).await;
    clock.advance(Duration::from_secs(51));
    spy.take_calls();
    assert_eq!(visitor.visit(&engine, async |_| Ok(())).await.cookies.len(), 1);
    assert_eq!(spy.take_calls(), ["get", "replace"]);
    assert_eq!(visitor.visit(&engine, async |_| Ok(())).await.cookies.len(), 0);
    assert_eq!(spy.take_calls(), ["get"]);
    clock.advance(Duration::from_secs(51));
    visitor.visit(&engine, async |session| session.insert("n", 2)).await;
    assert_eq!(spy.take_calls(), ["get", "replace"], "a change that is due anyway renews on its way");
}

#[tokio::test]
async fn an_unknown_id_costs_one_get_and_nothing_else() {
    let spy = Spy::new();
    let answer = Visitor::with(&"x".repeat(43)).peek(&engine(&spy), async |_| Ok(())).await;
    assert_eq!(answer.cookies.len(), 0);
    assert_eq!(spy.take_calls(), ["get"]);
}

#[tokio::test]
async fn foreign_and_malformed_cookies_cost_nothing() {
    let spy = Spy::new();
    let engine = engine(&spy);
    let long = "a".repeat(44);
    let values = [
        "",
        "a",
        "nonsense",
        &long,
        &"a".repeat(42),
        &"ä".repeat(21),
        "%41%41",
        "\"quoted\"",
        "a b",
        &"=".repeat(43),
    ];
    let mut headers: Vec<Vec<u8>> =
        values.iter().map(|value| format!("{COOKIE}={value}").into_bytes()).collect();
    headers.push([format!("{COOKIE}=").as_bytes(), &[0xff; 43]].concat());
    headers.push(
        format!(
            "sid={}; other=1; {COOKIE}x={}; x{COOKIE}={}",
            "a".repeat(43),
            "a".repeat(43),
            "a".repeat(43)
        )
        .into_bytes(),
    );
    headers.push(b";;;===;;; , \t".to_vec());
    headers.push(COOKIE.into());
    headers.push(format!("junk={}", "x".repeat(100_000)).into_bytes());
    for header in headers {
        let mut map = HeaderMap::new();
        map.insert(header::COOKIE, HeaderValue::from_bytes(&header).unwrap());
        let uri = Uri::from_static("/");
        let head = cloakroom_core::RequestHead { method: &Method::GET, uri: &uri, headers: &map };
        let lazy = engine.begin(&head);
        assert!(lazy.load().await.unwrap().is_new());
        let sent = finish(&engine, &lazy, StatusCode::OK).await.unwrap();
        assert!(cookies(&sent).is_empty());
        assert_eq!(sent[header::VARY], "Cookie");
    }
    assert!(spy.take_calls().is_empty());
}

#[tokio::test]
async fn outside_the_cookies_path_there_is_no_session_and_no_call() {
    let spy = Spy::new();
    let cookie = cloakroom_core::CookieConfig::new().name("__Secure-sid").path("/app");
    let engine = Engine::builder(spy.clone()).cookie(cookie).build().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, format!("__Secure-sid={}", "a".repeat(43)).parse().unwrap());
    for (path, inside) in
        [("/", false), ("/apple", false), ("/app", true), ("/app/x?y", true), ("/App", false)]
    {
        let uri: Uri = path.parse().unwrap();
        let lazy =
            engine.begin(&cloakroom_core::RequestHead { method: &Method::GET, uri: &uri, headers: &headers });
        assert_eq!(lazy.in_scope(), inside, "{path}");
        assert_eq!(lazy.load().await.is_ok(), inside, "{path}");
        assert!(finish(&engine, &lazy, StatusCode::OK).await.is_ok());
        assert_eq!(spy.take_calls().len(), usize::from(inside), "{path}");
    }
}

#[tokio::test]
async fn a_store_without_conditional_writes_costs_a_read_before_each() {
    let store = cloakroom_conformance::Plain::new(Reference::new());
    let engine = Engine::builder(store).build().unwrap();
    let mut visitor = Visitor::new();
    for n in 0..3_u8 {
        visitor.visit(&engine, async |session| session.insert("n", n)).await.outcome.unwrap();
    }
    assert_eq!(
        visitor.visit(&engine, async |session| session.get::<u8>("n")).await.outcome.unwrap(),
        Some(2)
    );
    let old = visitor.clone();
    visitor.visit(&engine, async |session| session.cycle_id().await).await.outcome.unwrap();
    assert_eq!(old.peek(&engine, async |session| session.get::<u8>("n")).await.outcome.unwrap(), None);
    assert_eq!(
        visitor.visit(&engine, async |session| session.get::<u8>("n")).await.outcome.unwrap(),
        Some(2)
    );
    visitor.visit(&engine, async |session| session.destroy().await).await.outcome.unwrap();
    assert_eq!(visitor.ticket, None);
}
