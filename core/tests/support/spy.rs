//! A store that notes every call and does as it is told: fail, lose a reply, hang, apply late, let others in between.

use std::{fmt, future::pending, sync::Arc};

use cloakroom_conformance::Reference;
use cloakroom_core::{
    AtomicStore, Bytes, Error, ErrorKind, IndexedStore, Key, Result, Store, Swapped, Ttl, async_trait,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

/// One call, as the store saw it.
#[derive(Clone)]
pub struct Call {
    pub op: &'static str,
    pub key: Option<Key>,
    pub value: Option<Bytes>,
    pub ttl: Option<Ttl>,
}

/// What others do in between.
pub type Meanwhile = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What the store does instead of simply answering.
#[derive(Clone)]
pub enum Act {
    /// Answers with an error; nothing is applied.
    Fail(ErrorKind),
    /// Applies the call and answers with an error.
    LoseReply(ErrorKind),
    /// Never answers; nothing is applied.
    Hang,
    /// Applies the call and never answers.
    HangApplied,
    /// Never answers; the call is applied just before the n-th call after it.
    Late(usize),
    /// Lets others in before the call is applied.
    Before(Meanwhile),
    /// Lets others in after the call was applied and before it is answered.
    After(Meanwhile),
}

struct Rule {
    op: Option<&'static str>,
    skip: usize,
    times: usize,
    act: Act,
}

/// A write that is still on its way.
struct Underway {
    countdown: usize,
    write: Write,
}

#[derive(Clone)]
enum Write {
    Set(Key, Bytes, Ttl),
    Create(Key, Bytes, Ttl),
    Replace(Key, Bytes, Bytes, Ttl),
    Remove(Key, Bytes),
    Destroy(Key),
    Nothing,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    underway: Vec<Underway>,
    yields: bool,
}

/// The spy. Clones share everything; [`store`](Self::store) is what it watches.
#[derive(Clone, Default)]
pub struct Spy {
    store: Reference,
    state: Arc<Mutex<State>>,
}

impl Spy {
    pub fn new() -> Self {
        super::ear::listen();
        Self::default()
    }

    /// The store behind, which always behaves.
    pub fn store(&self) -> Reference {
        self.store.clone()
    }

    /// Acts at the `nth` call of `op`, counted from 1 and from now.
    pub fn on(&self, op: &'static str, nth: usize, act: Act) {
        self.rule(Some(op), nth, 1, act);
    }

    /// Acts at the `nth` call of any kind.
    pub fn on_call(&self, nth: usize, act: Act) {
        self.rule(None, nth, 1, act);
    }

    /// Acts at `times` calls of any kind from the `nth` on.
    pub fn on_calls(&self, nth: usize, times: usize, act: Act) {
        self.rule(None, nth, times, act);
    }

    fn rule(&self, op: Option<&'static str>, nth: usize, times: usize, act: Act) {
        let skip = nth - 1;
        self.state.lock().rules.push(Rule { op, skip, times, act });
    }

    /// Behaves from now on.
    pub fn heal(&self) {
        self.state.lock().rules.clear();
    }

    /// Whether a rule has not been used up.
    pub fn is_armed(&self) -> bool {
        self.state.lock().rules.iter().any(|rule| rule.times > 0)
    }

    /// Lets every call wait twice, before and after it is applied, so that futures can be dropped there.
    pub fn yields(&self, yields: bool) {
        self.state.lock().yields = yields;
    }

    /// Counts the calls since they were last taken.
    pub fn calls(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// Returns the names of the calls since the last time.
    pub fn take_calls(&self) -> Vec<&'static str> {
        self.take_all().into_iter().map(|call| call.op).collect()
    }

    /// Returns the calls since the last time.
    pub fn take_all(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().calls)
    }

    async fn call<T>(
        &self,
        call: Call,
        write: Write,
        apply: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let (act, due, yields) = self.note(call, write);
        for write in due {
            self.apply(write).await;
        }
        if yields {
            tokio::task::yield_now().await;
        }
        let answer = match act {
            None => apply.await,
            Some(Act::Fail(kind)) => Err(Error::new(kind)),
            Some(Act::LoseReply(kind)) => {
                apply.await?;
                Err(Error::new(kind))
            }
            Some(Act::Hang | Act::Late(_)) => pending().await,
            Some(Act::HangApplied) => {
                apply.await?;
                pending().await
            }
            Some(Act::Before(meanwhile)) => {
                meanwhile().await;
                apply.await
            }
            Some(Act::After(meanwhile)) => {
                let answer = apply.await;
                meanwhile().await;
                answer
            }
        };
        if yields {
            tokio::task::yield_now().await;
        }
        answer
    }

    fn note(&self, call: Call, write: Write) -> (Option<Act>, Vec<Write>, bool) {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        state.underway.retain_mut(|underway| {
            underway.countdown = underway.countdown.saturating_sub(1);
            if underway.countdown == 0 {
                due.push(underway.write.clone());
            }
            underway.countdown > 0
        });
        let mut act = None;
        for rule in &mut state.rules {
            if rule.op.is_some_and(|op| op != call.op) || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if act.is_none() {
                rule.times -= 1;
                act = Some(rule.act.clone());
            }
        }
        if let Some(Act::Late(countdown)) = act {
            state.underway.push(Underway { countdown, write });
        }
        state.calls.push(call);
        (act, due, state.yields)
    }

    async fn apply(&self, write: Write) {
        let store = &self.store;
        match write {
            Write::Set(key, value, ttl) => store.set(&key, value, ttl).await.expect("it never fails"),
            Write::Create(key, value, ttl) => {
                store.create(&key, value, ttl).await.expect("it never fails");
            }
            Write::Replace(key, expected, value, ttl) => {
                store.replace(&key, &expected, value, ttl).await.expect("it never fails");
            }
            Write::Remove(key, expected) => {
                store.remove(&key, &expected).await.expect("it never fails");
            }
            Write::Destroy(key) => {
                store.destroy(&key).await.expect("it never fails");
            }
            Write::Nothing => {}
        }
    }
}

/// Lets `work` happen in between.
pub fn meanwhile<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn() -> F + Send + Sync + 'static,
) -> Meanwhile {
    Arc::new(move || Box::pin(work()))
}

fn call(op: &'static str, key: &Key) -> Call {
    Call { op, key: Some(key.clone()), value: None, ttl: None }
}

fn write(op: &'static str, key: &Key, value: &Bytes, ttl: Ttl) -> Call {
    Call { op, key: Some(key.clone()), value: Some(value.clone()), ttl: Some(ttl) }
}

impl fmt::Debug for Spy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spy")
    }
}

#[async_trait]
impl Store for Spy {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.call(call("get", key), Write::Nothing, self.store.get(key)).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let late = Write::Set(key.clone(), value.clone(), ttl);
        self.call(write("set", key, &value, ttl), late, self.store.set(key, value, ttl)).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let late = Write::Destroy(key.clone());
        self.call(call("destroy", key), late, self.store.destroy(key)).await
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Spy {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let late = Write::Create(key.clone(), value.clone(), ttl);
        self.call(write("create", key, &value, ttl), late, self.store.create(key, value, ttl)).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let late = Write::Replace(key.clone(), Bytes::copy_from_slice(expected), value.clone(), ttl);
        let apply = self.store.replace(key, expected, value.clone(), ttl);
        self.call(write("replace", key, &value, ttl), late, apply).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let late = Write::Remove(key.clone(), Bytes::copy_from_slice(expected));
        self.call(call("remove", key), late, self.store.remove(key, expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let touch = Call { ttl: Some(ttl), ..call("touch", key) };
        self.call(touch, Write::Nothing, self.store.touch(key, ttl)).await
    }
}

#[async_trait]
impl IndexedStore for Spy {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.call(call("bind", key), Write::Nothing, self.store.bind(key, user, ttl)).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        let call = Call { op: "keys_of", key: None, value: None, ttl: None };
        self.call(call, Write::Nothing, self.store.keys_of(user)).await
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let call = Call { op: "destroy_user", key: None, value: None, ttl: None };
        self.call(call, Write::Nothing, self.store.destroy_user(user, except)).await
    }
}

/// Shows what happens, not who is let in.
impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(kind) => write!(f, "Fail({kind:?})"),
            Self::LoseReply(kind) => write!(f, "LoseReply({kind:?})"),
            Self::Hang => f.write_str("Hang"),
            Self::HangApplied => f.write_str("HangApplied"),
            Self::Late(calls) => write!(f, "Late({calls})"),
            Self::Before(_) => f.write_str("Before"),
            Self::After(_) => f.write_str("After"),
        }
    }
}
