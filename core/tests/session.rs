//! What a visitor and a developer see of sessions, over HTTP and a store inside the process.
#![cfg(feature = "axum-core-0_5")]

mod support;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use cloakroom_conformance::Reference;
use cloakroom_core::{AdminStore, Error, ErrorKind, Expiry, Keyring, LazySession, Result, SameSite, Session};
use http::{StatusCode, header};
use support::{Browser, COOKIE, Clock, layer, layer_with};
use tokio::sync::Notify;

async fn count(session: Session) -> Result<String> {
    let n: u64 = session.update_now("count", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

async fn login(session: Session) -> Result<String> {
    session.cycle_id().await?;
    session.insert("user", "alice")?;
    Ok("in".into())
}

async fn logout(session: Session) -> Result<String> {
    session.destroy().await?;
    Ok("out".into())
}

async fn who(session: Session) -> Result<String> {
    Ok(session.get::<String>("user")?.unwrap_or_else(|| "nobody".into()))
}

async fn set(Path((key, value)): Path<(String, String)>, session: Session) -> Result<()> {
    session.insert(&key, value)
}

async fn show(session: Session) -> Result<String> {
    let all = session
        .keys()
        .into_iter()
        .map(|key| Ok(format!("{key}={}", session.get::<serde_json::Value>(&key)?.unwrap_or_default())));
    Ok(all.collect::<Result<Vec<_>>>()?.join(" "))
}

fn app() -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/login", get(login))
        .route("/logout", get(logout))
        .route("/who", get(who))
        .route("/show", get(show))
        .route("/set/{key}/{value}", get(set))
        .route("/none", get(|| async { "none" }))
        .route("/lazy", get(|_: LazySession| async { "lazy" }))
        .route("/clear", get(|session: Session| async move { session.clear() }))
        .route(
            "/fail",
            get(|session: Session| async move {
                session.insert("n", 1)?;
                Ok::<_, Error>((StatusCode::INTERNAL_SERVER_ERROR, "failed"))
            }),
        )
}

#[tokio::test]
async fn a_counter_counts_and_the_cookie_is_sent_once() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    let first = browser.get(&app, "/count").await;
    assert_eq!(first.body, "1");
    assert_eq!(
        first.set_cookie().split_once("; ").unwrap().1,
        "Max-Age=86400; Path=/; Secure; HttpOnly; SameSite=Lax"
    );
    for n in 2..5 {
        let reply = browser.get(&app, "/count").await;
        assert_eq!(
            (reply.body, reply.headers.get_all(header::SET_COOKIE).iter().count()),
            (n.to_string(), 0)
        );
    }
}

#[tokio::test]
async fn the_store_never_sees_the_id() {
    let store = Reference::new();
    let app = app().layer(layer(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    let keys: Vec<_> = futures_util::StreamExt::collect(store.scan()).await;
    assert_eq!(keys.len(), 1);
    let key = keys.into_iter().next().unwrap().unwrap();
    assert_ne!(key.as_str(), browser.ticket().unwrap());
    assert_eq!(key, browser.key());
}

#[tokio::test]
async fn a_login_changes_the_id_and_keeps_the_data_and_the_old_id_is_nobody() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set/cart/book").await;
    let before = browser.clone();
    browser.get(&app, "/login").await;
    assert_ne!(browser.ticket(), before.ticket());
    assert_eq!(browser.get(&app, "/show").await.body, r#"cart="book" user="alice""#);
    assert_eq!(before.peek(&app, "/who").await.body, "nobody");
}

#[tokio::test]
async fn after_a_logout_the_old_cookie_is_nobody_and_the_browser_has_none() {
    let store = Reference::new();
    let app = app().layer(layer(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let stolen = browser.clone();
    let reply = browser.get(&app, "/logout").await;
    assert!(reply.set_cookie().contains("Max-Age=0") && reply.set_cookie().contains("Secure"));
    assert_eq!(browser.ticket(), None);
    let reply = stolen.peek(&app, "/who").await;
    assert_eq!((reply.body.as_str(), reply.set_cookies().len()), ("nobody", 0));
    assert_eq!(store.len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_ended_and_begun_in_one_request_has_a_new_id() {
    let handler = |session: Session| async move {
        session.destroy().await?;
        session.insert("flash", "bye")
    };
    let app = app().route("/bye", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let old = browser.clone();
    browser.get(&app, "/bye").await;
    assert_ne!(browser.ticket(), old.ticket());
    assert_eq!(browser.get(&app, "/show").await.body, r#"flash="bye""#);
    assert_eq!(old.peek(&app, "/show").await.body, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_parallel_requests_lose_no_key_and_no_count() {
    let handler = |Path(key): Path<String>, session: Session| async move {
        session.insert(&key, true)?;
        count(session).await
    };
    let app = app().route("/both/{key}", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set/first/x").await;
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let (app, browser) = (app.clone(), browser.clone());
            tokio::spawn(async move { browser.peek(&app, &format!("/both/k{n}")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        let reply = task.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        answers.push(reply.body.parse::<u64>().unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, (1..=32).collect::<Vec<_>>());
    let shown = browser.get(&app, "/show").await.body;
    assert!((0..32).all(|n| shown.contains(&format!("k{n}=true"))) && shown.contains("count=32"), "{shown}");
}

/// A route that loads the session, says so, and writes when it is told to go on.
fn slow(app: Router) -> (Router, Arc<Notify>, Arc<Notify>) {
    let (loaded, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at, on) = (Arc::clone(&loaded), Arc::clone(&go));
    let handler = move |session: Session| async move {
        at.notify_one();
        on.notified().await;
        session.insert("slow", true)
    };
    (app.route("/slow", get(handler)), loaded, go)
}

/// Runs `meanwhile` while `/slow` is under way for `browser`, and returns the answer of `/slow`.
async fn while_slow(
    app: &Router,
    browser: &Browser,
    (loaded, go): (Arc<Notify>, Arc<Notify>),
    meanwhile: impl Future<Output = ()>,
) -> support::Reply {
    let (slow_app, slow_browser) = (app.clone(), browser.clone());
    let slow = tokio::spawn(async move { slow_browser.peek(&slow_app, "/slow").await });
    loaded.notified().await;
    meanwhile.await;
    go.notify_one();
    slow.await.expect("the slow request does not panic")
}

#[tokio::test]
async fn a_slow_request_that_ends_after_the_logout_brings_nothing_back() {
    let store = Reference::new();
    let (app, loaded, go) = slow(app());
    let app = app.layer(layer(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let stolen = browser.clone();
    let reply = while_slow(&app, &stolen, (loaded, go), async {
        browser.get(&app, "/logout").await;
    })
    .await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::OK, 0));
    assert_eq!(store.len().await.unwrap(), 0);
    assert_eq!(stolen.peek(&app, "/who").await.body, "nobody");
}

#[tokio::test]
async fn a_request_under_way_during_a_login_does_not_overwrite_the_logins_cookie() {
    let (app, loaded, go) = slow(app());
    let app = app.layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set/cart/book").await;
    let old = browser.clone();
    let reply = while_slow(&app, &old, (loaded, go), async {
        browser.get(&app, "/login").await;
    })
    .await;
    browser.take(&reply);
    assert_eq!(reply.set_cookies().len(), 0);
    assert_eq!(browser.get(&app, "/who").await.body, "alice");
    // Nor does one that only begins afterwards, with the old cookie, whatever it tries.
    for path in ["/set/a/b", "/clear", "/login", "/logout", "/count", "/who"] {
        let late = old.peek(&app, path).await;
        assert_eq!(late.set_cookies().len(), 0, "{path}");
    }
    assert_eq!(browser.get(&app, "/show").await.body, r#"cart="book" user="alice""#);
}

#[tokio::test]
async fn writes_to_a_session_that_has_moved_are_refused_and_reading_shows_an_empty_one() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set/cart/book").await;
    let old = browser.clone();
    browser.get(&app, "/login").await;
    assert_eq!(old.peek(&app, "/set/a/b").await.status, StatusCode::CONFLICT);
    assert_eq!(old.peek(&app, "/show").await.body, "");
}

#[tokio::test]
async fn a_session_is_saved_also_if_the_response_is_a_server_error_unless_told_otherwise() {
    for (save, stored) in [(true, 1), (false, 0)] {
        let store = Reference::new();
        let app = app().layer(layer_with(store.clone(), |b| b.save_on_server_error(save)));
        let reply = Browser::new().get(&app, "/fail").await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(store.len().await.unwrap(), stored);
        assert_eq!(reply.set_cookies().len() as u64, stored);
    }
}

#[tokio::test]
async fn caches_are_told_what_depends_on_the_cookie() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    let created = browser.get(&app, "/count").await;
    assert_eq!(created.headers[header::CACHE_CONTROL], "private, no-cache=\"Set-Cookie\"");
    assert_eq!(created.headers[header::VARY], "Cookie");
    let read = browser.get(&app, "/who").await;
    assert_eq!(read.headers.get(header::CACHE_CONTROL), None);
    assert_eq!(read.headers[header::VARY], "Cookie");
    for untouched in ["/none", "/lazy"] {
        let reply = browser.get(&app, untouched).await;
        assert_eq!(reply.headers.get(header::VARY), None);
    }
}

#[tokio::test]
async fn a_use_renews_the_session_once_half_of_its_time_is_over() {
    let clock = Clock::new();
    let expiry = Expiry::idle(Duration::from_secs(1000));
    let app = app().layer(layer_with(Reference::new(), |b| b.expiry(expiry).clock(clock.reader())));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    clock.advance(Duration::from_secs(499));
    assert_eq!(browser.get(&app, "/who").await.set_cookies().len(), 0);
    // A plain write before the half keeps the end where it was, for the cookie and the record alike.
    assert_eq!(browser.get(&app, "/set/a/b").await.set_cookies().len(), 0);
    clock.advance(Duration::from_secs(2));
    let renewed = browser.get(&app, "/who").await;
    assert!(renewed.set_cookie().contains("Max-Age=1000"));
    assert_eq!(browser.get(&app, "/who").await.set_cookies().len(), 0);
    clock.advance(Duration::from_secs(501));
    assert!(browser.get(&app, "/set/a/c").await.set_cookie().contains("Max-Age=1000"));
}

#[tokio::test]
async fn a_rolling_session_is_renewed_on_every_request_that_loads_it_and_no_other() {
    let app = app().layer(layer_with(Reference::new(), |b| b.rolling(true)));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    assert_eq!(browser.get(&app, "/who").await.set_cookies().len(), 1);
    assert_eq!(browser.get(&app, "/none").await.set_cookies().len(), 0);
}

#[tokio::test]
async fn the_absolute_end_holds_however_much_a_session_is_used() {
    let clock = Clock::new();
    let expiry = Expiry::idle(Duration::from_secs(100)).absolute(Duration::from_secs(250));
    let app = app().layer(layer_with(Reference::new(), |b| b.expiry(expiry).clock(clock.reader())));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(60));
        assert_eq!(browser.get(&app, "/who").await.body, "alice");
    }
    clock.advance(Duration::from_secs(60));
    // Ten seconds are left, and the cookie says so.
    assert!(
        browser.get(&app, "/set/a/b").await.set_cookies().iter().all(|cookie| cookie.contains("Max-Age=10"))
    );
    clock.advance(Duration::from_secs(11));
    let reply = browser.get(&app, "/who").await;
    assert_eq!((reply.body.as_str(), reply.set_cookies().len()), ("nobody", 0));
}

#[tokio::test]
async fn a_session_can_have_an_idle_time_of_its_own() {
    let handler = |session: Session| async move { session.set_ttl(Duration::from_secs(30 * 24 * 3600)) };
    let app = app().route("/remember", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    assert!(browser.get(&app, "/remember").await.set_cookie().contains("Max-Age=2592000"));
}

#[tokio::test]
async fn a_ticket_signed_by_an_older_key_is_issued_anew_and_a_forged_one_is_nobody() {
    let (old, new) = ([1_u8; 32], [2_u8; 32]);
    let store = Reference::new();
    let before = app().layer(layer_with(store.clone(), |b| b.keys(Keyring::new([old]))));
    let after = app().layer(layer_with(store.clone(), |b| b.keys(Keyring::new([new, old]))));
    let retired = app().layer(layer_with(store.clone(), |b| b.keys(Keyring::new([new]))));
    let mut browser = Browser::new();
    browser.get(&before, "/login").await;
    let first = browser.clone();
    assert_eq!(browser.get(&after, "/none").await.set_cookies().len(), 0);
    let reply = browser.get(&after, "/who").await;
    assert_eq!(reply.body, "alice");
    assert_eq!(&reply.ticket()[..43], &first.ticket().unwrap()[..43], "the id stays");
    assert_eq!(browser.get(&retired, "/who").await.body, "alice");
    assert_eq!(first.peek(&retired, "/who").await.body, "nobody");
    let mut forged = first.ticket().unwrap().to_owned();
    forged.replace_range(50..51, if &forged[50..51] == "A" { "B" } else { "A" });
    assert_eq!(Browser::with(&forged).peek(&after, "/who").await.body, "nobody");
}

#[tokio::test]
async fn of_several_cookies_of_one_name_the_one_that_loads_counts() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let real = browser.ticket().unwrap();
    let bogus = "B".repeat(43);
    for order in [[real, &bogus], [&bogus, real]] {
        let request = http::Request::builder()
            .uri("/who")
            .header(header::COOKIE, format!("{COOKIE}={}; {COOKIE}={}", order[0], order[1]))
            .body(axum::body::Body::empty());
        assert_eq!(support::send(&app, request.unwrap()).await.body, "alice");
    }
}

#[tokio::test]
async fn a_second_layer_inside_changes_nothing() {
    let store = Reference::new();
    let app = app().layer(layer(store.clone())).layer(layer(store.clone()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/count").await;
    assert_eq!((reply.body.as_str(), reply.set_cookies().len()), ("1", 1));
    assert_eq!(store.len().await.unwrap(), 1);
}

#[tokio::test]
async fn regenerate_drops_the_data_and_keeps_one_working_session() {
    let handler = |session: Session| async move {
        session.regenerate().await?;
        session.insert("fresh", 1)
    };
    let store = Reference::new();
    let app = app().route("/regenerate", post(handler).get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let old = browser.clone();
    browser.get(&app, "/regenerate").await;
    assert_eq!(browser.get(&app, "/show").await.body, "fresh=1");
    assert_eq!(old.peek(&app, "/show").await.body, "");
}

#[tokio::test]
async fn a_handler_sees_the_new_id_at_once() {
    let handler = |session: Session| async move {
        let promised = session.ensure_id().await?;
        assert_eq!(session.id(), Some(promised.clone()));
        let cycled = session.cycle_id().await?;
        assert_ne!(cycled, promised);
        session.insert("a", 1)?;
        session.save().await?;
        assert!(!session.is_new());
        assert_eq!(session.id(), Some(cycled.clone()));
        Ok::<_, Error>(cycled.expose().to_owned())
    };
    let app = app().route("/ids", get(handler)).layer(layer(Reference::new()));
    let reply = Browser::new().get(&app, "/ids").await;
    assert_eq!(reply.ticket(), reply.body);
}

#[tokio::test]
async fn a_session_that_is_only_loaded_after_the_response_takes_no_write_that_nobody_would_save() {
    let go = Arc::new(Notify::new());
    let on = Arc::clone(&go);
    let (tasks, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |lazy: LazySession| async move {
        let task = tokio::spawn(async move {
            on.notified().await;
            let session = lazy.load().await.unwrap();
            assert_eq!(session.get::<String>("user").unwrap().as_deref(), Some("alice"), "reading is fine");
            for outcome in [session.insert("a", 1), session.clear(), session.cycle_id().await.map(|_| ())] {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Committed);
            }
            let n = session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
            assert_eq!(n, 1, "what commits at once still can");
        });
        tasks.send(task).unwrap();
    };
    let app = app().route("/later", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    browser.get(&app, "/later").await;
    go.notify_one();
    begun.recv().await.unwrap().await.unwrap();
    assert_eq!(browser.get(&app, "/show").await.body, "user=\"alice\" n=1");
}

#[tokio::test]
async fn a_logout_with_an_id_that_has_moved_is_an_error_and_never_a_success() {
    let app = app().layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set/cart/book").await;
    let old = browser.clone();
    browser.get(&app, "/login").await;
    let reply = old.peek(&app, "/logout").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::CONFLICT, 0));
    assert_eq!(browser.get(&app, "/who").await.body, "alice");
}

#[tokio::test]
async fn the_removal_has_the_attributes_the_sessions_own_cookie_was_set_with() {
    let handler = |session: Session| async move {
        session.cookie(|cookie| cookie.same_site(SameSite::None))?;
        session.insert("framed", true)
    };
    let app = app().route("/frame", get(handler)).layer(layer(Reference::new()));
    let mut browser = Browser::new();
    assert!(browser.get(&app, "/frame").await.set_cookie().contains("SameSite=None"));
    assert!(browser.get(&app, "/logout").await.set_cookie().contains("SameSite=None"));
}
