//! Rows and cookies that nobody should have made: what another program left, and what an intruder tries.

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
    // A lone surrogate, a number beyond the reach of a double, an integer beyond 2^53.
    let row = r#"{"cookie":{"maxAge":60000},"lone":"\ud800","huge":1e400,"big":12345678901234567890,"n":1}"#;
    let mut visitor = with_row(row).await;
    let answer = visitor.get("/inc").await;
    let (_, stored) = visitor.only_row().await;
    let raw = stored["raw"].as_str().unwrap();
    if answer.status.is_success() {
        for kept in [r#""lone":"\ud800""#, r#""huge":1e400"#, r#""big":12345678901234567890"#, r#""n":2"#] {
            assert!(raw.contains(kept), "{kept} in {raw}");
        }
    } else {
        assert_eq!(raw, row, "refused, and so untouched");
    }
}

#[tokio::test]
async fn ids_that_are_none_are_looked_up_nowhere() {
    let visitor = Visitor::at("plain");
    for id in ["", "..", "a b", "koa:sess:*", "%41%41", &"A".repeat(5000)] {
        visitor.send("/get", &[("cookie", &signed(SID, id, "another key"))]).await.ok();
    }
    assert!(visitor.log().await.is_empty());
}
