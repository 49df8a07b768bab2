//! Every example, started and visited.

#[path = "../examples/axum_counter.rs"]
#[allow(dead_code)] // Its `main`.
mod axum_counter;
#[path = "../examples/custom_store.rs"]
#[allow(dead_code)]
mod custom_store;
#[path = "../examples/custom_transport.rs"]
#[allow(dead_code)]
mod custom_transport;
#[cfg(feature = "encrypt")]
#[path = "../examples/encrypted_sessions.rs"]
#[allow(dead_code)]
mod encrypted_sessions;
#[path = "../examples/expiry.rs"]
#[allow(dead_code)]
mod expiry;
#[path = "../examples/graceful_shutdown.rs"]
#[allow(dead_code)]
mod graceful_shutdown;
#[path = "../examples/hooks.rs"]
#[allow(dead_code)]
mod hooks;
#[path = "../examples/login.rs"]
#[allow(dead_code)]
mod login;
#[path = "../examples/move_sessions.rs"]
#[allow(dead_code)]
mod move_sessions;
#[path = "../examples/outage_policy.rs"]
#[allow(dead_code)]
mod outage_policy;
mod support;
#[path = "../examples/typed_session.rs"]
#[allow(dead_code)]
mod typed_session;

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{
        Method, StatusCode,
        header::{LOCATION, RETRY_AFTER, SET_COOKIE, VARY},
    },
    routing::get,
};
use cloakroom::{MemoryStore, SessionLayer, Store};
use cloakroom_conformance::{Operation, Switch};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    custom_store::MapStore,
    support::{Browser, start},
};

#[tokio::test]
async fn axum_counter_answers_the_count_and_nothing_else() {
    let browser = Browser::new(&start(axum_counter::app().unwrap()).await);
    for count in 1..=3 {
        let answer = browser.get("/").await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, count.to_string()));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    assert_eq!(browser.another().get("/").await.body, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn axum_counter_gives_32_parallel_requests_32_numbers() {
    let browser = Browser::new(&start(axum_counter::app().unwrap()).await);
    browser.get("/").await;
    let requests: Vec<_> = (0..32)
        .map(|_| {
            let browser = browser.clone();
            tokio::spawn(async move { browser.get("/").await.body.parse::<u32>().unwrap() })
        })
        .collect();
    let mut counts = BTreeSet::new();
    for request in requests {
        counts.insert(request.await.unwrap());
    }
    assert_eq!(counts, (2..=33).collect());
}

#[tokio::test]
async fn typed_session_keeps_its_fields_apart() {
    let browser = Browser::new(&start(typed_session::app().unwrap()).await);
    assert_eq!(browser.get("/").await.body, "1 views, Light");
    assert_eq!(browser.get("/theme/dark").await.body, "Dark from now on");
    assert_eq!(browser.get("/").await.body, "2 views, Dark");
    assert_eq!(browser.get("/theme/plaid").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn custom_store_keeps_sessions_in_the_store() {
    let browser = Browser::new(&start(custom_store::app(MapStore::default()).unwrap()).await);
    assert_eq!(browser.get("/").await.body, "Visit 1");
    assert_eq!(browser.get("/").await.body, "Visit 2");
    assert_eq!(browser.another().get("/").await.body, "Visit 1");
}

#[tokio::test]
async fn login_lets_nobody_in_who_has_not_logged_in() {
    let browser = Browser::new(&start(login::app().unwrap()).await);
    let answer = browser.get("/").await;
    assert_eq!(
        (answer.status, &answer.headers[LOCATION]),
        (StatusCode::SEE_OTHER, &"/login".parse().unwrap())
    );
    assert!(!answer.sets_a_cookie());
    browser.get("/login").await.shows("<form");
    assert_eq!(browser.submit("/login", &[("user", "Ada")]).await.body, "Only Ada sees this");
    assert_eq!(browser.another().get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn outage_policy_lets_the_shop_go_on_and_the_till_wait() {
    let browser = Browser::new(&start(outage_policy::app(Duration::from_millis(50)).unwrap()).await);
    assert_eq!(browser.get("/buy").await.body, "1 coats bought");
    let cookie = browser.cookie();
    browser.get("/off").await;
    let page = browser.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    page.shows("The shop is open");
    let refused = browser.get("/buy").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.contains_key(RETRY_AFTER) && !refused.sets_a_cookie() && !page.sets_a_cookie());
    browser.get("/on").await;
    assert_eq!(browser.get("/").await.body, "1 coats are yours");
    assert_eq!(browser.get("/buy").await.body, "2 coats bought");
    assert_eq!(browser.cookie(), cookie);
}

#[tokio::test]
async fn custom_transport_carries_the_id_in_a_header() {
    let client = Browser::new(&start(custom_transport::app().unwrap()).await);
    let first = client.get("/").await;
    assert_eq!((first.body.as_str(), first.sets_a_cookie()), ("1", false));
    let ticket = first.headers["x-ticket"].clone();
    assert!(ticket.to_str().unwrap().ends_with(";86400"), "{ticket:?}");
    let with = |path: &str| {
        let request = client.request(Method::GET, path).header("x-ticket", ticket.clone());
        client.send(request.body(Body::empty()).unwrap())
    };
    let second = with("/").await;
    assert_eq!((second.body.as_str(), &second.headers[VARY]), ("2", &"x-ticket".parse().unwrap()));
    assert_eq!(with("/end").await.headers["x-ticket"], "");
    let third = with("/").await;
    assert_eq!(third.body, "1");
    assert_ne!(third.headers["x-ticket"], ticket);
}

#[tokio::test]
async fn graceful_shutdown_ends_a_login_that_is_under_way() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let browser = Browser::new(&format!("http://{}", listener.local_addr().unwrap()));
    let store = Switch::new(MemoryStore::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(graceful_shutdown::run(listener, store.clone(), async {
        let _ = stopped.await;
    }));
    browser.get("/login/Ada").await;
    let half_way = store.pause_after(Operation::Create);
    let login = tokio::spawn({
        let browser = browser.clone();
        async move { browser.get("/login/Grace").await.status }
    });
    half_way.reached().await;
    // The client hangs up between two writes of its login, and the server is asked to stop.
    login.abort();
    stop.send(()).unwrap();
    half_way.release();
    server.await.unwrap().unwrap();
    assert_eq!(store.inner().stats().entries, 2, "the session of Grace, and what keeps the old id apart");
}

#[tokio::test]
async fn expiry_keeps_logged_in_who_asks_for_it() {
    let browser = Browser::new(&start(expiry::app().unwrap()).await);
    let login = browser.get("/login/Ada").await;
    assert!(!login.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age"));
    let use_again = browser.get("/").await;
    assert_eq!((use_again.body.as_str(), use_again.sets_a_cookie()), ("Ada has 20 minutes", true));
    let login = browser.get("/login/Ada/and-remember-me").await;
    assert!(login.headers[SET_COOKIE].to_str().unwrap().contains("; Max-Age=604800;"));
    assert_eq!(browser.get("/").await.body, "Ada has 10080 minutes");
}

#[tokio::test]
async fn hooks_end_old_sessions_and_note_the_page() {
    let browser = Browser::new(&start(hooks::app().unwrap()).await);
    browser.get("/coat").await;
    assert_eq!(browser.get("/").await.body, "wool coat, last saved by /coat");
    let cookie = browser.cookie();
    // A session's age is known to the millisecond.
    tokio::time::sleep(Duration::from_millis(2)).await;
    browser.get("/end-all").await;
    assert_eq!(browser.get("/").await.body, "no coat, last saved by nobody");
    tokio::time::sleep(Duration::from_millis(2)).await;
    browser.get("/coat").await;
    assert_eq!(browser.get("/").await.body, "wool coat, last saved by /coat");
    assert_ne!(browser.cookie(), cookie);
}

/// Visits the old store alone, both while sessions move, and the new store alone, with the same browser all the way.
#[allow(clippy::unwrap_used)] // A helper that fails is a test that fails.
async fn moves(old: Arc<dyn Store>, new: Arc<dyn Store>) {
    let alone = |store: &Arc<dyn Store>| {
        let sessions = SessionLayer::new(store.clone()).insecure().build().unwrap();
        Router::new().route("/visit", get(move_sessions::visit)).layer(sessions)
    };
    let browser = Browser::new(&start(alone(&old)).await);
    assert_eq!(browser.get("/visit").await.body, "1 visits");
    let cookie = browser.cookie();

    let during = start(move_sessions::app(old.clone(), new.clone()).unwrap()).await;
    let browser = browser.at(&during);
    assert_eq!(browser.get("/").await.body, "1 visits");
    assert_eq!(browser.get("/left").await.body, "1 sessions are still in the old store");
    assert_eq!(browser.get("/visit").await.body, "2 visits");
    assert_eq!(browser.get("/left").await.body, "0 sessions are still in the old store");

    let browser = browser.at(&start(alone(&new)).await);
    assert_eq!(browser.get("/visit").await.body, "3 visits");
    assert_eq!(browser.cookie(), cookie);
}

#[tokio::test]
async fn move_sessions_moves_them_when_they_are_written_and_logs_nobody_out() {
    moves(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())).await;
}

#[cfg(all(feature = "redis", feature = "sqlite"))]
#[tokio::test]
async fn move_sessions_moves_them_from_sqlite_to_redis() {
    use cloakroom_conformance::{Env, Server};

    let name = Env::new("").namespace().to_owned();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let redis = Server::redis().shared().await.unwrap();
    let old = cloakroom::connect(format!("sqlite://{}/sessions.db", folder.display())).await.unwrap();
    let new = cloakroom::connect(format!("{}?prefix={name}", redis.url())).await.unwrap();
    moves(old, new).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[cfg(feature = "encrypt")]
#[tokio::test]
async fn encrypted_sessions_outlive_a_new_secret_and_show_the_store_nothing() {
    let store = MemoryStore::new();
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let before = Browser::new(&start(encrypted_sessions::app(store.clone(), &old).unwrap()).await);
    before.get("/note/umbrella").await;
    let stored = before.get("/stored").await.body;
    assert!(stored.starts_with(r"CRe\x01") && !stored.contains("umbrella"), "{stored}");
    let after = start(encrypted_sessions::app(store.clone(), &format!("{new} {old}")).unwrap()).await;
    assert_eq!(before.at(&after).get("/").await.body, "umbrella");
    let error = encrypted_sessions::app(store, "").unwrap_err();
    assert_eq!(error.field(), Some("encrypt"));
}

/// The other half of the lesson of `custom_store`: one macro call proves a store.
mod custom_store_keeps_the_contract {
    use cloakroom_conformance::{Env, conformance_tests};

    use crate::custom_store::MapStore;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, cloakroom::Error>(env.shared(MapStore::default)) },
        abilities: [],
    }
}
