//! Rows and cookies that nobody should have made: what another program left, and what an intruder tries.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::visitor::{SID, Visitor, signed};

const ID: &str = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";

/// Somebody whose row is `row`.
async fn with_row(row: &str) -> Visitor {
    let mut visitor = Visitor::at("plain");
    visitor.put(&format!("koa:sess:{ID}"), row).await;
    for pair in signed(SID, ID, "keys").split("; ") {
        let (name, value) = pair.split_once('=').unwrap();
        visitor.jar.insert(name.to_owned(), value.to_owned());
    }
    visitor
}

#[tokio::test]
async fn a_row_of_the_ancestor_is_read_and_written_with_all_that_is_in_it() {
    let row = r#"{"cookie":{"maxAge":60000,"custom":[1],"httpOnly":true,"path":"/","overwrite":true,"signed":true},"z":1,"n":7,"a":{"deep":[null]}}"#;
    let mut visitor = with_row(row).await;
    assert_eq!(visitor.get("/inc").await.ok().body, "8");
    let (_, stored) = visitor.only_row().await;
    let expected = json!({
        "cookie": {
            "maxAge": 60000, "custom": [1], "httpOnly": true, "path": "/", "overwrite": true, "signed": true
        },
        "z": 1, "n": 8, "a": { "deep": [null] }
    });
    assert_eq!((&stored["value"], &stored["ttl"]), (&expected, &60_000.into()));
}

#[tokio::test]
async fn a_row_without_cookie_options_is_used_and_gets_a_signed_cookie_and_an_end() {
    for row in [r#"{"n":1}"#, r#"{"cookie":{},"n":1}"#] {
        let mut visitor = with_row(row).await;
        let answer = visitor.get("/inc").await;
        assert_eq!((answer.ok().body.as_str(), answer.cookies.len()), ("2", 2), "{row}");
        let (_, stored) = visitor.only_row().await;
        assert!(stored["ttl"].as_u64().unwrap() > 0 && stored["value"]["cookie"].is_object(), "{row}");
        assert_eq!(visitor.get("/get").await.json()["session"]["n"], 2);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_nobodys_and_stays_as_it_is() {
    for row in [
        "",
        "{",
        "5",
        "\"text\"",
        "[]",
        "null",
        "true",
        r#"{"cookie":"x"}"#,
        r#"{"cookie":{},"n":1}x"#,
        r#"{"a":1"#,
    ] {
        let mut visitor = with_row(row).await;
        let answer = visitor.get("/get").await;
        assert_eq!(answer.ok().json()["session"], json!({}), "{row}");
        visitor.get("/inc").await;
        let (rows, _) = visitor.look().await;
        assert_eq!(rows[&format!("koa:sess:{ID}")]["raw"], row);
    }
}

#[tokio::test]
async fn what_javascript_writes_and_others_cannot_read_is_kept() {
    // A lone surrogate, numbers beyond the reach of a double, an integer beyond 2^53, and a thousand levels.
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for odd in [r#""\ud800""#, "1e400", "-1e999", "12345678901234567890", &deep] {
        let row = format!(r#"{{"cookie":{{"maxAge":60000}},"odd":{odd},"n":1}}"#);
        let mut visitor = with_row(&row).await;
        assert_eq!(visitor.get("/inc").await.ok().body, "2", "{odd}");
        let (_, stored) = visitor.only_row().await;
        assert_eq!(stored["raw"], row.replace(r#""n":1"#, r#""n":2"#));
    }
}

#[tokio::test]
async fn a_row_whose_ends_disagree_or_are_none_ends_with_its_cookie() {
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    // As JavaScript writes it: the date, a minute from now, is the nearer of the two ends.
    let iso = iso_date(&soon);
    let mut visitor =
        with_row(&format!(r#"{{"cookie":{{"maxAge":86400000,"expires":"{iso}"}},"n":1}}"#)).await;
    let answer = visitor.get("/inc").await;
    assert_eq!(answer.cookie(SID).attribute("expires"), Some(soon.as_str()));
    let ttl = visitor.only_row().await.1["ttl"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&ttl), "{ttl}");
    for none in ["0", "-5", "null"] {
        let mut visitor = with_row(&format!(r#"{{"cookie":{{"maxAge":{none}}},"n":1}}"#)).await;
        assert_eq!(visitor.get("/inc").await.cookie(SID).attribute("expires"), None, "{none}");
        assert_eq!(visitor.only_row().await.1["ttl"], 86_400_000, "{none}");
    }
}

/// Makes `2026-11-23T01:43:18.000Z` of `Mon, 23 Nov 2026 01:43:18 GMT`.
fn iso_date(http: &str) -> String {
    let parts: Vec<&str> = http.split(' ').collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == parts[2]).unwrap() + 1;
    format!("{}-{month:02}-{}T{}.000Z", parts[3], parts[1], parts[4])
}

#[tokio::test]
async fn an_id_of_another_shape_is_nobodys_and_its_cookies_stay() {
    let visitor = Visitor::at("plain");
    let theirs = "an-id-of-genSid";
    visitor.send("/get", &[("cookie", &signed(SID, theirs, "keys"))]).await.ok().sets_nothing();
    assert!(visitor.log().await.is_empty());
}

#[tokio::test]
async fn ids_that_are_none_are_looked_up_nowhere() {
    let visitor = Visitor::at("plain");
    for id in ["", "..", "a b", "koa:sess:*", "%41%41", &"A".repeat(5000)] {
        visitor.send("/get", &[("cookie", &signed(SID, id, "another key"))]).await.ok();
    }
    assert!(visitor.log().await.is_empty());
}
