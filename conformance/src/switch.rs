//! `Switch`, a wrapper that breaks a store on command: outages, errors, stalls, lost replies, exact interleavings.

use std::{fmt, sync::Arc, time::Duration};

use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Bytes, Error, ErrorKind, IndexedStore, Key, Result, StatusSender,
    StatusStream, Store, Swapped, Ttl,
};
use futures_util::{TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::operation::{Operation, forward_through_around};

/// A store that can be switched off, on, slow and wrong, for tests of code that uses a store.
///
/// Clones share the inner store and all switches. An ability is handed out exactly when the inner store has it;
/// [`status`](Store::status) is the switch's own.
///
/// ```
/// use cloakroom_conformance::{Operation, Reference, Switch};
/// use cloakroom_core::{Bytes, ErrorKind, Key, Store, Ttl};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = Switch::new(Reference::new());
/// let key = Key::new("a-key")?;
///
/// store.disconnect();
/// assert_eq!(store.get(&key).await.unwrap_err().kind(), ErrorKind::Unavailable);
/// store.connect();
/// assert_eq!(store.get(&key).await?, None);
///
/// store.lose_reply();                              // the next write is applied and then times out
/// let lost = store.set(&key, Bytes::from_static(b"value"), Ttl::from_secs(60)).await;
/// assert_eq!(lost.unwrap_err().kind(), ErrorKind::Timeout);
/// assert!(store.get(&key).await?.is_some());
/// assert_eq!(store.operations(), [Operation::Get, Operation::Get, Operation::Set, Operation::Get]);
/// # Ok::<(), cloakroom_core::Error>(()) }).unwrap();
/// ```
///
/// # What happens to a call, in this order
/// It is logged and takes its place in the count; it waits for its latency, then for the end of a stall; it fails if
/// an error is due; it waits at a pause before it; it fails if the store is disconnected; it is applied; it waits at
/// a pause after it; its reply is lost if that is due.
pub struct Switch<S> {
    inner: Arc<S>,
    shared: Arc<Shared>,
}

struct Shared {
    status: StatusSender,
    stalled: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<Call>,
    latency: Duration,
    /// Errors that are due at the n-th call from now, of one operation or of any.
    countdowns: Vec<Countdown>,
    /// Operations that fail until healed; `None` for all.
    failing: Vec<(Option<Operation>, ErrorKind)>,
    lose_replies: u32,
    pauses: Vec<Arc<Gate>>,
}

struct Countdown {
    operation: Option<Operation>,
    left: u64,
    kind: ErrorKind,
}

/// One call that a [`Switch`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    operation: Operation,
    key: Option<Key>,
}

impl Call {
    /// Returns the operation that was called.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns the key, of operations that concern one.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

impl<S: Store> Switch<S> {
    /// Wraps `inner`: connected, and nothing is wrong.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let status = StatusSender::connecting();
        status.connected();
        Self {
            inner: Arc::new(inner),
            shared: Arc::new(Shared { status, stalled: watch::Sender::new(false), state: Mutex::default() }),
        }
    }

    /// Wraps `inner` as a store that has not been connected yet: its status is `Connecting` and its operations are
    /// unavailable until [`connect`](Self::connect).
    #[must_use]
    pub fn connecting(inner: S) -> Self {
        let mut store = Self::new(inner);
        store.shared = Arc::new(Shared {
            status: StatusSender::connecting(),
            stalled: watch::Sender::new(false),
            state: Mutex::default(),
        });
        store
    }

    /// Returns the inner store: what is called on it meets no switch and is not logged.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Begins an outage: the status is `Disconnected`, and operations answer [`ErrorKind::Unavailable`].
    pub fn disconnect(&self) {
        self.shared.status.disconnected();
    }

    /// Ends an outage: the status is `Connected`, and operations work again.
    pub fn connect(&self) {
        self.shared.status.connected();
    }

    /// Lets the `nth` call from now fail with `kind`, unapplied; 1 is the next one.
    ///
    /// Several may be due at once, also at different calls.
    pub fn fail_nth(&self, nth: u64, kind: ErrorKind) {
        self.count_down(None, nth, kind);
    }

    /// Lets the `nth` call of `operation` from now fail with `kind`, unapplied; 1 is the next one.
    pub fn fail_nth_of(&self, operation: Operation, nth: u64, kind: ErrorKind) {
        self.count_down(Some(operation), nth, kind);
    }

    fn count_down(&self, operation: Option<Operation>, nth: u64, kind: ErrorKind) {
        self.shared.state.lock().countdowns.push(Countdown { operation, left: nth.max(1), kind });
    }

    /// Lets every call of `operation` fail with `kind`, unapplied, until [`heal`](Self::heal).
    pub fn fail(&self, operation: Operation, kind: ErrorKind) {
        self.shared.state.lock().failing.push((Some(operation), kind));
    }

    /// Lets every call fail with `kind`, unapplied, until [`heal`](Self::heal); the status does not change.
    pub fn fail_all(&self, kind: ErrorKind) {
        self.shared.state.lock().failing.push((None, kind));
    }

    /// Lets every call hang until [`resume`](Self::resume). Calls that are past this point already end as usual.
    pub fn stall(&self) {
        self.shared.stalled.send_replace(true);
    }

    /// Lets calls that hang go on, and later ones not hang.
    pub fn resume(&self) {
        self.shared.stalled.send_replace(false);
    }

    /// Applies the next write and loses its reply: the caller gets [`ErrorKind::Timeout`]. Adds up.
    ///
    /// A call that fails for another reason does not use it up.
    pub fn lose_reply(&self) {
        self.shared.state.lock().lose_replies += 1;
    }

    /// Makes every call take at least `latency` before it is applied. Zero for none.
    pub fn latency(&self, latency: Duration) {
        self.shared.state.lock().latency = latency;
    }

    /// Holds the next call of `operation` **before** it is applied, until the returned pause is released.
    #[must_use = "dropping the pause releases it"]
    pub fn pause_before(&self, operation: Operation) -> Pause {
        self.pause(operation, Side::Before)
    }

    /// Holds the next call of `operation` **after** it is applied, before its caller learns of it.
    #[must_use = "dropping the pause releases it"]
    pub fn pause_after(&self, operation: Operation) -> Pause {
        self.pause(operation, Side::After)
    }

    fn pause(&self, operation: Operation, side: Side) -> Pause {
        let gate = Arc::new(Gate { operation, side, stage: watch::Sender::new(Stage::Waiting) });
        self.shared.state.lock().pauses.push(Arc::clone(&gate));
        Pause(gate)
    }

    /// Ends every fault: errors, lost replies, latency and stalls. Leaves the connection, the log and pauses.
    pub fn heal(&self) {
        let mut state = self.shared.state.lock();
        state.countdowns.clear();
        state.failing.clear();
        state.lose_replies = 0;
        state.latency = Duration::ZERO;
        drop(state);
        self.resume();
    }

    /// Returns every call since the start or the last [`clear_log`](Self::clear_log), in the order they began.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        self.shared.state.lock().log.clone()
    }

    /// Returns the operations of the log.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.shared.state.lock().log.iter().map(|call| call.operation).collect()
    }

    /// Forgets the calls so far.
    pub fn clear_log(&self) {
        self.shared.state.lock().log.clear();
    }

    async fn around<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = |kind| Err(Error::new(kind).operation(operation.as_str()).store("switch"));
        let fate = self.shared.state.lock().begin(operation, key);
        if !fate.latency.is_zero() {
            tokio::time::sleep(fate.latency).await;
        }
        let mut stalled = self.shared.stalled.subscribe();
        // The sender lives as long as `self`.
        let _ = stalled.wait_for(|stalled| !stalled).await;
        if let Some(kind) = fate.error {
            return error(kind);
        }
        self.hold(operation, Side::Before).await;
        if self.shared.status.current() != cloakroom_core::Status::Connected {
            return error(ErrorKind::Unavailable);
        }
        let answer = call.await?;
        self.hold(operation, Side::After).await;
        if operation.is_write() && self.shared.state.lock().loses_this_reply() {
            return error(ErrorKind::Timeout);
        }
        Ok(answer)
    }

    /// Waits at the first pause that is set for this operation and side, if any.
    async fn hold(&self, operation: Operation, side: Side) {
        let gate = self.shared.state.lock().take_pause(operation, side);
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }

    fn outer_status(&self) -> StatusStream {
        self.shared.status.subscribe()
    }
}

impl<S> Clone for Switch<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), shared: Arc::clone(&self.shared) }
    }
}

impl<S: Store> fmt::Debug for Switch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("inner", &self.inner)
            .field("status", &self.shared.status.current())
            .finish_non_exhaustive()
    }
}

forward_through_around!(Switch);

/// What is to happen to one call, decided when it begins.
struct Fate {
    latency: Duration,
    error: Option<ErrorKind>,
}

impl State {
    fn begin(&mut self, operation: Operation, key: Option<&Key>) -> Fate {
        self.log.push(Call { operation, key: key.cloned() });
        let concerns = |of: Option<Operation>| of.is_none_or(|of| of == operation);
        let mut error = None;
        self.countdowns.retain_mut(|countdown| {
            if !concerns(countdown.operation) {
                return true;
            }
            countdown.left -= 1;
            if countdown.left == 0 {
                error.get_or_insert(countdown.kind);
            }
            countdown.left > 0
        });
        let failing = self.failing.iter().find(|(of, _)| concerns(*of));
        Fate { latency: self.latency, error: error.or(failing.map(|(_, kind)| *kind)) }
    }

    fn loses_this_reply(&mut self) -> bool {
        let loses = self.lose_replies > 0;
        self.lose_replies = self.lose_replies.saturating_sub(1);
        loses
    }

    fn take_pause(&mut self, operation: Operation, side: Side) -> Option<Arc<Gate>> {
        let set = |gate: &Arc<Gate>| gate.operation == operation && gate.side == side;
        let index = self.pauses.iter().position(set)?;
        Some(self.pauses.remove(index))
    }
}

/// A point at which one call is held: wait until it has been [`reached`](Self::reached), do what is to happen
/// meanwhile, then [`release`](Self::release) it. Dropping it releases it too.
#[derive(Debug)]
pub struct Pause(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    operation: Operation,
    side: Side,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Reached,
    Released,
}

impl Pause {
    /// Waits until a call is held here.
    pub async fn reached(&self) {
        let mut stage = self.0.stage.subscribe();
        // The sender lives as long as `self`.
        let _ = stage.wait_for(|stage| *stage >= Stage::Reached).await;
    }

    /// Lets the call go on; one that comes later is not held.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.stage.send_replace(Stage::Released);
    }
}

impl Gate {
    async fn pass(&self) {
        self.stage.send_if_modified(|stage| {
            let first = *stage == Stage::Waiting;
            if first {
                *stage = Stage::Reached;
            }
            first
        });
        let mut stage = self.stage.subscribe();
        // The sender lives as long as `self`.
        let _ = stage.wait_for(|stage| *stage == Stage::Released).await;
    }
}
