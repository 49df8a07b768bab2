//! The way to an SQL server: its pool, the deadlines of operations, and the status that their errors tell.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

#[cfg(any(feature = "mysql", feature = "postgres"))]
use cloakroom_core::StatusStream;
use cloakroom_core::{Error, ErrorKind, Result, Status, StatusSender};
use futures_util::{
    Stream, TryStreamExt,
    future::{BoxFuture, Either, join_all, select},
};
use sqlx::{
    ConnectOptions, Connection, Database, Executor, IntoArguments, Pool, database::HasStatementCache,
    query::Query,
};
use tokio::time::{Instant, error::Elapsed, sleep_until, timeout, timeout_at};

use super::{Connections, Fault, Tells, connections::Lent};
use crate::{backoff::Backoff, task::Task};

/// How long nobody who waits for a connection has the server asked again after it answered.
const RECENT: Duration = Duration::from_millis(400);

/// How long an operation waits for a connection before it has the server looked after.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long an operation has to have waited for an answer, when it is dropped, to be a reason for doubt.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// How long the prober waits for an answer, or half as long as an operation may take if that is more: whoever gives
/// operations twenty seconds does not take a server for lost that needs two to let somebody in.
const PROBE: Duration = Duration::from_secs(1);

/// How much later than it should a file answers at most: it looks at its lock ten times a second.
const FILE_GRACE: Duration = Duration::from_secs(1);

/// How long the prober rests at least, and says goodbye to a server at most.
const BREATH: Duration = Duration::from_millis(50);

/// How often a statement that the server rolled back is sent again.
const ATTEMPTS: u32 = 8;

/// Asks a connection whether it works: `Ok(false)` if its server takes no writes.
pub(crate) type Probe<DB> =
    for<'c> fn(&'c mut <DB as Database>::Connection) -> BoxFuture<'c, sqlx::Result<bool>>;

/// How often statements are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preparing {
    Once,
    /// And in a transaction, which keeps a pooler from handing out another connection half-way.
    #[cfg(feature = "postgres")]
    EachTime,
}

/// What a store knows of its connection. Every clone of a store shares one.
pub(crate) struct Link<DB: Database> {
    line: Arc<Line<DB>>,
    prober: Task,
}

/// The part of a [`Link`] that the prober sees.
pub(crate) struct Line<DB: Database> {
    connections: Connections<DB>,
    store: &'static str,
    timeout: Duration,
    preparing: Preparing,
    classify: fn(sqlx::Error) -> Fault,
    /// `None` for a file, which is always there, and where a statement that is dropped ends by itself.
    probe: Option<Probe<DB>>,
    status: StatusSender,
    /// Whether a prober runs.
    probing: AtomicBool,
    /// How many operations the server has answered.
    answers: AtomicU64,
    /// When a prober had its last answer, in milliseconds since the line was made.
    asked: AtomicU64,
    made: Instant,
    /// Whether the server that answers must also take writes before it counts as back.
    must_write: AtomicBool,
}

impl<DB: Database> Line<DB> {
    pub(crate) fn new(
        connections: Connections<DB>,
        store: &'static str,
        timeout: Duration,
        preparing: Preparing,
        classify: fn(sqlx::Error) -> Fault,
        probe: Option<Probe<DB>>,
    ) -> Self {
        Self {
            connections,
            store,
            timeout,
            preparing,
            classify,
            probe,
            status: StatusSender::connecting(),
            probing: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            made: Instant::now(),
            must_write: AtomicBool::new(false),
        }
    }
}

impl<DB: Database> Link<DB> {
    /// Takes a pool whose server may not have been seen yet. A prober finds out, if there is a runtime; otherwise the
    /// server is taken for connected until an operation says something else.
    pub(crate) fn new(line: Line<DB>) -> Self {
        let link = Self { line: Arc::new(line), prober: Task::default() };
        if link.line.probe.is_none() || link.line.connections.pool().size() > 0 || !link.doubt() {
            link.line.status.connected();
        }
        link
    }

    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn status(&self) -> StatusStream {
        self.line.status.subscribe()
    }

    pub(crate) fn pool(&self) -> &Pool<DB> {
        self.line.connections.pool()
    }

    /// Opens the pool's first connection, so that the status is true from the beginning.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) async fn reach(&self) -> Result<()> {
        self.lease("connect").await?.end(Ok(Ok(()))).map_err(|fault| fault.error)
    }

    /// Takes a connection out of the pool for one operation.
    ///
    /// # Errors
    /// At once while the server is known to be away: the prober looks after it, and a crowd of callers would only keep
    /// it from coming back.
    pub(crate) async fn lease(&self, operation: &'static str) -> Result<Lease<'_, DB>> {
        let began = Instant::now();
        let mut deadline = began + self.line.timeout;
        let conn = self.acquire(deadline).await.map_err(|error| self.named(error, operation))?;
        if self.line.probe.is_none() {
            // A file answers by itself when it has been locked for that long, and says why.
            deadline += self.line.timeout + FILE_GRACE;
        }
        Ok(Lease { link: self, operation, began, deadline, conn: Some(conn) })
    }

    async fn acquire(&self, deadline: Instant) -> Result<Lent<DB>> {
        if self.is_away() {
            self.doubt();
            return Err(away());
        }
        let mut acquire = pin!(self.line.connections.acquire());
        if self.line.probe.is_none() {
            return match timeout_at(deadline, acquire).await {
                Ok(acquired) => acquired.map_err(|error| self.learn(error)),
                Err(_) => Err(self.no_connection()),
            };
        }
        // A server that has just answered a prober is there, and the pool only busy: not every caller asks anew.
        let patience = PATIENCE.max(self.line.rest()).min(self.line.timeout);
        if let Ok(acquired) = timeout(patience, &mut acquire).await {
            return acquired.map_err(|error| self.learn(error));
        }
        // Nothing for a while. The pool is busy, or it tries to reach a server that is away, which it does until its
        // own timeout: the prober tells which.
        self.doubt();
        match select(pin!(timeout_at(deadline, acquire)), pin!(self.lost())).await {
            Either::Left((Ok(acquired), _)) => acquired.map_err(|error| self.learn(error)),
            Either::Left((Err(_), _)) => Err(self.no_connection()),
            Either::Right(((), _)) => Err(away()),
        }
    }

    /// Waits until the server is known to be away.
    async fn lost(&self) {
        let mut status = self.line.status.subscribe();
        while !matches!(status.current(), Status::Disconnected { .. }) {
            status.changed().await;
        }
    }

    fn is_away(&self) -> bool {
        matches!(self.line.status.current(), Status::Disconnected { .. })
    }

    fn no_connection(&self) -> Error {
        let (pool, timeout) = (self.pool(), self.line.timeout);
        if pool.size() < pool.options().get_max_connections() {
            return Error::new(ErrorKind::Unavailable)
                .hint(format!("no connection could be opened within {timeout:?}"));
        }
        Error::new(ErrorKind::Timeout).hint(format!(
            "all {} connections of the pool were in use for {timeout:?}: raise its max_connections, or find what \
             holds them",
            pool.size()
        ))
    }

    /// Classifies an error of the driver, and draws from it what there is to know about the server.
    fn learn(&self, error: sqlx::Error) -> Error {
        self.note((self.line.classify)(error))
    }

    fn note(&self, fault: Fault) -> Error {
        if self.line.probe.is_some() {
            match fault.tells {
                Tells::Nothing | Tells::RolledBack => {}
                Tells::Doubt => {
                    self.doubt();
                }
                Tells::Outage | Tells::ReadOnly => {
                    if fault.tells == Tells::ReadOnly {
                        self.line.must_write.store(true, SeqCst);
                    }
                    self.line.status.disconnected();
                    self.doubt();
                }
            }
        }
        fault.error
    }

    fn named(&self, error: Error, operation: &'static str) -> Error {
        error.operation(operation).store(self.line.store)
    }

    /// Has the server looked after, unless that is under way. `false` if there is no runtime to do it.
    fn doubt(&self) -> bool {
        if self.line.probe.is_none() || self.line.probing.swap(true, SeqCst) {
            return true;
        }
        // Reset by the guard when the prober ends, however it does.
        let probing = Probing { line: Arc::downgrade(&self.line), armed: true };
        self.prober.restart(move || look_after(probing))
    }
}

impl<DB> Link<DB>
where
    DB: Database + HasStatementCache,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
{
    /// Carries a statement out, once: only what the server certainly rolled back is sent again.
    ///
    /// Dropping the future closes the connection, for what comes over it next is the answer to this statement.
    pub(crate) async fn run<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, DB, DB::Arguments> + Send,
    ) -> Result<Answer<DB>> {
        let mut attempts = 0;
        loop {
            let mut lease = self.lease(operation).await?;
            let (deadline, query, conn) = (lease.deadline, make(), lease.conn());
            let outcome = match self.line.preparing {
                Preparing::Once => timeout_at(deadline, Answer::read(conn.fetch_many(query))).await,
                #[cfg(feature = "postgres")]
                Preparing::EachTime => {
                    timeout_at(deadline, async {
                        let mut transaction = conn.begin().await?;
                        let answer = Answer::read(transaction.fetch_many(query.persistent(false))).await?;
                        transaction.commit().await?;
                        Ok(answer)
                    })
                    .await
                }
            };
            attempts += 1;
            match lease.end(outcome) {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.tells == Tells::RolledBack && attempts < ATTEMPTS => {}
                Err(fault) => return Err(fault.error),
            }
        }
    }

    /// As [`run`](Self::run), for a statement that answers with one row or none.
    pub(crate) async fn row<'q>(
        &self,
        operation: &'static str,
        make: impl Fn() -> Query<'q, DB, DB::Arguments> + Send,
    ) -> Result<Option<DB::Row>> {
        self.run(operation, make).await.map(|mut answer| answer.rows.pop())
    }
}

impl<DB: Database> fmt::Debug for Link<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pool's own form, which is long.
        f.debug_struct("Link")
            .field("status", &self.line.status.current())
            .field("connections", &self.pool().size())
            .finish_non_exhaustive()
    }
}

/// What a statement answered.
pub(crate) struct Answer<DB: Database> {
    pub(crate) rows: Vec<DB::Row>,
    pub(crate) result: DB::QueryResult,
}

impl<DB: Database> Answer<DB> {
    /// Reads to the end: what a server says after the last row may be an error.
    async fn read(
        mut stream: impl Stream<Item = sqlx::Result<sqlx::Either<DB::QueryResult, DB::Row>>> + Unpin,
    ) -> sqlx::Result<Self> {
        let mut answer = Self { rows: Vec::new(), result: DB::QueryResult::default() };
        while let Some(item) = stream.try_next().await? {
            match item {
                sqlx::Either::Left(result) => answer.result.extend([result]),
                sqlx::Either::Right(row) => answer.rows.push(row),
            }
        }
        Ok(answer)
    }
}

/// A connection in use for one operation.
pub(crate) struct Lease<'l, DB: Database> {
    link: &'l Link<DB>,
    operation: &'static str,
    began: Instant,
    /// When the operation is to have ended.
    pub(crate) deadline: Instant,
    /// Taken when the operation has ended.
    conn: Option<Lent<DB>>,
}

impl<DB: Database> Lease<'_, DB> {
    /// Returns the connection.
    pub(crate) fn conn(&mut self) -> &mut DB::Connection {
        self.conn.as_mut().expect("the connection is taken by `end` alone, which consumes the lease")
    }

    /// Gives the connection back, and classifies what came over it.
    pub(crate) fn end<T>(mut self, outcome: Result<sqlx::Result<T>, Elapsed>) -> Result<T, Fault> {
        let link = self.link;
        let fault = match outcome {
            Ok(Ok(value)) => {
                link.line.answers.fetch_add(1, Relaxed);
                if let Some(conn) = self.conn.take() {
                    link.line.connections.give_back(conn);
                }
                if link.line.probe.is_some() && link.line.status.current() == Status::Connecting {
                    link.line.status.connected();
                }
                return Ok(value);
            }
            Ok(Err(error)) => (link.line.classify)(error),
            Err(_) => {
                let hint = format!("the server did not answer within {:?}", link.line.timeout);
                Fault::new(ErrorKind::Timeout, Tells::Doubt, hint)
            }
        };
        match fault.tells {
            Tells::Nothing | Tells::RolledBack => self.conn = None,
            // The pool would test it, and wait for it; it is of no use.
            Tells::Doubt | Tells::Outage | Tells::ReadOnly => self.cut(),
        }
        let tells = fault.tells;
        let error = link.named(link.note(fault), self.operation);
        Err(Fault { error, tells })
    }

    /// Closes the connection, and lets the pool open another in its place.
    fn cut(&mut self) {
        let conn = self.conn.take();
        if self.link.line.probe.is_some() {
            drop(conn.map(Lent::detach));
        }
    }
}

impl<DB: Database> Drop for Lease<'_, DB> {
    fn drop(&mut self) {
        if self.conn.is_none() {
            return;
        }
        // The operation was dropped under way, by a deadline of the caller's or a client that hung up. The answer
        // is still to come over this connection, and must not be taken for that of somebody else's statement.
        self.cut();
        if self.began.elapsed() >= SUSPICIOUS {
            self.link.doubt();
        }
    }
}

/// Marks a line as being looked after, until it is dropped.
struct Probing<DB: Database> {
    line: Weak<Line<DB>>,
    armed: bool,
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
async fn look_after<DB: Database>(mut probing: Probing<DB>) {
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
    fn rest(&self) -> Duration {
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
        match asked {
            Ok(Ok(writes)) => writes || !self.must_write.load(SeqCst),
            Ok(Err(error)) => match (self.classify)(error) {
                // Too many connections, say: those that are open may well work.
                Fault { tells: Tells::Doubt, .. } => self.has_one_that_works().await,
                // A refusal is an answer: let the operations tell it to their callers.
                Fault { tells: Tells::Nothing | Tells::RolledBack, .. } => true,
                Fault { tells: Tells::Outage | Tells::ReadOnly, .. } => false,
            },
            // It may only be busy: a new connection is dear to some servers.
            Err(_) => self.answers.load(Relaxed) != answers,
        }
    }

    /// Tries a connection that is open. If all of those are in use, their users find out.
    async fn has_one_that_works(&self) -> bool {
        match self.connections.try_acquire() {
            Some(conn) => self.test(conn).await,
            None => self.connections.pool().size() > 0,
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

fn away() -> Error {
    Error::new(ErrorKind::Unavailable)
        .hint("the server cannot be reached; it is looked for in the background, and `status` tells when it is back")
}
