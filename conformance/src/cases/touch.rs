//! `touch`: a new ttl for a live value, and nothing else.

use tokio::time::Instant;

use crate::{
    cases::handles::{MAX_POLLS, cut},
    context::{
        Cx, LONG, SHORT, atomic, bytes, cannot_have_expired, expect_none, expect_value, growing_ttls, key,
    },
    failure::{Failure, Verdict, check, check_eq, show_found},
};

pub(crate) async fn touch_extends_the_ttl(cx: Cx) -> Verdict {
    let (key, atomic) = (key("extended")?, atomic(cx.store())?);
    for ttl in growing_ttls() {
        let start = Instant::now();
        cx.store().set(&key, bytes("value"), ttl).await?;
        if atomic.touch(&key, LONG).await? {
            cx.outlive(ttl).await?;
            let rule = "after touch a value lives for the new ttl, also a longer one";
            return expect_value(cx.store(), &key, b"value", rule).await;
        }
        let rule = "touch of a live value is true";
        check!(!cannot_have_expired(start, ttl), rule, "it was false");
    }
    Err(Failure::too_slow())
}

pub(crate) async fn touch_shortens_the_ttl(cx: Cx) -> Verdict {
    let (key, atomic) = (key("shortened")?, atomic(cx.store())?);
    cx.store().set(&key, bytes("value"), LONG).await?;
    let touched = atomic.touch(&key, SHORT).await?;
    check_eq!(touched, true, "touch of a live value is true");
    let rule = "after touch a value lives for the new ttl, also a shorter one";
    cx.wait_gone(cx.store(), &key, SHORT, rule).await
}

pub(crate) async fn touch_keeps_the_value(cx: Cx) -> Verdict {
    let (key, other) = (key("kept")?, cx.second_handle().await?);
    for value in ["value", "", "a \0 value"] {
        cx.store().set(&key, bytes(value), LONG).await?;
        // Twice with one ttl: a backend that counts changed rows must still say that the value is there.
        for handle in [cx.store(), &*other] {
            let touched = atomic(handle)?.touch(&key, LONG).await?;
            check_eq!(touched, true, "touch of a live value is true, also when its ttl stays the same");
            expect_value(cx.store(), &key, value.as_bytes(), "touch leaves the value as it is").await?;
        }
    }
    Ok(())
}

pub(crate) async fn touch_writes_no_old_value_back(cx: Cx) -> Verdict {
    let (key, other) = (key("moved-on")?, cx.second_handle().await?);
    cx.store().set(&key, bytes("old"), LONG).await?;
    expect_value(&*other, &key, b"old", "two handles share their data").await?;
    cx.store().set(&key, bytes("new"), LONG).await?;
    atomic(&*other)?.touch(&key, LONG).await?;
    let rule = "touch leaves the value as it is and never writes an old one back";
    expect_value(cx.store(), &key, b"new", rule).await
}

pub(crate) async fn touch_of_an_absent_key_is_false_and_creates_nothing(cx: Cx) -> Verdict {
    let (key, atomic) = (key("never-set")?, atomic(cx.store())?);
    let touched = atomic.touch(&key, LONG).await?;
    check_eq!(touched, false, "touch of an absent key is false");
    expect_none(cx.store(), &key, "touch never creates").await?;
    let created = atomic.create(&key, bytes("value"), LONG).await?;
    check_eq!(created, true, "touch never creates: create after it is true");
    Ok(())
}

pub(crate) async fn touch_of_an_expired_value_is_false_and_does_not_revive_it(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let touched = atomic(cx.store())?.touch(&key, LONG).await?;
    check_eq!(touched, false, "touch of an expired value is false: expired is absent");
    expect_none(cx.store(), &key, "touch does not revive an expired value").await
}

pub(crate) async fn touch_after_destroy_is_false_and_creates_nothing(cx: Cx) -> Verdict {
    let (key, other) = (key("destroyed")?, cx.second_handle().await?);
    cx.store().set(&key, bytes("value"), LONG).await?;
    other.get(&key).await?;
    cx.store().destroy(&key).await?;
    let touched = atomic(&*other)?.touch(&key, LONG).await?;
    check_eq!(touched, false, "touch after destroy is false");
    expect_none(cx.store(), &key, "touch never brings a destroyed value back").await
}

pub(crate) async fn touch_changes_only_its_key(cx: Cx) -> Verdict {
    let (touched, twin, longer) = (key("k:1")?, key("twin")?, key("k:12")?);
    for key in [&touched, &twin, &longer] {
        cx.store().set(key, bytes("the same"), LONG).await?;
    }
    atomic(cx.store())?.touch(&touched, SHORT).await?;
    let rule = "touch changes only its own key's ttl";
    cx.wait_gone(cx.store(), &touched, SHORT, rule).await?;
    for key in [&twin, &longer] {
        expect_value(cx.store(), key, b"the same", rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_dropped_touch_keeps_the_value(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        cx.store().set(&key, bytes("value"), LONG).await?;
        let ended = cut(atomic.touch(&key, LONG), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            found.as_deref() == Some(b"value"),
            "dropping a touch leaves the value there, with the old ttl or the new",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            check_eq!(answer?, true, "touch of a live value is true, also after dropped calls");
            return Ok(());
        }
    }
    Ok(())
}
