//! Long walks of random calls, each answer compared with that of the reference.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use cloakroom_core::{Key, Store, Ttl};
use futures_util::TryStreamExt;

use crate::{
    context::{Cx, LONG, SHORT, admin, atomic, bytes, indexed, key},
    failure::{Failure, Verdict, check, show_found, show_swapped},
    operation::Operation,
    reference::Reference,
};

const STEPS: usize = 400;

/// Alike. A short walk has the first few, so that calls meet.
const KEYS: [&str; 8] = ["k", "K", "k1", "kk", "k:1", "k_", "k%", "1k"];
const FEW: usize = 3;

/// The variable that says where walks begin.
const VARIABLE: &str = "CLOAKROOM_SEED";

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
    Walk::short(&cx).await?.run(&operations).await
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
    Walk::short(&cx).await?.run(&operations).await
}

/// A walk over two handles of the store, beside the reference.
pub(crate) struct Walk {
    cx: Cx,
    handles: [Arc<dyn Store>; 2],
    model: Reference,
    keys: &'static [&'static str],
    steps: usize,
    /// Steps after which values run out and bindings are renewed; a short walk ends before that.
    stage: usize,
}

impl Walk {
    async fn short(cx: &Cx) -> Verdict<Self> {
        Self::over(cx, STEPS, STEPS, &KEYS[..FEW]).await
    }

    /// A walk among more keys, some of whose values expire on the way.
    pub(crate) async fn long(cx: &Cx, steps: usize) -> Verdict<Self> {
        Self::over(cx, steps, STAGE, &KEYS).await
    }

    async fn over(cx: &Cx, steps: usize, stage: usize, keys: &'static [&'static str]) -> Verdict<Self> {
        let handles = [cx.handle(), cx.second_handle().await?];
        Ok(Self { cx: cx.clone(), handles, model: Reference::new(), keys, steps, stage })
    }

    /// Makes random calls of these operations, and compares each answer.
    pub(crate) async fn run(&self, operations: &[Operation]) -> Verdict {
        let seed = match self.cx.seed() {
            Some(seed) => seed,
            None => seed(env::var(VARIABLE).ok())?,
        };
        self.walk(operations, &mut Dice::of(seed)).await.map_err(|failure| {
            let seen = format!("{}; {VARIABLE}={seed} walks the same way", failure.seen());
            Failure::new(failure.rule(), seen)
        })
    }

    async fn walk(&self, operations: &[Operation], dice: &mut Dice) -> Verdict {
        let mut trail = Vec::new();
        for step in 0..self.steps {
            if step % self.stage == 0 {
                if step > 0 {
                    self.let_some_expire(operations, dice, &mut trail).await?;
                }
                if operations.contains(&Operation::Bind) {
                    self.bind_all().await?;
                }
            }
            self.step(step, *dice.pick(operations), dice, &mut trail).await?;
        }
        Ok(())
    }

    /// Makes one call with a random key and random values.
    async fn step(
        &self,
        step: usize,
        operation: Operation,
        dice: &mut Dice,
        trail: &mut Vec<String>,
    ) -> Verdict {
        let store = &*self.handles[step % 2];
        let (text, value, expected) = (*dice.pick(self.keys), *dice.pick(&VALUES), *dice.pick(&VALUES));
        let (key, value) = (key(text)?, bytes(value));
        trail.push(format!("{operation} {text}"));
        let seen = call(store, operation, &key, expected, value.clone(), LONG).await?;
        let right = call(&self.model, operation, &key, expected, value, LONG).await?;
        check!(
            seen == right,
            "a store answers as the trivially correct one does, whatever came before",
            "step {step} answered {seen} instead of {right}; the last calls: {}",
            trail[trail.len().saturating_sub(6)..].join(", ")
        );
        Ok(())
    }

    /// Gives some values a short ttl and waits until it has passed. Nobody reads them meanwhile, so that the walk meets
    /// them as the store has left them, and nothing here hangs on how fast the machine is.
    async fn let_some_expire(
        &self,
        operations: &[Operation],
        dice: &mut Dice,
        trail: &mut Vec<String>,
    ) -> Verdict {
        for number in 0..self.keys.len() {
            // What sets a ttl; of the others a set, which every store has.
            let operation = *dice.pick(operations);
            let sets = [Operation::Create, Operation::Replace, Operation::Touch].contains(&operation);
            let operation = if sets { operation } else { Operation::Set };
            let (text, value, expected) = (*dice.pick(self.keys), *dice.pick(&VALUES), *dice.pick(&VALUES));
            let (key, value) = (key(text)?, bytes(value));
            trail.push(format!("{operation} {text} for a moment"));
            let store = &*self.handles[number % 2];
            // Not compared: a key may come twice, and its value expire in between.
            call(store, operation, &key, expected, value.clone(), SHORT).await?;
            call(&self.model, operation, &key, expected, value, SHORT).await?;
        }
        self.cx.outlive(SHORT).await
    }

    /// Binds every key anew: a binding without a value may be dropped after a minute.
    async fn bind_all(&self) -> Verdict {
        for (number, text) in self.keys.iter().enumerate() {
            let (key, user) = (key(text)?, USERS[number % USERS.len()]);
            indexed(&*self.handles[0])?.bind(&key, user, LONG).await?;
            indexed(&self.model)?.bind(&key, user, LONG).await?;
        }
        Ok(())
    }
}

/// Steps after which some values run out, and every binding is renewed.
const STAGE: usize = 500;

/// Where a walk begins: where the environment says, else anywhere.
fn seed(said: Option<String>) -> Verdict<u64> {
    match said {
        Some(text) => text.parse().map_err(|_| Failure::new(format!("{VARIABLE} is a number"), text)),
        None => Ok(RandomState::new().build_hasher().finish()),
    }
}

/// Makes one call and returns its answer as text.
async fn call(
    store: &dyn Store,
    operation: Operation,
    key: &Key,
    expected: &str,
    value: Bytes,
    ttl: Ttl,
) -> Verdict<String> {
    let user = USERS[expected.len() % USERS.len()];
    Ok(match operation {
        Operation::Set => {
            store.set(key, value, ttl).await?;
            "ok".into()
        }
        Operation::Destroy => store.destroy(key).await?.to_string(),
        Operation::Create => atomic(store)?.create(key, value, ttl).await?.to_string(),
        Operation::Replace => {
            show_swapped(&atomic(store)?.replace(key, expected.as_bytes(), value, ttl).await?)
        }
        Operation::Remove => show_swapped(&atomic(store)?.remove(key, expected.as_bytes()).await?),
        Operation::Touch => atomic(store)?.touch(key, ttl).await?.to_string(),
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

/// Falls the same way from the same seed (xorshift), so that a failure can be seen again.
struct Dice(u64);

impl Dice {
    const fn of(seed: u64) -> Self {
        // From zero it would never get away.
        Self(seed | 1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        &from[(self.0 >> 11) as usize % from.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_what_was_said_or_another_each_time() {
        assert_eq!(seed(Some("12".into())).unwrap(), 12);
        assert!(seed(Some("a dozen".into())).unwrap_err().to_string().contains(VARIABLE));
        assert_ne!(seed(None).unwrap(), seed(None).unwrap());
    }
}
