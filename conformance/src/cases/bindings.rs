//! What `clear` and `sweep` do to the index, where a store has both.

use cloakroom_core::{Key, Store};

use crate::{
    cases::indexed::{expect_listed, log_in},
    context::{Cx, LONG, SHORT, admin, bytes, indexed, key},
    failure::{Verdict, check},
};

pub(crate) async fn clear_removes_the_bindings_of_the_values(cx: Cx) -> Verdict {
    let (one, other) = (key("one")?, key("other")?);
    log_in(cx.store(), &one, "alice").await?;
    log_in(cx.store(), &other, "bob").await?;
    admin(cx.store())?.clear().await?;
    let rule = "clear removes the bindings of the values it removes";
    for (key, user) in [(&one, "alice"), (&other, "bob")] {
        cx.store().set(key, bytes("of nobody"), LONG).await?;
        expect_listed(cx.store(), user, &[], rule).await?;
        let removed = indexed(cx.store())?.destroy_user(user, None).await?;
        check!(removed == 0, rule, "destroy_user removed a value that was stored after the clear");
    }
    log_in(cx.store(), &one, "alice").await?;
    expect_listed(cx.store(), "alice", &[&one], "a key can be bound again after clear").await
}

async fn sweep_all(store: &dyn Store) -> Verdict {
    while admin(store)?.sweep(100).await? >= 100 {}
    Ok(())
}

pub(crate) async fn sweep_keeps_the_bindings_of_live_values(cx: Cx) -> Verdict {
    let keys: Vec<Key> = ["one", "two", "three"].into_iter().map(key).collect::<Verdict<_>>()?;
    for key in &keys {
        log_in(cx.store(), key, "alice").await?;
    }
    cx.store().set(&key("expired")?, bytes("value"), SHORT).await?;
    cx.outlive(SHORT).await?;
    sweep_all(cx.store()).await?;
    let expected: Vec<&Key> = keys.iter().collect();
    expect_listed(cx.store(), "alice", &expected, "sweep keeps the bindings of live values").await
}

pub(crate) async fn sweep_keeps_a_binding_that_waits_for_its_value(cx: Cx) -> Verdict {
    let (early, again) = (key("early")?, key("again")?);
    indexed(cx.store())?.bind(&early, "alice", LONG).await?;
    indexed(cx.store())?.bind(&again, "alice", LONG).await?;
    cx.store().set(&again, bytes("session"), SHORT).await?;
    cx.outlive(SHORT).await?;
    sweep_all(cx.store()).await?;
    cx.store().set(&early, bytes("session"), LONG).await?;
    cx.store().set(&again, bytes("session"), LONG).await?;
    let rule = "sweep keeps a binding without a value for at least 60 s after bind";
    expect_listed(cx.store(), "alice", &[&early, &again], rule).await
}
