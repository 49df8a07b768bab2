//! What a store and its driver log, at any level: no key, no value, no user.

use cloakroom_core::{Bytes, Key, Store};
use futures_util::StreamExt;
use tokio::time::timeout;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use crate::{
    cases::values::{CANARY_KEY, CANARY_USER, CANARY_VALUE, no_canary_in},
    context::{BOUND, Cx, LONG, bytes, key},
    failure::{Verdict, check},
    subject::Ability,
};

/// Uses everything the store has, on keys, values and users that would be known again. Its errors are not looked at:
/// in an outage there are many.
async fn use_everything(cx: &Cx, store: &dyn Store, key: &Key) {
    let (value, other) = (bytes(CANARY_VALUE), Bytes::from(format!("{CANARY_VALUE}-other")));
    let _ = store.set(key, value.clone(), LONG).await;
    let _ = store.get(key).await;
    if let Some(atomic) = store.as_atomic().filter(|_| cx.declares(Ability::Atomic)) {
        let _ = atomic.create(key, value.clone(), LONG).await;
        // One that is done, one that meets a conflict, and both on the way back.
        let _ = atomic.replace(key, &value, other.clone(), LONG).await;
        let _ = atomic.replace(key, &value, other.clone(), LONG).await;
        let _ = atomic.touch(key, LONG).await;
        let _ = atomic.remove(key, &value).await;
        let _ = atomic.remove(key, &other).await;
        let _ = atomic.create(key, value.clone(), LONG).await;
    }
    if let Some(indexed) = store.as_indexed().filter(|_| cx.declares(Ability::Indexed)) {
        let _ = indexed.bind(key, CANARY_USER, LONG).await;
        let _ = indexed.keys_of(CANARY_USER).await;
        let _ = indexed.destroy_user(CANARY_USER, Some(key)).await;
        let _ = indexed.destroy_user(CANARY_USER, None).await;
    }
    let _ = store.set(key, value, LONG).await;
    if let Some(admin) = store.as_admin().filter(|_| cx.declares(Ability::Admin)) {
        let _ = admin.len().await;
        let _ = admin.scan().count().await;
        let _ = admin.sweep(10).await;
        let _ = admin.clear().await;
    }
    let _ = store.destroy(key).await;
}

/// Fails if the ear heard a canary, or nothing at all.
fn silent(cx: &Cx) -> Verdict {
    tracing::trace!(target: "cloakroom::conformance", "the suite listens");
    let heard = cx.ear().heard();
    check!(
        // A build may leave out levels of `tracing` for all crates; then there is nothing to hear.
        heard.contains("the suite listens") || STATIC_MAX_LEVEL < LevelFilter::TRACE,
        "the suite hears what is logged",
        "it did not hear itself"
    );
    no_canary_in(&heard, "a log shows neither keys nor values nor users, at any level")
}

pub(crate) async fn a_log_shows_neither_key_nor_value(cx: Cx) -> Verdict {
    let key = key(CANARY_KEY)?;
    use_everything(&cx, cx.store(), &key).await;
    silent(&cx)
}

pub(crate) async fn a_log_of_an_outage_shows_neither_key_nor_value(cx: Cx) -> Verdict {
    let key = key(CANARY_KEY)?;
    let outage = cx.outage()?;
    outage.begin().await;
    // Whether the status falls, and whether an operation ends, is for other cases to say.
    let _ = timeout(4 * BOUND, use_everything(&cx, cx.store(), &key)).await;
    outage.end().await;
    let _ = timeout(BOUND, use_everything(&cx, cx.store(), &key)).await;
    silent(&cx)
}
