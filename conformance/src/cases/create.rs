//! `create`: stores where nothing lives, and changes nothing where something does.

use bytes::Bytes;
use cloakroom_core::ErrorKind;
use tokio::time::Instant;

use crate::{
    cases::{
        handles::{MAX_POLLS, cut},
        values::oversized,
    },
    context::{
        Cx, LONG, SHORT, atomic, bytes, cannot_have_expired, expect_none, expect_value, growing_ttls, key,
    },
    failure::{Failure, Verdict, check, check_eq, show_found},
};

pub(crate) async fn create_under_an_absent_key_stores_and_is_true(cx: Cx) -> Verdict {
    let (key, atomic) = (key("new")?, atomic(cx.store())?);
    let created = atomic.create(&key, bytes("value"), LONG).await?;
    check_eq!(created, true, "create under an absent key is true");
    expect_value(cx.store(), &key, b"value", "get sees what create stored").await
}

pub(crate) async fn create_gives_the_value_its_ttl(cx: Cx) -> Verdict {
    let key = key("short-lived")?;
    atomic(cx.store())?.create(&key, bytes("value"), SHORT).await?;
    cx.wait_gone(cx.store(), &key, SHORT, "a value that was created expires with its ttl").await
}

pub(crate) async fn create_under_a_live_key_is_false_and_keeps_the_value(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    // An empty value is live too.
    for (key, old) in [(key("taken")?, "old"), (key("taken-by-nothing")?, "")] {
        cx.store().set(&key, bytes(old), LONG).await?;
        for new in ["new", "old", ""] {
            let created = atomic.create(&key, bytes(new), LONG).await?;
            check_eq!(created, false, "create under a live key is false, whatever the values are");
            let rule = "a create that is false changes nothing";
            expect_value(cx.store(), &key, old.as_bytes(), rule).await?;
        }
    }
    Ok(())
}

pub(crate) async fn create_that_is_false_does_not_lengthen_the_ttl(cx: Cx) -> Verdict {
    let (key, atomic) = (key("taken")?, atomic(cx.store())?);
    for ttl in growing_ttls() {
        let start = Instant::now();
        cx.store().set(&key, bytes("old"), ttl).await?;
        let created = atomic.create(&key, bytes("new"), LONG).await?;
        if created {
            let rule = "create under a live key is false";
            check!(!cannot_have_expired(start, ttl), rule, "it was true");
            continue;
        }
        let rule = "a create that is false changes nothing: a longer ttl is not taken over";
        return cx.wait_gone(cx.store(), &key, ttl, rule).await;
    }
    Err(Failure::too_slow())
}

pub(crate) async fn create_that_is_false_does_not_shorten_the_ttl(cx: Cx) -> Verdict {
    let key = key("taken")?;
    cx.store().set(&key, bytes("old"), LONG).await?;
    atomic(cx.store())?.create(&key, bytes("new"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let rule = "a create that is false changes nothing: a shorter ttl is not taken over";
    expect_value(cx.store(), &key, b"old", rule).await
}

pub(crate) async fn create_over_an_expired_value_is_true(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("old"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let created = atomic(cx.store())?.create(&key, bytes("new"), LONG).await?;
    check_eq!(created, true, "an expired value that is not swept yet is no obstacle to create");
    expect_value(cx.store(), &key, b"new", "get sees what create stored").await
}

pub(crate) async fn create_after_destroy_is_true(cx: Cx) -> Verdict {
    let key = key("phoenix")?;
    cx.store().set(&key, bytes("old"), LONG).await?;
    cx.store().destroy(&key).await?;
    let created = atomic(cx.store())?.create(&key, bytes("new"), LONG).await?;
    check_eq!(created, true, "create under a key that was destroyed is true");
    expect_value(cx.store(), &key, b"new", "get sees what create stored").await
}

pub(crate) async fn what_is_created_is_an_ordinary_value(cx: Cx) -> Verdict {
    let (created, emptied) = (key("made-by-create")?, key("empty")?);
    let atomic = atomic(cx.store())?;
    atomic.create(&created, bytes("created"), LONG).await?;
    atomic.create(&emptied, Bytes::new(), LONG).await?;
    expect_value(cx.store(), &emptied, b"", "an empty value can be created").await?;
    cx.store().set(&created, bytes("set"), LONG).await?;
    let rule = "set replaces what create stored, under the same key";
    expect_value(cx.store(), &created, b"set", rule).await?;
    let other = cx.second_handle().await?;
    expect_value(&*other, &emptied, b"", "another handle sees what create stored").await?;
    let destroyed = (cx.store().destroy(&created).await?, cx.store().destroy(&emptied).await?);
    check_eq!(destroyed, (true, true), "destroy removes what create stored");
    Ok(())
}

pub(crate) async fn a_dropped_create_leaves_nothing_or_the_value(cx: Cx) -> Verdict {
    let atomic = atomic(cx.store())?;
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        let ended = cut(atomic.create(&key, bytes("created"), LONG), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            matches!(found.as_deref(), None | Some(b"created")),
            "dropping a create leaves nothing or the value",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            check_eq!(answer?, true, "create under an absent key is true, also after dropped calls");
            return expect_value(cx.store(), &key, b"created", "get sees what create stored").await;
        }
    }
    Ok(())
}

pub(crate) async fn an_oversized_create_is_kept_or_is_too_large(cx: Cx) -> Verdict {
    let key = key("large")?;
    let large = oversized();
    match atomic(cx.store())?.create(&key, large.clone(), LONG).await {
        Ok(created) => {
            check_eq!(created, true, "create under an absent key is true, or TooLarge");
            let rule = "a value that create accepts comes back whole";
            expect_value(cx.store(), &key, &large, rule).await
        }
        Err(error) => {
            let rule = "a value that the backend does not take is TooLarge";
            check_eq!(error.kind(), ErrorKind::TooLarge, rule);
            expect_none(cx.store(), &key, "after TooLarge a create has stored nothing").await
        }
    }
}
