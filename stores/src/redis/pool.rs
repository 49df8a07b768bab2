//! A pool of connections that the application has anyway, in place of the one that all share.

use std::{fmt, sync::Arc, time::Duration};

use cloakroom_core::{Error, ErrorKind, Result, Status, StatusSender};
use deadpool_redis::{Pool, PoolError};
use redis::{Cmd, RedisError, Value};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    classify::{STORE, classify, has_code, timed_out},
    link::{Failure, Timeouts},
    server::{self, Server},
};
use crate::backoff::Backoff;

/// How long the server may take to answer whether it is still there.
const PING: Duration = Duration::from_millis(500);

/// A command must have a fourth of its time left when it is sent. With less it could hardly be answered, and would end as
/// a write of which nobody knows what became of it.
const LEAST: u32 = 4;

/// A pool, and the task that says whether its server is there: it ends with the pool.
pub(super) struct Pooled {
    shared: Arc<Shared>,
    prober: JoinHandle<()>,
}

struct Shared {
    pool: Pool,
    timeouts: Timeouts,
    status: Arc<StatusSender>,
    /// A command failed in a way that makes one doubt that the server is there.
    doubt: Notify,
}

impl Pooled {
    /// Takes a connection and asks the server who it is.
    pub(super) async fn open(
        pool: Pool,
        timeouts: Timeouts,
        status: Arc<StatusSender>,
    ) -> Result<(Self, Arc<Server>)> {
        let shared = Arc::new(Shared { pool, timeouts, status, doubt: Notify::new() });
        let limit = timeouts.connect;
        let hello = shared.exchange(&redis::cmd("HELLO"), limit, limit).await.map_err(Error::from);
        let server = server::introduced(hello.map_err(in_time)?)?;
        server.check_single()?;
        let server = Arc::new(server);
        shared.status.connected();
        let prober = tokio::spawn(keep(Arc::clone(&shared)));
        Ok((Self { shared, prober }, server))
    }

    /// Takes a connection, sends a command once and returns its reply.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        if matches!(self.shared.status.current(), Status::Disconnected { .. }) {
            // The prober looks for it. A crowd that tries to connect would only keep it from coming back.
            let error = Error::new(ErrorKind::Unavailable).store(STORE);
            return Err(Failure::NotSent(
                error.hint("the server cannot be reached; it is looked for in the background"),
            ));
        }
        let limit = self.shared.timeouts.response;
        let reply = self.shared.exchange(command, limit - limit / LEAST, limit).await;
        if let Err(failure) = &reply
            && is_doubtful(failure)
        {
            self.shared.doubt.notify_one();
        }
        reply
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("max_size", &self.shared.pool.status().max_size).finish()
    }
}

impl Shared {
    /// Sends a command on a connection of the pool, which has to be there within `patience` and to answer within `limit`.
    async fn exchange(&self, command: &Cmd, patience: Duration, limit: Duration) -> Result<Value, Failure> {
        let (last_start, end) = (Instant::now() + patience, Instant::now() + limit);
        let taken = timeout_at(last_start, self.pool.get()).await.map_err(|_| overdue(ErrorKind::Timeout))?;
        let mut connection = taken.map_err(of_pool)?;
        // From here on nobody can say that it was not carried out.
        let reply = timeout_at(end, connection.send_packed_command(command)).await;
        reply.unwrap_or_else(|_| Err(timed_out())).and_then(Value::extract_error).map_err(Failure::Sent)
    }

    /// Asks the server who it is: a master that became a replica answers, and is of no use.
    async fn answers(&self) -> bool {
        let Ok(hello) = self.exchange(&redis::cmd("HELLO"), PING, PING).await else {
            return false;
        };
        let is_of_use = server::introduced(hello).is_ok_and(|server| server.check_single().is_ok());
        if !is_of_use {
            // The name may lead to another server by now.
            self.pool.retain(|_, _| false);
        }
        is_of_use
    }
}

/// Looks whether the server is there when a command makes one doubt it, and then until it is again.
async fn keep(shared: Arc<Shared>) {
    loop {
        shared.doubt.notified().await;
        let (began, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            let started = Instant::now();
            if shared.answers().await {
                shared.status.connected();
                break;
            }
            shared.status.disconnected();
            sleep_until(started + backoff.next(began.elapsed())).await;
        }
    }
}

fn is_doubtful(failure: &Failure) -> bool {
    match failure {
        Failure::NotSent(error) => matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        Failure::Sent(error) => error.is_io_error() || is_unable(error),
    }
}

fn is_unable(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || has_code(error, "LOADING") || has_code(error, "READONLY")
}

fn of_pool(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => in_time(classify(error)),
        PoolError::Timeout(_) => overdue(ErrorKind::Timeout),
        PoolError::Closed => Error::new(ErrorKind::Unavailable).store(STORE).hint("the pool was closed"),
        _ => Error::config("pool", "must be made with a runtime, and hooks that do not fail").store(STORE),
    }
}

/// What takes too long to connect cannot be reached.
fn in_time(error: Error) -> Error {
    if error.kind() == ErrorKind::Timeout { overdue(ErrorKind::Unavailable) } else { error }
}

fn overdue(kind: ErrorKind) -> Error {
    Error::new(kind).store(STORE).hint("no connection of the pool answered in time; is it large enough?")
}
