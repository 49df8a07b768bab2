//! A store over the little server, with one connection, a prober, and at most one bug.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cloakroom_core::{
    AtomicStore, Bytes, Error, ErrorKind, Key, Result, Status, StatusSender, StatusStream, Store, Swapped,
    Ttl, async_trait,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::bug::Bug;

/// How long an answer, or a connection, may take.
const ANSWER: Duration = Duration::from_millis(1_500);

/// Later than anybody may be.
const LATE: Duration = Duration::from_millis(2_500);

/// Between two attempts of the prober.
const PROBE: Duration = Duration::from_millis(50);

/// A store in a River server. Clones are handles onto one connection.
#[derive(Clone)]
pub(crate) struct RiverStore(Arc<Inner>);

struct Inner {
    bug: Bug,
    address: String,
    prefix: String,
    status: StatusSender,
    connection: tokio::sync::Mutex<Option<TcpStream>>,
    probing: AtomicBool,
    calls: AtomicU64,
    failures: AtomicU64,
    /// When the prober found the server again.
    back: Mutex<Option<Instant>>,
    cache: Mutex<HashMap<String, Bytes>>,
}

impl RiverStore {
    /// Connects to `river://host:port`.
    pub(crate) async fn connect(bug: Bug, url: &str, prefix: &str) -> Result<Self> {
        let address = url.trim_start_matches("river://").to_owned();
        let store = Self(Arc::new(Inner {
            bug,
            address,
            prefix: format!("{prefix}:"),
            status: StatusSender::connecting(),
            connection: tokio::sync::Mutex::default(),
            probing: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            back: Mutex::default(),
            cache: Mutex::default(),
        }));
        *store.0.connection.lock().await = Some(store.open().await.map_err(|error| store.classify(error))?);
        store.0.status.connected();
        Ok(store)
    }

    async fn open(&self) -> io::Result<TcpStream> {
        let stream = timeout(ANSWER, TcpStream::connect(&self.0.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The one place where errors of the wire become the contract's.
    fn classify(&self, error: io::Error) -> Error {
        let kind = match error.kind() {
            _ if self.0.bug == Bug::OutageIsABackendError => ErrorKind::Backend,
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind).with_source(error)
    }

    async fn call(&self, operation: &str, key: &Key, values: [&[u8]; 2], ttl: Ttl) -> Result<Answer> {
        let bug = self.0.bug;
        let number = self.0.calls.fetch_add(1, SeqCst);
        if bug == Bug::LateCallsAreLost && number > 4_000 && number.is_multiple_of(10) {
            return Ok(Answer::Gone);
        }
        if bug == Bug::AsksBeforeEveryThirdCall && number.is_multiple_of(3) {
            // Whether it answers is seen by what follows.
            let _ = self.exchange(&ping()).await;
        }
        let name = format!("{}{}", self.0.prefix, key.as_str());
        let ttl = ttl.millis().to_be_bytes();
        let request = message(&[operation.as_bytes(), name.as_bytes(), values[0], values[1], &ttl]);
        let answer = match self.exchange(&request).await {
            Err(_) if bug == Bug::LostRepliesAreSentAgain => self.exchange(&request).await,
            Err(_) if bug == Bug::LostRepliesAreSuccesses && operation != "get" => {
                Ok(Answer::Done(Bytes::new()))
            }
            answer => answer,
        };
        if bug == Bug::FourFailuresAreAnOutage && answer.is_err() {
            sleep(Duration::from_millis(700)).await;
        }
        answer.map_err(|error| self.classify(error))
    }

    /// Sends one request and waits for its answer.
    async fn exchange(&self, request: &[u8]) -> io::Result<Answer> {
        let bug = self.0.bug;
        if bug == Bug::WarmsUpAfterTheReturn && self.0.back.lock().is_some_and(|back| back.elapsed() < LATE) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if bug == Bug::ReconnectsInAStorm && self.is_away() {
            let mut stream = self.open().await?;
            return self.ask(&mut stream, request).await;
        }
        let mut slot = self.0.connection.lock().await;
        let may_open = !self.is_away() || bug.connects_when_called();
        if slot.is_none() && may_open {
            // Left behind by a call that nobody waited for.
            *slot = Some(self.open().await.inspect_err(|_| self.lost())?);
        }
        if bug == Bug::AnswersAreMixedUp {
            let stream = slot.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let answer = self.ask(stream, request).await;
            if answer.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut) {
                *slot = None;
                self.lost();
            }
            return answer;
        }
        // Taken out, so that one that is left in the middle of an exchange is not used again.
        let mut stream = slot.take().ok_or(io::ErrorKind::NotConnected)?;
        let answer = self.ask(&mut stream, request).await;
        match &answer {
            Ok(_) => *slot = Some(stream),
            Err(_) if bug == Bug::BrokenConnectionIsHandedOut && !self.is_away() => {
                *slot = Some(stream);
                self.lost();
            }
            Err(_) => self.lost(),
        }
        answer
    }

    async fn ask(&self, stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
        if self.0.bug == Bug::AsksBeforeEachCall {
            exchange_on(stream, &ping()).await?;
        }
        match self.0.bug {
            Bug::AnswersAreWaitedForForEver => exchange_on(stream, request).await,
            Bug::WaitsBlockTheThread => block_on(exchange_on(stream, request)),
            _ => timeout(ANSWER, exchange_on(stream, request)).await?,
        }
    }

    fn is_away(&self) -> bool {
        matches!(self.0.status.current(), Status::Disconnected { .. })
    }

    /// Notes that the connection is lost, and has somebody look for the server.
    fn lost(&self) {
        match self.0.bug {
            Bug::StatusNeverChanges => return,
            Bug::StatusComesLate => {
                let inner = Arc::downgrade(&self.0);
                tokio::spawn(async move {
                    sleep(LATE).await;
                    if let Some(inner) = inner.upgrade() {
                        inner.status.disconnected();
                        Self(inner).probe();
                    }
                });
                return;
            }
            Bug::FourFailuresAreAnOutage if self.0.failures.fetch_add(1, SeqCst) % 4 < 3 => return,
            _ => self.0.status.disconnected(),
        }
        if self.0.bug != Bug::StatusNeverRecovers {
            self.probe();
        }
    }

    fn probe(&self) {
        if self.0.probing.swap(true, SeqCst) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                sleep(PROBE).await;
                let Some(inner) = inner.upgrade() else { return };
                let store = Self(inner);
                if store.0.bug == Bug::ProbesMoveTheStart {
                    store.0.status.connected();
                    store.0.status.disconnected();
                }
                let Ok(mut stream) = store.open().await else { continue };
                if !matches!(timeout(ANSWER, exchange_on(&mut stream, &ping())).await, Ok(Ok(_))) {
                    continue;
                }
                if store.0.bug != Bug::BrokenConnectionIsHandedOut {
                    *store.0.connection.lock().await = Some(stream);
                }
                if store.0.bug == Bug::StatusRisesLate {
                    sleep(LATE).await;
                }
                *store.0.back.lock() = Some(Instant::now());
                store.0.probing.store(false, SeqCst);
                store.0.status.connected();
                return;
            }
        });
    }
}

/// Waits without giving way: what nobody may do on a runtime's thread.
fn block_on<T>(waiting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let waiting = timeout(Duration::from_secs(20), waiting);
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(waiting))?
}

#[derive(Debug)]
enum Answer {
    Done(Bytes),
    Gone,
    Conflict(Bytes),
}

impl Answer {
    fn swapped(self) -> Swapped {
        match self {
            Self::Done(_) => Swapped::Done,
            Self::Gone => Swapped::Gone,
            Self::Conflict(current) => Swapped::Conflict(current),
        }
    }

    const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

fn ping() -> Vec<u8> {
    message(&[b"ping", b"", b"", b"", &[0; 8]])
}

fn message(fields: &[&[u8]]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).expect("test values are small").to_be_bytes();
    let mut body = Vec::new();
    for field in fields {
        body.extend(length(field.len()));
        body.extend(*field);
    }
    let mut message = length(body.len()).to_vec();
    message.extend(body);
    message
}

async fn exchange_on(stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request).await?;
    let mut message = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut message).await?;
    let mut fields = Vec::new();
    let mut rest = Bytes::from(message);
    while rest.len() >= 4 {
        let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        fields.push(rest.slice(4..4 + length));
        rest = rest.slice(4 + length..);
    }
    match fields.as_slice() {
        [word, value] if word == "done" => Ok(Answer::Done(value.clone())),
        [word, value] if word == "conflict" => Ok(Answer::Conflict(value.clone())),
        [word, _] if word == "gone" => Ok(Answer::Gone),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[async_trait]
impl Store for RiverStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let caches = self.0.bug == Bug::ReadsAreCached;
        if let Some(value) = self.0.cache.lock().get(key.as_str()).filter(|_| caches) {
            return Ok(Some(value.clone()));
        }
        match self.call("get", key, [b"", b""], Ttl::MIN).await? {
            Answer::Done(value) => {
                if caches {
                    self.0.cache.lock().insert(key.as_str().to_owned(), value.clone());
                }
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.cache.lock().remove(key.as_str());
        self.call("set", key, [b"", &value], ttl).await.map(drop)
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.0.cache.lock().remove(key.as_str());
        Ok(self.call("destroy", key, [b"", b""], Ttl::MIN).await?.is_done())
    }

    fn status(&self) -> StatusStream {
        self.0.status.subscribe()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for RiverStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        Ok(self.call("create", key, [b"", &value], ttl).await?.is_done())
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.0.cache.lock().remove(key.as_str());
        if self.0.bug == Bug::ReplaceReadsFirst {
            return match self.get(key).await? {
                None => Ok(Swapped::Gone),
                Some(current) if current != expected => Ok(Swapped::Conflict(current)),
                Some(_) => self.set(key, value, ttl).await.map(|()| Swapped::Done),
            };
        }
        let answer = self.call("replace", key, [expected, &value], ttl).await;
        if self.0.bug == Bug::OutageIsGone && answer.is_err() {
            return Ok(Swapped::Gone);
        }
        match answer? {
            Answer::Conflict(_) if self.0.bug == Bug::LooksTwiceAtConflicts => {
                let (_, found) = (self.get(key).await?, self.get(key).await?);
                Ok(found.map_or(Swapped::Gone, Swapped::Conflict))
            }
            Answer::Gone if self.0.bug == Bug::ReplaceCreates => {
                self.set(key, value, ttl).await.map(|()| Swapped::Done)
            }
            answer => Ok(answer.swapped()),
        }
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.0.cache.lock().remove(key.as_str());
        Ok(self.call("remove", key, [expected, b""], Ttl::MIN).await?.swapped())
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        if self.0.bug == Bug::TouchOnlyLengthens && ttl < Ttl::from_secs(1) {
            return Ok(self.get(key).await?.is_some());
        }
        Ok(self.call("touch", key, [b"", b""], ttl).await?.is_done())
    }
}

impl fmt::Debug for RiverStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RiverStore").field("status", &self.0.status.current()).finish_non_exhaustive()
    }
}
