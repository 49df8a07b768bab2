//! The rows and cookies of Node's formats beyond the vectors: what a row says for itself, and what an option changes.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.

mod support;

use std::time::Duration;

use cloakroom_core::{
    Builder, CookieConfig, Engine, ErrorKind, Expiry, Express, Koa, Priority, Profile, SameSite, Session, Ttl,
};
use support::side::{ID, KEYS, SECRETS, Side, koa_pair};

type Configure = fn(Builder<Engine>) -> Builder<Engine>;

fn koa(b: Builder<Engine>) -> Builder<Engine> {
    b.profile(Profile::koa(KEYS))
}

fn express(b: Builder<Engine>) -> Builder<Engine> {
    b.profile(Express::new(SECRETS).prefix("").into())
}

fn lasting(b: Builder<Engine>) -> Builder<Engine> {
    let cookie = Profile::express(SECRETS).default_cookie().lasting();
    express(b).cookie(cookie).expiry(Expiry::idle(Duration::from_secs(3600)))
}

fn koa_cookie() -> CookieConfig {
    Profile::koa(KEYS).default_cookie()
}

/// The key of the only session.
fn koa_key() -> String {
    format!("koa:sess:{ID}")
}

/// Somebody who has visited a Koa service once.
async fn known(configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>) -> Side {
    let mut side = Side::new(configure);
    side.path("/inc").await;
    side
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_neither_overwritten_nor_removed() {
    let bad = [
        "5",
        "\"str\"",
        "[]",
        "{",
        "{\"cookie\":\"x\"}",
        "{\"cookie\":[]}",
        "{\"a\":1,\"a\":2}",
        "{\"\\ud800\":1}",
    ];
    for (configure, key) in
        [(koa as Configure, format!("koa:sess:{ID}")), (express as Configure, ID.to_owned())]
    {
        for row in bad {
            let mut side = Side::new(configure);
            side.path("/inc").await;
            side.put(&key, row).await;
            let outcome = side.visit(async |s| s.insert("n", 9)).await;
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WritesRefused, "{row}");
            assert_eq!(side.row(&key).await.as_deref(), Some(row));
            assert_eq!(side.n().await, None);
            side.path("/logout").await;
            assert_eq!(side.row(&key).await.as_deref(), Some(row), "not even a logout");
        }
    }
}

#[tokio::test]
async fn rows_without_what_we_would_write_are_used_and_given_it() {
    let mut side = Side::new(koa);
    side.path("/inc").await;
    let key = format!("koa:sess:{ID}");
    side.put(&key, r#"{"n":4}"#).await;
    side.path("/inc").await;
    let cookie = r#"{"httpOnly":true,"path":"/","overwrite":true,"signed":true,"maxAge":86400000}"#;
    assert_eq!(side.row(&key).await.unwrap(), format!(r#"{{"cookie":{cookie},"n":5}}"#));
    side.put(&key, r#"{"n":4,"cookie":{"mine":[1],"maxAge":5000,"sameSite":true}}"#).await;
    let set = side.path("/inc").await;
    assert!(set[0].contains("expires=Mon, 23 Nov 2026 01:43:23 GMT; samesite=strict"), "{set:?}");
    assert_eq!(
        side.row(&key).await.unwrap(),
        r#"{"cookie":{"mine":[1],"maxAge":5000,"sameSite":"strict"},"n":5}"#
    );
    // A date of its own is the session's end, in the cookie and in the store.
    side.put(&key, r#"{"cookie":{"maxAge":null,"expires":"2026-11-23T01:44:18.514Z"},"n":1}"#).await;
    side.spy.take_all();
    let set = side.path("/inc").await;
    assert!(set[0].contains("expires=Mon, 23 Nov 2026 01:44:18 GMT"), "{set:?}");
    assert_eq!(side.spy.take_all().pop().unwrap().ttl, Some(Ttl::from_secs(60)));
    assert!(
        side.row(&key)
            .await
            .unwrap()
            .starts_with(r#"{"cookie":{"maxAge":null,"expires":"2026-11-23T01:44:18.514Z"}"#)
    );
}

#[tokio::test]
async fn one_sessions_own_cookie_options_and_ttl_are_kept_where_node_finds_them() {
    let mut side = Side::new(koa);
    side.path("/inc").await;
    let change = async |s: &Session| {
        s.set_ttl(Duration::from_secs(60))?;
        s.cookie(|cookie| cookie.http_only(false))
    };
    let set = side.visit(change).await.unwrap();
    assert!(set[0].ends_with("; path=/; expires=Mon, 23 Nov 2026 01:44:18 GMT"), "{set:?}");
    let row = side.row(&format!("koa:sess:{ID}")).await.unwrap();
    assert!(row.contains(r#""httpOnly":false"#) && row.contains(r#""maxAge":60000"#), "{row}");
    assert_eq!(side.path("/inc").await.first(), set.first(), "and they stay");
    let set = side.visit(async |s| s.cookie(|cookie| cookie.browser_session(true))).await.unwrap();
    assert!(set[0].ends_with("; path=/"), "{set:?}");

    let mut side = Side::new(lasting);
    side.path("/inc").await;
    side.visit(async |s| s.set_ttl(Duration::from_secs(60))).await.unwrap();
    let row = side.row(ID).await.unwrap();
    assert!(row.contains(r#""originalMaxAge":60000,"expires":"2026-11-23T01:44:18.514Z""#), "{row}");
}

#[tokio::test]
async fn a_cookie_may_live_longer_than_its_record_where_the_service_has_it_so() {
    let mut side = Side::new(|b| {
        let koa = Koa::new(KEYS).max_age(Duration::from_secs(3600));
        b.profile(koa.into()).expiry(Expiry::idle(Duration::from_secs(1)))
    });
    for _ in 0..2 {
        let set = side.path("/inc").await;
        assert!(set[0].contains("expires=Mon, 23 Nov 2026 02:43:18 GMT"), "{set:?}");
    }
    assert!(side.spy.take_all().iter().filter_map(|call| call.ttl).all(|ttl| ttl == Ttl::from_secs(1)));
    let row = side.row("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").await.unwrap();
    assert!(row.contains(r#""maxAge":3600000"#), "{row}");
}

/// How long the last write was to live.
fn last_ttl(side: &Side) -> Ttl {
    side.spy.take_all().into_iter().rev().find_map(|call| call.ttl).unwrap()
}

#[tokio::test]
async fn the_store_of_express_is_told_whole_seconds_and_that_of_koa_milliseconds() {
    let short = Expiry::idle(Duration::from_millis(1500));
    for (configure, ttl) in
        [(express as Configure, Ttl::from_secs(2)), (koa as Configure, Ttl::from_millis(1500))]
    {
        let mut side = known(|b| configure(b).expiry(short)).await;
        assert_eq!(last_ttl(&side), ttl, "a new session");
        side.path("/inc").await;
        assert_eq!(last_ttl(&side), ttl, "a write");
    }
    let mut side = known(|b| lasting(b).expiry(short)).await;
    side.path("/read").await;
    assert_eq!(last_ttl(&side), Ttl::from_secs(2), "a touch");
    let row = side.row(ID).await.unwrap();
    assert!(row.contains(r#""originalMaxAge":1500,"expires":"2026-11-23T01:43:20.014Z""#), "{row}");
}

#[tokio::test]
async fn an_empty_prefix_is_one() {
    let profiles: [Profile; 2] = [Koa::new(KEYS).prefix("").into(), Express::new(SECRETS).prefix("").into()];
    for profile in profiles {
        let mut side = known(|b| b.profile(profile)).await;
        assert!(side.row(ID).await.is_some());
        assert_eq!(side.n().await, Some(1));
    }
}

/// In the order of `cookies` and of `cookie`, the packages.
#[tokio::test]
async fn every_attribute_is_sent_stored_and_taken_back() {
    let all = |cookie: CookieConfig| {
        let cookie = cookie.secure(true).partitioned(true).priority(Priority::High);
        cookie.domain("example.com").path("/")
    };
    let ends = "expires=Tue, 24 Nov 2026 01:43:18 GMT";
    for (same_site, name) in [(SameSite::Strict, "strict"), (SameSite::Lax, "lax"), (SameSite::None, "none")]
    {
        let mut side = Side::new(|b| koa(b).cookie(all(koa_cookie()).same_site(same_site)));
        for set in side.path("/inc").await {
            let rest = set.split_once("; ").unwrap().1;
            let attributes = format!("domain=example.com; priority=high; samesite={name}; secure; httponly");
            assert_eq!(rest, format!("path=/; {ends}; {attributes}; partitioned"));
        }
        let row = side.row(&koa_key()).await.unwrap();
        assert!(
            row.contains(&format!(r#""sameSite":"{name}""#)) && row.contains(r#""priority":"high""#),
            "{row}"
        );
        assert!(row.contains(r#""secure":true"#) && row.contains(r#""partitioned":true"#), "{row}");
        for removal in side.path("/logout").await {
            assert!(
                removal.ends_with(&format!("samesite={name}; secure; httponly; partitioned")),
                "{removal}"
            );
        }
    }
    let cookie = all(Profile::express(SECRETS).default_cookie().lasting());
    let mut side = Side::new(|b| express(b).cookie(cookie.same_site(SameSite::Strict)));
    let set = side.path("/inc").await;
    let expected = "; Domain=example.com; Path=/; Expires=Tue, 24 Nov 2026 01:43:18 GMT; HttpOnly; Secure; \
                    Partitioned; Priority=High; SameSite=Strict";
    assert!(set[0].ends_with(expected), "{set:?}");
    let row = side.row(ID).await.unwrap();
    let expected = r#"{"cookie":{"originalMaxAge":86400000,"partitioned":true,"priority":"high","expires":"#;
    assert!(row.starts_with(expected), "{row}");
}

#[tokio::test]
async fn a_rows_own_priority_is_sent() {
    let mut side = known(koa).await;
    side.put(&koa_key(), r#"{"cookie":{"maxAge":86400000,"httpOnly":true,"priority":"Low"},"n":1}"#).await;
    let set = side.path("/inc").await;
    assert!(set[0].ends_with("GMT; priority=low; httponly"), "{set:?}");
    assert!(side.row(&koa_key()).await.unwrap().contains(r#""priority":"Low""#));
    let mut side = known(express).await;
    side.put(ID, r#"{"cookie":{"originalMaxAge":60000,"priority":"low","path":"/"},"n":1}"#).await;
    let set = side.path("/inc").await;
    assert!(set[0].ends_with("; Priority=Low"), "{set:?}");
}

/// The seed fills in what is `undefined`, and leaves `null`, `0` and `false`.
#[tokio::test]
async fn what_a_row_turns_off_stays_off() {
    let cookie = r#"{"httpOnly":false,"path":"/","overwrite":false,"signed":false,"maxAge":0,"secure":null}"#;
    let mut side = known(koa).await;
    side.put(&koa_key(), &format!(r#"{{"cookie":{cookie},"n":1}}"#)).await;
    let set = side.path("/inc").await;
    assert!(set[0].ends_with("; path=/"), "until the browser is closed, and for scripts to see: {set:?}");
    assert_eq!(side.row(&koa_key()).await.unwrap(), format!(r#"{{"cookie":{cookie},"n":2}}"#));
}

/// The seed keeps each session's own copy of the options in its row, so that new ones are for new sessions.
#[tokio::test]
async fn options_that_the_operator_changes_leave_old_rows_alone() {
    let before = known(koa).await;
    let row = before.row(&koa_key()).await.unwrap();
    let changed = koa_cookie().http_only(false).same_site(SameSite::Strict);
    let mut side = Side::new(|b| koa(b).cookie(changed).expiry(Expiry::idle(Duration::from_secs(60))));
    side.put(&koa_key(), &row).await;
    side.jar = before.jar;
    let set = side.path("/inc").await;
    // An option that the row does not name is as configured.
    assert!(set[0].ends_with("expires=Tue, 24 Nov 2026 01:43:18 GMT; samesite=strict; httponly"), "{set:?}");
    assert_eq!(last_ttl(&side), Ttl::from_secs(86_400));
    assert_eq!(side.row(&koa_key()).await.unwrap(), row.replace(r#""n":1"#, r#""n":2"#));
}

/// K-9: there, `expires` was the row's end and `maxAge` the cookie's.
#[tokio::test]
async fn a_row_with_two_ends_ends_at_the_nearer_one_and_its_cookie_with_it() {
    let in_a_minute = r#""expires":"2026-11-23T01:44:18.514Z""#;
    for (cookie, left, date) in [
        (format!(r#"{{"maxAge":86400000,{in_a_minute}}}"#), 60, "Mon, 23 Nov 2026 01:44:18 GMT"),
        (format!(r#"{{"maxAge":5000,{in_a_minute}}}"#), 5, "Mon, 23 Nov 2026 01:43:23 GMT"),
    ] {
        let mut side = known(koa).await;
        side.put(&koa_key(), &format!(r#"{{"cookie":{cookie},"n":1}}"#)).await;
        let set = side.path("/inc").await;
        assert!(set.iter().all(|line| line.contains(&format!("expires={date}"))), "{set:?}");
        assert_eq!(last_ttl(&side), Ttl::from_secs(left));
        assert!(side.row(&koa_key()).await.unwrap().contains(&cookie), "and the row says what it said");
    }
}

/// K-10: there, rows with a `maxAge` of `null`, zero or less than nothing never ended.
#[tokio::test]
async fn a_row_whose_max_age_is_no_time_ends_all_the_same() {
    for max_age in ["null", "0", "-0", "-5", "-86400000", "\"session\"", "false"] {
        let mut side = known(koa).await;
        side.put(&koa_key(), &format!(r#"{{"cookie":{{"maxAge":{max_age}}},"n":1}}"#)).await;
        let set = side.path("/inc").await;
        assert!(set.iter().all(|line| !line.contains("expires")), "{max_age}: {set:?}");
        assert_eq!(last_ttl(&side), Ttl::from_secs(86_400), "{max_age}");
        assert!(side.row(&koa_key()).await.unwrap().contains(&format!(r#""maxAge":{max_age}}}"#)));
    }
}

#[tokio::test]
async fn where_cookie_and_row_are_apart_the_rows_max_age_is_the_cookies() {
    let apart = |b: Builder<Engine>| {
        let koa = Koa::new(KEYS).max_age(Duration::from_secs(3600));
        b.profile(koa.into()).expiry(Expiry::idle(Duration::from_secs(1)))
    };
    for (cookie, date) in [
        (r#"{"maxAge":60000}"#, "01:44:18"),
        (r#"{"expires":"2026-11-23T01:53:18.000Z"}"#, "01:53:18"),
        (r#"{"maxAge":3600000}"#, "02:43:18"),
    ] {
        let mut side = known(apart).await;
        side.put(&koa_key(), &format!(r#"{{"cookie":{cookie},"n":1}}"#)).await;
        let set = side.path("/inc").await;
        assert!(set[0].contains(&format!("expires=Mon, 23 Nov 2026 {date} GMT")), "{set:?}");
        assert_eq!(last_ttl(&side), Ttl::from_secs(1));
        assert!(side.row(&koa_key()).await.unwrap().contains(cookie), "{cookie}");
    }
    // A time of the session's own is the row's: it lasts for the write that it is part of, and the cookie knows nothing.
    let mut side = known(apart).await;
    side.spy.take_all();
    let set = side.visit(async |s| s.set_ttl(Duration::from_secs(9))).await.unwrap();
    assert!(set[0].contains("expires=Mon, 23 Nov 2026 02:43:18 GMT"), "{set:?}");
    assert_eq!(last_ttl(&side), Ttl::from_secs(9));
    side.path("/inc").await;
    assert_eq!(last_ttl(&side), Ttl::from_secs(1));
    // One that is asked for at every write holds.
    let by = |s: &Session| Some(Duration::from_secs(s.get("n").ok().flatten()?));
    let mut side = known(|b| apart(b).idle_by(by)).await;
    for n in 1..4 {
        assert_eq!(last_ttl(&side), Ttl::from_secs(n));
        let set = side.path("/inc").await;
        assert!(set[0].contains("expires=Mon, 23 Nov 2026 02:43:18 GMT"), "{set:?}");
    }
    assert!(side.row(&koa_key()).await.unwrap().contains(r#""maxAge":3600000"#));
}

/// What JavaScript writes and others refuse goes through unread, whatever the request does beside it.
#[tokio::test]
async fn deep_and_huge_values_survive_a_write_and_refuse_only_to_be_read() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    for odd in [deep.as_str(), "1e400", "-1e999", "123456789012345678901234567890", r#""\ud800""#] {
        for (configure, key) in [(koa as Configure, koa_key()), (express as Configure, ID.to_owned())] {
            let mut side = known(configure).await;
            let row = side.row(&key).await.unwrap().replace(r#""n":1"#, &format!(r#""odd":{odd},"n":1"#));
            side.put(&key, &row).await;
            side.path("/inc").await;
            let expected = row.replace(r#","n":1"#, r#","n":2"#);
            assert_eq!(side.row(&key).await.as_ref(), Some(&expected));
            let read = side.visit(async |s| s.get::<Vec<String>>("odd").map(|_| ())).await;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Value);
            side.visit(async |s| s.insert("new", true)).await.unwrap();
            let row = side.row(&key).await.unwrap();
            assert!(row.contains(odd) && row.ends_with(r#","new":true}"#));
        }
    }
}

/// Its own names: a session of Express would not have the value when it is loaded.
#[tokio::test]
async fn what_express_would_drop_is_refused_here_and_dropped_from_its_rows() {
    for key in ["id", "req", "save", "touch", "resetMaxAge", "toString", "__proto__", "cookie"] {
        let mut side = known(express).await;
        let before = side.row(ID).await;
        let outcome = side.visit(async |s| s.insert(key, 1)).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Value, "{key}");
        assert_eq!(side.row(ID).await, before);
        // A program that has put it there all the same would not see it again.
        if key != "cookie" {
            let row = before.unwrap().replace(r#""n":1"#, &format!(r#""{key}":1,"n":1"#));
            side.put(ID, &row).await;
            side.visit(async |s| {
                assert!(!s.contains(key));
                s.insert("ID", "a name like any other")
            })
            .await
            .unwrap();
            assert!(!side.row(ID).await.unwrap().contains(&format!(r#""{key}""#)));
        }
    }
    // Koa has no such names.
    known(koa).await.visit(async |s| s.insert("id", 1)).await.unwrap();
}

/// A Node program with a `genSid` of its own: its visitors keep their cookies, and are strangers here unless their ids
/// are declared.
#[tokio::test]
async fn a_good_signature_over_an_id_of_another_shape_is_left_alone() {
    let id = "0123456789abcdefghijklmnopqrstuv0123";
    let jar = koa_pair("koa.sid", id);
    let mut side = Side::new(koa);
    side.jar = jar.clone();
    assert_eq!(side.path("/read").await, Vec::<String>::new(), "nothing is taken back");
    assert_eq!((side.n().await, side.spy.take_calls().len()), (None, 0), "and nothing looked up");
    side.jar.insert("koa.sid.sig".into(), "A".repeat(27));
    assert_eq!(side.path("/read").await.len(), 1, "which is what a wrong signature gets");
    // Declared, they are ids like any other.
    let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    let mut side =
        Side::new(|b| koa(b).generate_id(alphabet, id.len(), move || async move { Ok(id.to_owned()) }));
    side.jar = jar;
    side.put(&format!("koa:sess:{id}"), r#"{"cookie":{"maxAge":86400000},"n":7}"#).await;
    assert_eq!(side.n().await, Some(7));
}

/// What a program with another `encode` puts into its cookie: koa-session itself takes it for no session.
#[tokio::test]
async fn a_signed_cookie_that_holds_no_session_is_none_and_is_replaced_by_a_write() {
    let configure = |b: Builder<Engine>| b.profile(Profile::koa_session(KEYS));
    for value in ["bm90IGpzb24=", "not base64 at all", "NQ==", "W10=", ""] {
        let mut side = Side::without_store(configure);
        side.jar = koa_pair("koa.sess", value);
        assert_eq!(side.path("/read").await, Vec::<String>::new(), "{value}");
        assert_eq!(side.path("/inc").await.len(), 2, "{value}");
        assert_eq!(side.n().await, Some(1), "{value}");
    }
}
