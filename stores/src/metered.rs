//! A store that tells operators in numbers what it does, through the `metrics` crate.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Error, ErrorKind, IndexedStore, Key, Result, Status, StatusStream,
    Swapped, Ttl,
};
use futures_util::stream::{StreamExt, unfold};
use metrics::{
    Label, SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use tokio::{runtime::Handle, task::AbortHandle};

use crate::around::forward_around;

const OPERATIONS: &str = "cloakroom_store_operations_total";
const SECONDS: &str = "cloakroom_store_operation_seconds";
const OUTAGES: &str = "cloakroom_store_outages_total";
const CONNECTED: &str = "cloakroom_store_connected";

/// Counts and times the operations of a store, for whatever recorder of the `metrics` crate the application installs.
///
/// | metric | kind | labels |
/// |---|---|---|
/// | `cloakroom_store_operations_total` | counter | `store`, `operation`, `outcome` |
/// | `cloakroom_store_operation_seconds` | histogram | `store`, `operation` |
/// | `cloakroom_store_outages_total` | counter | `store` |
/// | `cloakroom_store_connected` | gauge, 0 or 1 | `store` |
///
/// `operation` is the method: `get`, `replace`. `outcome` is one of
/// - `done`, or `found` of a `get`,
/// - `absent` of a `get` or `destroy`,
/// - `conflict`: of a `create`, the key is taken; of a `replace` or `remove`, another request came first,
/// - `gone` of a `replace`, `remove` or `touch`: the session ended while a request was under way,
/// - `dropped`: the caller did not wait for the end, because of a deadline or a visitor who hung up,
/// - the kind of an error: `unavailable`, `timed out`, `rejected` and so on, as
///   [`ErrorKind::as_str`](cloakroom_core::ErrorKind::as_str) has it.
///
/// Labels never hold a key, a user or a value, and there are no more series than outcomes. `store` is the name given
/// here. A scan counts once, when it ends, and is not timed.
///
/// The outages are those of the store's status, watched from the first operation on by a task that ends with the last
/// clone; one that comes and goes faster than the task runs may be missed.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use cloakroom::{MemoryStore, Metered};
///
/// let store = Metered::new(MemoryStore::new(), "sessions");
/// # let _ = store; }
/// ```
#[derive(Clone)]
pub struct Metered<S> {
    inner: S,
    name: SharedString,
    watch: Arc<Watch>,
}

/// The task that watches the status, once it runs.
#[derive(Default)]
struct Watch(OnceLock<AbortHandle>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.0.get() {
            task.abort();
        }
    }
}

impl<S: cloakroom_core::Store> Metered<S> {
    /// Creates a store that reports under `name`, which tells several stores of one application apart.
    #[must_use]
    pub fn new(store: S, name: impl Into<SharedString>) -> Self {
        describe_counter!(OPERATIONS, "Operations of the session store, by what they did and how they ended");
        describe_histogram!(SECONDS, metrics::Unit::Seconds, "How long operations of the session store took");
        describe_counter!(OUTAGES, "How often the session store was lost");
        describe_gauge!(CONNECTED, "Whether the session store is connected");
        Self { inner: store, name: name.into(), watch: Arc::default() }
    }

    fn inner_status(&self) -> StatusStream {
        self.watch();
        self.inner.status()
    }

    /// Begins to watch the status, unless it has begun or there is no runtime yet.
    fn watch(&self) {
        if self.watch.0.get().is_some() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        self.watch.0.get_or_init(|| {
            let name = self.name.clone();
            let mut status = self.inner.status();
            runtime.spawn(async move { watch(&mut status, name).await }).abort_handle()
        });
    }

    async fn around<T: Outcome>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.watch();
        let mut measured =
            Measured { name: &self.name, operation, outcome: "dropped", started: Instant::now() };
        let answer = call.await;
        measured.outcome = outcome(operation, &answer);
        answer
    }

    fn around_scan<'a>(&'a self, keys: BoxStream<'a, Result<Key>>) -> BoxStream<'a, Result<Key>> {
        self.watch();
        let name = self.name.clone();
        unfold((keys, Counted { name, outcome: "dropped" }), |(mut keys, mut counted)| async move {
            match keys.next().await {
                Some(Ok(key)) => return Some((Ok(key), (keys, counted))),
                Some(Err(error)) => {
                    counted.ended(error.kind().as_str());
                    return Some((Err(error), (futures_util::stream::empty().boxed(), counted)));
                }
                // After an error the stream that is left is empty.
                None => counted.ended("done"),
            }
            None
        })
        .boxed()
    }
}

impl<S: fmt::Debug> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered")
            .field("inner", &self.inner)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

forward_around!(Metered, "metered");

/// One operation under way. Reports when it is dropped, so that a call that nobody waits for is counted as well.
struct Measured<'a> {
    name: &'a SharedString,
    operation: &'static str,
    outcome: &'static str,
    started: Instant,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let labels = vec![store(self.name), Label::from_static_parts("operation", self.operation)];
        histogram!(SECONDS, labels).record(self.started.elapsed());
        count(self.name, self.operation, self.outcome);
    }
}

/// One scan under way.
struct Counted {
    name: SharedString,
    outcome: &'static str,
}

impl Counted {
    /// Notes how the scan ended, unless that is known.
    fn ended(&mut self, outcome: &'static str) {
        if self.outcome == "dropped" {
            self.outcome = outcome;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        count(&self.name, "scan", self.outcome);
    }
}

fn count(name: &SharedString, operation: &'static str, outcome: &'static str) {
    let labels = vec![
        store(name),
        Label::from_static_parts("operation", operation),
        Label::from_static_parts("outcome", outcome),
    ];
    counter!(OPERATIONS, labels).increment(1);
}

fn store(name: &SharedString) -> Label {
    Label::new("store", name.clone())
}

/// Reports the status and each change of it.
async fn watch(status: &mut StatusStream, name: SharedString) {
    let mut now = status.current();
    loop {
        gauge!(CONNECTED, vec![store(&name)]).set(if now == Status::Connected { 1.0 } else { 0.0 });
        if matches!(now, Status::Disconnected { .. }) {
            counter!(OUTAGES, vec![store(&name)]).increment(1);
        }
        now = status.changed().await;
    }
}

/// An answer that can be told in a word.
trait Outcome {
    fn outcome(&self, operation: &'static str) -> &'static str;
}

fn outcome<T: Outcome>(operation: &'static str, answer: &Result<T>) -> &'static str {
    match answer {
        Ok(answer) => answer.outcome(operation),
        Err(error) => error.kind().as_str(),
    }
}

impl Outcome for Option<Bytes> {
    fn outcome(&self, _: &'static str) -> &'static str {
        if self.is_some() { "found" } else { "absent" }
    }
}

impl Outcome for bool {
    fn outcome(&self, operation: &'static str) -> &'static str {
        match (self, operation) {
            (true, _) => "done",
            (false, "create") => "conflict",
            (false, "touch") => "gone",
            (false, _) => "absent",
        }
    }
}

impl Outcome for Swapped {
    fn outcome(&self, _: &'static str) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Gone => "gone",
            Self::Conflict(_) => "conflict",
        }
    }
}

macro_rules! done {
    ($($type:ty),*) => {$(
        impl Outcome for $type {
            fn outcome(&self, _: &'static str) -> &'static str {
                "done"
            }
        }
    )*};
}

done!((), u64, Vec<Key>);
