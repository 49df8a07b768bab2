//! What encryption at rest promises, seen from a browser on one side and from the store on the other.
#![cfg(all(feature = "axum-core-0_5", feature = "encrypt"))]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod support;

use axum::{Router, extract::Path, routing::get};
use cloakroom_conformance::{Plain, Reference, Switch};
use cloakroom_core::{
    AdminStore, Bytes, Engine, ErrorKind, Key, Keyring, Result, Session, SessionLayer, Store, Ttl,
};
use futures_util::TryStreamExt;
use http::StatusCode;
use support::{Browser, layer, layer_with};

const CANARY: &str = "canary";

async fn count(session: Session) -> Result<String> {
    let n: u64 = session.update_now("count", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

async fn login(session: Session) -> Result<()> {
    session.cycle_id().await?;
    session.insert("user", CANARY)
}

async fn who(session: Session) -> Result<String> {
    Ok(session.get::<String>("user")?.unwrap_or_else(|| "nobody".into()))
}

async fn set(Path((key, value)): Path<(String, String)>, session: Session) -> Result<()> {
    session.insert(&key, value)
}

fn routes() -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/login", get(login))
        .route("/logout", get(|session: Session| async move { session.destroy().await }))
        .route("/who", get(who))
        .route("/set/{key}/{value}", get(set))
}

/// A ring of secrets that are told by numbers, newest first.
fn ring(secrets: &[u8]) -> Keyring {
    Keyring::new(secrets.iter().map(|&secret| [secret; 32]))
}

/// An application that encrypts what it has in `store`.
fn app(store: impl Store, secrets: &[u8]) -> Router {
    routes().layer(layer_with(store, |b| b.encrypt(ring(secrets))))
}

/// The store as whoever steals it sees it.
async fn dump(store: &impl Store) -> Vec<(Key, Bytes)> {
    let admin = store.as_admin().unwrap();
    let keys: Vec<Key> = admin.scan().try_collect().await.unwrap();
    let mut rows = Vec::new();
    for key in keys {
        let value = store.get(&key).await.unwrap().unwrap();
        rows.push((key, value));
    }
    rows
}

/// Whoever can write to the store.
async fn put(store: &impl Store, key: &Key, value: impl Into<Bytes>) {
    store.set(key, value.into(), Ttl::from_secs(3600)).await.unwrap();
}

async fn logged_in(app: &Router) -> Browser {
    let mut browser = Browser::new();
    browser.get(app, "/set/cart/canary").await;
    browser.get(app, "/login").await;
    browser
}

/// Asserts that the visitor is nobody, cannot write, and that the bytes stay what they are.
async fn assert_refused(app: &Router, store: &impl Store, browser: &Browser) {
    let before = store.get(&browser.key()).await.unwrap();
    assert!(before.is_some());
    let read = browser.peek(app, "/who").await;
    assert_eq!((read.status, read.body.as_str(), read.set_cookies().len()), (StatusCode::OK, "nobody", 0));
    for write in ["/set/a/b", "/login", "/count"] {
        let reply = browser.peek(app, write).await;
        assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::CONFLICT, 0), "{write}");
    }
    assert_eq!(store.get(&browser.key()).await.unwrap(), before);
}

#[tokio::test]
async fn a_session_lives_through_login_and_logout_and_the_store_never_sees_its_data() {
    let store = Reference::new();
    let app = app(store.clone(), &[1]);
    let mut browser = Browser::new();
    for (path, rows) in [("/set/cart/canary", 1), ("/login", 2), ("/set/cart/canary2", 2), ("/count", 2)] {
        assert_eq!(browser.get(&app, path).await.status, StatusCode::OK);
        let stored = dump(&store).await;
        assert_eq!(stored.len(), rows, "after the login there is a tombstone as well");
        for (_, value) in stored {
            assert!(value.starts_with(b"CRe\x01"));
            for word in [CANARY, "cart", "user", "nonce", "moved", browser.ticket().unwrap()] {
                assert!(!value.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
            }
        }
        assert_eq!(browser.get(&app, "/who").await.body, if rows == 1 { "nobody" } else { CANARY });
    }
    let stolen = browser.clone();
    browser.get(&app, "/logout").await;
    assert_eq!(store.get(&stolen.key()).await.unwrap(), None);
    assert_eq!(stolen.peek(&app, "/who").await.body, "nobody");
}

#[tokio::test]
async fn a_login_encrypts_the_record_for_its_new_key_and_the_old_id_is_nobody() {
    let store = Reference::new();
    let app = app(store.clone(), &[1]);
    let mut browser = Browser::new();
    browser.get(&app, "/set/cart/canary").await;
    let old = browser.clone();
    browser.get(&app, "/login").await;
    assert_eq!(old.peek(&app, "/who").await.body, "nobody");
    // Neither record works in the other's place.
    let (before, after) = (old.key(), browser.key());
    let moved = store.get(&after).await.unwrap().unwrap();
    let tombstone = store.get(&before).await.unwrap().unwrap();
    put(&store, &before, moved).await;
    put(&store, &after, tombstone).await;
    assert_refused(&app, &store, &old).await;
    assert_refused(&app, &store, &browser).await;
}

#[tokio::test]
async fn a_record_with_one_bit_changed_is_nobodys_and_is_left_as_it_is() {
    let store = Reference::new();
    let app = app(store.clone(), &[1]);
    let mut browser = logged_in(&app).await;
    let good = store.get(&browser.key()).await.unwrap().unwrap();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        put(&store, &browser.key(), bytes).await;
        assert_refused(&app, &store, &browser).await;
    }
    // Put back, it works: nothing else remembers what it was.
    put(&store, &browser.key(), good.clone()).await;
    assert_eq!(browser.get(&app, "/who").await.body, CANARY);
    // And a visitor whose record is lost gets a new session by ending this one.
    put(&store, &browser.key(), good.slice(1..)).await;
    assert_eq!(browser.get(&app, "/logout").await.status, StatusCode::OK);
    browser.get(&app, "/login").await;
    assert_eq!(browser.get(&app, "/who").await.body, CANARY);
}

#[tokio::test]
async fn two_visitors_whose_records_are_exchanged_are_both_nobody() {
    let store = Reference::new();
    let app = app(store.clone(), &[1]);
    let (alice, bob) = (logged_in(&app).await, logged_in(&app).await);
    let hers = store.get(&alice.key()).await.unwrap().unwrap();
    let his = store.get(&bob.key()).await.unwrap().unwrap();
    put(&store, &alice.key(), his).await;
    put(&store, &bob.key(), hers).await;
    assert_refused(&app, &store, &alice).await;
    assert_refused(&app, &store, &bob).await;
}

#[tokio::test]
async fn plaintext_is_refused_with_encryption_and_an_encrypted_record_without() {
    let store = Reference::new();
    let (plain, encrypted) = (routes().layer(layer(store.clone())), app(store.clone(), &[1]));
    let (early, late) = (logged_in(&plain).await, logged_in(&encrypted).await);
    assert_refused(&encrypted, &store, &early).await;
    assert_refused(&plain, &store, &late).await;
    // Each is as good as before where it belongs.
    assert_eq!(early.peek(&plain, "/who").await.body, CANARY);
    assert_eq!(late.peek(&encrypted, "/who").await.body, CANARY);
}

#[tokio::test]
async fn three_keys_rotate_over_two_servers_with_nobody_logged_out_and_a_retired_key_is_refused() {
    // One server is changed at a time: the new key is added at the end, then moves to the front, then the old leaves.
    let steps: [(&[u8], &[u8]); 13] = [
        (&[1], &[1]),
        (&[1, 2], &[1]),
        (&[1, 2], &[1, 2]),
        (&[2, 1], &[1, 2]),
        (&[2, 1], &[2, 1]),
        (&[2, 1, 3], &[2, 1]),
        (&[2, 1, 3], &[2, 1, 3]),
        (&[3, 2, 1], &[2, 1, 3]),
        (&[3, 2, 1], &[3, 2, 1]),
        (&[3, 2], &[3, 2, 1]),
        (&[3, 2], &[3, 2]),
        (&[3], &[3, 2]),
        (&[3], &[3]),
    ];
    let store = Reference::new();
    let mut active = Vec::new();
    let mut idle = None;
    for (one, two) in steps {
        let servers = [app(store.clone(), one), app(store.clone(), two)];
        active.push(logged_in(&servers[0]).await);
        active.push(logged_in(&servers[1]).await);
        for browser in &mut active {
            for server in &servers {
                assert_eq!(browser.get(server, "/who").await.body, CANARY, "{one:?} {two:?}");
                assert_eq!(browser.get(server, "/count").await.status, StatusCode::OK);
            }
        }
        // Only ever reads, and so stays under the first key.
        let idle = match &idle {
            Some(browser) => browser,
            None => idle.insert(logged_in(&servers[0]).await),
        };
        for (server, secrets) in servers.iter().zip([one, two]) {
            if secrets.contains(&1) {
                assert_eq!(idle.peek(server, "/who").await.body, CANARY, "{secrets:?}");
            } else {
                assert_refused(server, &store, idle).await;
            }
        }
    }
}

#[tokio::test]
async fn a_record_under_an_older_key_is_encrypted_under_the_newest_at_its_next_write() {
    let store = Reference::new();
    let mut browser = logged_in(&app(store.clone(), &[1])).await;
    let rotated = app(store.clone(), &[2, 1]);
    let mark = async || store.get(&browser.key()).await.unwrap().unwrap().slice(..12);
    let old = mark().await;
    assert_eq!(browser.peek(&rotated, "/who").await.body, CANARY);
    assert_eq!(mark().await, old, "reading writes nothing");
    browser.peek(&rotated, "/set/a/b").await;
    assert_ne!(mark().await, old);
    assert_eq!(browser.get(&app(store.clone(), &[2]), "/who").await.body, CANARY);
    assert_refused(&app(store.clone(), &[1]), &store, &browser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_lose_no_count_though_no_two_writes_are_alike() {
    let app = app(Reference::new(), &[1]);
    let mut browser = logged_in(&app).await;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (app, browser) = (app.clone(), browser.clone());
            tokio::spawn(async move { browser.peek(&app, "/count").await.body.parse::<u64>().unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, (1..=32).collect::<Vec<_>>());
    assert_eq!(browser.get(&app, "/count").await.body, "33");
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_known_by_its_stored_bytes() {
    let store = Switch::new(Reference::new());
    let app = app(store.clone(), &[1]);
    let mut browser = Browser::new();
    store.lose_reply();
    assert_eq!(browser.get(&app, "/count").await.body, "1", "a create");
    store.lose_reply();
    assert_eq!(browser.get(&app, "/count").await.body, "2", "a replace");
    store.lose_reply();
    assert_eq!(browser.get(&app, "/login").await.status, StatusCode::OK, "a move");
    assert_eq!(browser.get(&app, "/who").await.body, CANARY);
    assert_eq!(browser.get(&app, "/count").await.body, "3");
    assert_eq!(dump(store.inner()).await.len(), 2, "the session, and the tombstone of its old id");
}

#[tokio::test]
async fn a_store_with_three_methods_is_enough() {
    let store = Reference::new();
    let app = app(Plain::new(store.clone()), &[1]);
    let mut browser = logged_in(&app).await;
    for n in 1..4 {
        assert_eq!(browser.get(&app, "/count").await.body, n.to_string());
    }
    assert_eq!(browser.get(&app, "/who").await.body, CANARY);
    assert!(dump(&store).await.iter().all(|(_, value)| value.starts_with(b"CRe\x01")));
    let stolen = browser.clone();
    browser.get(&app, "/logout").await;
    assert_eq!(stolen.peek(&app, "/who").await.body, "nobody");
    assert_eq!(store.len().await.unwrap(), 1, "the tombstone of the login");
}

#[tokio::test]
async fn a_record_over_the_limit_with_its_overhead_is_refused_and_the_old_one_stays() {
    let store = Reference::new();
    let app = routes().layer(layer_with(store.clone(), |b| b.encrypt(ring(&[1])).max_record(1024)));
    let mut browser = logged_in(&app).await;
    let mut longest = 0;
    for length in 0.. {
        let reply = browser.get(&app, &format!("/set/x/x{}", "x".repeat(length))).await;
        let stored = store.get(&browser.key()).await.unwrap().unwrap().len();
        if reply.status != StatusCode::OK {
            assert_eq!(stored, longest, "the old record is intact");
            break;
        }
        assert!(stored <= 1024);
        longest = stored;
    }
    // A record may grow by two bytes: with the value and with the counter in its nonce.
    assert!(longest >= 1023, "{longest}");
    assert_eq!(browser.get(&app, "/who").await.body, CANARY);
}

#[test]
fn mistakes_in_the_ring_name_the_field() {
    let rings: [&[&str]; 3] = [&[], &["canary"], &[&"canary".repeat(6), &"canary".repeat(6)]];
    for secrets in rings {
        let error = Engine::builder(Reference::new()).encrypt(Keyring::new(secrets)).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("encrypt")));
        assert!(!error.to_string().contains("canary"));
    }
    // The ring of the cookie and this one are two settings; one ring may serve for both.
    let both = SessionLayer::new(Reference::new()).keys(ring(&[1])).encrypt(ring(&[1]));
    assert!(both.build().is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let builder =
        SessionLayer::new(Reference::new()).encrypt(Keyring::new(["canary-canary-canary-canary-canary"]));
    let before = format!("{builder:?} {builder:#?}");
    assert!(before.contains("Keyring(1 secrets)"));
    let layer = builder.build().unwrap();
    assert!(!format!("{before} {layer:?} {layer:#?}").contains("canary"));
}
