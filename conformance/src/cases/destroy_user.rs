//! `destroy_user`: "log out everywhere", complete, counted, and nobody else.

use std::sync::Arc;

use cloakroom_core::Key;
use futures_util::{TryStreamExt, stream};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cases::{
        indexed::{expect_listed, log_in},
        parallel::all,
    },
    context::{Cx, LONG, SHORT, bytes, expect_none, expect_value, indexed, key, sleep_until},
    failure::{Failure, Verdict, check, check_eq},
};

/// More keys than one round of any batch takes: SQLite used to stop at 999 parameters.
const MANY: usize = 1_100;

pub(crate) async fn destroy_user_removes_every_value_of_the_user(cx: Cx) -> Verdict {
    let keys = [key("one")?, key("two")?, key("three")?];
    for key in &keys {
        log_in(cx.store(), key, "alice").await?;
    }
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 3, "destroy_user returns how many live values were removed");
    for key in &keys {
        expect_none(cx.store(), key, "destroy_user removes every value of the user").await?;
    }
    expect_listed(cx.store(), "alice", &[], "after destroy_user no key is listed").await?;
    let again = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(again, 0, "a second destroy_user finds nothing left");
    Ok(())
}

pub(crate) async fn destroy_user_spares_the_excepted_key(cx: Cx) -> Verdict {
    let (current, other, elder) = (key("current")?, key("other")?, key("elder")?);
    for key in [&current, &other, &elder] {
        log_in(cx.store(), key, "alice").await?;
    }
    let removed = indexed(cx.store())?.destroy_user("alice", Some(&current)).await?;
    check_eq!(removed, 2, "destroy_user does not count the excepted key");
    expect_value(cx.store(), &current, b"session", "destroy_user spares the excepted key").await?;
    expect_listed(cx.store(), "alice", &[&current], "the excepted key stays bound").await?;
    for key in [&other, &elder] {
        expect_none(cx.store(), key, "destroy_user removes every other value of the user").await?;
    }
    Ok(())
}

pub(crate) async fn an_excepted_key_of_somebody_else_spares_nothing(cx: Cx) -> Verdict {
    let (hers, his) = (key("hers")?, key("his")?);
    log_in(cx.store(), &hers, "alice").await?;
    log_in(cx.store(), &his, "bob").await?;
    let removed = indexed(cx.store())?.destroy_user("alice", Some(&his)).await?;
    check_eq!(removed, 1, "an excepted key of another user spares none of this one's");
    expect_none(cx.store(), &hers, "destroy_user removes every value of the user").await?;
    expect_value(cx.store(), &his, b"session", "destroy_user leaves other users alone").await
}

pub(crate) async fn destroy_user_of_an_unknown_user_is_zero(cx: Cx) -> Verdict {
    let one = key("one")?;
    log_in(cx.store(), &one, "alice").await?;
    let removed = indexed(cx.store())?.destroy_user("nobody", None).await?;
    check_eq!(removed, 0, "destroy_user of an unknown user is Ok(0)");
    expect_value(cx.store(), &one, b"session", "destroy_user leaves other users alone").await
}

pub(crate) async fn destroy_user_leaves_other_users_alone(cx: Cx) -> Verdict {
    // One name begins with the other, both ways round.
    let names = ["ali", "alice", "alice2", "Alice"];
    for name in names {
        log_in(cx.store(), &key(&format!("session-of-{name}"))?, name).await?;
    }
    cx.store().set(&key("of-nobody")?, bytes("session"), LONG).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 1, "destroy_user counts the values of its user only");
    for name in ["ali", "alice2", "Alice"] {
        let key = key(&format!("session-of-{name}"))?;
        expect_value(cx.store(), &key, b"session", "destroy_user leaves other users alone").await?;
        expect_listed(cx.store(), name, &[&key], "destroy_user leaves the bindings of other users alone")
            .await?;
    }
    expect_value(cx.store(), &key("of-nobody")?, b"session", "destroy_user leaves unbound keys alone").await
}

pub(crate) async fn destroy_user_counts_only_live_values(cx: Cx) -> Verdict {
    let (live, expired, destroyed, never) =
        (key("live")?, key("expired")?, key("destroyed")?, key("never-set")?);
    log_in(cx.store(), &live, "alice").await?;
    log_in(cx.store(), &destroyed, "alice").await?;
    cx.store().destroy(&destroyed).await?;
    indexed(cx.store())?.bind(&never, "alice", LONG).await?;
    indexed(cx.store())?.bind(&expired, "alice", LONG).await?;
    cx.store().set(&expired, bytes("session"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 1, "destroy_user counts only values that were live");
    Ok(())
}

pub(crate) async fn destroy_user_leaves_keys_whose_binding_has_expired(cx: Cx) -> Verdict {
    let (lapsed, witness) = (key("lapsed")?, key("witness")?);
    for key in [&lapsed, &witness] {
        cx.store().set(key, bytes("session"), LONG).await?;
    }
    indexed(cx.store())?.bind(&lapsed, "alice", SHORT).await?;
    // Bound later and as long, so it lapses no earlier; nobody has come across the other entry then.
    indexed(cx.store())?.bind(&witness, "bob", SHORT).await?;
    let start = Instant::now();
    sleep_until(start + SHORT.duration()).await;
    while !indexed(cx.store())?.keys_of("bob").await?.is_empty() {
        let rule = "a binding ends with its ttl";
        check!(start.elapsed() < SHORT.duration() + cx.patience(), rule, "keys_of still returned the key");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    let rule = "destroy_user does not touch keys whose binding has expired";
    check_eq!(removed, 0, rule);
    expect_value(cx.store(), &lapsed, b"session", rule).await
}

pub(crate) async fn destroy_user_leaves_the_bindings(cx: Cx) -> Verdict {
    let (one, early) = (key("one")?, key("early")?);
    log_in(cx.store(), &one, "alice").await?;
    indexed(cx.store())?.bind(&early, "alice", LONG).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 1, "destroy_user counts only values that were live");
    // Writes that were under way: what they leave must be found by the next call.
    cx.store().set(&one, bytes("session"), LONG).await?;
    cx.store().set(&early, bytes("session"), LONG).await?;
    let rule = "destroy_user leaves the bindings to run out, for at least 60 s after bind";
    expect_listed(cx.store(), "alice", &[&one, &early], rule).await?;
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 2, rule);
    Ok(())
}

pub(crate) async fn a_user_may_have_many_keys(cx: Cx) -> Verdict {
    let store = cx.store();
    stream::iter((0..MANY).map(Ok::<_, Failure>))
        .try_for_each_concurrent(16, |number| async move {
            log_in(store, &key(&format!("session-{number}"))?, "alice").await
        })
        .await?;
    let listed = indexed(store)?.keys_of("alice").await?;
    check_eq!(listed.len(), MANY, "keys_of returns every key of a user, however many");
    let removed = indexed(store)?.destroy_user("alice", Some(&key("session-7")?)).await?;
    check_eq!(removed, MANY as u64 - 1, "destroy_user removes every value of a user, however many");
    let mut left = 0;
    for key in &listed {
        left += usize::from(store.get(key).await?.is_some());
    }
    check_eq!(left, 1, "destroy_user removes every value of a user but the excepted one");
    Ok(())
}

pub(crate) async fn destroy_user_removes_all_that_was_bound_before_it(cx: Cx) -> Verdict {
    let other = cx.second_handle().await?;
    let before: Vec<Key> = (0..40).map(|number| key(&format!("before-{number}"))).collect::<Verdict<_>>()?;
    for key in &before {
        log_in(cx.store(), key, "alice").await?;
    }
    // Logins of the same user go on all the while, through the other handle.
    let mut logins = JoinSet::new();
    for task in 0..4 {
        let store = Arc::clone(&other);
        logins.spawn(async move {
            for number in 0..25 {
                // The value first: a binding without one may be dropped as stale when it is come across.
                let key = key(&format!("during-{task}-{number}"))?;
                store.set(&key, bytes("session"), LONG).await?;
                indexed(&*store)?.bind(&key, "alice", LONG).await?;
                tokio::task::yield_now().await;
            }
            Verdict::Ok(())
        });
    }
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    let rule = "destroy_user removes every key bound before it, whoever is bound meanwhile";
    for key in &before {
        expect_none(cx.store(), key, rule).await?;
    }
    check!(removed >= 40, rule, "it removed {removed} values of the 40 bound before");
    all(logins).await?;
    // What was bound meanwhile is either gone or listed: a binding never gets lost while its value lives.
    let listed = indexed(cx.store())?.keys_of("alice").await?;
    for task in 0..4 {
        for number in 0..25 {
            let key = key(&format!("during-{task}-{number}"))?;
            let live = cx.store().get(&key).await?.is_some();
            let rule = "a key bound during destroy_user is either removed or still bound";
            check!(live == listed.contains(&key), rule, "a value is live but not listed for its user");
        }
    }
    Ok(())
}
