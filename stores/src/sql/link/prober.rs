//! Looking after a server: whether it is there, what it says if it lets nobody in, and what an outage left in the pool.

use std::{
    sync::{
        PoisonError, Weak,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use cloakroom_core::Status;
use futures_util::future::join_all;
use sqlx::{ConnectOptions, Connection, Database};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Fault, Lent, Line, Tells};
use crate::backoff::Backoff;

/// How long nobody who waits for a connection has the server asked again after it answered.
const RECENT: Duration = Duration::from_millis(400);

/// How long the prober waits for an answer, or half as long as an operation may take if that is more: whoever gives
/// operations twenty seconds does not take a server for lost that needs two to let somebody in.
const PROBE: Duration = Duration::from_secs(1);

/// How long the prober rests at least, and says goodbye to a server at most.
const BREATH: Duration = Duration::from_millis(50);

/// Marks a line as being looked after, until it is dropped.
pub(super) struct Probing<DB: Database> {
    pub(super) line: Weak<Line<DB>>,
    pub(super) armed: bool,
}

impl<DB: Database> Drop for Probing<DB> {
    fn drop(&mut self) {
        if let Some(line) = self.line.upgrade()
            && self.armed
        {
            line.probing.store(false, SeqCst);
        }
    }
}

/// Looks whether the server is there, and stays until it is.
pub(super) async fn look_after<DB: Database>(mut probing: Probing<DB>) {
    let (began, mut backoff) = (Instant::now(), Backoff::default());
    loop {
        let tried = Instant::now();
        let Some(line) = probing.line.upgrade() else { return };
        if line.answers().await {
            line.tidy().await;
            line.must_write.store(false, SeqCst);
            line.status.connected();
            line.asked.store(line.age(), Relaxed);
            line.probing.store(false, SeqCst);
            // An operation may have met a broken connection since the probe, and found this prober still at work.
            let again = matches!(line.status.current(), Status::Disconnected { .. })
                && !line.probing.swap(true, SeqCst);
            if !again {
                // The mark may be that of the next prober by now.
                probing.armed = false;
                return;
            }
        } else {
            line.status.disconnected();
        }
        drop(line);
        // From try to try, for each may have taken a while.
        sleep_until((tried + backoff.next(began.elapsed())).max(Instant::now() + BREATH)).await;
    }
}

impl<DB: Database> Line<DB> {
    fn age(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the last answer to a prober is still good enough for who waits for a connection.
    pub(super) fn rest(&self) -> Duration {
        match self.asked.load(Relaxed) {
            0 => Duration::ZERO,
            asked => RECENT.saturating_sub(Duration::from_millis(self.age().saturating_sub(asked))),
        }
    }

    /// Asks the server over a connection of its own, and one of the pool if the server has none to give.
    async fn answers(&self) -> bool {
        let Some(probe) = self.probe else { return true };
        let answers = self.answers.load(Relaxed);
        // What has never been there may be slow to open the first of many connections.
        let patience = match self.status.current() {
            Status::Connecting => self.timeout.max(PROBE),
            _ => (self.timeout / 2).max(PROBE),
        };
        let asked = timeout(patience, async {
            let mut conn = self.connections.pool().connect_options().connect().await?;
            let writes = probe(&mut conn).await?;
            // Its goodbye is a courtesy that nobody has to wait for.
            let _ = timeout(BREATH, conn.close()).await;
            Ok(writes)
        })
        .await;
        let asked = asked.map(|outcome| outcome.map_err(self.classify));
        self.set_cause(match &asked {
            Ok(Err(fault)) => Some(reason(fault)),
            _ => None,
        });
        match asked {
            Ok(Ok(writes)) => writes || !self.must_write.load(SeqCst),
            Ok(Err(fault)) => match fault.tells {
                // Too many connections, say: those that are open may well work.
                Tells::Doubt => self.has_one_that_works(answers).await,
                // A refusal is an answer: let the operations tell it to their callers.
                Tells::Nothing | Tells::RolledBack => true,
                Tells::Outage | Tells::ReadOnly => false,
            },
            // It may only be busy: a new connection is dear to some servers.
            Err(_) => self.answers.load(Relaxed) != answers,
        }
    }

    /// Notes why the server let the prober not in, for those who are told that they get no connection: the pool tries
    /// again by itself, and keeps to itself what it is answered.
    fn set_cause(&self, cause: Option<String>) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    /// Tries a connection that is open. If all of those are in use, their users find out. Those that are only being
    /// opened are none: the server may be letting nobody in.
    ///
    /// Over a pool of the application's nobody can tell who opens a connection from who queues for one. If all may be
    /// being opened, an answer that an operation has had since there were so many tells that they are not.
    async fn has_one_that_works(&self, answers: u64) -> bool {
        let until = Instant::now() + PROBE / 2;
        loop {
            if let Some(conn) = self.connections.try_acquire() {
                return self.test(conn).await;
            }
            if self.connections.open() > 0 || self.answers.load(Relaxed) != answers {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(BREATH).await;
        }
    }

    /// Throws out what an outage left in the pool, so that no operation is given a broken connection.
    async fn tidy(&self) {
        let mut idle = Vec::new();
        while let Some(conn) = self.connections.try_acquire() {
            idle.push(conn);
        }
        join_all(idle.into_iter().map(|conn| self.test(conn))).await;
    }

    /// Returns a connection to the pool if it works, and closes it if not.
    async fn test(&self, mut conn: Lent<DB>) -> bool {
        let Some(probe) = self.probe else { return true };
        let works = match timeout(PROBE / 2, probe(&mut conn)).await {
            Ok(Ok(writes)) => writes || !self.must_write.load(SeqCst),
            _ => false,
        };
        if !works {
            drop(conn.detach());
        }
        works
    }
}

/// What a fault says, without its kind.
fn reason(fault: &Fault) -> String {
    let text = fault.error.to_string();
    let kind = format!("{}: ", fault.error.kind());
    text.strip_prefix(&kind).unwrap_or(&text).to_owned()
}
