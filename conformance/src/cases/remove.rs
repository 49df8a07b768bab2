//! `remove`: compare-and-delete on the stored bytes.

use bytes::Bytes;
use cloakroom_core::Swapped;

use crate::{
    cases::{
        handles::{MAX_POLLS, cut},
        replace::lookalikes,
    },
    context::{Cx, LONG, SHORT, atomic, bytes, expect_none, expect_swapped, expect_value, key},
    failure::{Verdict, check, check_eq, show_found},
};

pub(crate) async fn remove_of_the_expected_value_is_done_and_removes_it(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for value in ["value", ""] {
        let key = key("doomed")?;
        cx.store().set(&key, bytes(value), LONG).await?;
        let answer = atomic.remove(&key, value.as_bytes()).await?;
        let rule = "remove is Done when the live value equals what is expected";
        expect_swapped(&answer, &Swapped::Done, rule)?;
        expect_none(cx.store(), &key, "a remove that is Done removes the value").await?;
        let destroyed = cx.store().destroy(&key).await?;
        check_eq!(destroyed, false, "destroy after a remove that is Done is false");
    }
    Ok(())
}

pub(crate) async fn remove_of_another_value_is_a_conflict_with_the_latest(cx: Cx) -> Verdict {
    let (key, other) = (key("contended")?, cx.second_handle().await?);
    let mine = atomic(cx.store())?;
    cx.store().set(&key, bytes("v1"), LONG).await?;
    cx.store().get(&key).await?;
    let rule = "a Conflict holds the latest committed value, not an older one";
    other.set(&key, bytes("v2"), LONG).await?;
    let answer = mine.remove(&key, b"v1").await?;
    expect_swapped(&answer, &Swapped::Conflict(bytes("v2")), rule)?;
    other.set(&key, Bytes::new(), LONG).await?;
    let answer = mine.remove(&key, b"v2").await?;
    expect_swapped(&answer, &Swapped::Conflict(Bytes::new()), rule)
}

pub(crate) async fn a_conflicting_remove_keeps_the_value(cx: Cx) -> Verdict {
    let (key, atomic) = (key("contended")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("current"), LONG).await?;
    for expected in ["another", "", "curren", "current!"] {
        let answer = atomic.remove(&key, expected.as_bytes()).await?;
        let rule = "remove is a Conflict when another value is there";
        expect_swapped(&answer, &Swapped::Conflict(bytes("current")), rule)?;
        let rule = "a remove that is a Conflict removes nothing";
        expect_value(cx.store(), &key, b"current", rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_conflicting_remove_keeps_the_ttl(cx: Cx) -> Verdict {
    let (short, long, atomic) = (key("short")?, key("long")?, atomic(cx.store())?);
    cx.store().set(&long, bytes("current"), LONG).await?;
    cx.store().set(&short, bytes("current"), SHORT).await?;
    atomic.remove(&long, b"another").await?;
    atomic.remove(&short, b"another").await?;
    let rule = "a remove that is a Conflict leaves the ttl as it was";
    cx.wait_gone(cx.store(), &short, SHORT, rule).await?;
    expect_value(cx.store(), &long, b"current", rule).await
}

pub(crate) async fn remove_compares_every_byte(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for (number, (stored, expected)) in lookalikes().into_iter().enumerate() {
        let key = key(&format!("lookalike-{number}"))?;
        cx.store().set(&key, stored.clone(), LONG).await?;
        let answer = atomic.remove(&key, &expected).await?;
        let rule = "remove compares byte for byte: a lookalike is a Conflict";
        expect_swapped(&answer, &Swapped::Conflict(stored.clone()), rule)?;
        expect_value(cx.store(), &key, &stored, "a remove that is a Conflict removes nothing").await?;
        let answer = atomic.remove(&key, &stored).await?;
        expect_swapped(&answer, &Swapped::Done, "remove finds any bytes equal to themselves")?;
    }
    Ok(())
}

pub(crate) async fn remove_of_an_absent_key_is_gone(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for expected in ["value", ""] {
        let answer = atomic.remove(&key("never-set")?, expected.as_bytes()).await?;
        expect_swapped(&answer, &Swapped::Gone, "remove of an absent key is Gone")?;
    }
    Ok(())
}

pub(crate) async fn remove_of_an_expired_value_is_gone(cx: Cx) -> Verdict {
    let (key, atomic) = (key("expired")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    for expected in ["another", "value"] {
        let answer = atomic.remove(&key, expected.as_bytes()).await?;
        let rule = "remove of an expired value is Gone: expired is absent";
        expect_swapped(&answer, &Swapped::Gone, rule)?;
    }
    Ok(())
}

pub(crate) async fn remove_after_destroy_is_gone(cx: Cx) -> Verdict {
    let (key, other) = (key("destroyed")?, cx.second_handle().await?);
    cx.store().set(&key, bytes("value"), LONG).await?;
    other.get(&key).await?;
    cx.store().destroy(&key).await?;
    let answer = atomic(&*other)?.remove(&key, b"value").await?;
    expect_swapped(&answer, &Swapped::Gone, "remove after destroy is Gone")?;
    expect_none(cx.store(), &key, "remove never creates").await
}

pub(crate) async fn remove_removes_only_its_key(cx: Cx) -> Verdict {
    let (doomed, twin, longer) = (key("k:1")?, key("twin")?, key("k:12")?);
    for key in [&doomed, &twin, &longer] {
        cx.store().set(key, bytes("the same"), LONG).await?;
    }
    atomic(cx.store())?.remove(&doomed, b"the same").await?;
    for key in [&twin, &longer] {
        let rule = "remove removes only its own key, whoever else has the same value";
        expect_value(cx.store(), key, b"the same", rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_dropped_remove_leaves_the_value_or_nothing(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        cx.store().set(&key, bytes("the value"), LONG).await?;
        let ended = cut(atomic.remove(&key, b"the value"), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            matches!(found.as_deref(), None | Some(b"the value")),
            "dropping a remove leaves the value or nothing",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            let rule = "remove is Done when the live value equals what is expected, also after dropped calls";
            expect_swapped(&answer?, &Swapped::Done, rule)?;
            return expect_none(cx.store(), &key, "a remove that is Done removes the value").await;
        }
    }
    Ok(())
}
