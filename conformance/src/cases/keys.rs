//! Keys are opaque: none is parsed, folded, cut or taken for a pattern.

use bytes::Bytes;
use cloakroom_core::{Error, ErrorKind, Key};

use crate::{
    context::{Cx, LONG, bytes, expect_none, expect_value, key},
    failure::{Verdict, check, check_eq},
};

/// Keys that are something else in some backend: SQL, globs, operators, paths, escapes, hash tags, protocol.
pub(crate) const HOSTILE: [&str; 44] = [
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\\\",
    "\\0",
    "\\x00",
    "%",
    "%%",
    "%00",
    "_",
    "*",
    "?",
    "[x]",
    "[^x]",
    "[a-z]",
    "{a}",
    "{a}b",
    "{}",
    "$where",
    "$gt",
    "$1",
    "a.b",
    ".",
    "..",
    "/",
    "../../etc/passwd",
    "__proto__",
    "constructor",
    "_id",
    "null",
    "NULL",
    "0",
    "-1",
    "1e3",
    "';drop/**/table/**/sessions;--",
    "'or'1'='1",
    "key:with:colons",
    "key;with=semi,colons",
    "&amp;<b>",
    "#!~^|@+",
    "*3$3SET",
    "%s%n:name?1",
];

pub(crate) async fn hostile_keys_are_keys_like_any_other(cx: Cx) -> Verdict {
    all_are_apart(&cx, HOSTILE.into_iter().map(String::from)).await
}

pub(crate) async fn every_key_of_one_byte_is_a_key_of_its_own(cx: Cx) -> Verdict {
    all_are_apart(&cx, ('!'..='~').map(String::from)).await
}

pub(crate) async fn keys_that_differ_in_case_are_different(cx: Cx) -> Verdict {
    let keys = ["session-key", "Session-Key", "SESSION-KEY", "session-keY"];
    all_are_apart(&cx, keys.into_iter().map(String::from)).await
}

pub(crate) async fn the_longest_key_is_not_cut(cx: Cx) -> Verdict {
    let stem = "k".repeat(cx.longest_key() - 1);
    let ends = ["a", "b", "A", ""];
    all_are_apart(&cx, ends.into_iter().map(|end| format!("{stem}{end}"))).await?;
    let stem = "/".repeat(cx.longest_key() - 1);
    all_are_apart(&cx, ["'", "%"].into_iter().map(|end| format!("{stem}{end}"))).await
}

pub(crate) async fn a_key_that_is_too_long_is_a_bad_value_and_changes_nothing(cx: Cx) -> Verdict {
    let longest = key(&"k".repeat(cx.longest_key()))?;
    cx.store().set(&longest, bytes("value"), LONG).await?;
    for length in [cx.longest_key() + 1, Key::MAX_LEN.max(cx.longest_key() + 1)] {
        let too_long = match Key::new("k".repeat(length)) {
            Ok(key) => key,
            // No store is ever handed one that is longer than any key.
            Err(error) => {
                refused("Key::new", Err::<(), _>(error))?;
                continue;
            }
        };
        refused("get", cx.store().get(&too_long).await)?;
        refused("set", cx.store().set(&too_long, bytes("other"), LONG).await)?;
        if let Some(atomic) = cx.store().as_atomic() {
            refused("create", atomic.create(&too_long, bytes("other"), LONG).await)?;
            refused("replace", atomic.replace(&too_long, b"value", bytes("other"), LONG).await)?;
            refused("touch", atomic.touch(&too_long, LONG).await)?;
            refused("remove", atomic.remove(&too_long, b"value").await)?;
        }
        if let Some(indexed) = cx.store().as_indexed() {
            refused("bind", indexed.bind(&too_long, "alice", LONG).await)?;
            let bound = indexed.keys_of("alice").await?;
            check!(bound.is_empty(), "a key that is too long changes nothing", "its bind bound another key");
        }
        refused("destroy", cx.store().destroy(&too_long).await)?;
        let rule = "a key that is too long changes nothing: it is not cut to one that fits";
        expect_value(cx.store(), &longest, b"value", rule).await?;
    }
    Ok(())
}

fn refused<T>(operation: &str, answer: Result<T, Error>) -> Verdict {
    let kind = answer.err().map(|error| error.kind());
    let rule = "a key longer than the store takes is a bad value, for every operation";
    check!(
        kind == Some(ErrorKind::Value),
        rule,
        "{operation} answered {}",
        match kind {
            Some(kind) => kind.as_str(),
            None => "no error",
        }
    );
    Ok(())
}

pub(crate) async fn a_key_that_begins_with_another_is_different(cx: Cx) -> Verdict {
    let keys = ["a", "aa", "aaa", "a:", "a:a", "a.", "a_", "a%", "a*"];
    all_are_apart(&cx, keys.into_iter().map(String::from)).await
}

pub(crate) async fn a_key_that_is_a_pattern_matches_only_itself(cx: Cx) -> Verdict {
    let bystanders = [key("abc")?, key("x")?, key("aXc")?];
    for key in &bystanders {
        cx.store().set(key, bytes("bystander"), LONG).await?;
    }
    for pattern in ["*", "%", "?", "_", "a*", "a%", "a?c", "a_c", "[x]", "[a-z]", ".", ".*", "a.c", "(?i)X"] {
        let pattern = key(pattern)?;
        expect_none(cx.store(), &pattern, "get takes no key for a pattern").await?;
        let destroyed = cx.store().destroy(&pattern).await?;
        check_eq!(destroyed, false, "destroy takes no key for a pattern");
        for bystander in &bystanders {
            let rule = "destroy of a key that is a pattern removes no other key";
            expect_value(cx.store(), bystander, b"bystander", rule).await?;
        }
    }
    Ok(())
}

/// Gives every key a value of its own, then reads them all, destroys half and reads again.
async fn all_are_apart(cx: &Cx, texts: impl Iterator<Item = String>) -> Verdict {
    let mut rows = Vec::new();
    for text in texts {
        // The value names the key, so a message tells which two were mixed up.
        rows.push((key(&text)?, Bytes::from(format!("value of {text}"))));
    }
    for (key, value) in &rows {
        cx.store().set(key, value.clone(), LONG).await?;
    }
    for (key, value) in &rows {
        let rule = "keys that differ in any byte are different keys";
        expect_value(cx.store(), key, value, rule).await?;
    }
    for (key, _) in rows.iter().step_by(2) {
        let destroyed = cx.store().destroy(key).await?;
        check_eq!(destroyed, true, "destroy finds every key that get finds");
    }
    for (number, (key, value)) in rows.iter().enumerate() {
        if number % 2 == 0 {
            expect_none(cx.store(), key, "destroy removes the value under its key").await?;
        } else {
            expect_value(cx.store(), key, value, "destroy removes only its own key").await?;
        }
    }
    Ok(())
}
