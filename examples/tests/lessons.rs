//! Every example, started and visited.

#[path = "../examples/axum_counter.rs"]
#[allow(dead_code)] // Its `main`.
mod axum_counter;
#[path = "../examples/custom_store.rs"]
#[allow(dead_code)]
mod custom_store;
#[cfg(feature = "encrypt")]
#[path = "../examples/encrypted_sessions.rs"]
#[allow(dead_code)]
mod encrypted_sessions;
#[path = "../examples/login.rs"]
#[allow(dead_code)]
mod login;
mod support;
#[path = "../examples/typed_session.rs"]
#[allow(dead_code)]
mod typed_session;

use std::collections::BTreeSet;

use axum::http::{StatusCode, header::LOCATION};

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

#[cfg(feature = "encrypt")]
#[tokio::test]
async fn encrypted_sessions_outlive_a_new_secret_and_show_the_store_nothing() {
    use cloakroom::MemoryStore;

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
