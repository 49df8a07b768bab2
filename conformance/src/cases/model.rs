//! Long walks of random calls, each answer compared with that of the reference.

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Key, Store, Swapped};

use crate::{
    context::{Cx, LONG, atomic, bytes, key},
    failure::{Verdict, check, show_found, show_swapped},
    operation::Operation,
    reference::Reference,
};

const STEPS: usize = 400;

/// Few and alike, so that calls meet.
const KEYS: [&str; 3] = ["k", "K", "k1"];
const VALUES: [&str; 4] = ["", "v", "V", "v and more"];

pub(crate) async fn a_random_walk_agrees_with_the_model(cx: Cx) -> Verdict {
    walk(&cx, &[Operation::Get, Operation::Set, Operation::Destroy]).await
}

pub(crate) async fn a_random_walk_with_conditions_agrees_with_the_model(cx: Cx) -> Verdict {
    // Conditional writes often, the others seldom.
    let operations = [
        Operation::Create,
        Operation::Replace,
        Operation::Replace,
        Operation::Replace,
        Operation::Remove,
        Operation::Touch,
        Operation::Get,
        Operation::Set,
        Operation::Destroy,
    ];
    walk(&cx, &operations).await
}

async fn walk(cx: &Cx, operations: &[Operation]) -> Verdict {
    let (handles, model) = ([cx.handle(), cx.second_handle().await?], Reference::new());
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut trail = Vec::new();
    for step in 0..STEPS {
        let (store, operation) = (&*handles[step % 2], *dice.pick(operations));
        let (text, value, expected) = (*dice.pick(&KEYS), *dice.pick(&VALUES), *dice.pick(&VALUES));
        let (key, value) = (key(text)?, bytes(value));
        trail.push(format!("{operation} {text}"));
        let seen = call(store, operation, &key, expected, value.clone()).await?;
        let right = call(&model, operation, &key, expected, value).await?;
        check!(
            seen == right,
            "a store answers as the trivially correct one does, whatever came before",
            "step {step} answered {seen} instead of {right}; the last calls: {}",
            trail[trail.len().saturating_sub(6)..].join(", ")
        );
    }
    Ok(())
}

/// Makes one call and returns its answer as text.
async fn call(
    store: &dyn Store,
    operation: Operation,
    key: &Key,
    expected: &str,
    value: Bytes,
) -> Verdict<String> {
    Ok(match operation {
        Operation::Set => {
            store.set(key, value, LONG).await?;
            "ok".into()
        }
        Operation::Destroy => store.destroy(key).await?.to_string(),
        Operation::Create => atomic(store)?.create(key, value, LONG).await?.to_string(),
        Operation::Replace => show_swapped(&replace(atomic(store)?, key, expected, value).await?),
        Operation::Remove => show_swapped(&atomic(store)?.remove(key, expected.as_bytes()).await?),
        Operation::Touch => atomic(store)?.touch(key, LONG).await?.to_string(),
        _ => show_found(store.get(key).await?.as_deref()),
    })
}

async fn replace(store: &dyn AtomicStore, key: &Key, expected: &str, value: Bytes) -> Verdict<Swapped> {
    Ok(store.replace(key, expected.as_bytes(), value, LONG).await?)
}

/// Falls the same way in every run (xorshift), so that a failure can be seen again.
struct Dice(u64);

impl Dice {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        &from[(self.0 >> 11) as usize % from.len()]
    }
}
