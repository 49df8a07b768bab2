//! What operators do: scan, count, clear, sweep, each within the store's own namespace.

use std::collections::BTreeSet;

use cloakroom_core::{Key, Store};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    cases::keys::HOSTILE,
    context::{BOUND, Cx, LONG, SHORT, admin, bytes, expect_none, expect_value, key},
    failure::{Failure, Verdict, check, check_eq},
};

/// More keys than the thousand that a page of a scan holds at most.
const MANY: usize = 1_100;

/// Fails if a store in a fresh namespace already holds something, before a case clears what is not its own.
async fn must_be_empty(store: &dyn Store) -> Verdict {
    let count = admin(store)?.len().await?;
    check_eq!(count, 0, "a store in a fresh namespace is empty: it sees nothing but its own keys");
    Ok(())
}

async fn fill(store: &dyn Store, keys: &[Key]) -> Verdict {
    stream::iter(keys.iter().map(Ok::<_, Failure>))
        .try_for_each_concurrent(16, |key| async move { Ok(store.set(key, bytes("value"), LONG).await?) })
        .await
}

fn numbered(stem: &str, count: usize) -> Verdict<Vec<Key>> {
    (0..count).map(|number| key(&format!("{stem}{number}"))).collect()
}

async fn scanned(store: &dyn Store) -> Verdict<BTreeSet<Key>> {
    Ok(admin(store)?.scan().try_collect().await?)
}

/// Fails unless a scan yields exactly `expected`.
async fn expect_scanned(store: &dyn Store, expected: &[Key], rule: &str) -> Verdict {
    let seen = scanned(store).await?;
    let expected: BTreeSet<Key> = expected.iter().cloned().collect();
    let texts = |keys: Vec<&Key>| keys.iter().take(5).map(|key| key.as_str().to_owned()).collect::<Vec<_>>();
    check!(
        seen == expected,
        rule,
        "{} of {} keys; missing: {:?}, not its own: {:?}",
        seen.len(),
        expected.len(),
        texts(expected.difference(&seen).collect()),
        texts(seen.difference(&expected).collect())
    );
    Ok(())
}

pub(crate) async fn an_empty_store_has_nothing_to_scan_count_clear_or_sweep(cx: Cx) -> Verdict {
    let admin = admin(cx.store())?;
    must_be_empty(cx.store()).await?;
    expect_scanned(cx.store(), &[], "a scan of an empty store yields nothing").await?;
    check_eq!(admin.sweep(100).await?, 0, "sweep of an empty store is 0");
    check_eq!(admin.clear().await?, 0, "clear of an empty store is 0");
    Ok(())
}

pub(crate) async fn a_scan_yields_every_key_with_its_exact_text(cx: Cx) -> Verdict {
    let mut keys: Vec<Key> = HOSTILE.into_iter().map(key).collect::<Verdict<_>>()?;
    keys.extend([key(&"k".repeat(cx.longest_key()))?, key("Case")?, key("case")?]);
    fill(cx.store(), &keys).await?;
    expect_scanned(cx.store(), &keys, "a scan yields the keys as they went in, no others").await
}

pub(crate) async fn a_scan_yields_live_keys_only(cx: Cx) -> Verdict {
    let (live, expired, destroyed) = (key("live")?, key("expired")?, key("destroyed")?);
    fill(cx.store(), &[live.clone(), destroyed.clone()]).await?;
    cx.store().destroy(&destroyed).await?;
    cx.store().set(&expired, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    expect_scanned(cx.store(), &[live], "a scan yields the keys of live values only").await
}

pub(crate) async fn a_scan_yields_every_one_of_many_keys(cx: Cx) -> Verdict {
    let keys = numbered("many-", MANY)?;
    fill(cx.store(), &keys).await?;
    expect_scanned(cx.store(), &keys, "a scan yields every live key at least once, however many").await?;
    let count = admin(cx.store())?.len().await?;
    check_eq!(count, MANY as u64, "len is the number of live values, however many");
    let cleared = admin(cx.store())?.clear().await?;
    check_eq!(cleared, MANY as u64, "clear removes every value, however many");
    must_have_nothing_left(cx.store(), &keys).await
}

async fn must_have_nothing_left(store: &dyn Store, keys: &[Key]) -> Verdict {
    for key in keys.iter().step_by(keys.len().div_ceil(50)) {
        expect_none(store, key, "clear leaves no value").await?;
    }
    expect_scanned(store, &[], "after clear a scan yields nothing").await?;
    check_eq!(admin(store)?.len().await?, 0, "after clear len is 0");
    Ok(())
}

pub(crate) async fn a_key_that_lives_through_a_scan_is_yielded(cx: Cx) -> Verdict {
    let stays = numbered("m-stays-", 300)?;
    let goes = numbered("a-goes-", 300)?;
    fill(cx.store(), &stays).await?;
    fill(cx.store(), &goes).await?;
    let other = cx.second_handle().await?;
    let mut scan = admin(cx.store())?.scan();
    let mut seen = BTreeSet::new();
    let mut changes = 0;
    while let Some(yielded) = scan.next().await {
        seen.insert(yielded?);
        // Goes before and comes behind the keys that stay: a scan by page number skips some of those.
        if let Some(going) = goes.get(changes) {
            other.destroy(going).await?;
            other.set(&key(&format!("z-comes-{changes}"))?, bytes("value"), LONG).await?;
            changes += 1;
        }
    }
    let missed = stays.iter().filter(|key| !seen.contains(*key)).count();
    let rule = "a key that is live during the whole scan is yielded at least once";
    check!(missed == 0, rule, "{missed} of {} such keys were not", stays.len());
    Ok(())
}

pub(crate) async fn other_calls_are_carried_out_during_a_scan(cx: Cx) -> Verdict {
    let keys = numbered("key-", 300)?;
    fill(cx.store(), &keys).await?;
    let mut scan = admin(cx.store())?.scan();
    let first = scan.try_next().await?;
    check!(
        first.is_some(),
        "a scan yields every live key at least once",
        "it yielded none of {}",
        keys.len()
    );
    // On the same handle, while the scan is held: what waits for its end waits for ever.
    let calls = async {
        expect_value(cx.store(), &keys[0], b"value", "get is carried out during a scan").await?;
        cx.store().set(&keys[1], bytes("new"), LONG).await?;
        let destroyed = cx.store().destroy(&keys[2]).await?;
        check_eq!(destroyed, true, "destroy is carried out during a scan");
        let count = admin(cx.store())?.len().await?;
        check_eq!(count, 299, "len is carried out during a scan");
        Ok(())
    };
    match tokio::time::timeout(BOUND, calls).await {
        Ok(verdict) => verdict?,
        Err(_) => {
            let seen = format!("they were still waiting after {} s", BOUND.as_secs());
            return Err(Failure::new("other calls do not wait for the end of a scan", seen));
        }
    }
    while scan.try_next().await?.is_some() {}
    Ok(())
}

pub(crate) async fn len_counts_live_values_only(cx: Cx) -> Verdict {
    let admin = admin(cx.store())?;
    let keys = numbered("live-", 3)?;
    fill(cx.store(), &keys).await?;
    fill(cx.store(), &keys).await?;
    check_eq!(admin.len().await?, 3, "len counts each live value once, however often it was written");
    cx.store().destroy(&keys[0]).await?;
    cx.store().set(&key("expired")?, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    check_eq!(admin.len().await?, 2, "len counts live values only");
    Ok(())
}

pub(crate) async fn clear_removes_every_value_and_counts_the_live_ones(cx: Cx) -> Verdict {
    let admin = admin(cx.store())?;
    must_be_empty(cx.store()).await?;
    let mut keys: Vec<Key> = HOSTILE.into_iter().map(key).collect::<Verdict<_>>()?;
    keys.extend(numbered("live-", 20)?);
    fill(cx.store(), &keys).await?;
    cx.store().set(&key("expired")?, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    let cleared = admin.clear().await?;
    check_eq!(cleared, keys.len() as u64, "clear returns how many live values there were");
    must_have_nothing_left(cx.store(), &keys).await?;
    fill(cx.store(), &keys[..1]).await?;
    expect_value(cx.store(), &keys[0], b"value", "a store that was cleared takes new values").await
}

pub(crate) async fn a_neighbour_is_neither_scanned_nor_counted(cx: Cx) -> Verdict {
    let own = numbered("own-", 2)?;
    fill(cx.store(), &own).await?;
    for neighbour in cx.neighbours().await? {
        must_be_empty(&*neighbour).await?;
        // The same texts too: the same key in another namespace is another key.
        neighbour.set(&own[0], bytes("the neighbour's"), LONG).await?;
        fill(&*neighbour, &numbered("foreign-", 5)?).await?;
        let rule = "a scan yields this store's own keys only, whatever the names of its neighbours";
        expect_scanned(cx.store(), &own, rule).await?;
        check_eq!(admin(cx.store())?.len().await?, 2, "len counts this store's own values only");
        let rule = "a key of one namespace is not that of another";
        expect_value(cx.store(), &own[0], b"value", rule).await?;
        expect_value(&*neighbour, &own[0], b"the neighbour's", rule).await?;
    }
    Ok(())
}

pub(crate) async fn clear_leaves_the_neighbours_alone(cx: Cx) -> Verdict {
    must_be_empty(cx.store()).await?;
    let keys = numbered("key-", 3)?;
    let neighbours = cx.neighbours().await?;
    for neighbour in &neighbours {
        fill(&**neighbour, &keys).await?;
    }
    must_be_empty(cx.store()).await?;
    fill(cx.store(), &keys).await?;
    check_eq!(admin(cx.store())?.clear().await?, 3, "clear counts this store's own values only");
    for neighbour in &neighbours {
        for key in &keys {
            let rule = "clear removes this store's own values only, whatever the names of its neighbours";
            expect_value(&**neighbour, key, b"value", rule).await?;
        }
        let rule = "clear leaves the neighbours' keys to be scanned";
        expect_scanned(&**neighbour, &keys, rule).await?;
        admin(&**neighbour)?.clear().await?;
    }
    Ok(())
}

/// Leaves `live` live values and at least `expired` expired ones, unread.
async fn mixed(cx: &Cx, live: &[Key], expired: &[Key]) -> Verdict {
    fill(cx.store(), live).await?;
    for key in expired {
        cx.store().set(key, bytes("value"), SHORT).await?;
    }
    cx.outlive(SHORT).await
}

/// Sweeps as the contract says: again while it returns the limit. Fails if that never ends.
async fn sweep_all(store: &dyn Store, limit: u32) -> Verdict<u64> {
    let mut swept = 0;
    for _ in 0..1_000 {
        let count = admin(store)?.sweep(limit).await?;
        check!(
            count <= u64::from(limit),
            "sweep deletes at most `limit` values",
            "it returned {count} with a limit of {limit}"
        );
        swept += count;
        if count < u64::from(limit) {
            return Ok(swept);
        }
    }
    let rule = "sweep returns less than its limit once nothing expired is left";
    Err(Failure::new(rule, format!("1,000 calls each returned {limit}")))
}

pub(crate) async fn sweep_never_deletes_a_live_value(cx: Cx) -> Verdict {
    let (live, expired) = (numbered("live-", 20)?, numbered("expired-", 20)?);
    mixed(&cx, &live, &expired).await?;
    // Written over in time: the row was about to expire and is not any more.
    cx.store().set(&expired[0], bytes("value"), LONG).await?;
    sweep_all(cx.store(), 7).await?;
    for key in live.iter().chain(&expired[..1]) {
        expect_value(cx.store(), key, b"value", "sweep never deletes a live value").await?;
    }
    Ok(())
}

pub(crate) async fn sweep_deletes_at_most_its_limit(cx: Cx) -> Verdict {
    let expired = numbered("expired-", 20)?;
    mixed(&cx, &[], &expired).await?;
    check_eq!(admin(cx.store())?.sweep(0).await?, 0, "sweep with a limit of 0 deletes nothing");
    let swept = sweep_all(cx.store(), 7).await?;
    // The 20 and the witness; fewer where the backend expires by itself.
    check!(swept <= 21, "sweep counts each value once", "it counted {swept} of 21");
    let again = admin(cx.store())?.sweep(100).await?;
    check_eq!(again, 0, "sweep returns 0 when nothing expired is left");
    Ok(())
}

pub(crate) async fn sweep_of_live_values_only_is_zero(cx: Cx) -> Verdict {
    let live = numbered("live-", 10)?;
    fill(cx.store(), &live).await?;
    check_eq!(admin(cx.store())?.sweep(100).await?, 0, "sweep is 0 when nothing has expired");
    expect_scanned(cx.store(), &live, "sweep never deletes a live value").await
}

pub(crate) async fn a_swept_key_is_absent_and_free(cx: Cx) -> Verdict {
    let expired = numbered("expired-", 3)?;
    mixed(&cx, &[], &expired).await?;
    sweep_all(cx.store(), 2).await?;
    for key in &expired {
        expect_none(cx.store(), key, "a value that was swept is absent").await?;
        let destroyed = cx.store().destroy(key).await?;
        check_eq!(destroyed, false, "destroy of a value that was swept is false");
    }
    cx.store().set(&expired[0], bytes("new"), LONG).await?;
    sweep_all(cx.store(), 2).await?;
    expect_value(cx.store(), &expired[0], b"new", "a key that was swept takes a new value").await
}
