//! Every mistake in the configuration is an error of `build()` that names the field and the cure.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_conformance::{Plain, Reference};
use cloakroom_core::{
    Builder, CookieConfig, Engine, ErrorKind, Expiry, Guarantee, Keyring, Profile, SameSite,
};
use support::logs::Logs;

type Configure = fn(Builder) -> Builder;

/// What is wrong, the field that must be named, and a word of the cure.
const MISTAKES: &[(Configure, &str, &str)] = &[
    (|b| b.cookie(CookieConfig::new().name("")), "cookie.name", "empty"),
    (|b| b.cookie(CookieConfig::new().name("i d")), "cookie.name", "token"),
    (|b| b.cookie(CookieConfig::new().name("sid;x")), "cookie.name", "token"),
    (|b| b.cookie(CookieConfig::new().name("sid=x")), "cookie.name", "token"),
    (|b| b.cookie(CookieConfig::new().name("sïd")), "cookie.name", "token"),
    (|b| b.cookie(CookieConfig::new().name("sid\r\nx")), "cookie.name", "token"),
    (|b| b.cookie(CookieConfig::new().name("__Host-")), "cookie.name", "prefix alone"),
    (|b| b.cookie(CookieConfig::new().name("x".repeat(4090))), "cookie.name", "at most"),
    (|b| b.cookie(CookieConfig::new().domain("example.com")), "cookie.domain", "__Secure-"),
    (|b| b.cookie(CookieConfig::new().path("/app")), "cookie.path", "__Secure-"),
    (|b| b.cookie(CookieConfig::new().name("sid").path("/; Domain=evil.test")), "cookie.path", "%xx"),
    (|b| b.cookie(CookieConfig::new().name("sid").path("app")), "cookie.path", "begin with `/`"),
    (|b| b.cookie(CookieConfig::new().name("sid").path("")), "cookie.path", "begin with `/`"),
    (|b| b.cookie(CookieConfig::new().name("sid").path("/a\u{0}")), "cookie.path", "%xx"),
    (|b| b.cookie(CookieConfig::new().name("sid").path("/a/../b")), "cookie.path", ".."),
    (
        |b| b.cookie(CookieConfig::new().name("sid").path(format!("/{}", "x".repeat(1024)))),
        "cookie.path",
        "1024",
    ),
    (|b| b.cookie(CookieConfig::new().name("sid").domain("a.test; Path=/")), "cookie.domain", "host name"),
    (|b| b.cookie(CookieConfig::new().name("sid").domain("http://a.test")), "cookie.domain", "scheme"),
    (|b| b.cookie(CookieConfig::new().name("sid").domain("10.0.0.1")), "cookie.domain", "IP address"),
    (|b| b.cookie(CookieConfig::new().name("sid").domain("")), "cookie.domain", "empty"),
    (
        |b| b.cookie(CookieConfig::new().name("sid").secure(false).same_site(SameSite::None)),
        "cookie.same_site",
        "insecure()",
    ),
    (|b| b.cookie(CookieConfig::new().secure(false)), "cookie.secure", "insecure()"),
    (
        |b| b.profile(Profile::native().clone()).cookie(Profile::native().default_cookie().name("")),
        "cookie.name",
        "empty",
    ),
    (
        |b| b.insecure().cookie(CookieConfig::new().same_site(SameSite::None)),
        "cookie.same_site",
        "insecure()",
    ),
    (|b| b.cookie(CookieConfig::new().partitioned(true)).insecure(), "cookie.partitioned", "insecure()"),
    (|b| b.expiry(Expiry::idle(Duration::ZERO)), "expiry.idle", "30 minutes"),
    (|b| b.expiry(Expiry::idle(Duration::from_nanos(999_999))), "expiry.idle", "1 ms"),
    (|b| b.expiry(Expiry::fixed(Duration::ZERO)), "expiry.absolute", "12 hours"),
    (
        |b| b.expiry(Expiry::idle(Duration::from_secs(2)).absolute(Duration::from_secs(1))),
        "expiry.idle",
        "longer",
    ),
    (|b| b.expiry(Expiry::default().renew_below(1.5)), "expiry.renew_below", "between 0 and 1"),
    (|b| b.expiry(Expiry::default().renew_below(f64::NAN)), "expiry.renew_below", "between 0 and 1"),
    (|b| b.keys(Keyring::new(Vec::<[u8; 32]>::new())), "keys", "secret"),
    (|b| b.keys(Keyring::new([[7_u8; 31]])), "keys", "32"),
    (|b| b.keys(Keyring::new([&b"short"[..]])), "keys", "32"),
    (|b| b.operation_timeout(Duration::ZERO), "operation_timeout", "2 seconds"),
    (|b| b.max_record(0), "max_record", "1024"),
    (|b| b.max_record(1023), "max_record", "1024"),
    (|b| b.generate_id("ab", 8, || async { Ok(String::new()) }), "generate_id", "128"),
];

#[test]
fn every_mistake_names_its_field_and_the_cure() {
    for (at, (configure, field, cure)) in MISTAKES.iter().enumerate() {
        let error = configure(Engine::builder(Reference::new())).build().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(*field)), "mistake {at}: {error}");
        assert!(error.to_string().contains(cure), "mistake {at} should say {cure:?}: {error}");
        assert!(!error.is_retryable());
        assert!(error.to_string().len() < 300, "one line: {error}");
    }
}

#[test]
fn what_is_at_the_edge_of_a_limit_is_allowed() {
    let allowed: &[Configure] = &[
        |b| b,
        |b| b.insecure(),
        |b| b.cookie(CookieConfig::new().name("sid").path("/app").domain("example.com")),
        |b| b.cookie(CookieConfig::new().name("__Secure-sid").domain(".example.com")),
        |b| b.cookie(CookieConfig::new().name("!#$%&'*+-.^_`|~")),
        |b| b.expiry(Expiry::idle(Duration::from_millis(1))),
        |b| b.expiry(Expiry::idle(Duration::MAX)),
        |b| b.expiry(Expiry::fixed(Duration::MAX).renew_below(0.0)),
        |b| b.expiry(Expiry::idle(Duration::from_secs(1)).absolute(Duration::from_secs(1)).renew_below(1.0)),
        |b| b.keys(Keyring::new([[7_u8; 32]])),
        |b| b.operation_timeout(Duration::MAX),
        |b| b.operation_timeout(Duration::from_nanos(1)),
        |b| b.max_record(1024),
        |b| b.max_record(usize::MAX),
        |b| b.max_waiters(usize::MAX).reconnect_timeout(Duration::MAX),
        |b| b.max_waiters(0).reconnect_timeout(Duration::ZERO),
    ];
    for (at, configure) in allowed.iter().enumerate() {
        let built = configure(Engine::builder(Reference::new())).build();
        assert!(built.is_ok(), "{at}: {built:?}");
    }
}

#[tokio::test]
async fn the_longest_times_work_and_end_where_cookies_end() {
    for expiry in [
        Expiry::idle(Duration::MAX),
        Expiry::fixed(Duration::MAX),
        Expiry::idle(Duration::MAX).absolute(Duration::MAX),
    ] {
        let engine = Engine::builder(Reference::new())
            .expiry(expiry)
            .operation_timeout(Duration::MAX)
            .build()
            .unwrap();
        let mut visitor = support::visitor::Visitor::new();
        let answer = visitor.visit(&engine, async |s| s.insert("n", 1)).await;
        answer.outcome.unwrap();
        assert!(answer.cookies[0].contains("Max-Age=34560000;"), "{:?}", answer.cookies);
        let left = visitor
            .visit(&engine, async |s| Ok(s.expires_at().duration_since(s.created_at()).unwrap()))
            .await;
        assert_eq!(left.outcome.unwrap(), Duration::from_secs(400 * 86_400));
    }
}

#[test]
fn a_store_that_cannot_compare_and_swap_is_said_once_or_refused() {
    let (logs, _guard) = Logs::listen();
    let engine = Engine::builder(Plain::new(Reference::new())).build().unwrap();
    assert_eq!(engine.guarantee(), Guarantee::LastWriterWins);
    assert_eq!(logs.text().matches("cannot compare and swap").count(), 1, "{}", logs.text());
    let error = Engine::builder(Plain::new(Reference::new())).require_strict().build().unwrap_err();
    assert_eq!(error.field(), Some("require_strict"));
    assert!(error.to_string().contains("AtomicStore"), "{error}");
    let strict = Engine::builder(Reference::new()).require_strict().build().unwrap();
    assert_eq!(strict.guarantee(), Guarantee::Strict);
    assert_eq!(logs.text().matches("cannot compare and swap").count(), 1);
}
