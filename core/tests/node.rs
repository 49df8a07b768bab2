//! The formats of Koa, Express and koa-session against what the real packages sent and stored: `vectors/make.mjs`.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::SystemTime};

use cloakroom_core::{
    Builder, Bytes, CookieConfig, Engine, ErrorKind, Expiry, Express, Guarantee, Key, Koa, NoStore, Profile,
    SameSite, Session, Store, Swapped, Ttl,
};
use parking_lot::Mutex;
use serde_json::Value;
use support::{
    side::{KEYS, SECRETS, Side, vectors},
    spy::{Act, Spy},
};

fn lines(answer: &Value) -> Vec<String> {
    answer["set"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// The rows that Node stored, with their keys and ttls.
fn rows(case: &Value) -> Vec<(&str, &str, Option<u64>)> {
    let log = case["log"].as_array().unwrap().iter().filter(|call| call["op"] == "set");
    log.map(|call| (call["key"].as_str().unwrap(), call["row"].as_str().unwrap(), call["ttl"].as_u64()))
        .collect()
}

fn hours(hours: u64) -> Expiry {
    Expiry::idle(Duration::from_secs(hours * 3600))
}

type Configure = fn(Builder<Engine>) -> Builder<Engine>;

fn koa_cookie() -> CookieConfig {
    Profile::koa(KEYS).default_cookie()
}

/// How Cloakroom is configured where Node was as the vector says, and whether rows are the same to the byte: the order
/// within `cookie` follows the order of the options there.
const KOA: &[(&str, Configure, bool)] = &[
    ("default", |b| b.profile(Profile::koa(KEYS)), true),
    ("browser", |b| b.profile(Profile::koa(KEYS)).cookie(koa_cookie().browser_session()), false),
    (
        "shared",
        |b| {
            let cookie = koa_cookie().same_site(SameSite::Lax).domain("example.com");
            b.profile(Profile::koa(KEYS)).cookie(cookie).expiry(hours(1))
        },
        false,
    ),
    (
        "path",
        |b| {
            let cookie = koa_cookie().name("shop.sid").http_only(false);
            let expiry = Expiry::idle(Duration::from_millis(1500));
            b.profile(Koa::new(KEYS).prefix("shop:").into()).cookie(cookie).expiry(expiry)
        },
        false,
    ),
];

fn express_cookie() -> CookieConfig {
    Profile::express(SECRETS).default_cookie()
}

/// Without a prefix: the store of the vectors was given the bare id.
fn express() -> Profile {
    Express::new(SECRETS).prefix("").into()
}

const EXPRESS: &[(&str, Configure)] = &[
    ("default", |b| b.profile(express())),
    ("lasting", |b| b.profile(express()).cookie(express_cookie().lasting()).expiry(hours(1))),
    ("shared", |b| {
        let cookie = express_cookie().lasting().name("shop").domain("example.com");
        b.profile(express()).cookie(cookie.same_site(SameSite::Lax).http_only(false)).expiry(hours(1))
    }),
];

fn session_cookie() -> CookieConfig {
    Profile::koa_session(KEYS).default_cookie()
}

const KOA_SESSION: &[(&str, Configure)] = &[
    ("default", |b| b.profile(Profile::koa_session(KEYS))),
    ("browser", |b| b.profile(Profile::koa_session(KEYS)).cookie(session_cookie().browser_session())),
    ("shared", |b| {
        let cookie = session_cookie().name("shop.sess").domain("example.com").same_site(SameSite::Lax);
        b.profile(Profile::koa_session(KEYS)).cookie(cookie).expiry(hours(1))
    }),
];

/// Compares what a removal says but for attributes: the seed forgets its path and its domain, and we do not.
fn assert_removes(set: &[String], node: &[String]) {
    assert_eq!(set.len(), node.len());
    for (ours, theirs) in set.iter().zip(node) {
        assert_eq!(ours.split(';').next(), theirs.split(';').next());
        assert!(ours.contains("xpires=Thu, 01 Jan 1970 00:00:00 GMT"), "{ours}");
    }
}

#[tokio::test]
async fn what_we_send_and_store_is_what_koa_does() {
    let vectors = vectors();
    for (name, configure, exactly) in KOA {
        let (case, mut side) = (&vectors["koa"][name], Side::new(configure));
        let stored = rows(case);
        for (answer, path) in case["answers"].as_array().unwrap().iter().zip(["/inc", "/read", "/inc"]) {
            assert_eq!(side.path(path).await, lines(answer), "{name} {path}");
        }
        let writes: Vec<_> = side.spy.take_all().into_iter().filter(|call| call.value.is_some()).collect();
        assert_eq!(writes.len(), 2, "{name}: reading writes nothing");
        for (write, (key, row, ttl)) in writes.iter().zip(&stored) {
            assert_eq!(write.key.as_ref().unwrap().as_str(), *key);
            let ours = String::from_utf8(write.value.as_ref().unwrap().to_vec()).unwrap();
            let same = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            assert_eq!(same(&ours), same(row), "{name}");
            assert!(!exactly || ours == *row, "{name}: {ours}");
            // To the millisecond: koa-redis rounds, and not the middleware. And never none at all.
            let millis = ttl.unwrap_or(24 * 3600 * 1000);
            assert_eq!(write.ttl, Some(Ttl::from_millis(millis)), "{name}");
        }
        assert_removes(&side.path("/logout").await, &lines(&case["answers"][4]));
        assert_eq!(side.row(stored[0].0).await, None);
    }
}

#[tokio::test]
async fn what_koa_left_in_browser_and_store_is_used_and_kept_to_the_byte() {
    let vectors = vectors();
    for (name, configure, _) in KOA {
        let (case, mut side) = (&vectors["koa"][name], Side::new(configure));
        let stored = rows(case);
        side.put(stored[0].0, stored[0].1).await;
        side.take(&lines(&case["answers"][0]));
        assert_eq!(side.path("/read").await, Vec::<String>::new(), "{name}");
        assert_eq!(side.path("/inc").await, lines(&case["answers"][2]), "{name}");
        assert_eq!(side.row(stored[0].0).await.as_deref(), Some(stored[1].1), "{name}");
        // A row with everything that only JavaScript writes: only what we change is changed.
        side.put(stored[2].0, stored[2].1).await;
        assert_eq!(side.n().await, Some(2));
        side.path("/inc").await;
        let row = side.row(stored[2].0).await.unwrap();
        for part in [r#""7":"first""#, r#""half":"\ud800""#, r#""nested":{"a":[1,null,true]}"#, r#""n":3"#] {
            assert!(row.contains(part), "{name}: {row}");
        }
        assert_eq!(row.len(), stored[2].1.len());
    }
}

#[tokio::test]
async fn rolling_is_what_koa_does_on_every_request() {
    let case = &vectors()["koa"]["rolling"];
    let mut side = Side::new(|b| b.profile(Profile::koa(KEYS)).rolling(true));
    for (answer, path) in case["answers"].as_array().unwrap().iter().zip(["/inc", "/read"]) {
        assert_eq!(side.path(path).await, lines(answer), "{path}");
    }
    assert_eq!(side.spy.take_calls(), ["create", "get", "replace"]);
}

#[tokio::test]
async fn what_we_send_and_store_is_what_express_does() {
    let vectors = vectors();
    for (name, configure) in EXPRESS {
        let (case, mut side) = (&vectors["express"][name], Side::new(configure));
        let stored = rows(case);
        for (answer, path) in case["answers"].as_array().unwrap().iter().zip(["/inc", "/read", "/inc"]) {
            assert_eq!(side.path(path).await, lines(answer), "{name} {path}");
        }
        let calls = side.spy.take_all();
        // A use renews the record as it is, and a write renews it anyway.
        let ops: Vec<_> = calls.iter().map(|call| call.op).collect();
        assert_eq!(ops, ["create", "get", "touch", "get", "replace"], "{name}");
        let writes = calls.iter().filter(|call| call.value.is_some());
        for (write, (key, row, _)) in writes.zip(&stored) {
            assert_eq!(write.key.as_ref().unwrap().as_str(), *key);
            assert_eq!(write.value.as_deref(), Some(row.as_bytes()), "{name}");
        }
        let hour = if *name == "default" { 24 } else { 1 };
        assert!(calls.iter().filter_map(|call| call.ttl).all(|ttl| ttl == Ttl::from_secs(hour * 3600)));
        let removal = side.path("/logout").await;
        assert!(
            removal.len() == 1
                && removal[0].contains("=; ")
                && removal[0].contains("Expires=Thu, 01 Jan 1970")
        );
        assert_eq!(side.row(stored[0].0).await, None);
    }
}

#[tokio::test]
async fn what_express_left_in_browser_and_store_is_used_and_kept_to_the_byte() {
    let vectors = vectors();
    for (name, configure) in EXPRESS {
        let (case, mut side) = (&vectors["express"][name], Side::new(configure));
        let stored = rows(case);
        side.put(stored[0].0, stored[0].1).await;
        side.take(&lines(&case["answers"][0]));
        assert_eq!(side.path("/read").await, Vec::<String>::new(), "{name}");
        assert_eq!(
            side.row(stored[0].0).await.as_deref(),
            Some(stored[0].1),
            "{name}: a use leaves the row alone"
        );
        assert_eq!(side.path("/inc").await, lines(&case["answers"][2]), "{name}");
        assert_eq!(side.row(stored[0].0).await.as_deref(), Some(stored[1].1), "{name}");
        side.put(stored[2].0, stored[2].1).await;
        side.path("/inc").await;
        let row = side.row(stored[2].0).await.unwrap();
        for part in [r#""7":"first""#, r#""half":"\ud800""#, r#""nested":{"a":[1,null,true]}"#, r#""n":3"#] {
            assert!(row.contains(part), "{name}: {row}");
        }
        assert_eq!(row.len(), stored[2].1.len());
    }
}

#[tokio::test]
async fn an_express_row_is_no_older_than_its_key_whatever_it_says_itself() {
    let mut side = Side::new(EXPRESS[1].1);
    side.path("/inc").await;
    let row = side.row("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").await.unwrap();
    *side.now.lock() += Duration::from_secs(5 * 3600);
    // Touched every now and then: `expires` in the row is long over, and the key is alive.
    assert_eq!(side.n().await, Some(1));
    assert_eq!(side.row("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").await, Some(row));
    side.path("/inc").await;
    let row = side.row("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").await.unwrap();
    assert!(row.contains(r#""expires":"2026-11-23T07:43:18.514Z""#), "{row}");
}

#[tokio::test]
async fn rolling_is_what_express_does_on_every_request() {
    let case = &vectors()["express"]["rolling"];
    let mut side = Side::new(|b| EXPRESS[1].1(b).rolling(true));
    for (answer, path) in case["answers"].as_array().unwrap().iter().zip(["/inc", "/read"]) {
        assert_eq!(side.path(path).await, lines(answer), "{path}");
    }
    assert_eq!(side.spy.take_calls(), ["create", "get", "touch"]);
}

#[tokio::test]
async fn what_we_put_into_a_cookie_is_what_koa_session_does() {
    let vectors = vectors();
    for (name, configure) in KOA_SESSION {
        let (case, mut side) = (&vectors["koa_session"][name], Side::without_store(configure));
        for (answer, path) in case["answers"].as_array().unwrap().iter().zip(["/inc", "/read", "/inc"]) {
            assert_eq!(side.path(path).await, lines(answer), "{name} {path}");
        }
        // And the other way: with what only JavaScript writes in it.
        side.take(&lines(&case["answers"][3]));
        assert_eq!(side.n().await, Some(2), "{name}");
        let set = side.path("/inc").await;
        let value = set[0].split(['=', ';']).nth(1).unwrap();
        let json = String::from_utf8(base64(value)).unwrap();
        assert!(json.contains(r#""half":"\ud800""#) && json.contains(r#""n":3"#), "{name}: {json}");
        assert_eq!(side.path("/logout").await, lines(&case["answers"][4]), "{name}");
        assert_eq!(side.n().await, None, "{name}");
        assert_eq!(side.engine.guarantee(), Guarantee::LastWriterWins);
    }
}

/// Decodes standard base64 by the letters alone.
fn base64(text: &str) -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = text
        .trim_end_matches('=')
        .chars()
        .flat_map(|c| {
            let six = letters.find(c).unwrap() as u8;
            (0..6).rev().map(move |bit| six >> bit & 1)
        })
        .collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

#[tokio::test]
async fn a_session_in_a_cookie_ends_on_the_server_too_and_is_renewed_by_a_write() {
    let mut side = Side::without_store(KOA_SESSION[2].1);
    side.path("/inc").await;
    *side.now.lock() += Duration::from_secs(3599);
    assert_eq!(side.n().await, Some(1));
    side.path("/inc").await;
    *side.now.lock() += Duration::from_secs(3599);
    assert_eq!(side.n().await, Some(2));
    *side.now.lock() += Duration::from_secs(2);
    assert_eq!(side.n().await, None, "the browser would not have sent it");
    let mut rolling = Side::without_store(|b| KOA_SESSION[2].1(b).rolling(true));
    rolling.path("/inc").await;
    *rolling.now.lock() += Duration::from_secs(3000);
    assert_eq!(rolling.path("/read").await.len(), 2);
    *rolling.now.lock() += Duration::from_secs(3000);
    assert_eq!(rolling.n().await, Some(1));
}

#[tokio::test]
async fn a_session_that_fits_no_cookie_is_too_large_and_the_old_one_stays() {
    let mut side = Side::without_store(KOA_SESSION[0].1);
    side.path("/inc").await;
    let before = side.jar.clone();
    let outcome = side.visit(async |s| s.insert("much", "x".repeat(3100))).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(side.jar, before);
    side.visit(async |s| s.insert("much", "x".repeat(2900))).await.unwrap();
    assert!(side.jar.iter().all(|(name, value)| name.len() + value.len() <= 4096));
    let outcome = side.visit(async |s| s.insert("_expire", 1)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Value, "koa-session would drop it");
}

#[tokio::test]
async fn cookies_under_an_older_secret_are_taken_and_signed_anew() {
    let vectors = vectors();
    // What a side sends that knows the older secret alone is what one with both must take.
    let old: [(Configure, Configure); 2] = [
        (|b| b.profile(Profile::koa(["keykeys"])), KOA[0].1),
        (|b| b.profile(Express::new(["old"]).prefix("").into()), EXPRESS[0].1),
    ];
    let cases = [&vectors["koa"]["default"], &vectors["express"]["default"]];
    for ((old, both), case) in old.into_iter().zip(cases) {
        let (mut before, mut side) = (Side::new(old), Side::new(both));
        before.path("/inc").await;
        let (key, row, _) = rows(case)[0];
        side.put(key, row).await;
        side.jar = before.jar;
        assert_eq!(
            side.path("/read").await,
            lines(&case["answers"][0]),
            "the whole cookie, with its attributes"
        );
        assert_eq!(side.path("/read").await, Vec::<String>::new(), "once");
    }
    let (mut before, mut side) = (
        Side::without_store(|b| b.profile(Profile::koa_session(["keykeys"]))),
        Side::without_store(KOA_SESSION[0].1),
    );
    before.path("/inc").await;
    side.jar = before.jar;
    assert_eq!(side.path("/read").await, lines(&vectors["koa_session"]["default"]["answers"][0]));
}

#[tokio::test]
async fn a_signature_that_fits_nothing_is_expired_and_the_store_is_not_asked() {
    let mut side = Side::new(|b| KOA[0].1(b).cookie(koa_cookie().path("/").domain("example.com")));
    side.path("/inc").await;
    side.spy.take_calls();
    let good = side.jar.clone();
    side.jar.insert("koa.sid.sig".into(), "A".repeat(27));
    let expired = "koa.sid.sig=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; domain=example.com; httponly";
    assert_eq!(side.path("/read").await, [expired]);
    side.jar = good.clone();
    side.jar.remove("koa.sid.sig");
    assert_eq!(side.path("/read").await, Vec::<String>::new(), "one without the other is nothing at all");
    assert!(side.spy.take_calls().is_empty());
    // Whoever is refused by the application loses both.
    let mut side =
        Side::new(|b| KOA[0].1(b).validate(|_, s| async move { Ok(s.get::<u64>("n")? != Some(2)) }));
    side.path("/inc").await;
    side.path("/inc").await;
    let set = side.path("/read").await;
    assert_removes(&set, &lines(&vectors()["koa"]["default"]["answers"][4]));
    assert!(side.row("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").await.is_some());
}

#[tokio::test]
async fn what_node_stores_meanwhile_is_kept_and_what_node_destroys_stays_destroyed() {
    let id = "ShAK2lyZHmzqINFmj32LqoG7PkHdtldy";
    for (configure, key) in [(KOA[0].1, format!("koa:sess:{id}")), (EXPRESS[0].1, id.to_owned())] {
        let mut side = Side::new(configure);
        side.path("/inc").await;
        let (store, row_key) = (side.spy.store(), Key::new(&key).unwrap());
        // A Node request reads, and writes the whole row between our load and our save.
        let theirs = side.row(&key).await.unwrap().replace(r#""n":1"#, r#""n":10,"theirs":true"#);
        let node = store.clone();
        let meanwhile = async |s: &Session| {
            node.set(&row_key, Bytes::from(theirs.clone()), Ttl::from_secs(60)).await?;
            s.insert("ours", true)?;
            s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())
        };
        side.visit(meanwhile).await.unwrap();
        let row = side.row(&key).await.unwrap();
        assert!(row.contains(r#""n":11,"theirs":true,"ours":true"#), "{row}");
        // A Node request logs out: nothing brings the session back, and no cookie is sent.
        let gone = async |s: &Session| {
            s.insert("late", true)?;
            store.destroy(&row_key).await.map(|_| ())
        };
        assert_eq!(side.visit(gone).await.unwrap(), Vec::<String>::new());
        assert_eq!(side.row(&key).await, None);
        let raced = store.as_atomic().unwrap().replace(&row_key, b"", Bytes::new(), Ttl::from_secs(1)).await;
        assert_eq!(raced.unwrap(), Swapped::Gone);
        assert_eq!(side.n().await, None);
    }
}

#[tokio::test]
async fn a_write_that_may_have_been_applied_is_reported_and_never_made_twice() {
    for configure in [KOA[0].1, EXPRESS[0].1] {
        let mut side = Side::new(configure);
        side.path("/inc").await;
        side.spy.on("replace", 1, Act::LoseReply(ErrorKind::Timeout));
        let outcome =
            side.visit(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(side.n().await, Some(2), "applied once");
    }
}

#[tokio::test]
async fn ids_are_those_of_uid_safe_and_a_login_removes_the_old_row() {
    for (profile, prefix) in [(Profile::koa(KEYS), "koa:sess:"), (Profile::express(SECRETS), "sess:")] {
        let spy = Spy::new();
        let engine = Engine::builder(spy.clone()).profile(profile).build().unwrap();
        let mut side =
            Side { engine, spy, now: Arc::new(Mutex::new(SystemTime::now())), jar: BTreeMap::new() };
        let mut ids = Vec::new();
        side.visit(async |s| {
            s.insert("n", 1)?;
            ids.push(s.ensure_id().await?);
            Ok(())
        })
        .await
        .unwrap();
        let cycle = async |s: &Session| {
            ids.push(s.cycle_id().await?);
            Ok(())
        };
        side.visit(cycle).await.unwrap();
        assert!(ids.iter().all(|id| id.expose().len() == 32));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(
            side.row(&format!("{prefix}{}", ids[0].expose())).await,
            None,
            "no tombstone that Node could read"
        );
        assert!(side.row(&format!("{prefix}{}", ids[1].expose())).await.is_some());
        assert_eq!(side.n().await, Some(1));
        let outcome = side.visit(async |s| s.bind_user("alice")).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
        let outcome = side.visit(async |s| s.insert("cookie", 1)).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Value);
    }
}

#[test]
fn mistakes_are_errors_of_build_by_name() {
    let none: [&str; 0] = [];
    let store = || Spy::new();
    let mistakes: Vec<(Builder<Engine>, &str, &str)> = vec![
        (Engine::builder(store()).profile(Profile::koa(none)), "profile", "no secret"),
        (Engine::builder(store()).profile(Profile::koa(["a", "a"])), "profile", "again"),
        (Engine::builder(store()).profile(Profile::express([""])), "profile", "empty"),
        (Engine::builder(store()).profile(Koa::new(KEYS).prefix("a b").into()), "profile", "prefix"),
        (
            Engine::builder(store()).profile(Koa::new(KEYS).prefix(&"p".repeat(250)).into()),
            "profile",
            "prefix",
        ),
        (Engine::builder(store()).profile(Profile::koa_session(KEYS)), "profile", "give the layer `NoStore`"),
        (Engine::builder(NoStore).profile(Profile::koa(KEYS)), "profile", "instead of `NoStore`"),
        (
            Engine::builder(NoStore).profile(Profile::koa_session(KEYS)).require_strict(),
            "require_strict",
            "AtomicStore",
        ),
        (
            Engine::builder(store()).profile(Profile::koa(KEYS)).cookie(koa_cookie().name("__Host-koa")),
            "cookie.secure",
            "insecure()",
        ),
        (
            Engine::builder(store())
                .profile(Profile::koa(KEYS))
                .cookie(koa_cookie().same_site(SameSite::None)),
            "cookie.same_site",
            "drop it",
        ),
        (
            Engine::builder(store())
                .profile(Profile::express(SECRETS))
                .expiry(Expiry::fixed(Duration::from_secs(9))),
            "expiry.absolute",
            "idle time alone",
        ),
    ];
    for (builder, field, cure) in mistakes {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
        assert!(error.to_string().contains(cure), "{error}");
        assert!(!error.to_string().contains("keykeys"), "{error}");
    }
    // A secure cookie over a proxy, as a service in production has it.
    let secure = koa_cookie().secure(true).name("__Host-koa");
    assert!(Engine::builder(store()).profile(Profile::koa(KEYS)).cookie(secure).build().is_ok());
}
