//! The options of Koa, Express and koa-session, one by one, against what the real packages sent and stored under them:
//! `vectors/make.mjs`. What holds under any options is in `node.rs`.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use cloakroom_core::{
    Builder, Bytes, CookieConfig, Engine, Expiry, Express, Key, Koa, NoStore, Profile, RequestHead, SameSite,
    Session, Store, Ttl,
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::Value;
use support::spy::Spy;

const KEYS: [&str; 2] = ["keys", "keykeys"];
const SECRETS: [&str; 2] = ["s3cret", "old"];
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

type Configure = fn(Builder<Engine>) -> Builder<Engine>;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/node.json")).unwrap()
}

/// A browser, an engine, and the store that a Node program could use as well.
struct Side {
    engine: Engine,
    spy: Spy,
    jar: BTreeMap<String, String>,
}

impl Side {
    fn new(configure: Configure) -> Self {
        let spy = Spy::new();
        Self::over(spy.clone(), configure(ids(Engine::builder(spy), "id", URL_SAFE)))
    }

    fn without_store(configure: Configure) -> Self {
        Self::over(Spy::new(), configure(Engine::builder(NoStore)))
    }

    fn over(spy: Spy, builder: Builder<Engine>) -> Self {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(vectors()["now"].as_u64().unwrap());
        Self { engine: builder.clock(move || now).build().unwrap(), spy, jar: BTreeMap::new() }
    }

    fn take(&mut self, lines: &[String]) {
        for line in lines {
            let (name, rest) = line.split_once('=').unwrap();
            // A removed signature has a value, which is that of an empty one.
            if rest.contains("=Thu, 01 Jan 1970") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
        }
    }

    /// Requests what the Node programs of the vectors have, and returns what was set.
    async fn path(&mut self, path: &str) -> Vec<String> {
        let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (uri, mut headers) = (Uri::from_static("/"), HeaderMap::new());
        if !pairs.is_empty() {
            headers.insert(header::COOKIE, pairs.join("; ").parse().unwrap());
        }
        let lazy = self.engine.begin(&RequestHead { method: &Method::GET, uri: &uri, headers: &headers });
        let session = lazy.load().await.unwrap();
        match path {
            "/inc" => drop(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).unwrap()),
            "/read" => drop(session.get::<u64>("n").unwrap()),
            "/logout" => session.destroy().await.unwrap(),
            other => panic!("no such path: {other}"),
        }
        let headers = support::visitor::finish(&self.engine, &lazy, StatusCode::OK).await.unwrap();
        let set = support::visitor::cookies(&headers);
        self.take(&set);
        set
    }

    async fn row(&self, key: &str) -> Option<String> {
        let found = self.spy.store().get(&Key::new(key).unwrap()).await.unwrap();
        found.map(|row| String::from_utf8(row.to_vec()).unwrap())
    }

    async fn put(&self, key: &str, row: &str) {
        let value = Bytes::copy_from_slice(row.as_bytes());
        self.spy.store().set(&Key::new(key).unwrap(), value, Ttl::from_secs(3600)).await.unwrap();
    }
}

/// Draws the id that the vectors have under this name.
fn ids(builder: Builder<Engine>, name: &str, alphabet: &str) -> Builder<Engine> {
    let id = vectors()[name].as_str().unwrap().to_owned();
    builder.generate_id(alphabet, id.len(), move || {
        let id = id.clone();
        async move { Ok(id) }
    })
}

fn lines(answer: &Value) -> Vec<String> {
    answer["set"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

fn answers(case: &Value) -> impl Iterator<Item = (&str, Vec<String>)> {
    let answers = case["answers"].as_array().unwrap().iter();
    answers.map(|answer| (answer["path"].as_str().unwrap(), lines(answer)))
}

/// The rows that Node stored, with their keys and ttls.
fn rows(case: &Value) -> Vec<(&str, &str, Option<u64>)> {
    let log = case["log"].as_array().unwrap().iter().filter(|call| call["op"] == "set");
    log.map(|call| (call["key"].as_str().unwrap(), call["row"].as_str().unwrap(), call["ttl"].as_u64()))
        .collect()
}

fn hour() -> Expiry {
    Expiry::idle(Duration::from_secs(3600))
}

fn strict(cookie: CookieConfig) -> CookieConfig {
    cookie.secure(true).same_site(SameSite::Strict)
}

fn cross(cookie: CookieConfig) -> CookieConfig {
    cookie.secure(true).same_site(SameSite::None).partitioned(true)
}

fn koa_cookie() -> CookieConfig {
    Profile::koa(KEYS).default_cookie()
}

fn koa(builder: Builder<Engine>) -> Builder<Engine> {
    builder.profile(Profile::koa(KEYS))
}

/// A cookie of a day over a row of an hour, or whatever else.
fn apart(builder: Builder<Engine>) -> Builder<Engine> {
    builder.profile(Koa::new(KEYS).max_age(Duration::from_secs(24 * 3600)).into())
}

fn express_cookie() -> CookieConfig {
    Profile::express(SECRETS).default_cookie().lasting()
}

/// Without a prefix: the store of the vectors was given the bare id.
fn express(builder: Builder<Engine>) -> Builder<Engine> {
    builder.profile(Express::new(SECRETS).prefix("").into())
}

fn session_cookie() -> CookieConfig {
    Profile::koa_session(KEYS).default_cookie()
}

fn koa_session(builder: Builder<Engine>) -> Builder<Engine> {
    builder.profile(Profile::koa_session(KEYS))
}

fn minutes(session: &Session) -> Option<Duration> {
    session.get::<u64>("n").ok().flatten().map(|n| Duration::from_secs(n * 60))
}

const HEX: &str = "0123456789abcdef";

const KOA: &[(&str, Configure)] = &[
    ("strict", |b| koa(b).cookie(strict(koa_cookie())).expiry(hour())),
    ("cross", |b| koa(b).cookie(cross(koa_cookie())).expiry(hour())),
    ("ttl", |b| apart(b).expiry(hour())),
    ("ttl_by", |b| apart(b).idle_by(minutes)),
    ("empty", |b| koa(b).allow_empty(true)),
    ("ids", |b| ids(koa(b), "own", HEX)),
];

const EXPRESS: &[(&str, Configure)] = &[
    ("strict", |b| express(b).cookie(strict(express_cookie())).expiry(hour())),
    ("cross", |b| express(b).cookie(cross(express_cookie())).expiry(hour())),
    ("empty", |b| express(b).allow_empty(true)),
    ("ids", |b| ids(express(b), "own", HEX)),
];

#[tokio::test]
async fn each_option_is_sent_and_stored_as_node_does() {
    let vectors = vectors();
    let cases = KOA.iter().map(|case| ("koa", case)).chain(EXPRESS.iter().map(|case| ("express", case)));
    for (format, (name, configure)) in cases {
        let (case, mut side) = (&vectors[format][name], Side::new(*configure));
        for (path, set) in answers(case).filter(|(path, _)| *path != "/logout") {
            assert_eq!(side.path(path).await, set, "{format} {name} {path}");
        }
        let stored = rows(case);
        let writes: Vec<_> = side.spy.take_all().into_iter().filter(|call| call.value.is_some()).collect();
        assert_eq!(writes.len(), stored.len(), "{format} {name}");
        for (write, (key, row, ttl)) in writes.iter().zip(&stored) {
            assert_eq!(write.key.as_ref().unwrap().as_str(), *key, "{format} {name}");
            // The order within `cookie` follows that of the options there.
            let ours: Value = serde_json::from_slice(write.value.as_ref().unwrap()).unwrap();
            assert_eq!(ours, serde_json::from_str::<Value>(row).unwrap(), "{format} {name}");
            let due = ttl.map(Ttl::from_millis);
            assert!(due.is_none() || write.ttl == due, "{format} {name}: {:?}", write.ttl);
        }
        let set = side.path("/logout").await;
        assert!(side.jar.is_empty(), "{format} {name}: {set:?}");
        assert_eq!(side.row(stored[0].0).await, None, "{format} {name}");
    }
}

#[tokio::test]
async fn what_node_left_under_each_option_is_used_and_kept_to_the_byte() {
    let vectors = vectors();
    let lasting: Configure = |b| express(b).cookie(express_cookie()).expiry(hour());
    // A date beside `maxAge` only Node has, and what is not configured here is the row's: its priority.
    let dated: Configure = |b| koa(b).expiry(hour());
    let cases = KOA.iter().copied().chain([("dated", dated)]).map(|case| ("koa", case));
    let express = EXPRESS.iter().copied().chain([("dated", lasting), ("priority", lasting)]);
    for (format, (name, configure)) in cases.chain(express.map(|case| ("express", case))) {
        let (case, mut side) = (&vectors[format][name], Side::new(configure));
        let (stored, answers) = (rows(case), answers(case).collect::<Vec<_>>());
        side.put(stored[0].0, stored[0].1).await;
        side.take(&answers[0].1);
        assert_eq!(side.path("/read").await, Vec::<String>::new(), "{format} {name}");
        assert_eq!(side.row(stored[0].0).await.as_deref(), Some(stored[0].1), "{format} {name}");
        side.spy.take_all();
        assert_eq!(side.path("/inc").await, answers[2].1, "{format} {name}");
        assert_eq!(side.row(stored[0].0).await.as_deref(), Some(stored[1].1), "{format} {name}");
        if (format, name) == ("koa", "dated") {
            // There the row outlives its cookie by an hour; here both end when the first of the two says so.
            let ttls: Vec<_> = side.spy.take_all().iter().filter_map(|call| call.ttl).collect();
            assert_eq!(ttls, [Ttl::from_secs(3600)]);
        }
    }
}

#[tokio::test]
async fn each_option_of_koa_session_is_sent_as_it_does() {
    let vectors = vectors();
    let cases: [(&str, Configure); 2] = [
        ("strict", |b| koa_session(b).cookie(strict(session_cookie())).expiry(hour())),
        ("cross", |b| koa_session(b).cookie(cross(session_cookie())).expiry(hour())),
    ];
    for (name, configure) in cases {
        let mut side = Side::without_store(configure);
        for (path, set) in answers(&vectors["koa_session"][name]) {
            assert_eq!(side.path(path).await, set, "{name} {path}");
        }
    }
}

/// Without `maxAge` koa-session forgets the date of the first cookie, though the session in it says when it ends.
#[tokio::test]
async fn a_first_cookie_has_its_date_where_koa_session_forgets_it() {
    let vectors = vectors();
    let mut side = Side::without_store(koa_session);
    let dated = |line: &str| {
        line.replace("; path=/; httponly", "; path=/; expires=Tue, 24 Nov 2026 01:43:18 GMT; httponly")
    };
    for (at, (path, set)) in answers(&vectors["koa_session"]["unset"]).enumerate() {
        let set: Vec<_> = if at == 0 { set.iter().map(|line| dated(line)).collect() } else { set };
        assert_eq!(side.path(path).await, set, "{path}");
    }
    // The one without a date is taken as well.
    let mut side = Side::without_store(koa_session);
    let (first, third) = (
        lines(&vectors["koa_session"]["unset"]["answers"][0]),
        &vectors["koa_session"]["unset"]["answers"][2],
    );
    side.take(&first);
    assert_eq!(side.path("/inc").await, lines(third));
}
