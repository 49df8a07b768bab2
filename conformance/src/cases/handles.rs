//! Two handles see one another's writes at once, and a call that is dropped half-way leaves no half.

use std::{future::poll_fn, pin::pin, task::Poll};

use cloakroom_core::{Store, Ttl};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cases::parallel::all,
    context::{Cx, LONG, bytes, cannot_have_expired, expect_none, expect_value, key},
    env::Env,
    failure::{Failure, Verdict, check, show_found},
};

/// More polls than any call needs; a call that needs more is cut at the first so many.
pub(crate) const MAX_POLLS: usize = 40;

/// Polls `call` at most `polls` times, then drops it. `None`: it was dropped before it ended.
pub(crate) async fn cut<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(move |task| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(task) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(crate) async fn a_set_is_seen_by_another_handle_at_once(cx: Cx) -> Verdict {
    let (key, other) = (key("shared")?, cx.second_handle().await?);
    expect_none(&*other, &key, "an absent key is absent for every handle").await?;
    for value in ["first", "second"] {
        cx.store().set(&key, bytes(value), LONG).await?;
        // The other handle read before, so a cache of its own would hold what was there then.
        let rule = "a read observes every set that completed before it began, whoever made it";
        expect_value(&*other, &key, value.as_bytes(), rule).await?;
    }
    other.set(&key, bytes("third"), LONG).await?;
    let rule = "a read observes every set that completed before it began, whoever made it";
    expect_value(cx.store(), &key, b"third", rule).await
}

pub(crate) async fn a_destroy_is_seen_by_another_handle_at_once(cx: Cx) -> Verdict {
    let (key, other) = (key("shared")?, cx.second_handle().await?);
    cx.store().set(&key, bytes("value"), LONG).await?;
    expect_value(&*other, &key, b"value", "two handles share their data").await?;
    cx.store().destroy(&key).await?;
    expect_none(&*other, &key, "after destroy no reader anywhere sees the value").await?;
    let again = other.destroy(&key).await?;
    check!(
        !again,
        "a value is destroyed once, whichever handle did it",
        "destroy through the other handle was true again"
    );
    Ok(())
}

pub(crate) async fn many_handles_can_be_opened_at_once(cx: Cx) -> Verdict {
    let (key, mut tasks) = (key("shared")?, JoinSet::new());
    cx.store().set(&key, bytes("value"), LONG).await?;
    // In a place of its own, where nothing has been set up yet: servers of a cluster start together.
    let env = Env::new(cx.url());
    for _ in 0..8 {
        let (cx, env) = (cx.clone(), env.clone());
        tasks.spawn(async move { cx.open_handle(&env).await });
    }
    let handles = all(tasks).await?;
    handles[0].set(&key, bytes("of the new place"), LONG).await?;
    for handle in &handles {
        let rule = "handles that were opened at the same moment share their data";
        expect_value(&**handle, &key, b"of the new place", rule).await?;
    }
    expect_value(cx.store(), &key, b"value", "a key of one namespace is not that of another").await
}

pub(crate) async fn a_dropped_set_leaves_the_old_value_or_the_new(cx: Cx) -> Verdict {
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        cx.store().set(&key, bytes("the old value"), LONG).await?;
        let ended = cut(cx.store().set(&key, bytes("the new one"), LONG), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            matches!(found.as_deref(), Some(b"the old value" | b"the new one")),
            "dropping a set leaves the old value or the new, whole",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            return Ok(answer?);
        }
    }
    Ok(())
}

pub(crate) async fn a_dropped_set_leaves_no_value_without_its_ttl(cx: Cx) -> Verdict {
    let (ttl, mut keys) = (Ttl::from_millis(100), Vec::new());
    for polls in 0..MAX_POLLS {
        let (fresh, over) = (key(&format!("fresh-{polls}"))?, key(&format!("over-{polls}"))?);
        cx.store().set(&over, bytes("old"), LONG).await?;
        let start = Instant::now();
        let ended = cut(cx.store().set(&fresh, bytes("new"), ttl), polls).await;
        cut(cx.store().set(&over, bytes("new"), ttl), polls).await;
        let found = cx.store().get(&over).await?;
        check!(
            found.is_some() || !cannot_have_expired(start, ttl),
            "dropping a set leaves the old value or the new, whole",
            "get returned None after a drop at poll {polls}"
        );
        keys.extend([fresh, over]);
        if let Some(answer) = ended {
            answer?;
            break;
        }
    }
    cx.outlive(ttl).await?;
    let written = Instant::now() - ttl.duration();
    for key in &keys {
        // What was cut may still arrive, late: the old value is fine until then.
        if cx.store().get(key).await?.as_deref() != Some(b"old") {
            let rule = "no value is ever stored without its expiry, also when a set is dropped half-way";
            cx.wait_gone_since(cx.store(), key, written, ttl, rule).await?;
        }
    }
    Ok(())
}

pub(crate) async fn a_dropped_destroy_leaves_the_value_or_nothing(cx: Cx) -> Verdict {
    for polls in 0..MAX_POLLS {
        let key = key(&format!("cut-after-{polls}"))?;
        cx.store().set(&key, bytes("the value"), LONG).await?;
        let ended = cut(cx.store().destroy(&key), polls).await;
        let found = cx.store().get(&key).await?;
        check!(
            matches!(found.as_deref(), None | Some(b"the value")),
            "dropping a destroy leaves the value or nothing",
            "get returned {} after a drop at poll {polls}",
            show_found(found.as_deref())
        );
        if let Some(answer) = ended {
            let rule = "destroy is true when a live value was removed, also after dropped calls";
            check!(answer?, rule, "it was false");
            return expect_none(cx.store(), &key, "after destroy no reader sees the value").await;
        }
    }
    Ok(())
}

pub(crate) async fn a_dropped_call_leaves_the_others_their_own_answers(cx: Cx) -> Verdict {
    let (one, two) = (key("one")?, key("two")?);
    cx.store().set(&one, bytes("value of one"), LONG).await?;
    cx.store().set(&two, bytes("value of two"), LONG).await?;
    for polls in 0..MAX_POLLS {
        let ended = cut(cx.store().get(&one), polls).await;
        // A connection on which a reply was not waited for would now hand out that reply.
        let rule = "each call gets its own answer, also after a call before it was dropped";
        expect_value(cx.store(), &two, b"value of two", rule).await?;
        let absent = cx.store().get(&key("never-set")?).await?;
        check!(absent.is_none(), rule, "get of an absent key returned {}", show_found(absent.as_deref()));
        expect_value(cx.store(), &one, b"value of one", rule).await?;
        match ended {
            None => {}
            Some(answer) => {
                let answer = answer?;
                if answer.as_deref() == Some(b"value of one") {
                    return Ok(());
                }
                return Err(Failure::new(rule, show_found(answer.as_deref())));
            }
        }
    }
    Ok(())
}
