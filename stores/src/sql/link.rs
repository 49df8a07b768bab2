//! The way to an SQL server: its pool, the deadlines of operations, and the status that their errors tell.

mod prober;

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
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
    future::{BoxFuture, Either, select},
};
#[cfg(feature = "postgres")]
use sqlx::Connection;
use sqlx::{Database, Executor, IntoArguments, Pool, database::HasStatementCache, query::Query};
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use self::prober::{Probing, look_after};
use super::{Connections, Fault, Tells, connections::Lent};
use crate::task::Task;

/// How long an operation waits for a connection before it has the server looked after.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long an operation has to have waited for an answer, when it is dropped, to be a reason for doubt.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// How much later than it should a file answers at most: it looks at its lock ten times a second.
const FILE_GRACE: Duration = Duration::from_secs(1);

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
    /// Why the server did not let the last prober in, if it said so.
    cause: Mutex<Option<String>>,
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
            cause: Mutex::default(),
        }
    }
}

impl<DB: Database> Link<DB> {
    /// Takes a pool whose server may not have been seen yet.
    ///
    /// That of a pool of the store's own is about to be [reached](Self::reach). For one of the application's a prober
    /// finds out, if there is a runtime; otherwise the server is taken for connected until an operation says something
    /// else.
    pub(crate) fn new(line: Line<DB>) -> Self {
        let link = Self { line: Arc::new(line), prober: Task::default() };
        let seen = link.line.probe.is_none() || link.pool().size() > 0;
        if seen || !link.line.connections.are_of_the_store() && !link.doubt() {
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
            return Err(self.away());
        }
        if let Some(lent) = self.line.connections.at_hand() {
            return Ok(lent);
        }
        // Boxed: the driver's room to open a connection is up to 36 KB, which every operation would carry and copy.
        Box::pin(self.acquire_in_turn(deadline)).await
    }

    async fn acquire_in_turn(&self, deadline: Instant) -> Result<Lent<DB>> {
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
            Either::Right(((), _)) => Err(self.away()),
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
        let room = pool.size() < pool.options().get_max_connections();
        if room && self.line.probe.is_none() {
            let hint =
                format!("the database is locked: no connection to it could be opened within {timeout:?}");
            return Error::new(ErrorKind::Timeout).hint(hint);
        }
        if room || self.cause().is_some() {
            let hint = format!("no connection could be opened within {timeout:?}");
            return Error::new(ErrorKind::Unavailable).hint(self.with_cause(hint));
        }
        Error::new(ErrorKind::Timeout).hint(format!(
            "all {} connections of the pool were in use for {timeout:?}: raise its max_connections, or find what \
             holds them",
            pool.size()
        ))
    }

    fn away(&self) -> Error {
        let hint = "the server cannot be reached; it is looked for in the background, and `status` tells when it is back";
        Error::new(ErrorKind::Unavailable).hint(self.with_cause(hint.to_owned()))
    }

    /// Adds what the server told the prober, if that was not let in.
    fn with_cause(&self, hint: String) -> String {
        match self.cause() {
            Some(cause) => format!("{hint}; who connects is told: {cause}"),
            None => hint,
        }
    }

    fn cause(&self) -> Option<String> {
        self.line.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Classifies an error of the driver, and draws from it what there is to know about the server.
    fn learn(&self, error: sqlx::Error) -> Error {
        let timed_out = matches!(error, sqlx::Error::PoolTimedOut);
        let error = self.note((self.line.classify)(error));
        // The pool knows no more than that, and the file or the prober may.
        if timed_out && (self.line.probe.is_none() || self.cause().is_some()) {
            return self.no_connection();
        }
        error
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
                    let in_transaction = async {
                        let mut transaction = conn.begin().await?;
                        let answer = Answer::read(transaction.fetch_many(query.persistent(false))).await?;
                        transaction.commit().await?;
                        Ok(answer)
                    };
                    timeout_at(deadline, Box::pin(in_transaction)).await
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

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

    use super::*;
    use crate::sql::general;

    /// A link to a file as if that were a server.
    fn link(of: fn(Pool<Sqlite>) -> Connections<Sqlite>) -> Link<Sqlite> {
        let pool = SqlitePoolOptions::new().connect_lazy("sqlite::memory:");
        let connections = of(pool.expect("an address of the test's own"));
        let probe: Probe<Sqlite> = |_| Box::pin(async { Ok(true) });
        let timeout = Duration::from_secs(20);
        Link::new(Line::new(connections, "test", timeout, Preparing::Once, general, Some(probe)))
    }

    #[tokio::test]
    async fn a_pool_of_the_stores_is_reached_without_a_prober() {
        let link = link(Connections::of_the_store);
        assert!(!link.line.probing.load(SeqCst));
        assert_eq!(link.line.status.current(), Status::Connecting);
        link.lease("connect").await.expect("it opens").end(Ok(Ok(()))).expect("nothing went wrong");
        assert_eq!(link.line.status.current(), Status::Connected);
        assert!(!link.line.probing.load(SeqCst));
    }

    #[tokio::test]
    async fn the_server_of_a_pool_of_the_applications_is_looked_for_at_once() {
        let link = link(Connections::of_the_application);
        assert!(link.line.probing.load(SeqCst));
        while link.line.probing.load(SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(link.line.status.current(), Status::Connected);
    }

    /// As with 53300 or 1040, while connections of the pool itself work: more wait for them than there are.
    #[tokio::test]
    async fn a_pool_of_the_applications_that_is_busy_is_no_outage_where_nobody_else_is_let_in() {
        static FULL: AtomicBool = AtomicBool::new(false);
        const ENOUGH: Duration = Duration::from_secs(2);
        let pool = SqlitePoolOptions::new().max_connections(2).connect_lazy("sqlite::memory:");
        let connections = Connections::of_the_application(pool.expect("an address of the test's own"));
        let probe: Probe<Sqlite> = |_| {
            let refused = || Err(sqlx::Error::PoolTimedOut);
            Box::pin(async move { if FULL.load(SeqCst) { refused() } else { Ok(true) } })
        };
        let full = |_: sqlx::Error| Fault::new(ErrorKind::Unavailable, Tells::Doubt, "full".to_owned());
        let timeout = Duration::from_secs(20);
        let line = Line::new(connections, "test", timeout, Preparing::Once, full, Some(probe));
        let link = Arc::new(Link::new(line));
        while link.line.probing.load(SeqCst) {
            tokio::task::yield_now().await;
        }
        let users: Vec<tokio::task::JoinHandle<()>> = (0..8)
            .map(|_| {
                let link = Arc::clone(&link);
                tokio::spawn(async move {
                    loop {
                        let lease = link.lease("get").await.expect("it is no outage");
                        tokio::time::sleep(PATIENCE / 4).await;
                        lease.end(Ok(Ok(()))).expect("nothing went wrong");
                    }
                })
            })
            .collect();
        while link.line.connections.open() > 0 || link.pool().size() < 2 {
            tokio::time::sleep(PATIENCE / 20).await;
        }
        FULL.store(true, SeqCst);
        for _ in 0..3 {
            link.doubt();
            let began = Instant::now();
            while link.line.probing.load(SeqCst) {
                assert_eq!(link.line.status.current(), Status::Connected);
                assert!(began.elapsed() < ENOUGH, "the prober does not find out");
                tokio::time::sleep(PATIENCE / 20).await;
            }
        }
        assert!(users.iter().all(|user| !user.is_finished()), "a user failed");
        users.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
