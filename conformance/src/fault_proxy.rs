//! A TCP proxy to put before a server: passes everything on until it is told to break something, and counts.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    background,
    failure::{Failure, Verdict},
    port::{self, Port},
};

mod pump;

/// A TCP proxy inside the process, to put before any server: what the cases about faults break connections with.
///
/// It passes everything on until it is told otherwise, and everything again after [`heal`](Self::heal). It listens on
/// a free port of its own, which stays the same however often it refuses and heals. Clones are one proxy; it ends with
/// the last of them. It moves bytes on a thread of its own, whatever runtime it is called from.
///
/// ```no_run
/// use cloakroom_conformance::FaultProxy;
///
/// # async fn example() -> Result<(), cloakroom_conformance::Failure> {
/// let proxy = FaultProxy::before("127.0.0.1", 6379).await?;
/// println!("connect to {}", proxy.address());
/// proxy.lose_next_reply();          // the next request is applied, and its reply is lost
/// proxy.refuse().await;             // no connection, old or new
/// proxy.heal().await;
/// println!("{} round trips", proxy.traffic().round_trips);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FaultProxy(Arc<Inner>);

struct Inner {
    port: Port,
    mode: watch::Sender<Mode>,
    /// Whether the listener is open, as the acceptor reports it.
    listening: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

/// What the connections see of the proxy.
struct Shared {
    host: String,
    port: u16,
    faults: Mutex<Faults>,
    counters: Counters,
}

/// Faults that happen once.
#[derive(Default)]
struct Faults {
    /// Bytes of replies that still pass.
    cut_after: Option<u64>,
    /// Which request is lost, or its reply; empty for any.
    lose: Option<(Half, Vec<u8>)>,
}

/// One half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Request,
    Reply,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    round_trips: AtomicU64,
    lost_replies: AtomicU64,
    lost_requests: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    opened: Mutex<Vec<Instant>>,
}

/// Faults that last.
#[derive(Clone, Copy, Debug)]
struct Mode {
    listening: bool,
    flow: Flow,
    delay: Duration,
    /// Bytes a second, each way; 0 for as many as come.
    rate: u64,
    /// Connections of an earlier one are reset.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Pass,
    /// Nothing moves; what was held back comes later.
    Stall,
    /// What comes is lost, and so is everything that comes later on the same connection.
    Swallow,
    /// New connections are reset.
    TurnAway,
}

impl Mode {
    const fn healthy(epoch: u64) -> Self {
        Self { listening: true, flow: Flow::Pass, delay: Duration::ZERO, rate: 0, epoch }
    }
}

/// What has gone through a [`FaultProxy`] since the start or the last [`FaultProxy::reset_traffic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Connections that clients have opened.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// How often a request was followed by its reply. Exact for calls that are made one after another: requests that
    /// are sent together, or before the reply to the last one has come, count as one.
    pub round_trips: u64,
    /// Replies that were lost as told.
    pub lost_replies: u64,
    /// Requests that were lost as told.
    pub lost_requests: u64,
    /// Bytes from clients to the server.
    pub bytes_up: u64,
    /// Bytes from the server to clients.
    pub bytes_down: u64,
}

impl FaultProxy {
    /// Puts a proxy before the server at `host` and `port`. Whether there is one is not looked at.
    ///
    /// # Errors
    /// When no port is free to listen on.
    pub async fn before(host: impl Into<String>, port: u16) -> Result<Self, Failure> {
        let host = host.into();
        background::run(async move { Self::listen(host, port).await }).await
    }

    async fn listen(host: String, port: u16) -> Verdict<Self> {
        let mut last = String::new();
        for _ in 0..5 {
            let own = port::free()?;
            match TcpListener::bind(("127.0.0.1", own.number())).await {
                Ok(listener) => return Ok(Self::with(listener, own, host, port)),
                // Somebody was faster.
                Err(error) => last = error.to_string(),
            }
        }
        Err(Failure::new("a proxy can listen", last))
    }

    fn with(listener: TcpListener, own: Port, host: String, port: u16) -> Self {
        let (mode, seen) = watch::channel(Mode::healthy(0));
        let (listening, is_listening) = watch::channel(true);
        let shared = Arc::new(Shared { host, port, faults: Mutex::default(), counters: Counters::default() });
        tokio::spawn(pump::accept(listener, own.number(), seen, listening, Arc::clone(&shared)));
        Self(Arc::new(Inner { port: own, mode, listening: is_listening, shared }))
    }

    /// Returns where the proxy listens: `127.0.0.1` and a port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0.port.number())
    }

    /// Returns the port that the proxy listens on, at `127.0.0.1`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port.number()
    }

    /// Holds each reply back for this long.
    pub fn delay(&self, delay: Duration) {
        self.set(|mode| mode.delay = delay);
    }

    /// Lets this many bytes pass in a second, each way and on each connection; at least 1.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.set(|mode| mode.rate = bytes_per_second.max(1));
    }

    /// Holds everything back, both ways, until [`heal`](Self::heal): then it comes. New connections are accepted.
    pub fn stall(&self) {
        self.set(|mode| mode.flow = Flow::Stall);
    }

    /// Loses everything from now on while connections stay open, as when the cable is pulled and nobody says so.
    ///
    /// After [`heal`](Self::heal), connections on which something was lost stay silent; new ones work.
    pub fn half_open(&self) {
        self.set(|mode| mode.flow = Flow::Swallow);
    }

    /// Lets `bytes` more bytes of replies pass, of all connections together, and resets the connection that the next
    /// one would come on. Once.
    pub fn cut_after(&self, bytes: u64) {
        self.0.shared.faults.lock().cut_after = Some(bytes);
    }

    /// Lets the next request pass, and resets its connection when the reply comes: it was applied, and nobody knows.
    /// Once.
    pub fn lose_next_reply(&self) {
        self.lose_reply_to(b"");
    }

    /// As [`lose_next_reply`](Self::lose_next_reply), for the next request that holds these bytes.
    ///
    /// For drivers that speak with the server about other things as well.
    pub fn lose_reply_to(&self, request: &[u8]) {
        self.0.shared.faults.lock().lose = Some((Half::Reply, request.to_vec()));
    }

    /// Resets the connection on which the next request with these bytes comes, instead of passing it on: it was not
    /// applied, and nobody knows. Once.
    ///
    /// Of a request that comes in several pieces, those before the bytes have passed.
    pub fn lose_request(&self, request: &[u8]) {
        self.0.shared.faults.lock().lose = Some((Half::Request, request.to_vec()));
    }

    /// Resets every connection. New ones are accepted.
    pub fn reset(&self) {
        self.set(|mode| mode.epoch += 1);
    }

    /// Resets every connection and refuses new ones, as a machine does on which the server has ended.
    pub async fn refuse(&self) {
        self.set(|mode| {
            mode.listening = false;
            mode.epoch += 1;
        });
        self.wait_listening(false).await;
    }

    /// Resets every connection, and each new one as soon as it is accepted, so that attempts are counted.
    pub fn turn_away(&self) {
        self.set(|mode| {
            mode.flow = Flow::TurnAway;
            mode.epoch += 1;
        });
    }

    /// Ends every fault. Connections that were reset stay so.
    pub async fn heal(&self) {
        *self.0.shared.faults.lock() = Faults::default();
        self.set(|mode| *mode = Mode::healthy(mode.epoch));
        self.wait_listening(true).await;
    }

    /// Returns what has gone through.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let counters = &self.0.shared.counters;
        Traffic {
            connections: counters.connections.load(SeqCst),
            open: counters.open.load(SeqCst),
            round_trips: counters.round_trips.load(SeqCst),
            lost_replies: counters.lost_replies.load(SeqCst),
            lost_requests: counters.lost_requests.load(SeqCst),
            bytes_up: counters.bytes_up.load(SeqCst),
            bytes_down: counters.bytes_down.load(SeqCst),
        }
    }

    /// Begins to count from 0 again; what is open stays counted as open.
    pub fn reset_traffic(&self) {
        let counters = &self.0.shared.counters;
        counters.connections.store(0, SeqCst);
        counters.round_trips.store(0, SeqCst);
        counters.lost_replies.store(0, SeqCst);
        counters.lost_requests.store(0, SeqCst);
        counters.bytes_up.store(0, SeqCst);
        counters.bytes_down.store(0, SeqCst);
        counters.opened.lock().clear();
    }

    /// Returns the most connections that clients tried to open within any `window`, of those that were accepted.
    #[must_use]
    pub fn most_connections_within(&self, window: Duration) -> usize {
        let opened = self.0.shared.counters.opened.lock();
        let within = |first: usize| {
            let end = opened[first] + window;
            opened[first..].iter().take_while(|at| **at <= end).count()
        };
        (0..opened.len()).map(within).max().unwrap_or(0)
    }

    fn set(&self, change: impl FnOnce(&mut Mode)) {
        self.0.mode.send_modify(change);
    }

    async fn wait_listening(&self, wanted: bool) {
        let mut listening = self.0.listening.clone();
        // The acceptor lives as long as this value.
        let _ = listening.wait_for(|listening| *listening == wanted).await;
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address())
            .field("mode", &*self.0.mode.borrow())
            .field("traffic", &self.traffic())
            .finish()
    }
}

/// Waits for `delay`, without a timer if there is none.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}
