//! The index: which keys belong to a user.

use std::collections::BTreeSet;

use cloakroom_core::{ErrorKind, Key, Store};
use tokio::time::Instant;

use crate::{
    cases::keys::HOSTILE,
    context::{
        Cx, LONG, SHORT, bytes, cannot_have_expired, expect_none, expect_value, growing_ttls, indexed, key,
    },
    failure::{Failure, Verdict, check, check_eq},
};

/// Sets a live value under `key` and binds it to `user`.
pub(crate) async fn log_in(store: &dyn Store, key: &Key, user: &str) -> Verdict {
    indexed(store)?.bind(key, user, LONG).await?;
    store.set(key, bytes("session"), LONG).await?;
    Ok(())
}

/// Fails unless exactly `expected` is listed for `user`, each key once.
pub(crate) async fn expect_listed(store: &dyn Store, user: &str, expected: &[&Key], rule: &str) -> Verdict {
    let listed = indexed(store)?.keys_of(user).await?;
    let texts: BTreeSet<&str> = listed.iter().map(Key::as_str).collect();
    let wanted: BTreeSet<&str> = expected.iter().map(|key| key.as_str()).collect();
    check!(texts == wanted, rule, "keys_of returned {texts:?} instead of {wanted:?}");
    check!(
        listed.len() == texts.len(),
        "keys_of returns each key once",
        "{} keys were returned for {} different ones",
        listed.len(),
        texts.len()
    );
    Ok(())
}

pub(crate) async fn a_bound_key_is_listed(cx: Cx) -> Verdict {
    let (one, two) = (key("one")?, key("two")?);
    log_in(cx.store(), &one, "alice").await?;
    expect_listed(cx.store(), "alice", &[&one], "keys_of returns a bound key whose value is live").await?;
    log_in(cx.store(), &two, "alice").await?;
    expect_listed(cx.store(), "alice", &[&one, &two], "keys_of returns every bound key whose value is live")
        .await
}

pub(crate) async fn an_unknown_user_has_no_keys(cx: Cx) -> Verdict {
    log_in(cx.store(), &key("one")?, "alice").await?;
    expect_listed(cx.store(), "nobody", &[], "keys_of an unknown user is empty").await
}

pub(crate) async fn a_binding_is_seen_by_another_handle(cx: Cx) -> Verdict {
    let (one, other) = (key("one")?, cx.second_handle().await?);
    expect_listed(&*other, "alice", &[], "keys_of an unknown user is empty").await?;
    log_in(cx.store(), &one, "alice").await?;
    expect_listed(&*other, "alice", &[&one], "a binding is seen by every handle at once").await?;
    let removed = indexed(&*other)?.destroy_user("alice", None).await?;
    check_eq!(removed, 1, "destroy_user through another handle removes what was bound here");
    expect_none(cx.store(), &one, "destroy_user removes the value for every handle").await
}

pub(crate) async fn a_key_bound_before_its_value_is_listed_when_it_has_one(cx: Cx) -> Verdict {
    let early = key("early")?;
    indexed(cx.store())?.bind(&early, "alice", LONG).await?;
    cx.store().set(&early, bytes("session"), LONG).await?;
    expect_listed(cx.store(), "alice", &[&early], "a key may be bound before its value is there").await
}

pub(crate) async fn a_binding_waits_for_its_value(cx: Cx) -> Verdict {
    let (early, stays) = (key("early")?, key("stays")?);
    log_in(cx.store(), &stays, "alice").await?;
    indexed(cx.store())?.bind(&early, "alice", LONG).await?;
    // What comes across an entry without a value must not take it for stale yet.
    expect_listed(cx.store(), "alice", &[&stays], "a bound key without a value is not listed").await?;
    cx.store().set(&early, bytes("session"), LONG).await?;
    let rule = "a binding without a value is kept for at least 60 s after bind";
    expect_listed(cx.store(), "alice", &[&early, &stays], rule).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 2, "destroy_user removes what was bound before its value was there");
    Ok(())
}

pub(crate) async fn bind_to_no_user_at_all_is_a_bad_value_and_changes_nothing(cx: Cx) -> Verdict {
    let one = key("one")?;
    log_in(cx.store(), &one, "alice").await?;
    let long = "u".repeat(256);
    // In bytes: 128 letters of two bytes each.
    let wide = "\u{e9}".repeat(128);
    for user in ["", &long, &wide] {
        let kind = indexed(cx.store())?.bind(&one, user, LONG).await.err().map(|error| error.kind());
        let rule = "bind answers Value for a user that is not 1 to 255 bytes";
        check_eq!(kind, Some(ErrorKind::Value), rule);
        expect_listed(cx.store(), user, &[], "a user that no key can be bound to has no keys").await?;
    }
    let cut = "u".repeat(255);
    expect_listed(cx.store(), &cut, &[], "a user that is too long is not cut").await?;
    let rule = "a bind that is refused changes nothing";
    expect_listed(cx.store(), "alice", &[&one], rule).await?;
    expect_value(cx.store(), &one, b"session", rule).await
}

pub(crate) async fn a_destroyed_key_is_not_listed(cx: Cx) -> Verdict {
    let (gone, stays) = (key("gone")?, key("stays")?);
    log_in(cx.store(), &gone, "alice").await?;
    log_in(cx.store(), &stays, "alice").await?;
    cx.store().destroy(&gone).await?;
    expect_listed(cx.store(), "alice", &[&stays], "keys_of returns only keys whose values are live").await
}

pub(crate) async fn destroy_leaves_the_binding(cx: Cx) -> Verdict {
    let one = key("one")?;
    log_in(cx.store(), &one, "alice").await?;
    cx.store().destroy(&one).await?;
    expect_listed(cx.store(), "alice", &[], "keys_of returns only keys whose values are live").await?;
    cx.store().set(&one, bytes("again"), LONG).await?;
    let rule = "destroy leaves the binding of its key, for at least 60 s after bind";
    expect_listed(cx.store(), "alice", &[&one], rule).await
}

pub(crate) async fn an_expired_key_is_not_listed(cx: Cx) -> Verdict {
    let (gone, stays) = (key("gone")?, key("stays")?);
    log_in(cx.store(), &stays, "alice").await?;
    indexed(cx.store())?.bind(&gone, "alice", LONG).await?;
    cx.store().set(&gone, bytes("session"), SHORT).await?;
    cx.outlive(SHORT).await?;
    expect_listed(cx.store(), "alice", &[&stays], "keys_of returns only keys whose values are live").await
}

pub(crate) async fn binding_again_lists_the_key_once(cx: Cx) -> Verdict {
    let one = key("one")?;
    for _ in 0..3 {
        log_in(cx.store(), &one, "alice").await?;
    }
    expect_listed(cx.store(), "alice", &[&one], "a key that was bound three times is listed once").await
}

pub(crate) async fn binding_again_renews_the_binding(cx: Cx) -> Verdict {
    let one = key("one")?;
    cx.store().set(&one, bytes("session"), LONG).await?;
    indexed(cx.store())?.bind(&one, "alice", SHORT).await?;
    indexed(cx.store())?.bind(&one, "alice", LONG).await?;
    cx.outlive(SHORT).await?;
    expect_listed(cx.store(), "alice", &[&one], "binding again renews the ttl of the binding").await
}

pub(crate) async fn an_expired_binding_is_not_listed(cx: Cx) -> Verdict {
    let one = key("one")?;
    cx.store().set(&one, bytes("session"), LONG).await?;
    for ttl in growing_ttls() {
        let start = Instant::now();
        indexed(cx.store())?.bind(&one, "alice", ttl).await?;
        let listed = !indexed(cx.store())?.keys_of("alice").await?.is_empty();
        if !listed {
            let rule = "keys_of returns a bound key whose value is live";
            check!(!cannot_have_expired(start, ttl), rule, "it returned none");
            continue;
        }
        cx.outlive(ttl).await?;
        let deadline = Instant::now() + cx.patience();
        while !indexed(cx.store())?.keys_of("alice").await?.is_empty() {
            check!(
                Instant::now() < deadline,
                "a binding ends with its ttl",
                "keys_of still returned the key {} ms after a bind with a ttl of {} ms",
                start.elapsed().as_millis(),
                ttl.millis()
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        return expect_value(cx.store(), &one, b"session", "the end of a binding leaves the value").await;
    }
    Err(Failure::too_slow())
}

pub(crate) async fn binding_to_another_user_moves_the_key(cx: Cx) -> Verdict {
    let (moved, stays) = (key("moved")?, key("stays")?);
    log_in(cx.store(), &moved, "alice").await?;
    log_in(cx.store(), &stays, "alice").await?;
    indexed(cx.store())?.bind(&moved, "bob", LONG).await?;
    let rule = "binding to another user moves the key there";
    expect_listed(cx.store(), "bob", &[&moved], rule).await?;
    expect_listed(cx.store(), "alice", &[&stays], rule).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 1, "destroy_user does not count a key that was moved to another user");
    let rule = "destroy_user leaves a key that was moved to another user";
    expect_value(cx.store(), &moved, b"session", rule).await
}

pub(crate) async fn bind_leaves_value_and_ttl_alone(cx: Cx) -> Verdict {
    let (long, short, absent) = (key("long")?, key("short")?, key("absent")?);
    cx.store().set(&long, bytes("long"), LONG).await?;
    indexed(cx.store())?.bind(&long, "alice", SHORT).await?;
    indexed(cx.store())?.bind(&absent, "alice", LONG).await?;
    cx.store().set(&short, bytes("short"), SHORT).await?;
    indexed(cx.store())?.bind(&short, "alice", LONG).await?;
    let rule = "bind leaves the value and its ttl alone";
    cx.wait_gone(cx.store(), &short, SHORT, rule).await?;
    expect_value(cx.store(), &long, b"long", rule).await?;
    expect_none(cx.store(), &absent, "bind creates no value").await
}

pub(crate) async fn a_binding_survives_writes_to_the_value(cx: Cx) -> Verdict {
    let one = key("one")?;
    log_in(cx.store(), &one, "alice").await?;
    cx.store().set(&one, bytes("another value"), LONG).await?;
    expect_listed(cx.store(), "alice", &[&one], "a binding survives a set of the value").await
}

pub(crate) async fn users_are_told_apart_whatever_their_names(cx: Cx) -> Verdict {
    let long = "u".repeat(254);
    let mut users: Vec<String> = HOSTILE.into_iter().map(String::from).collect();
    users.extend(
        ["a", "aa", "A", "a:", "a:b", "Alice", "alice", "al\u{131}ce", "stra\u{df}e", "strasse"]
            .map(String::from),
    );
    users.extend(["\u{e9}", "e\u{301}", "e", "\u{1f9e5}", "a b", "with space"].map(String::from));
    users.extend([format!("{long}a"), format!("{long}b"), format!("{}\u{e9}", &long[1..])]);
    let mut keys = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let key = key(&format!("session-{number}"))?;
        log_in(cx.store(), &key, user).await?;
        keys.push(key);
    }
    let rule = "users are compared bytewise: no name is folded, cut or taken for a pattern";
    for (user, key) in users.iter().zip(&keys) {
        expect_listed(cx.store(), user, &[key], rule).await?;
    }
    for user in users.iter().step_by(2) {
        let removed = indexed(cx.store())?.destroy_user(user, None).await?;
        check_eq!(removed, 1, "destroy_user removes the keys of one user, whatever the name");
    }
    for (number, (user, key)) in users.iter().zip(&keys).enumerate() {
        let expected: &[&Key] = if number % 2 == 0 { &[] } else { &[key] };
        expect_listed(cx.store(), user, expected, rule).await?;
    }
    Ok(())
}
