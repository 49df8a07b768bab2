//! `replace`: compare-and-swap on the stored bytes, never a creation.

use bytes::Bytes;
use cloakroom_core::{AtomicStore, ErrorKind, Key, Swapped};
use tokio::time::Instant;

use crate::{
    cases::{
        handles::{MAX_POLLS, cut},
        values::oversized,
    },
    context::{
        Cx, LONG, SHORT, atomic, bytes, cannot_have_expired, expect_none, expect_swapped, expect_value,
        growing_ttls, key,
    },
    failure::{Failure, Verdict, check, check_eq, show_found, show_swapped},
};

/// Pairs of values that are taken for equal by one shortcut or another.
pub(crate) fn lookalikes() -> Vec<(Bytes, Bytes)> {
    let mut pairs: Vec<(Bytes, Bytes)> = [
        // Prefixes, and lengths.
        ("value", "value and more"),
        ("value and more", "value"),
        ("", "v"),
        ("v", ""),
        ("samelength-a", "samelength-b"),
        ("a-samelength", "b-samelength"),
        // What collations ignore: case, trailing blanks, accents, width, what they cannot order.
        ("Value", "value"),
        ("value ", "value"),
        ("value", "value  "),
        ("valu\u{e9}", "value"),
        ("valu\u{e9}", "value\u{301}"),
        ("stra\u{df}e", "strasse"),
        ("\u{ff56}alue", "value"),
        ("value\u{200b}", "value"),
        // What C strings cut off, and what JSON and numbers do not tell apart.
        ("value\0a", "value\0b"),
        ("value\0", "value"),
        ("\0", ""),
        ("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"),
        ("{\"a\":1}", "{ \"a\": 1 }"),
        ("1.0", "1"),
        ("0", "-0"),
        ("%", "value"),
        ("value", "%"),
        ("null", ""),
    ]
    .into_iter()
    .map(|(stored, expected)| (bytes(stored), bytes(expected)))
    .collect();
    // Not UTF-8, one bit apart; and large, the last byte apart.
    pairs.push((Bytes::from_static(b"\xff\xfe\x01"), Bytes::from_static(b"\xff\xfe\x00")));
    pairs.push((Bytes::from_static(b"\xff"), Bytes::from_static(b"\xef\xbf\xbd")));
    let (mut large, mut other) = (vec![b'x'; 100_000], vec![b'x'; 100_000]);
    large.push(b'0');
    other.push(b'1');
    pairs.push((large.into(), other.into()));
    pairs
}

pub(crate) async fn replace_of_the_expected_value_is_done(cx: Cx) -> Verdict {
    let (key, atomic) = (key("swapped")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("one"), LONG).await?;
    for (expected, value) in
        [("one", "two"), ("two", ""), ("", "three, which is longer"), ("three, which is longer", "4")]
    {
        let answer = atomic.replace(&key, expected.as_bytes(), bytes(value), LONG).await?;
        let rule = "replace is Done when the live value equals what is expected";
        expect_swapped(&answer, &Swapped::Done, rule)?;
        expect_value(cx.store(), &key, value.as_bytes(), "a replace that is Done stores the new value")
            .await?;
    }
    Ok(())
}

pub(crate) async fn replace_of_another_value_is_a_conflict_with_the_latest(cx: Cx) -> Verdict {
    let (key, other) = (key("contended")?, cx.second_handle().await?);
    let (mine, theirs) = (atomic(cx.store())?, atomic(&*other)?);
    cx.store().set(&key, bytes("v1"), LONG).await?;
    // Read by this handle, then moved on by the other, so that anything remembered here is stale.
    cx.store().get(&key).await?;
    let rule = "a Conflict holds the latest committed value, not an older one";
    other.set(&key, bytes("v2"), LONG).await?;
    let answer = mine.replace(&key, b"v1", bytes("mine"), LONG).await?;
    expect_swapped(&answer, &Swapped::Conflict(bytes("v2")), rule)?;
    theirs.replace(&key, b"v2", bytes("v3"), LONG).await?;
    let answer = mine.replace(&key, b"v2", bytes("mine"), LONG).await?;
    expect_swapped(&answer, &Swapped::Conflict(bytes("v3")), rule)?;
    other.set(&key, Bytes::new(), LONG).await?;
    let answer = mine.replace(&key, b"v3", bytes("mine"), LONG).await?;
    expect_swapped(&answer, &Swapped::Conflict(Bytes::new()), rule)
}

pub(crate) async fn a_conflicting_replace_changes_nothing(cx: Cx) -> Verdict {
    let (key, atomic) = (key("contended")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("current"), LONG).await?;
    for expected in ["another", "", "curren", "current!"] {
        let answer = atomic.replace(&key, expected.as_bytes(), bytes("new"), SHORT).await?;
        let rule = "replace is a Conflict when another value is there";
        expect_swapped(&answer, &Swapped::Conflict(bytes("current")), rule)?;
    }
    expect_value(cx.store(), &key, b"current", "a replace that is a Conflict writes nothing").await?;
    cx.outlive(SHORT).await?;
    let rule = "a replace that is a Conflict does not shorten the ttl";
    expect_value(cx.store(), &key, b"current", rule).await
}

pub(crate) async fn a_conflicting_replace_does_not_lengthen_the_ttl(cx: Cx) -> Verdict {
    let (key, atomic) = (key("contended")?, atomic(cx.store())?);
    for ttl in growing_ttls() {
        let start = Instant::now();
        cx.store().set(&key, bytes("current"), ttl).await?;
        let answer = atomic.replace(&key, b"another", bytes("new"), LONG).await?;
        if answer == Swapped::Conflict(bytes("current")) {
            let rule = "a replace that is a Conflict does not lengthen the ttl";
            return cx.wait_gone(cx.store(), &key, ttl, rule).await;
        }
        let (rule, seen) = ("replace is a Conflict when another value is there", show_swapped(&answer));
        check!(!cannot_have_expired(start, ttl), rule, "the answer was {seen}");
    }
    Err(Failure::too_slow())
}

pub(crate) async fn replace_compares_every_byte(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for (number, (stored, expected)) in lookalikes().into_iter().enumerate() {
        let key = key(&format!("lookalike-{number}"))?;
        cx.store().set(&key, stored.clone(), LONG).await?;
        let answer = atomic.replace(&key, &expected, bytes("new"), LONG).await?;
        let rule = "replace compares byte for byte: a lookalike is a Conflict";
        expect_swapped(&answer, &Swapped::Conflict(stored.clone()), rule)?;
        expect_value(cx.store(), &key, &stored, "a replace that is a Conflict writes nothing").await?;
        let answer = atomic.replace(&key, &stored, bytes("new"), LONG).await?;
        expect_swapped(&answer, &Swapped::Done, "replace finds any bytes equal to themselves")?;
    }
    Ok(())
}

pub(crate) async fn replace_of_an_absent_key_is_gone_and_creates_nothing(cx: Cx) -> Verdict {
    let (key, atomic) = (key("never-set")?, atomic(cx.store())?);
    // Nothing is not the same as an empty value.
    for expected in ["value", ""] {
        let answer = atomic.replace(&key, expected.as_bytes(), bytes("new"), LONG).await?;
        gone_and_nothing_created(&cx, &key, &answer, "an absent key").await?;
    }
    Ok(())
}

pub(crate) async fn replace_of_an_expired_value_is_gone_and_creates_nothing(cx: Cx) -> Verdict {
    let (key, atomic) = (key("expired")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    for expected in ["another", "value"] {
        let answer = atomic.replace(&key, expected.as_bytes(), bytes("new"), LONG).await?;
        gone_and_nothing_created(&cx, &key, &answer, "an expired value").await?;
    }
    Ok(())
}

pub(crate) async fn replace_after_destroy_is_gone_and_creates_nothing(cx: Cx) -> Verdict {
    let (key, other) = (key("destroyed")?, cx.second_handle().await?);
    cx.store().set(&key, bytes("value"), LONG).await?;
    other.get(&key).await?;
    cx.store().destroy(&key).await?;
    // The session's last writer does not know of the logout.
    let answer = atomic(&*other)?.replace(&key, b"value", bytes("new"), LONG).await?;
    gone_and_nothing_created(&cx, &key, &answer, "a destroyed key").await
}

async fn gone_and_nothing_created(cx: &Cx, key: &Key, answer: &Swapped, of: &str) -> Verdict {
    expect_swapped(answer, &Swapped::Gone, &format!("replace of {of} is Gone"))?;
    expect_none(cx.store(), key, &format!("replace of {of} never creates")).await
}

pub(crate) async fn replace_by_the_same_value_renews_the_ttl(cx: Cx) -> Verdict {
    let rule = "replace by the same value is Done and renews the ttl";
    renews(&cx, "same", "same", rule).await
}

pub(crate) async fn replace_sets_a_longer_ttl(cx: Cx) -> Verdict {
    renews(&cx, "old", "new", "a replace that is Done sets the new ttl, also a longer one").await
}

async fn renews(cx: &Cx, old: &'static str, new: &'static str, rule: &str) -> Verdict {
    let (key, atomic) = (key("renewed")?, atomic(cx.store())?);
    for ttl in growing_ttls() {
        let start = Instant::now();
        cx.store().set(&key, bytes(old), ttl).await?;
        let answer = atomic.replace(&key, old.as_bytes(), bytes(new), LONG).await?;
        if answer == Swapped::Done {
            cx.outlive(ttl).await?;
            return expect_value(cx.store(), &key, new.as_bytes(), rule).await;
        }
        let seen = show_swapped(&answer);
        check!(!cannot_have_expired(start, ttl), rule, "the answer was {seen} instead of Done");
    }
    Err(Failure::too_slow())
}

pub(crate) async fn replace_sets_a_shorter_ttl(cx: Cx) -> Verdict {
    let (key, atomic) = (key("shortened")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("old"), LONG).await?;
    atomic.replace(&key, b"old", bytes("new"), SHORT).await?;
    let rule = "a replace that is Done sets the new ttl, also a shorter one";
    cx.wait_gone(cx.store(), &key, SHORT, rule).await
}

pub(crate) async fn replace_changes_only_its_key(cx: Cx) -> Verdict {
    let (swapped, twin, longer) = (key("k:1")?, key("twin")?, key("k:12")?);
    for key in [&swapped, &twin, &longer] {
        cx.store().set(key, bytes("the same"), LONG).await?;
    }
    atomic(cx.store())?.replace(&swapped, b"the same", bytes("new"), LONG).await?;
    for key in [&twin, &longer] {
        let rule = "replace changes only its own key, whoever else has the same value";
        expect_value(cx.store(), key, b"the same", rule).await?;
    }
    Ok(())
}

pub(crate) async fn an_oversized_replace_is_kept_or_is_too_large(cx: Cx) -> Verdict {
    let key = key("large")?;
    cx.store().set(&key, bytes("old"), LONG).await?;
    let large = oversized();
    match atomic(cx.store())?.replace(&key, b"old", large.clone(), LONG).await {
        Ok(answer) => {
            let rule = "replace of the expected value is Done, or TooLarge";
            expect_swapped(&answer, &Swapped::Done, rule)?;
            let rule = "a value that replace accepts comes back whole";
            expect_value(cx.store(), &key, &large, rule).await
        }
        Err(error) => {
            let rule = "a value that the backend does not take is TooLarge";
            check_eq!(error.kind(), ErrorKind::TooLarge, rule);
            expect_value(cx.store(), &key, b"old", "after TooLarge the old value is intact").await
        }
    }
}

pub(crate) async fn a_dropped_replace_leaves_the_old_value_or_the_new(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        cx.store().set(&key, bytes("old"), LONG).await?;
        let ended = cut(atomic.replace(&key, b"old", bytes("new one"), LONG), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            matches!(found.as_deref(), Some(b"old" | b"new one")),
            "dropping a replace leaves the old value or the new, whole",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            return is_done_after_drops(&cx, atomic, &key, &answer?).await;
        }
    }
    Ok(())
}

async fn is_done_after_drops(cx: &Cx, atomic: &dyn AtomicStore, key: &Key, answer: &Swapped) -> Verdict {
    let rule = "replace is Done when the live value equals what is expected, also after dropped calls";
    expect_swapped(answer, &Swapped::Done, rule)?;
    let answer = atomic.replace(key, b"new one", bytes("newer"), LONG).await?;
    expect_swapped(&answer, &Swapped::Done, rule)?;
    expect_value(cx.store(), key, b"newer", rule).await
}
