//! A store over `Reference` with a connection that can break, and one bug in what it does then.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cloakroom_conformance::{Ability, Env, Operation, Outage, Reference, Subject};
use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Bytes, Error, ErrorKind, IndexedStore, Key, Result, Status,
    StatusSender, StatusStream, Store, Swapped, Ttl, async_trait,
};
use futures_util::{TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::sleep};

use crate::bug::Bug;

/// Between two looks of the prober.
const PROBE: Duration = Duration::from_millis(50);

/// How late a driver sends, or says, what it kept.
const LATE: Duration = Duration::from_millis(100);

/// Changes that fit into a queue that nobody empties.
const QUEUE: usize = 40;

/// The server of one place, and its plug.
pub(crate) struct Backend {
    bug: Bug,
    up: AtomicBool,
    rows: Reference,
    handles: AtomicUsize,
    kept_for_later: Mutex<Vec<(Key, Bytes, Ttl)>>,
}

/// Pulls the plug.
pub(crate) struct Plug(Arc<Backend>);

#[async_trait]
impl Outage for Plug {
    async fn begin(&self) {
        self.0.up.store(false, SeqCst);
    }

    async fn end(&self) {
        if self.0.bug == Bug::OutageLosesData {
            let _ = self.0.rows.clear().await;
        }
        if self.0.bug == Bug::OutageLosesTheIndex {
            for key in self.0.rows.keys_of("alice").await.unwrap_or_default() {
                let _ = self.0.rows.bind(&key, "-", Ttl::MIN).await;
            }
        }
        self.0.up.store(true, SeqCst);
        let late = std::mem::take(&mut *self.0.kept_for_later.lock());
        let rows = self.0.rows.clone();
        tokio::spawn(async move {
            sleep(LATE).await;
            for (key, value, ttl) in late {
                let _ = rows.set(&key, value, ttl).await;
            }
        });
    }
}

/// The suite over one of these mutants.
pub(crate) fn subject(bug: Bug) -> Subject {
    let backend = move |env: &Env| {
        env.shared(|| {
            Arc::new(Backend {
                bug,
                up: AtomicBool::new(true),
                rows: Reference::new(),
                handles: AtomicUsize::new(0),
                kept_for_later: Mutex::default(),
            })
        })
    };
    let open = move |env: Env| {
        let backend = backend(&env);
        async move { Ok::<_, Error>(Linked::new(bug, backend)) }
    };
    let subject = Subject::new(open, Ability::ALL);
    match bug {
        // It is wrong although its connection never breaks.
        Bug::StatusFallsWithoutAnOutage => subject,
        _ => subject.outage(move |env: &Env| Plug(backend(env))),
    }
}

/// One handle of a mutant, with a connection of its own.
struct Linked {
    bug: Bug,
    number: usize,
    backend: Arc<Backend>,
    link: Arc<Link>,
    cached: Mutex<Option<Bytes>>,
}

struct Link {
    status: StatusSender,
    probing: AtomicBool,
    broken: AtomicBool,
    subscribers: AtomicUsize,
    room: Semaphore,
}

impl Linked {
    fn new(bug: Bug, backend: Arc<Backend>) -> Self {
        let number = backend.handles.fetch_add(1, SeqCst);
        let status = StatusSender::connecting();
        status.connected();
        let link = Link {
            status,
            probing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            subscribers: AtomicUsize::new(0),
            room: Semaphore::new(QUEUE),
        };
        Self { bug, number, backend, link: Arc::new(link), cached: Mutex::default() }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn rows(&self) -> &Reference {
        &self.backend.rows
    }

    /// Whether the backend is away and this is the bug.
    fn is_down_and(&self, bug: Bug) -> bool {
        !self.backend.up.load(SeqCst) && self.is(bug)
    }

    /// Every call goes through here: in an outage it fails, and the outage is reported.
    async fn call<T>(&self, operation: Operation, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.backend.up.load(SeqCst) {
            if self.is(Bug::OutageBreaksTheNextCall) && self.link.broken.swap(false, SeqCst) {
                return Err(ErrorKind::Unavailable.into());
            }
            if self.is(Bug::StatusRecoversByCallsOnly) {
                self.link.status.connected();
            }
            return call.await;
        }
        self.link.broken.store(true, SeqCst);
        if self.is(Bug::OutageHangs) {
            std::future::pending::<()>().await;
        }
        self.report().await;
        let kind = match self.bug {
            Bug::OutageIsABackendError => ErrorKind::Backend,
            _ => ErrorKind::Unavailable,
        };
        Err(Error::new(kind).operation(operation.as_str()).store("linked"))
    }

    async fn report(&self) {
        let link = &self.link;
        match self.bug {
            Bug::StatusNeverFalls => return,
            Bug::StatusFallsOnOneHandleOnly if self.number > 0 => return,
            Bug::StatusMovesItsStart => {
                link.status.connected();
            }
            Bug::StatusBlocksWhenUnread if link.status.current() == Status::Connected => {
                // An event for each subscriber there ever was, into a queue that none of them empties.
                for _ in 0..link.subscribers.load(SeqCst) {
                    if let Ok(place) = link.room.acquire().await {
                        place.forget();
                    }
                }
            }
            Bug::StatusFallsLate => {
                let late = Arc::downgrade(link);
                tokio::spawn(async move {
                    sleep(LATE).await;
                    if let Some(link) = late.upgrade() {
                        link.status.disconnected();
                    }
                });
            }
            _ => {}
        }
        link.status.disconnected();
        let probes = !matches!(self.bug, Bug::StatusNeverRecovers | Bug::StatusRecoversByCallsOnly);
        if probes && !link.probing.swap(true, SeqCst) {
            tokio::spawn(probe(Arc::downgrade(link), Arc::clone(&self.backend)));
        }
    }
}

/// Looks whether the backend is back, until it is or the store is gone.
async fn probe(link: Weak<Link>, backend: Arc<Backend>) {
    loop {
        sleep(PROBE).await;
        let Some(link) = link.upgrade() else {
            return;
        };
        if backend.up.load(SeqCst) {
            link.probing.store(false, SeqCst);
            link.status.connected();
            return;
        }
    }
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linked({:?})", self.bug)
    }
}

#[async_trait]
impl Store for Linked {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        if self.is_down_and(Bug::OutageLogsKeys) {
            tracing::warn!("GET {} failed", key.as_str());
        }
        if self.is_down_and(Bug::OutageIsNoSession) {
            self.report().await;
            return Ok(None);
        }
        if self.is_down_and(Bug::OutageServesWhatWasRead) && key.as_str() == "stored" {
            self.report().await;
            return Ok(self.cached.lock().clone());
        }
        self.call(Operation::Get, self.rows().get(key)).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        if self.is_down_and(Bug::OutageSwallowsWrites) {
            self.report().await;
            return Ok(());
        }
        if self.is_down_and(Bug::OutageTearsWrites) {
            self.rows().set(key, value.slice(..value.len() / 2), ttl).await?;
        }
        if self.is_down_and(Bug::OutageSendsWritesLater) {
            self.backend.kept_for_later.lock().push((key.clone(), value.clone(), ttl));
        }
        *self.cached.lock() = Some(value.clone());
        self.call(Operation::Set, self.rows().set(key, value, ttl)).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let removed = self.call(Operation::Destroy, self.rows().destroy(key)).await?;
        if self.is(Bug::StatusFallsWithoutAnOutage) && !removed {
            self.link.status.disconnected();
        }
        Ok(removed)
    }

    fn status(&self) -> StatusStream {
        self.link.subscribers.fetch_add(1, SeqCst);
        match self.bug {
            Bug::StatusIsNotForwarded => StatusStream::always_connected(),
            _ => self.link.status.subscribe(),
        }
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Linked {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        if self.is_down_and(Bug::OutageMeetsNoCondition) {
            return Ok(false);
        }
        self.call(Operation::Create, self.rows().create(key, value, ttl)).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        if self.is_down_and(Bug::OutageMeetsNoCondition) {
            return Ok(Swapped::Gone);
        }
        if self.is_down_and(Bug::OutageTearsConditionalWrites) {
            self.rows().replace(key, expected, value.slice(..value.len() / 2), ttl).await?;
        }
        self.call(Operation::Replace, self.rows().replace(key, expected, value, ttl)).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.call(Operation::Remove, self.rows().remove(key, expected)).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.call(Operation::Touch, self.rows().touch(key, ttl)).await
    }
}

#[async_trait]
impl IndexedStore for Linked {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.call(Operation::Bind, self.rows().bind(key, user, ttl)).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        if self.is_down_and(Bug::OutageEmptiesTheIndex) {
            return Ok(Vec::new());
        }
        self.call(Operation::KeysOf, self.rows().keys_of(user)).await
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        if self.is_down_and(Bug::OutageEmptiesTheIndex) {
            return Ok(0);
        }
        self.call(Operation::DestroyUser, self.rows().destroy_user(user, except)).await
    }
}

#[async_trait]
impl AdminStore for Linked {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        if self.is_down_and(Bug::OutageEmptiesTheStore) {
            return Box::pin(stream::empty());
        }
        let opening = self.call(Operation::Scan, async { Ok(self.rows().scan()) });
        Box::pin(stream::once(opening).try_flatten())
    }

    async fn len(&self) -> Result<u64> {
        if self.is_down_and(Bug::OutageEmptiesTheStore) {
            return Ok(0);
        }
        self.call(Operation::Len, self.rows().len()).await
    }

    async fn clear(&self) -> Result<u64> {
        self.call(Operation::Clear, self.rows().clear()).await
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.call(Operation::Sweep, self.rows().sweep(limit)).await
    }
}
