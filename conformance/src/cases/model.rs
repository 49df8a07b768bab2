//! Long walks of random calls, each answer compared with that of the reference.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Key, Store, Swapped};
use futures_util::TryStreamExt;

use crate::{
    context::{Cx, LONG, admin, atomic, bytes, indexed, key},
    failure::{Verdict, check, show_found, show_swapped},
    operation::Operation,
    reference::Reference,
};

const STEPS: usize = 400;

/// Few and alike, so that calls meet.
const KEYS: [&str; 3] = ["k", "K", "k1"];
const VALUES: [&str; 4] = ["", "v", "V", "v and more"];

const USERS: [&str; 2] = ["alice", "Alice"];

/// Every operation with an answer that the model knows, those that are worth most often.
pub(crate) const ALL: [Operation; 19] = [
    Operation::Get,
    Operation::Get,
    Operation::Set,
    Operation::Set,
    Operation::Destroy,
    Operation::Create,
    Operation::Create,
    Operation::Replace,
    Operation::Replace,
    Operation::Replace,
    Operation::Remove,
    Operation::Touch,
    Operation::Bind,
    Operation::Bind,
    Operation::KeysOf,
    Operation::KeysOf,
    Operation::DestroyUser,
    Operation::Len,
    Operation::Scan,
];

pub(crate) async fn a_random_walk_agrees_with_the_model(cx: Cx) -> Verdict {
    let operations = [Operation::Get, Operation::Set, Operation::Destroy];
    Walk::over(&cx, STEPS).await?.run(&operations).await
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
    Walk::over(&cx, STEPS).await?.run(&operations).await
}

/// A walk over two handles of the store, beside the reference.
pub(crate) struct Walk {
    handles: [Arc<dyn Store>; 2],
    model: Reference,
    steps: usize,
}

impl Walk {
    pub(crate) async fn over(cx: &Cx, steps: usize) -> Verdict<Self> {
        Ok(Self { handles: [cx.handle(), cx.second_handle().await?], model: Reference::new(), steps })
    }

    /// Makes random calls of these operations, and compares each answer.
    pub(crate) async fn run(&self, operations: &[Operation]) -> Verdict {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        let mut trail = Vec::new();
        for step in 0..self.steps {
            if operations.contains(&Operation::Bind) && step % BINDINGS_LAST == 0 {
                self.bind_all().await?;
            }
            let (store, operation) = (&*self.handles[step % 2], *dice.pick(operations));
            let (text, value, expected) = (*dice.pick(&KEYS), *dice.pick(&VALUES), *dice.pick(&VALUES));
            let (key, value) = (key(text)?, bytes(value));
            trail.push(format!("{operation} {text}"));
            let seen = call(store, operation, &key, expected, value.clone()).await?;
            let right = call(&self.model, operation, &key, expected, value).await?;
            check!(
                seen == right,
                "a store answers as the trivially correct one does, whatever came before",
                "step {step} answered {seen} instead of {right}; the last calls: {}",
                trail[trail.len().saturating_sub(6)..].join(", ")
            );
        }
        Ok(())
    }

    /// Binds every key anew: a binding without a value may be dropped after a minute.
    async fn bind_all(&self) -> Verdict {
        for (number, text) in KEYS.into_iter().enumerate() {
            let (key, user) = (key(text)?, USERS[number % USERS.len()]);
            indexed(&*self.handles[0])?.bind(&key, user, LONG).await?;
            indexed(&self.model)?.bind(&key, user, LONG).await?;
        }
        Ok(())
    }
}

/// Steps after which every binding is renewed.
const BINDINGS_LAST: usize = 500;

/// Makes one call and returns its answer as text.
async fn call(
    store: &dyn Store,
    operation: Operation,
    key: &Key,
    expected: &str,
    value: Bytes,
) -> Verdict<String> {
    let user = USERS[expected.len() % USERS.len()];
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
        Operation::Bind => {
            indexed(store)?.bind(key, user, LONG).await?;
            "ok".into()
        }
        Operation::KeysOf => sorted(indexed(store)?.keys_of(user).await?),
        Operation::DestroyUser => {
            let except = (value.is_empty()).then_some(key);
            indexed(store)?.destroy_user(user, except).await?.to_string()
        }
        Operation::Len => admin(store)?.len().await?.to_string(),
        Operation::Scan => sorted(admin(store)?.scan().try_collect().await?),
        _ => show_found(store.get(key).await?.as_deref()),
    })
}

/// The keys in order, each once.
fn sorted(mut keys: Vec<Key>) -> String {
    keys.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    keys.dedup();
    keys.iter().map(Key::as_str).collect::<Vec<_>>().join(" ")
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
