//! What the tower layer and the axum extractors do at their edges.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::get,
};
use cloakroom_conformance::Reference;
use cloakroom_core::{
    AdminStore, CookieConfig, Data, Engine, Error, ErrorKind, LazySession, OwnedHead, Session, SessionLayer,
};
use http::{Request, Response, StatusCode, header};
use support::{
    Browser, layer, layer_with, send,
    spy::{Act, Spy},
};
use tower::{Layer, Service, ServiceExt};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visit {
    views: u64,
}

fn app() -> Router {
    Router::new()
        .route("/read", get(|s: Session| async move { Ok::<_, Error>(s.keys().join(",")) }))
        .route("/write", get(|s: Session| async move { s.insert("n", 1) }))
        .route("/lazy", get(|_: LazySession| async { "lazy" }))
        .route("/maybe", get(|s: Option<Session>| async move { s.is_some().to_string() }))
        .route(
            "/data",
            get(|d: Data<Visit>| async move {
                d.update(|v| v.views += 1)?;
                Ok::<_, Error>(d.read().views.to_string())
            }),
        )
        .route("/none", get(|| async { "none" }))
        .route("/panic", get(panics))
}

async fn panics(session: Session) -> Result<(), Error> {
    session.insert("n", 1)?;
    panic!("in the handler")
}

#[tokio::test]
async fn without_a_layer_an_extractor_is_an_error_and_an_optional_one_is_none() {
    for path in ["/read", "/lazy", "/data"] {
        let reply = Browser::new().get(&app(), path).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, ""), "{path}");
    }
    assert_eq!(Browser::new().get(&app(), "/maybe").await.body, "false");
}

#[tokio::test]
async fn outside_the_cookies_path_an_optional_session_is_none_and_another_is_an_error() {
    let cookie = CookieConfig::new().name("sid").path("/inside");
    let app = Router::new()
        .nest("/inside", app())
        .merge(app())
        .layer(layer_with(Reference::new(), |b| b.cookie(cookie)));
    assert_eq!(Browser::new().get(&app, "/maybe").await.body, "false");
    assert_eq!(Browser::new().get(&app, "/inside/maybe").await.body, "true");
    assert_eq!(Browser::new().get(&app, "/write").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    let reply = Browser::new().get(&app, "/inside/write").await;
    assert!(reply.set_cookie().contains("Path=/inside"));
}

#[tokio::test]
async fn data_is_an_extractor() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    for n in 1..4 {
        assert_eq!(browser.get(&app, "/data").await.body, n.to_string());
    }
}

#[tokio::test]
async fn a_failed_load_is_503_with_retry_after_and_touches_neither_cookie_nor_record() {
    let spy = Spy::new();
    let app = app().layer(layer(spy.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/write").await;
    for path in ["/read", "/write", "/maybe", "/data"] {
        spy.take_calls();
        spy.on("get", 1, Act::Fail(ErrorKind::Unavailable));
        let reply = browser.peek(&app, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""), "{path}");
        assert_eq!(reply.headers[header::RETRY_AFTER], "1");
        assert_eq!((reply.set_cookies().len(), spy.take_calls()), (0, vec!["get"]), "{path}");
    }
    spy.on_calls(1, 100, Act::Fail(ErrorKind::Unavailable));
    for path in ["/lazy", "/none"] {
        assert_eq!(browser.peek(&app, path).await.status, StatusCode::OK, "{path}");
    }
    spy.heal();
    spy.on("get", 1, Act::Fail(ErrorKind::Rejected));
    let reply = browser.peek(&app, "/read").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.headers.get(header::RETRY_AFTER), None, "a wrong password does not mend itself");
    assert_eq!(browser.get(&app, "/read").await.body, "n");
}

#[tokio::test]
async fn a_failed_save_drops_the_handlers_answer_and_sends_no_cookie() {
    let spy = Spy::new();
    let app = app().layer(layer(spy.clone()));
    spy.on_calls(1, 100, Act::Fail(ErrorKind::Unavailable));
    let reply = Browser::new().get(&app, "/write").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(reply.headers[header::RETRY_AFTER], "1");
    assert_eq!(spy.store().len().await.unwrap(), 0);
}

/// As in the ancestor: what went wrong first is what is answered. The save that failed is in the log.
#[tokio::test]
async fn a_handlers_own_server_error_stands_where_the_save_fails_as_well() {
    let failing = |status: StatusCode| {
        get(move |s: Session| async move { s.insert("n", 1).map(|()| (status, "oops")) })
    };
    for recovers in [None, Some(true), Some(false)] {
        let spy = Spy::new();
        let layer = layer_with(spy.clone(), |b| match recovers {
            Some(true) => b.recover(async |_, _| Ok(())),
            Some(false) => b.recover(async |error, _| Err(error)),
            None => b,
        });
        let app = app().route("/502", failing(StatusCode::BAD_GATEWAY));
        let app = app.route("/404", failing(StatusCode::NOT_FOUND)).layer(layer);
        spy.on_calls(1, 100, Act::Fail(ErrorKind::Rejected));
        let reply = Browser::new().get(&app, "/502").await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::BAD_GATEWAY, "oops"));
        // It depends on the session, and hands out none.
        assert_eq!(
            (reply.set_cookies().len(), &reply.headers[header::VARY]),
            (0, &"Cookie".parse().unwrap())
        );
        assert!(!reply.headers.contains_key(header::CACHE_CONTROL));
        let reply = Browser::new().get(&app, "/404").await;
        let expected =
            if recovers == Some(true) { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
        assert_eq!((reply.status, reply.set_cookies().len()), (expected, 0));
    }
}

/// The ancestor drops the handler's; here browsers go by the last one, and what a handler says is not touched.
#[tokio::test]
async fn a_handlers_own_cookie_of_the_same_name_comes_before_the_sessions() {
    let handler = get(|s: Session| async move {
        s.insert("n", 1)?;
        Ok::<_, Error>([(header::SET_COOKIE, "__Host-sid=mine; Path=/; Secure")])
    });
    let app = app().route("/own", handler).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/own").await;
    assert_eq!((reply.set_cookies().len(), reply.set_cookies()[0]), (2, "__Host-sid=mine; Path=/; Secure"));
    assert_eq!(browser.get(&app, "/read").await.body, "n");
}

#[tokio::test]
async fn the_answer_to_a_failed_save_can_be_made_by_the_application() {
    let spy = Spy::new();
    let on_error = |error: &Error, head: &OwnedHead| {
        let text = format!("{} {}: {}", head.method, head.uri.path(), error.kind());
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    };
    let app = app().layer(layer(spy.clone()).on_error(on_error));
    spy.on_calls(1, 100, Act::Fail(ErrorKind::Rejected));
    let reply = Browser::new().get(&app, "/write").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::IM_A_TEAPOT, "GET /write: rejected"));
}

#[tokio::test]
async fn a_handler_that_panics_saves_nothing_and_spoils_nothing() {
    let store = Reference::new();
    let app = app().layer(layer(store.clone()));
    let broken = app.clone();
    let request = Request::get("/panic").body(Body::empty()).unwrap();
    assert!(tokio::spawn(async move { send(&broken, request).await }).await.unwrap_err().is_panic());
    assert_eq!(store.len().await.unwrap(), 0);
    assert_eq!(Browser::new().get(&app, "/write").await.set_cookies().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_still_streamed_can_update_a_stored_session_and_nothing_else() {
    let handler = |s: Session| async move {
        s.insert("n", 1)?;
        let body = async move {
            let late = s.insert("late", 1).map_err(|error| error.kind());
            let n = s.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await;
            Ok::<_, Infallible>(Bytes::from(format!("{late:?} {n:?}")))
        };
        Ok::<_, Error>(Body::from_stream(futures_util::stream::once(body)))
    };
    let app = app().route("/stream", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    assert_eq!(browser.get(&app, "/stream").await.body, "Err(Committed) Ok(2)");
    assert_eq!(browser.get(&app, "/read").await.body, "n");
}

#[tokio::test]
async fn a_service_that_fails_commits_nothing() {
    let store = Reference::new();
    let failing = tower::service_fn(|request: Request<Body>| async move {
        let session = request.extensions().get::<LazySession>().unwrap().load().await.unwrap();
        session.insert("n", 1).unwrap();
        Err::<Response<Body>, _>("broken")
    });
    let outcome = layer(store.clone()).layer(failing).oneshot(Request::new(Body::empty())).await;
    assert_eq!(outcome.unwrap_err(), "broken");
    assert_eq!(store.len().await.unwrap(), 0);
}

/// Neither `Clone`, nor `Send`, nor `'static`; its body has no `Default` bound beyond what the layer asks.
struct Borrowing<'a>(&'a str, Rc<()>);

impl<'a> Service<Request<()>> for Borrowing<'a> {
    type Response = Response<&'a str>;
    type Error = Infallible;
    type Future = Answer<'a>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Answer<'a> {
        let session = request.extensions().get::<LazySession>().cloned();
        Answer { text: self.0, session, _not_send: Rc::clone(&self.1) }
    }
}

struct Answer<'a> {
    text: &'a str,
    session: Option<LazySession>,
    _not_send: Rc<()>,
}

impl<'a> Future for Answer<'a> {
    type Output = Result<Response<&'a str>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.session.is_some());
        Poll::Ready(Ok(Response::new(self.text)))
    }
}

#[tokio::test]
async fn the_layer_asks_nothing_of_the_service_it_wraps() {
    let text = String::from("borrowed");
    let mut service = layer(Reference::new()).layer(Borrowing(&text, Rc::new(())));
    let response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    assert_eq!(*response.body(), "borrowed");
    let unit = tower::service_fn(|_: Request<()>| -> Ready<Result<Response<()>, Infallible>> {
        ready(Ok(Response::new(())))
    });
    SessionLayer::from(Engine::builder(Reference::new()).build().unwrap())
        .layer(unit)
        .oneshot(Request::new(()))
        .await
        .unwrap();
}
