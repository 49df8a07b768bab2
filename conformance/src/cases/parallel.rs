//! Races that every store must stand, over two handles and without any ability.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::Store;
use tokio::task::{JoinSet, yield_now};

use crate::{
    context::{Cx, LONG, bytes, expect_none, expect_value, key},
    failure::{Failure, Verdict, check, check_eq, show, show_found},
};

/// Waits for every task and returns what they made, or the first failure.
pub(crate) async fn all<T: 'static>(mut tasks: JoinSet<Verdict<T>>) -> Verdict<Vec<T>> {
    let mut outputs = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        outputs.push(joined.map_err(|error| Failure::new("a store never panics", error.to_string()))??);
    }
    Ok(outputs)
}

/// Two handles onto the same data, to be taken in turn.
pub(crate) async fn two_handles(cx: &Cx) -> Verdict<[Arc<dyn Store>; 2]> {
    Ok([cx.handle(), cx.second_handle().await?])
}

/// A value that tells whether it is whole: one letter throughout, as often as its head says.
fn self_describing(writer: usize, round: usize) -> Bytes {
    let letter = char::from(b"abcdefghijklmnop"[writer % 16]);
    let length = 1 + (writer * 7_919 + round * 104_729) % 20_000;
    format!("{length:05}{}", letter.to_string().repeat(length)).into()
}

fn is_whole(value: &[u8]) -> bool {
    let Some((head, body)) = value.split_at_checked(5) else {
        return false;
    };
    let length = std::str::from_utf8(head).ok().and_then(|head| head.parse().ok());
    let of_one_letter = body.first().is_some_and(|letter| body == vec![*letter; body.len()]);
    length == Some(body.len()) && of_one_letter
}

pub(crate) async fn no_reader_sees_half_a_value(cx: Cx) -> Verdict {
    let (key, handles) = (key("hot")?, two_handles(&cx).await?);
    cx.store().set(&key, self_describing(0, 0), LONG).await?;
    let mut tasks = JoinSet::new();
    for writer in 0..4 {
        let (store, key) = (Arc::clone(&handles[writer % 2]), key.clone());
        tasks.spawn(async move {
            for round in 0..20 {
                store.set(&key, self_describing(writer, round), LONG).await?;
                yield_now().await;
            }
            Verdict::Ok(())
        });
    }
    for reader in 0..4 {
        let (store, key) = (Arc::clone(&handles[reader % 2]), key.clone());
        tasks.spawn(async move {
            for _ in 0..40 {
                let found = store.get(&key).await?;
                check!(
                    found.as_deref().is_some_and(is_whole),
                    "a value is replaced whole: no reader sees half of one and half of another, or nothing",
                    "get returned {} while others wrote",
                    show_found(found.as_deref())
                );
                yield_now().await;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    let last = cx.store().get(&key).await?.unwrap_or_default();
    check!(
        is_whole(&last),
        "after parallel writes one of the values is there, whole",
        "get returned {}",
        show(&last)
    );
    Ok(())
}

pub(crate) async fn parallel_writers_of_different_keys_lose_nothing(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    let mut tasks = JoinSet::new();
    for task in 0..32 {
        let store = Arc::clone(&handles[task % 2]);
        tasks.spawn(async move {
            let key = key(&format!("key-of-{task}"))?;
            for round in 0..4 {
                store.set(&key, format!("{task}/{round}").into(), LONG).await?;
            }
            Verdict::Ok(())
        });
    }
    all(tasks).await?;
    for task in 0..32 {
        let (key, last) = (key(&format!("key-of-{task}"))?, format!("{task}/3"));
        let rule = "writers of different keys do not disturb one another";
        expect_value(cx.store(), &key, last.as_bytes(), rule).await?;
    }
    Ok(())
}

pub(crate) async fn of_parallel_destroys_exactly_one_is_true(cx: Cx) -> Verdict {
    let handles = two_handles(&cx).await?;
    for round in 0..10 {
        let key = key(&format!("doomed-{round}"))?;
        cx.store().set(&key, bytes("value"), LONG).await?;
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let (store, key) = (Arc::clone(&handles[task % 2]), key.clone());
            tasks.spawn(async move { Verdict::Ok(store.destroy(&key).await?) });
        }
        let removed = all(tasks).await?.into_iter().filter(|&removed| removed).count();
        check_eq!(removed, 1, "one value is removed once: of parallel destroys exactly one is true");
        expect_none(cx.store(), &key, "after destroy no reader sees the value").await?;
    }
    Ok(())
}
