//! What must hold between Node and Rust, whatever the format: each rule once, run for each kind of pair.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use cloakroom::{Bytes, ErrorKind, Store as _, Ttl};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    browser::Browser,
    pair::{Format, Kind, Place, logged_in},
    rotation,
};

/// Values that a session may hold, chosen for what one side could do to them.
const VALUES: &[&str] = &[
    "null",
    "true",
    "-0.5",
    "9007199254740991",
    "1e21",
    "\"\"",
    "\"\\u0000\\u001f\\u2028\\ud83d\\ude00 \\\"quoted\\\" <b>&amp;\"",
    "[]",
    "{}",
    "[[[[1]]],{\"a\":{\"b\":[null]}}]",
    "{\"10\":\"ten\",\"9\":\"nine\",\"z\":1,\"a\":2}",
    "{\"__proto\":1,\"constructor\":2,\"toJSON\":3}",
];

/// Who logs in on one side is logged in on the other, which can write what the first then reads.
pub(crate) async fn a_login_and_what_is_written_are_seen_on_the_other_side(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    for (here, there) in pair.both_ways() {
        let browser = logged_in(here).await;
        assert_eq!(browser.session(there).await, json!({ "user": "ada" }));
        assert_eq!(browser.get(there, "/add?k=n").await, "1");
        assert_eq!(browser.get(here, "/add?k=n").await, "2");
        assert_eq!(browser.get(there, "/add?k=n").await, "3");
        assert_eq!(browser.session(here).await, json!({ "user": "ada", "n": 3 }));
        browser.get(there, "/drop?k=user").await;
        assert_eq!(browser.session(here).await, json!({ "n": 3 }));
    }
}

/// Every JSON value comes back from the other side as it was.
pub(crate) async fn values_of_every_shape_survive_both_sides(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    for (here, there) in pair.both_ways() {
        let browser = logged_in(here).await;
        let mut expected = Map::from_iter([("user".to_owned(), json!("ada"))]);
        for (at, value) in VALUES.iter().enumerate() {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            browser.get(here, &format!("/put?k=v{at}&v={encoded}")).await;
            expected.insert(format!("v{at}"), serde_json::from_str(value).unwrap());
        }
        browser.get(there, "/add?k=n").await;
        expected.insert("n".to_owned(), json!(1));
        assert_eq!(browser.session(there).await, Value::Object(expected.clone()));
        assert_eq!(browser.session(here).await, Value::Object(expected));
    }
}

/// What a new row says of its cookie is the same text from either side, but for the time in it.
pub(crate) async fn a_row_says_the_same_of_its_cookie_whoever_makes_it(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let store = place.store().await;
    let mut said = Vec::new();
    for site in [pair.node.site(), pair.rust.site()] {
        let browser = logged_in(site).await;
        let row = store.get(&place.key(&browser)).await.unwrap().unwrap();
        let row: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&row).unwrap();
        assert_eq!(row.keys().collect::<Vec<_>>(), ["cookie", "user"]);
        let cookie = row["cookie"].get();
        let times: BTreeMap<String, Value> = serde_json::from_str(cookie).unwrap();
        let expires = times.get("expires").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(!expires.is_empty(), matches!(kind.format, Format::Express), "{cookie}");
        said.push(if expires.is_empty() { cookie.to_owned() } else { cookie.replace(expires, "then") });
    }
    assert_eq!(said[0], said[1], "Node's and Rust's");
    let lasts = if matches!(kind.format, Format::Express) {
        "\"originalMaxAge\":3600000"
    } else {
        "\"maxAge\":86400000"
    };
    assert!(said[0].contains(lasts), "{}", said[0]);
}

/// A logout on either side ends the session on both, and the old cookie opens nothing.
pub(crate) async fn a_logout_on_either_side_ends_it_on_both(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    for (here, there) in pair.both_ways() {
        let browser = logged_in(here).await;
        let thief = browser.copied();
        assert_eq!(browser.get(there, "/logout").await, "out");
        for site in [here, there] {
            assert_eq!(browser.session(site).await, json!({}));
            assert_eq!(thief.session(site).await, json!({}));
        }
    }
}

/// A new id on either side is good on both, and the old one on neither.
pub(crate) async fn a_new_id_on_either_side_holds_on_both(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    for (here, there) in pair.both_ways() {
        let browser = logged_in(here).await;
        let old = browser.copied();
        assert_eq!(browser.get(there, "/renew?user=grace").await, "new");
        assert_ne!(browser.cookies(), old.cookies());
        for site in [here, there] {
            assert_eq!(browser.session(site).await, json!({ "user": "grace" }));
            assert_eq!(old.session(site).await, json!({}));
        }
    }
}

/// Secrets are rotated on one side at a time: nobody is logged out.
pub(crate) async fn secrets_are_rotated_step_by_step_without_a_logout(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let place = &place;
    rotation::nobody_is_logged_out(|secrets| place.node(secrets), async |secrets| place.rust(secrets).await)
        .await;
}

/// A thousand requests to either side in an order that is drawn: every one finds what all before it left.
pub(crate) async fn a_thousand_mixed_requests_lose_nothing(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let sites = [pair.node.site(), pair.rust.site()];
    let browser = logged_in(sites[0]).await;
    let mut expected: BTreeMap<String, Value> = BTreeMap::from([("user".to_owned(), json!("ada"))]);
    let mut draw = Draw(0x5eed_c0a7);
    for step in 0..1000 {
        let site = sites[draw.below(2)];
        let key = format!("k{}", draw.below(5));
        match draw.below(10) {
            0 => {
                browser.get(site, &format!("/drop?k={key}")).await;
                expected.remove(&key);
            }
            1..3 => {
                let text = VALUES[draw.below(VALUES.len())];
                let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
                browser.get(site, &format!("/put?k=v-{key}&v={encoded}")).await;
                expected.insert(format!("v-{key}"), serde_json::from_str(text).unwrap());
            }
            3..5 => assert_eq!(browser.session(site).await, json!(expected), "at step {step}"),
            _ => {
                let n = expected.get(&key).and_then(Value::as_u64).unwrap_or(0) + 1;
                assert_eq!(
                    browser.get(site, &format!("/add?k={key}")).await,
                    n.to_string(),
                    "at step {step}"
                );
                expected.insert(key, json!(n));
            }
        }
    }
    for site in sites {
        assert_eq!(browser.session(site).await, json!(expected));
    }
}

/// What Rust writes is done again on top of what Node wrote meanwhile.
pub(crate) async fn what_node_writes_during_a_rust_request_is_kept(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let browser = logged_in(pair.node.site()).await;
    browser.get(pair.node.site(), "/add?k=n").await;
    let late = browser.get(pair.rust.site(), "/late?k=n");
    let meanwhile = async {
        pair.rust.meet().await;
        browser.get(pair.node.site(), "/add?k=n").await;
        browser.get(pair.node.site(), "/put?k=other&v=7").await;
        pair.rust.meet().await;
    };
    tokio::join!(late, meanwhile);
    let expected = json!({ "user": "ada", "n": 3, "other": 7 });
    assert_eq!(browser.session(pair.node.site()).await, expected);
}

/// A session that Node ended stays ended, whatever a slower Rust request wanted to write.
pub(crate) async fn what_node_ends_during_a_rust_request_stays_ended(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let browser = logged_in(pair.node.site()).await;
    let thief = browser.copied();
    let late = browser.get(pair.rust.site(), "/late?k=n");
    let meanwhile = async {
        pair.rust.meet().await;
        thief.get(pair.node.site(), "/logout").await;
        pair.rust.meet().await;
    };
    tokio::join!(late, meanwhile);
    for site in [pair.node.site(), pair.rust.site()] {
        assert_eq!(thief.session(site).await, json!({}));
        assert_eq!(browser.session(site).await, json!({}));
    }
}

/// Adds one, again if the answer is that others came first: a crowd may overtake a request 16 times, and then it has
/// changed nothing.
async fn added(browser: &Browser, rust: &str) -> u64 {
    loop {
        let (status, answer) = browser.visit(rust, "/add?k=n").await;
        if status == StatusCode::OK {
            return answer.parse().unwrap();
        }
        assert!(answer.contains("contention"), "{status}: {answer}");
    }
}

/// Rust requests in parallel number each of their changes once, while Node reads along.
pub(crate) async fn parallel_rust_requests_count_right_while_node_reads(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let browser = logged_in(pair.node.site()).await;
    let count = |_| {
        let (browser, node, rust) =
            (browser.clone(), pair.node.site().to_owned(), pair.rust.site().to_owned());
        tokio::spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..20 {
                numbers.push(added(&browser, &rust).await);
                assert_eq!(browser.session(&node).await["user"], "ada");
            }
            numbers
        })
    };
    let tasks: Vec<_> = (0..6).map(count).collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.extend(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=120).collect::<Vec<_>>());
}

/// What Rust cannot read stays as it is: Rust neither overwrites nor ends it, and Node goes on if it can.
pub(crate) async fn a_row_that_rust_cannot_read_is_left_to_node(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let (node, rust) = (pair.node.site(), pair.rust.site());
    let browser = logged_in(node).await;
    let (store, key) = (place.store().await, place.key(&browser));
    let row = String::from_utf8(store.get(&key).await.unwrap().unwrap().to_vec()).unwrap();
    let left_alone = async |broken: &str| {
        for page in ["/get", "/login?user=eve", "/add?k=n", "/logout"] {
            browser.copied().visit(rust, page).await;
            assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(broken.as_bytes()), "after {page}");
        }
    };
    // JavaScript takes the last of two. Which of them is meant, nobody can say.
    let twice = row.replace("\"user\"", "\"user\":\"eve\",\"user\"");
    store.set(&key, Bytes::from(twice.clone()), Ttl::from_secs(600)).await.unwrap();
    left_alone(&twice).await;
    assert_eq!(browser.session(node).await, json!({ "user": "ada" }));
    browser.get(node, "/add?k=n").await;
    assert_eq!(browser.session(rust).await, json!({ "user": "ada", "n": 1 }), "Node has written it anew");
    let cut = row.replace("\"ada\"", "\"ada");
    match store.set(&key, Bytes::from(cut.clone()), Ttl::from_secs(600)).await {
        Ok(()) => left_alone(&cut).await,
        // Here is room for JSON alone.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Value),
    }
}

/// A cookie whose signature is wrong is nobody's, though its id is somebody's.
pub(crate) async fn a_forged_cookie_opens_nothing(kind: &'static Kind) {
    let place = Place::new(kind).await;
    let pair = place.pair().await;
    let browser = logged_in(pair.node.site()).await;
    let forger = place.forger(&browser);
    assert_ne!(forger.cookies(), browser.cookies());
    assert_eq!(place.key(&forger), place.key(&browser), "the id is the same");
    let (status, body) = forger.visit(pair.rust.site(), "/get").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "{}"));
    assert_eq!(browser.session(pair.rust.site()).await["user"], "ada");
}

/// Numbers that look drawn, and are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Makes a test of each rule for one kind of pair.
macro_rules! shared_tests {
    ($kind:expr) => {
        shared_tests!(
            $kind,
            a_login_and_what_is_written_are_seen_on_the_other_side,
            values_of_every_shape_survive_both_sides,
            a_row_says_the_same_of_its_cookie_whoever_makes_it,
            a_logout_on_either_side_ends_it_on_both,
            a_new_id_on_either_side_holds_on_both,
            secrets_are_rotated_step_by_step_without_a_logout,
            a_thousand_mixed_requests_lose_nothing,
            what_node_writes_during_a_rust_request_is_kept,
            what_node_ends_during_a_rust_request_stays_ended,
            parallel_rust_requests_count_right_while_node_reads,
            a_row_that_rust_cannot_read_is_left_to_node,
            a_forged_cookie_opens_nothing,
        );
    };
    ($kind:expr, $($rule:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                rules::$rule($kind).await;
            }
        )+
    };
}

pub(crate) use shared_tests;
