mod behaviour;

use serde_json::json;

use super::*;

const SECRET: &str = "a secret of 32 bytes or more: canary";

/// Every field, with a value that works together with the others.
fn whole() -> Value {
    json!({
        "url": "memory:?max_entries=10",
        "insecure": false,
        "cookie": {
            "name": "__Secure-shop",
            "path": "/shop",
            "domain": "shop.test",
            "same_site": "strict",
            "http_only": true,
            "secure": true,
            "partitioned": false,
            "priority": "high",
            "browser_session": true,
        },
        "keys": [SECRET],
        "encrypt": [SECRET],
        "expiry": { "idle": "30m", "absolute": "12h", "renew_below": 0.25 },
        "rolling": true,
        "allow_empty": true,
        "save_on_server_error": false,
        "require_strict": true,
        "operation_timeout": "500ms",
        "reconnect_timeout": "5s",
        "max_waiters": 10,
        "max_record": 2048,
        "on_outage": "anonymous",
    })
}

fn read(value: Value) -> Result<SessionConfig, serde_json::Error> {
    serde_json::from_value(value)
}

#[test]
fn every_field_can_be_set() {
    let config = read(whole()).unwrap();
    let set: Vec<&str> = config.0.keys().copied().collect();
    let mut all: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    all.sort_unstable();
    assert_eq!(set, all);
}

#[test]
fn toml_and_json_and_the_environment_say_the_same() {
    let json = read(json!({
        "cookie": { "name": "__Host-shop" }, "keys": [SECRET, "b"], "expiry": { "idle": "30m" },
        "rolling": true, "max_waiters": 7,
    }));
    let toml = format!(
        "keys = ['{SECRET}', 'b']\nrolling = true\nmax_waiters = 7\nexpiry.idle = '30m'\n[cookie]\nname = '__Host-shop'"
    );
    let variables = [
        ("SESSION_COOKIE_NAME", "__Host-shop"),
        ("SESSION_KEYS", &format!("{SECRET}, b")),
        ("SESSION_EXPIRY_IDLE", "30m"),
        ("SESSION_ROLLING", "1"),
        ("SESSION_MAX_WAITERS", "7"),
        ("SESSIONS_ROLLING", "of another program"),
    ]
    .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let env = SessionConfig::from_variables("SESSION", variables.into_iter()).unwrap();
    for config in [json.unwrap(), toml::from_str(&toml).unwrap(), env] {
        assert_eq!(config.text("cookie.name"), Some("__Host-shop"));
        assert_eq!(config.texts("keys"), Some(&[SECRET.to_owned(), "b".to_owned()][..]));
        assert_eq!(config.expiry(), Some(Expiry::idle(std::time::Duration::from_secs(1800))));
        assert_eq!(config.flag("rolling"), Some(true));
        assert!(matches!(config.0.get("max_waiters"), Some(Setting::Number(7))));
        assert_eq!(config.0.len(), 5);
    }
}

#[test]
fn a_value_that_cannot_be_used_names_its_field_and_is_not_quoted() {
    for field in &FIELDS {
        let (section, name) = field.name.split_once('.').unwrap_or(("", field.name));
        let wrong = |value: Value| {
            if section.is_empty() { json!({ name: value }) } else { json!({ section: { name: value } }) }
        };
        for value in [json!(null), json!([["canary"]]), json!({ "canary": 1 })] {
            let message = read(wrong(value)).unwrap_err().to_string();
            assert!(message.contains(field.name), "{message}");
        }
    }
    for (name, value) in [
        ("expiry.idle", json!({ "expiry": { "idle": "canary" } })),
        ("rolling", json!({ "rolling": "canary" })),
        ("max_waiters", json!({ "max_waiters": -1 })),
        ("cookie.same_site", json!({ "cookie": { "same_site": "canary" } })),
        ("on_outage", json!({ "on_outage": "canary" })),
        ("keys", json!({ "keys": "canary" })),
        ("url", json!({ "url": 5 })),
    ] {
        let message = read(value).unwrap_err().to_string();
        assert!(message.contains(name) && !message.contains("canary"), "{message}");
    }
}

#[test]
fn a_field_that_does_not_exist_is_named() {
    for value in
        [json!({ "cokie": { "name": "x" } }), json!({ "cookie": { "nmae": "x" } }), json!({ "ttl": 5 })]
    {
        let message = read(value).unwrap_err().to_string();
        assert!(["cokie.name", "cookie.nmae", "ttl"].iter().any(|name| message.contains(name)), "{message}");
    }
    let variable = [("SESSION_COKIE".to_owned(), Some("canary".to_owned()))];
    let error = SessionConfig::from_variables("SESSION", variable.into_iter()).unwrap_err();
    assert_eq!(error.field(), Some("environment"));
    assert!(error.to_string().contains("SESSION_COKIE") && !error.to_string().contains("canary"));
}

#[test]
fn a_variable_with_a_bad_value_names_its_field() {
    for (name, value, field) in [
        ("S_ROLLING", Some("yes"), "rolling"),
        ("S_EXPIRY_IDLE", Some("30"), "expiry.idle"),
        ("S_EXPIRY_RENEW_BELOW", Some("half"), "expiry.renew_below"),
        ("S_KEYS", None, "environment"),
    ] {
        let variable = [(name.to_owned(), value.map(str::to_owned))];
        assert_eq!(
            SessionConfig::from_variables("S", variable.into_iter()).unwrap_err().field(),
            Some(field)
        );
    }
}

/// The parser shows the line it stopped at, whatever stands in it, so only its own words are fit for a log.
#[test]
fn the_words_of_a_toml_error_quote_nothing() {
    for toml in [
        "url = 'redis://user:canary@host",
        "url = redis://user:canary@host",
        "url = 'redis://user:canary@host'\nrolling = 'canary'",
        "url = 5\nkeys = 'canary'",
        "[cookie]\nname = 'canary'\nname = 'canary'",
        "keys = ['canary'",
    ] {
        let error = toml::from_str::<SessionConfig>(toml).unwrap_err();
        assert!(!error.message().contains("canary"), "{}", error.message());
    }
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", read(whole()).unwrap());
    assert!(
        shown.contains("cookie.name") && !shown.contains("canary") && !shown.contains("memory"),
        "{shown}"
    );
}

#[cfg(feature = "memory")]
mod applied {
    use futures_util::FutureExt;

    use super::*;

    fn engine(value: Value) -> Result<Engine> {
        read(value).unwrap().apply(Engine::builder(crate::MemoryStore::new()))?.build()
    }

    #[cfg(feature = "encrypt")]
    #[test]
    fn all_of_it_builds() {
        assert!(engine(whole()).is_ok());
        assert!(engine(json!({})).is_ok());
    }

    #[cfg(not(feature = "encrypt"))]
    #[test]
    fn encryption_names_its_feature_where_it_is_off() {
        assert_eq!(engine(json!({ "encrypt": [SECRET] })).unwrap_err().field(), Some("encrypt"));
    }

    #[test]
    fn what_does_not_fit_together_is_found_by_the_builder_under_the_same_name() {
        for (value, field) in [
            (json!({ "expiry": { "idle": "2h", "absolute": "1h" } }), "expiry.idle"),
            (json!({ "expiry": { "renew_below": 2 } }), "expiry.renew_below"),
            (json!({ "cookie": { "domain": "shop.test" } }), "cookie.domain"),
            (json!({ "cookie": { "path": "/a;b" } }), "cookie.path"),
            (json!({ "keys": ["short"] }), "keys"),
            (json!({ "operation_timeout": "0s" }), "operation_timeout"),
            (json!({ "max_record": 5 }), "max_record"),
        ] {
            assert_eq!(engine(value).unwrap_err().field(), Some(field));
        }
    }

    #[test]
    fn the_store_is_the_one_that_the_url_names() {
        let config = read(json!({ "url": "memory:" })).unwrap();
        let store = config.connect().now_or_never().unwrap().unwrap();
        assert!(format!("{store:?}").contains("MemoryStore"));
        let error = read(json!({})).unwrap().connect().now_or_never().unwrap().unwrap_err();
        assert_eq!(error.field(), Some("url"));
    }
}
