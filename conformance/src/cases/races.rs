//! Races between conditional writes, over two handles: nothing lost, nothing risen.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::{Key, Store, Swapped};
use tokio::task::{JoinSet, yield_now};

use crate::{
    cases::parallel::{all, two_handles},
    context::{Cx, LONG, SHORT, atomic, bytes, expect_none, expect_swapped, expect_value, key},
    failure::{Failure, Verdict, check, check_eq, show_found, show_swapped},
};

/// Tasks that want the same key at once.
const CROWD: usize = 32;

/// Tasks that count up one value, and how often each does. Every success makes all others try again.
const COUNTERS: usize = 64;
const INCREMENTS: usize = 2;

/// Rounds of a race between two calls, each with other delays.
const ROUNDS: usize = 40;

/// Gives way between 0 and 3 times, differently for each round and side.
async fn stagger(round: usize, side: usize) {
    for _ in 0..(round / (side * 3 + 1)) % 4 {
        yield_now().await;
    }
}

pub(crate) async fn of_parallel_creates_exactly_one_wins(cx: Cx) -> Verdict {
    one_creator_wins(&cx, &key("wanted")?).await
}

pub(crate) async fn of_parallel_creates_over_an_expired_value_exactly_one_wins(cx: Cx) -> Verdict {
    let key = key("expired")?;
    cx.store().set(&key, bytes("old"), SHORT).await?;
    cx.outlive(SHORT).await?;
    one_creator_wins(&cx, &key).await
}

async fn one_creator_wins(cx: &Cx, key: &Key) -> Verdict {
    let handles = two_handles(cx).await?;
    let mut tasks = JoinSet::new();
    for task in 0..CROWD {
        let (store, key) = (Arc::clone(&handles[task % 2]), key.clone());
        tasks.spawn(async move {
            let value = Bytes::from(format!("of task {task}"));
            let created = atomic(&*store)?.create(&key, value.clone(), LONG).await?;
            Verdict::Ok(created.then_some(value))
        });
    }
    let winners: Vec<Bytes> = all(tasks).await?.into_iter().flatten().collect();
    check_eq!(winners.len(), 1, "of parallel creates of one key exactly one is true");
    let rule = "after parallel creates the winner's value is there";
    expect_value(cx.store(), key, &winners[0], rule).await
}

pub(crate) async fn of_parallel_replaces_of_one_value_exactly_one_is_done(cx: Cx) -> Verdict {
    let (key, handles) = (key("contended")?, two_handles(&cx).await?);
    cx.store().set(&key, bytes("base"), LONG).await?;
    let mut tasks = JoinSet::new();
    for task in 0..CROWD {
        let (store, key) = (Arc::clone(&handles[task % 2]), key.clone());
        tasks.spawn(async move {
            let value = Bytes::from(format!("of task {task}"));
            let answer = atomic(&*store)?.replace(&key, b"base", value.clone(), LONG).await?;
            Verdict::Ok((answer, value))
        });
    }
    let answers = all(tasks).await?;
    let done: Vec<&Bytes> =
        answers.iter().filter(|(answer, _)| *answer == Swapped::Done).map(|(_, value)| value).collect();
    check_eq!(done.len(), 1, "of parallel replaces that expect one value exactly one is Done");
    let winner = done[0];
    for (answer, _) in answers.iter().filter(|(answer, _)| *answer != Swapped::Done) {
        let rule = "a replace that lost a race is a Conflict with the winner's value";
        expect_swapped(answer, &Swapped::Conflict(winner.clone()), rule)?;
    }
    expect_value(cx.store(), &key, winner, "after a race of replaces the winner's value is there").await
}

pub(crate) async fn a_counter_that_many_tasks_increment_loses_nothing(cx: Cx) -> Verdict {
    let (key, handles) = (key("counter")?, two_handles(&cx).await?);
    // The total, then a count for each task.
    let start = Bytes::from(vec![0_u8; 1 + COUNTERS]);
    cx.store().set(&key, start.clone(), LONG).await?;
    let mut tasks = JoinSet::new();
    for task in 0..COUNTERS {
        let (store, key, start) = (Arc::clone(&handles[task % 2]), key.clone(), start.clone());
        tasks.spawn(async move {
            let mut base = start;
            for _ in 0..INCREMENTS {
                base = increment(&*store, &key, base, task).await?;
            }
            Verdict::Ok(())
        });
    }
    all(tasks).await?;
    let mut expected = vec![INCREMENTS as u8; 1 + COUNTERS];
    expected[0] = (COUNTERS * INCREMENTS) as u8;
    let rule = "no update is lost: every replace that was Done is in the value";
    expect_value(cx.store(), &key, &expected, rule).await
}

/// Adds one, starting from `base` and going on from each conflict's value; returns what was stored.
async fn increment(store: &dyn Store, key: &Key, mut base: Bytes, task: usize) -> Verdict<Bytes> {
    // Each failure means that another task succeeded, so there are no more of them than increments.
    for _ in 0..=COUNTERS * INCREMENTS {
        let mut next = base.to_vec();
        check_eq!(next.len(), 1 + COUNTERS, "a Conflict holds the latest committed value");
        next[0] = next[0].wrapping_add(1);
        next[1 + task] = next[1 + task].wrapping_add(1);
        let next = Bytes::from(next);
        match atomic(store)?.replace(key, &base, next.clone(), LONG).await? {
            Swapped::Done => return Ok(next),
            Swapped::Conflict(current) => base = current,
            Swapped::Gone => return Err(Failure::new("a live value is not Gone", "replace answered Gone")),
        }
    }
    let rule =
        "a replace that expects the value of the last Conflict fails only if another one succeeded meanwhile";
    Err(Failure::new(rule, "it failed more often than there were successes"))
}

pub(crate) async fn a_destroyed_value_is_never_replaced_back(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    for round in 0..ROUNDS {
        let key = key(&format!("round-{round}"))?;
        cx.store().set(&key, bytes("base"), LONG).await?;
        let (writer, destroyer) = (Arc::clone(&handles[round % 2]), Arc::clone(&handles[(round + 1) % 2]));
        let (writers_key, destroyers_key) = (key.clone(), key.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            stagger(round, 0).await;
            let mut base = bytes("base");
            for step in 0..4 {
                let next = Bytes::from(format!("step {step}"));
                let answer = atomic(&*writer)?.replace(&writers_key, &base, next.clone(), LONG).await?;
                if answer == Swapped::Gone {
                    return Ok(());
                }
                let rule = "a replace in a race with a destroy is Done or Gone";
                expect_swapped(&answer, &Swapped::Done, rule)?;
                base = next;
            }
            Ok(())
        });
        tasks.spawn(async move {
            stagger(round, 1).await;
            let destroyed = destroyer.destroy(&destroyers_key).await?;
            check_eq!(destroyed, true, "destroy of a live value is true, whoever replaces it meanwhile");
            Ok(())
        });
        all(tasks).await?;
        let rule = "a destroyed value never comes back through a replace that was under way";
        expect_none(cx.store(), &key, rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_destroyed_value_is_never_touched_back(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    for round in 0..ROUNDS {
        let key = key(&format!("round-{round}"))?;
        cx.store().set(&key, bytes("value"), LONG).await?;
        let (toucher, touchers_key) = (Arc::clone(&handles[round % 2]), key.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            stagger(round, 0).await;
            // Until it is gone; the bound is for a store that keeps on reviving it.
            for _ in 0..1_000 {
                if !atomic(&*toucher)?.touch(&touchers_key, LONG).await? {
                    break;
                }
                yield_now().await;
            }
            Verdict::Ok(())
        });
        stagger(round, 1).await;
        handles[(round + 1) % 2].destroy(&key).await?;
        all(tasks).await?;
        let rule = "a destroyed value never comes back through a touch that was under way";
        expect_none(cx.store(), &key, rule).await?;
    }
    Ok(())
}

pub(crate) async fn a_touch_never_undoes_a_replace(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    for round in 0..ROUNDS {
        let key = key(&format!("round-{round}"))?;
        cx.store().set(&key, bytes("old"), LONG).await?;
        let (toucher, touchers_key) = (Arc::clone(&handles[round % 2]), key.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            stagger(round, 0).await;
            for _ in 0..3 {
                let touched = atomic(&*toucher)?.touch(&touchers_key, LONG).await?;
                check_eq!(touched, true, "touch of a live value is true, whoever replaces it meanwhile");
            }
            Ok(())
        });
        stagger(round, 1).await;
        let answer = atomic(&*handles[(round + 1) % 2])?.replace(&key, b"old", bytes("new"), LONG).await?;
        let rule = "touch is no conflict for a replace: the value stays the same";
        expect_swapped(&answer, &Swapped::Done, rule)?;
        all(tasks).await?;
        expect_value(cx.store(), &key, b"new", "a touch never undoes a replace").await?;
    }
    Ok(())
}

pub(crate) async fn of_remove_and_replace_exactly_one_wins(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    for round in 0..ROUNDS {
        let key = key(&format!("round-{round}"))?;
        cx.store().set(&key, bytes("base"), LONG).await?;
        let (remover, removers_key) = (Arc::clone(&handles[round % 2]), key.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            stagger(round, 0).await;
            Verdict::Ok(atomic(&*remover)?.remove(&removers_key, b"base").await?)
        });
        stagger(round, 1).await;
        let replaced = atomic(&*handles[(round + 1) % 2])?.replace(&key, b"base", bytes("new"), LONG).await?;
        let removed = all(tasks).await?.pop().unwrap_or(Swapped::Gone);
        let found = cx.store().get(&key).await?;
        let consistent = match (&removed, &replaced, found.as_deref()) {
            (Swapped::Done, Swapped::Gone, None) => true,
            (Swapped::Conflict(current), Swapped::Done, Some(b"new")) => current == "new",
            _ => false,
        };
        check!(
            consistent,
            "of a remove and a replace that expect one value exactly one is Done, and the store is as it left it",
            "remove: {}, replace: {}, then get: {}",
            show_swapped(&removed),
            show_swapped(&replaced),
            show_found(found.as_deref())
        );
    }
    Ok(())
}
