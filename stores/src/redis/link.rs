//! One connection to one server, shared by everybody and made anew when it breaks.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cloakroom_core::{Error, ErrorKind, Result, StatusSender};
use futures_util::future::{Either, select};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    batch::{Batching, IN_LINE},
    classify::{STORE, classify, has_code},
    sentinel::Target,
    server::{self, Identity, Server},
};
use crate::backoff::{Backoff, jittered};

/// How long a server may take to answer whether it is still there.
const PING: Duration = Duration::from_millis(500);

/// After how long without a reply one has reason to doubt that the server is there.
const DOUBT: Duration = Duration::from_millis(100);

/// How often at most somebody who waits has a server tried that has been away for long.
const WANTED: Duration = Duration::from_millis(500);

/// How long the store waits, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// For a connection that can be used.
    pub(super) connect: Duration,
    /// For the reply to one command.
    pub(super) response: Duration,
}

/// Who is told that a server is there or is not: each link tells one thing once.
pub(super) trait Report: Send + Sync + 'static {
    fn up(&self);
    /// `was_up`: whether it was there until now, or the first connection could not be made.
    fn down(&self, was_up: bool);
}

impl Report for StatusSender {
    fn up(&self) {
        self.connected();
    }

    fn down(&self, _: bool) {
        self.disconnected();
    }
}

/// Why a command has no reply.
pub(super) enum Failure {
    /// There was no connection, and nothing was sent: it may be sent again.
    NotSent(Error),
    /// Something went wrong afterwards. Whether the command was carried out is known only if the server said so.
    Sent(RedisError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::NotSent(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) => error,
            Failure::Sent(error) => classify(error),
        }
    }
}

/// A connection, and the task that keeps it: it ends with the link.
///
/// Every command is sent once. The driver's `ConnectionManager` does so too, but it gives up after a number of tries
/// until somebody calls, and does not say when it is connected again.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    target: Target,
    timeouts: Timeouts,
    state: watch::Sender<State>,
    report: Arc<dyn Report>,
    /// Numbers the connections, so that what breaks late breaks no other.
    connections: AtomicU64,
    /// A reply is overdue.
    overdue: Notify,
    /// A command wanted a connection and found none.
    wanted: Notify,
}

enum State {
    /// The first connection is being made.
    Connecting,
    Up(Up),
    /// There is none, for this reason.
    Down(Error),
}

#[derive(Clone)]
struct Up {
    connection: Arc<Batching>,
    number: u64,
    server: Arc<Server>,
}

impl Link {
    /// Starts to connect.
    pub(super) fn open(target: Target, timeouts: Timeouts, report: Arc<dyn Report>) -> Self {
        let shared = Arc::new(Shared {
            target,
            timeouts,
            state: watch::Sender::new(State::Connecting),
            report,
            connections: AtomicU64::new(0),
            overdue: Notify::new(),
            wanted: Notify::new(),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared)));
        Self { shared, keeper }
    }

    /// Waits for the first connection, or the reason why there is none, and returns what the server is.
    pub(super) async fn server(&self) -> Result<Arc<Server>> {
        self.shared.up().await.map(|up| up.server)
    }

    /// Tells the connection there is now from those before and after it.
    pub(super) fn connection(&self) -> Option<u64> {
        match &*self.shared.state.borrow() {
            State::Up(up) => Some(up.number),
            State::Connecting | State::Down(_) => None,
        }
    }

    /// Sends a command once and returns its reply.
    pub(super) async fn send(&self, command: Cmd) -> Result<Value, Failure> {
        let (connection, waiting) = self.shared.begin().await?;
        waiting.end(connection.send(command).await)
    }

    /// Sends a command to a node that is only about to own its key.
    pub(super) async fn send_asking(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut pipe = Pipeline::with_capacity(2);
        pipe.cmd("ASKING").add_command(command.clone());
        let (connection, waiting) = self.shared.begin().await?;
        let replies = connection.alone().send_packed_commands(&pipe, 1, 1).await;
        waiting
            .end(replies.and_then(|replies| replies.into_iter().next().unwrap_or_default().extract_error()))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
        let gone = Error::new(ErrorKind::Unavailable).store(STORE).hint("the store was closed");
        self.shared.put_down(None, gone);
    }
}

/// A command that waits for its reply. Whoever gives up on it after a while has reason to doubt the connection.
struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
    since: Option<Instant>,
}

impl Waiting<'_> {
    fn end(mut self, reply: RedisResult<Value>) -> Result<Value, Failure> {
        self.since = None;
        reply.map_err(|error| {
            self.shared.failed(self.number, &error);
            Failure::Sent(error)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= DOUBT) {
            self.shared.overdue.notify_one();
        }
    }
}

impl Shared {
    /// Returns the connection. Waits only for the first one ever; later an outage is an error at once.
    async fn up(&self) -> Result<Up> {
        match &*self.state.borrow() {
            State::Up(up) => return Ok(up.clone()),
            State::Down(error) => {
                self.wanted.notify_one();
                return Err(error.clone());
            }
            State::Connecting => {}
        }
        let mut states = self.state.subscribe();
        let first =
            timeout(self.timeouts.connect, states.wait_for(|state| !matches!(state, State::Connecting)));
        match first.await {
            Ok(Ok(state)) => match &*state {
                State::Up(up) => Ok(up.clone()),
                State::Down(error) => Err(error.clone()),
                State::Connecting => Err(unreachable_yet()),
            },
            _ => Err(unreachable_yet()),
        }
    }

    async fn begin(&self) -> Result<(Arc<Batching>, Waiting<'_>), Failure> {
        let Up { connection, number, .. } = self.up().await.map_err(Failure::NotSent)?;
        Ok((connection, Waiting { shared: self, number, since: Some(Instant::now()) }))
    }

    /// Judges an error for what it says about the connection.
    fn failed(&self, number: u64, error: &RedisError) {
        if error.is_timeout() {
            self.overdue.notify_one();
        } else if error.is_io_error() || error.is_unrecoverable_error() || has_code(error, "LOADING") {
            self.put_down(Some(number), classify(error.clone()));
        } else if self.target.has_one_master() && has_code(error, "READONLY") {
            // Somebody else is the master now: ask again who, and resolve the name anew.
            self.put_down(Some(number), classify(error.clone()));
        }
    }

    fn put_up(&self, up: Up) {
        self.state.send_modify(|state| {
            if !matches!(state, State::Up(_)) {
                self.report.up();
            }
            *state = State::Up(up);
        });
    }

    /// Takes the connection of this number down, or whatever there is.
    fn put_down(&self, number: Option<u64>, error: Error) {
        self.state.send_if_modified(|state| {
            let current = match state {
                State::Up(up) => number.is_none_or(|number| number == up.number),
                State::Connecting | State::Down(_) => number.is_none(),
            };
            if current {
                match state {
                    State::Up(_) => self.report.down(true),
                    State::Connecting => self.report.down(false),
                    State::Down(_) => {}
                }
                *state = State::Down(error);
            }
            current
        });
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

/// Makes a connection, watches it, and makes the next when it breaks; for ever.
async fn keep(shared: Arc<Shared>) {
    let mut last = None;
    loop {
        last = connect(&shared, last.as_ref()).await;
        watch_over(&shared).await;
        // A server that drops a thousand clients does not hear from all of them in the same moment.
        sleep(jittered(Duration::from_millis(50))).await;
    }
}

/// Returns when the connection is down.
async fn watch_over(shared: &Shared) {
    let mut states = shared.state.subscribe();
    loop {
        let up = match &*states.borrow_and_update() {
            State::Up(up) => up.clone(),
            State::Connecting | State::Down(_) => return,
        };
        let is_overdue = {
            let (changed, overdue) = (pin!(states.changed()), pin!(shared.overdue.notified()));
            matches!(select(changed, overdue).await, Either::Right(_))
        };
        if is_overdue && !answers(up.connection.alone()).await {
            let error = Error::new(ErrorKind::Unavailable).store(STORE).hint("the server does not answer");
            shared.put_down(Some(up.number), error);
        }
    }
}

async fn answers(mut connection: MultiplexedConnection) -> bool {
    matches!(timeout(PING, connection.send_packed_command(&redis::cmd("PING"))).await, Ok(Ok(_)))
}

/// Tries until there is a connection.
async fn connect(shared: &Arc<Shared>, last: Option<&Identity>) -> Option<Identity> {
    let (began, mut backoff) = (Instant::now(), Backoff::default());
    loop {
        let started = Instant::now();
        let made = timeout(shared.timeouts.connect, try_once(shared, last)).await;
        match made.unwrap_or_else(|_| Err(unreachable_yet())) {
            Ok((up, identity, broken)) => {
                let number = up.number;
                shared.put_up(up);
                if broken.load(Ordering::Acquire) {
                    shared.put_down(Some(number), closed());
                }
                return identity;
            }
            // What takes too long to connect cannot be reached.
            Err(error) if error.kind() == ErrorKind::Timeout => shared.put_down(None, unreachable_yet()),
            Err(error) => shared.put_down(None, error),
        }
        let pause = backoff.next(began.elapsed());
        select(pin!(sleep_until(started + pause)), pin!(soon(started, pause, &shared.wanted))).await;
    }
}

/// Returns when somebody wants the server and it was not tried a moment ago.
async fn soon(started: Instant, pause: Duration, wanted: &Notify) {
    if pause <= WANTED {
        return std::future::pending().await;
    }
    sleep_until(started + jittered(WANTED)).await;
    wanted.notified().await;
}

type Made = (Up, Option<Identity>, Arc<AtomicBool>);

async fn try_once(shared: &Arc<Shared>, last: Option<&Identity>) -> Result<Made> {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let broken = Arc::new(AtomicBool::new(false));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(shared.timeouts.connect))
        .set_response_timeout(Some(shared.timeouts.response))
        .set_pipeline_buffer_size(IN_LINE)
        .set_push_sender(hang_up(Arc::downgrade(shared), number, Arc::clone(&broken)));
    let client = shared.target.resolve(shared.timeouts).await?;
    let mut connection =
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(classify)?;
    let (server, identity) = server::greet(&mut connection, last).await?;
    shared.target.admit(&server)?;
    Ok((
        Up { connection: Arc::new(Batching::new(connection)), number, server: Arc::new(server) },
        identity,
        broken,
    ))
}

/// Notices the end of a connection, also of one that nobody uses.
fn hang_up(
    shared: Weak<Shared>,
    number: u64,
    broken: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            broken.store(true, Ordering::Release);
            if let Some(shared) = shared.upgrade() {
                shared.put_down(Some(number), closed());
            }
        }
        Ok(())
    }
}

fn unreachable_yet() -> Error {
    Error::new(ErrorKind::Unavailable).store(STORE).hint("the server could not be reached in time")
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable).store(STORE).hint("the connection was closed")
}
