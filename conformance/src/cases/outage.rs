//! Operations in an outage and after it: an error in time, never an answer, and nothing lost or half done.

use std::{sync::Arc, time::Duration};

use cloakroom_core::{Error, ErrorKind, Key, Store};
use futures_util::{TryStreamExt, future::BoxFuture};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    cases::{
        indexed::{expect_listed, log_in},
        parallel::all,
        status::{begin, connect, end},
    },
    context::{BOUND, Cx, LONG, admin, atomic, bytes, expect_value, indexed, key},
    failure::{Failure, Verdict, check, check_eq, show_found},
};

/// As many connections as a pool has, or so.
const POOL: usize = 8;

/// What an operation answered in an outage.
struct Answer {
    operation: &'static str,
    /// The kind of its error, or what it answered instead, or nothing if it did not end in time.
    ended: Option<Result<String, ErrorKind>>,
}

/// Calls an operation, no longer than it may take.
async fn ask<T: std::fmt::Debug>(
    operation: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Answer {
    let ended = timeout(BOUND, call).await.ok();
    Answer {
        operation,
        ended: ended.map(|answer| answer.map(|it| format!("{it:?}")).map_err(|error| error.kind())),
    }
}

fn never_an_answer(answers: &[Answer], rule: &str) -> Verdict {
    for Answer { operation, ended } in answers {
        if let Some(Ok(answer)) = ended {
            return Err(Failure::new(rule, format!("{operation} answered Ok({answer})")));
        }
    }
    Ok(())
}

fn the_right_kind(answers: &[Answer]) -> Verdict {
    for Answer { operation, ended } in answers {
        if let Some(Err(kind)) = ended {
            check!(
                matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout),
                "an outage is Unavailable or Timeout, and no other kind",
                "{operation} answered {kind:?}"
            );
        }
    }
    Ok(())
}

fn in_time(answers: &[Answer]) -> Verdict {
    for Answer { operation, ended } in answers {
        check!(
            ended.is_some(),
            "an operation in an outage ends in bounded time",
            "{operation} was still under way after {} s",
            BOUND.as_secs()
        );
    }
    Ok(())
}

/// Stores something, begins an outage that the store has noticed, and calls the three methods.
async fn three_methods(cx: &Cx) -> Verdict<(Vec<Answer>, Vec<Answer>)> {
    let (store, outage) = (cx.store(), cx.outage()?);
    let (stored, absent) = (key("stored")?, key("never-set")?);
    store.set(&stored, bytes("value"), LONG).await?;
    connect(store).await?;
    outage.begin().await;
    // The first calls are those that find the connection broken, the second know of it.
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        reads.push(ask("get of a stored value", store.get(&stored)).await);
        reads.push(ask("get of an absent key", store.get(&absent)).await);
        writes.push(ask("set", store.set(&stored, bytes("other"), LONG)).await);
        writes.push(ask("set", store.set(&absent, bytes("other"), LONG)).await);
        writes.push(ask("destroy", store.destroy(&stored)).await);
    }
    Ok((reads, writes))
}

pub(crate) async fn a_read_in_an_outage_is_never_an_answer(cx: Cx) -> Verdict {
    let (reads, _) = three_methods(&cx).await?;
    never_an_answer(&reads, "an outage is an error, never `no session`, and never what was read before it")
}

pub(crate) async fn a_write_in_an_outage_is_never_a_success(cx: Cx) -> Verdict {
    let (_, writes) = three_methods(&cx).await?;
    never_an_answer(&writes, "a write that cannot reach the backend is an error, never Ok")
}

pub(crate) async fn an_outage_is_unavailable_or_a_timeout_and_nothing_else(cx: Cx) -> Verdict {
    let (reads, writes) = three_methods(&cx).await?;
    the_right_kind(&reads)?;
    the_right_kind(&writes)
}

pub(crate) async fn an_operation_in_an_outage_ends_in_bounded_time(cx: Cx) -> Verdict {
    let (reads, writes) = three_methods(&cx).await?;
    in_time(&reads)?;
    in_time(&writes)
}

/// Makes calls on as many connections as the store has, at the same moment.
async fn at_once(cx: &Cx, key: &Key, rule: &'static str) -> Verdict {
    let mut calls = JoinSet::new();
    for _ in 0..POOL {
        let (store, key): (Arc<dyn Store>, _) = (cx.handle(), key.clone());
        calls.spawn(async move {
            let found = store.get(&key).await.map_err(|error| Failure::new(rule, error.to_string()))?;
            check!(found.is_none(), rule, "get of an absent key returned {}", show_found(found.as_deref()));
            Ok(())
        });
    }
    all(calls).await.map(drop)
}

pub(crate) async fn the_first_operations_after_an_outage_succeed(cx: Cx) -> Verdict {
    let (outage, absent) = (cx.outage()?, key("never-set")?);
    connect(cx.store()).await?;
    at_once(&cx, &absent, "an operation that can be carried out is no error").await?;
    begin(cx.store(), &*outage).await?;
    end(cx.store(), &*outage).await?;
    // Connections that the outage broke are not handed out.
    at_once(&cx, &absent, "once the status is Connected again, the first operations succeed").await
}

/// Whether what is found is what was stored, or absent where the backend forgets.
fn is_kept(found: Option<&[u8]>, stored: &[&[u8]], keeps: bool) -> bool {
    found.map_or(!keeps, |found| stored.contains(&found))
}

pub(crate) async fn what_was_stored_before_an_outage_is_there_after_it(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    let keys: Vec<Key> = (0..20).map(|number| key(&format!("key-{number}"))).collect::<Verdict<_>>()?;
    for key in &keys {
        store.set(key, key.as_str().to_owned().into(), LONG).await?;
    }
    begin(store, &*outage).await?;
    end(store, &*outage).await?;
    for key in &keys {
        let found = store.get(key).await?;
        check!(
            is_kept(found.as_deref(), &[key.as_bytes()], outage.keeps_data()),
            "what was stored before an outage is there after it, or absent where the backend forgets",
            "get returned {}",
            show_found(found.as_deref())
        );
    }
    Ok(())
}

pub(crate) async fn a_write_that_an_outage_failed_is_whole_or_not_there(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    let (over, fresh) = (key("over")?, key("fresh")?);
    store.set(&over, bytes("the old value"), LONG).await?;
    begin(store, &*outage).await?;
    // What they answer is for other cases to judge.
    ask("set", store.set(&over, bytes("the new value, which is longer"), LONG)).await;
    ask("set", store.set(&fresh, bytes("the new value, which is longer"), LONG)).await;
    end(store, &*outage).await?;
    let found = store.get(&over).await?;
    let either: [&[u8]; 2] = [b"the old value", b"the new value, which is longer"];
    let rule = "a set that an outage failed was applied whole or not at all";
    let kept = is_kept(found.as_deref(), &either, outage.keeps_data());
    check!(kept, rule, "get returned {}", show_found(found.as_deref()));
    let found = store.get(&fresh).await?;
    let whole = is_kept(found.as_deref(), &either[1..], false);
    check!(whole, rule, "get returned {}", show_found(found.as_deref()));
    Ok(())
}

pub(crate) async fn a_write_that_an_outage_failed_does_not_come_late(cx: Cx) -> Verdict {
    let (store, outage) = (cx.store(), cx.outage()?);
    let (one, gone) = (key("one")?, key("gone")?);
    connect(store).await?;
    begin(store, &*outage).await?;
    for key in [&one, &gone] {
        ask("set", store.set(key, bytes("of the outage"), LONG)).await;
    }
    end(store, &*outage).await?;
    store.set(&one, bytes("of today"), LONG).await?;
    store.destroy(&gone).await?;
    // A driver that keeps writes for later sends them about now.
    for _ in 0..10 {
        sleep(Duration::from_millis(20)).await;
        let rule = "a write that failed in an outage is not sent later, over what was written since";
        expect_value(store, &one, b"of today", rule).await?;
        let found = store.get(&gone).await?;
        check!(found.is_none(), rule, "get of a destroyed key returned {}", show_found(found.as_deref()));
    }
    Ok(())
}

/// Judges what the operations of an ability answered in an outage.
fn judge(answers: &[Answer], rule: &str) -> Verdict {
    never_an_answer(answers, rule)?;
    the_right_kind(answers)?;
    in_time(answers)
}

pub(crate) async fn a_conditional_write_in_an_outage_is_never_an_answer(cx: Cx) -> Verdict {
    let (store, outage) = (atomic(cx.store())?, cx.outage()?);
    let (stored, absent) = (key("stored")?, key("never-set")?);
    cx.store().set(&stored, bytes("value"), LONG).await?;
    begin(cx.store(), &*outage).await?;
    let mut answers = Vec::new();
    for key in [&stored, &absent] {
        answers.push(ask("create", store.create(key, bytes("other"), LONG)).await);
        answers.push(ask("replace", store.replace(key, b"value", bytes("value"), LONG)).await);
        answers.push(ask("touch", store.touch(key, LONG)).await);
        answers.push(ask("remove", store.remove(key, b"value")).await);
    }
    judge(&answers, "a condition that cannot be looked at is an error, neither met nor not met")
}

pub(crate) async fn a_conditional_write_that_an_outage_failed_is_whole_or_not_there(cx: Cx) -> Verdict {
    let (store, outage) = (atomic(cx.store())?, cx.outage()?);
    let keys = [key("created")?, key("replaced")?, key("removed")?, key("touched")?];
    let [created, replaced, removed, touched] = &keys;
    for key in [replaced, removed, touched] {
        cx.store().set(key, bytes("old"), LONG).await?;
    }
    begin(cx.store(), &*outage).await?;
    // What they answer is for another case to judge.
    ask("create", store.create(created, bytes("the new value"), LONG)).await;
    ask("replace", store.replace(replaced, b"old", bytes("the new value"), LONG)).await;
    ask("remove", store.remove(removed, b"old")).await;
    ask("touch", store.touch(touched, LONG)).await;
    end(cx.store(), &*outage).await?;
    let (old, new): (&[u8], &[u8]) = (b"old", b"the new value");
    let keeps = outage.keeps_data();
    for (operation, key, values, keeps) in [
        ("create", created, vec![new], false),
        ("replace", replaced, vec![old, new], keeps),
        ("remove", removed, vec![old], false),
        ("touch", touched, vec![old], keeps),
    ] {
        let found = cx.store().get(key).await?;
        check!(
            is_kept(found.as_deref(), &values, keeps),
            "a conditional write that an outage failed was applied whole or not at all",
            "after a failed {operation} get returned {}",
            show_found(found.as_deref())
        );
    }
    Ok(())
}

pub(crate) async fn the_index_in_an_outage_is_never_an_answer(cx: Cx) -> Verdict {
    let (store, outage) = (indexed(cx.store())?, cx.outage()?);
    let one = key("one")?;
    log_in(cx.store(), &one, "alice").await?;
    begin(cx.store(), &*outage).await?;
    let answers = [
        ask("keys_of", store.keys_of("alice")).await,
        ask("keys_of", store.keys_of("nobody")).await,
        ask("bind", store.bind(&one, "alice", LONG)).await,
        ask("destroy_user", store.destroy_user("alice", None)).await,
        ask("destroy_user", store.destroy_user("nobody", None)).await,
    ];
    judge(&answers, "an index that cannot be read is an error, never empty")
}

pub(crate) async fn a_user_bound_before_an_outage_is_found_after_it(cx: Cx) -> Verdict {
    let outage = cx.outage()?;
    let (one, two) = (key("one")?, key("two")?);
    log_in(cx.store(), &one, "alice").await?;
    begin(cx.store(), &*outage).await?;
    ask("bind", indexed(cx.store())?.bind(&two, "alice", LONG)).await;
    end(cx.store(), &*outage).await?;
    if outage.keeps_data() {
        let rule = "what was bound before an outage is bound after it";
        expect_listed(cx.store(), "alice", &[&one], rule).await?;
    }
    log_in(cx.store(), &two, "alice").await?;
    let live = cx.store().get(&one).await?.is_some();
    let rule = "a value that outlives an outage is destroyed with the others of its user";
    let removed = indexed(cx.store())?.destroy_user("alice", None).await?;
    check_eq!(removed, 1 + u64::from(live), rule);
    Ok(())
}

pub(crate) async fn administration_in_an_outage_is_never_an_answer(cx: Cx) -> Verdict {
    let (store, outage) = (admin(cx.store())?, cx.outage()?);
    cx.store().set(&key("one")?, bytes("value"), LONG).await?;
    begin(cx.store(), &*outage).await?;
    let scanned: BoxFuture<'_, _> = Box::pin(store.scan().try_collect::<Vec<Key>>());
    let answers = [
        ask("scan", scanned).await,
        ask("len", store.len()).await,
        ask("clear", store.clear()).await,
        ask("sweep", store.sweep(10)).await,
    ];
    judge(&answers, "a backend that cannot be reached is an error, never an empty store")
}
