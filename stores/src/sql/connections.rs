//! The connections of a store: a pool of the driver's, and beside it those that were in use a moment ago.
//!
//! The driver's pool pings each connection that is given back to it, which is a second round trip for every operation.
//! A pool that is the store's own is therefore asked for a connection only when none is at hand.

use std::{
    mem::{replace, take},
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{Database, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::task::Task;

/// How long a connection that nobody uses stays out of the pool, and how often that is looked at.
const IDLE: Duration = Duration::from_millis(500);

/// How long a connection that is in use again and again stays out of the pool, which looks at its age.
const CHECKED_EVERY: Duration = Duration::from_secs(60);

/// Where a store has its connections from.
pub(crate) struct Connections<DB: Database> {
    pool: Pool<DB>,
    /// `None` for the application's own pool, which is used as it is: others wait for its connections too.
    at_hand: Option<Arc<AtHand<DB>>>,
    /// How many of the store's operations have asked the pool for a connection and have none yet.
    asking: AtomicUsize,
    /// Gives back what nobody uses.
    returner: Task,
}

/// The connections that are neither in use nor in the pool.
struct AtHand<DB: Database> {
    idle: Mutex<Idle<DB>>,
    /// As many as the pool has connections: who has a permit finds a connection here, or may open one.
    permits: Arc<Semaphore>,
    /// How many of the store's operations have waited for the pool for long. Its connections may all be in use by
    /// others, so those of the store are better given back than kept.
    waiting: AtomicUsize,
}

struct Idle<DB: Database> {
    /// With the time of its last use. The last one used is the first one taken, so that a quiet time lets the others go.
    conns: Vec<(Lent<DB>, Instant)>,
    /// Whether the returner is at work.
    returning: bool,
}

/// A connection out of the pool. Dropped, it returns there, and the pool tests it.
pub(crate) struct Lent<DB: Database> {
    conn: PoolConnection<DB>,
    /// When the pool gave it.
    since: Instant,
    /// Only while it is in use. Behind the connection, so that it is given up after that.
    permit: Option<OwnedSemaphorePermit>,
}

impl<DB: Database> Connections<DB> {
    /// Takes a pool that this store alone uses.
    pub(crate) fn of_the_store(pool: Pool<DB>) -> Self {
        let permits = (pool.options().get_max_connections() as usize).min(Semaphore::MAX_PERMITS);
        let at_hand = AtHand {
            idle: Mutex::new(Idle { conns: Vec::new(), returning: false }),
            permits: Arc::new(Semaphore::new(permits)),
            waiting: AtomicUsize::new(0),
        };
        Self::new(pool, Some(Arc::new(at_hand)))
    }

    /// Takes a pool that the application uses too.
    pub(crate) fn of_the_application(pool: Pool<DB>) -> Self {
        Self::new(pool, None)
    }

    fn new(pool: Pool<DB>, at_hand: Option<Arc<AtHand<DB>>>) -> Self {
        Self { pool, at_hand, asking: AtomicUsize::new(0), returner: Task::default() }
    }

    pub(crate) const fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    pub(crate) const fn are_of_the_store(&self) -> bool {
        self.at_hand.is_some()
    }

    /// Returns how many are open for certain. The pool counts in those that it is still opening.
    pub(crate) fn open(&self) -> usize {
        (self.pool.size() as usize).saturating_sub(self.asking.load(SeqCst))
    }

    /// Returns a connection that was in use a moment ago, unless others wait for one.
    pub(crate) fn at_hand(&self) -> Option<Lent<DB>> {
        let at_hand = self.at_hand.as_ref()?;
        let permit = Arc::clone(&at_hand.permits).try_acquire_owned().ok()?;
        if self.is_closed(at_hand) {
            return None;
        }
        let lent = at_hand.pop()?;
        Some(Lent { permit: Some(permit), ..lent })
    }

    /// Waits for a connection, in turn.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Lent<DB>> {
        let Some(at_hand) = &self.at_hand else {
            let _asking = Counted::new(&self.asking);
            return Ok(Lent::new(self.pool.acquire().await?, None));
        };
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&at_hand.permits).acquire_owned().await.ok();
        if self.is_closed(at_hand) {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Some(lent) = at_hand.pop() {
            return Ok(Lent { permit, ..lent });
        }
        let _asking = Counted::new(&self.asking);
        let mut opening = pin!(self.pool.acquire());
        if let Ok(conn) = timeout(IDLE, &mut opening).await {
            return Ok(Lent::new(conn?, permit));
        }
        let _waiting = Counted::new(&at_hand.waiting);
        Ok(Lent::new(opening.await?, permit))
    }

    /// Returns an open connection that is not in use, if there is one.
    pub(crate) fn try_acquire(&self) -> Option<Lent<DB>> {
        let Some(at_hand) = &self.at_hand else {
            return Some(Lent::new(self.pool.try_acquire()?, None));
        };
        let permit = Some(Arc::clone(&at_hand.permits).try_acquire_owned().ok()?);
        if self.is_closed(at_hand) {
            return None;
        }
        match at_hand.pop() {
            Some(lent) => Some(Lent { permit, ..lent }),
            None => Some(Lent::new(self.pool.try_acquire()?, permit)),
        }
    }

    /// Takes back a connection over which nothing is under way.
    pub(crate) fn give_back(&self, mut lent: Lent<DB>) {
        let Some(at_hand) = &self.at_hand else { return };
        if self.is_closed(at_hand)
            || at_hand.waiting.load(SeqCst) > 0
            || lent.since.elapsed() >= CHECKED_EVERY
        {
            return;
        }
        let permit = lent.permit.take();
        let mut idle = at_hand.lock();
        idle.conns.push((lent, Instant::now()));
        let return_later = || return_idle(Arc::downgrade(at_hand));
        if replace(&mut idle.returning, true) {
            // Unless its runtime has ended, and the task with it.
            self.returner.start(return_later);
        } else {
            self.returner.restart(return_later);
        }
        drop(idle);
        drop(permit);
    }

    /// Tells whether the pool is closed, and then gives it what it waits for.
    fn is_closed(&self, at_hand: &AtHand<DB>) -> bool {
        let closed = self.pool.is_closed();
        if closed {
            let idle = take(&mut at_hand.lock().conns);
            drop(idle);
        }
        closed
    }
}

impl<DB: Database> AtHand<DB> {
    fn pop(&self) -> Option<Lent<DB>> {
        Some(self.lock().conns.pop()?.0)
    }

    fn lock(&self) -> MutexGuard<'_, Idle<DB>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> Drop for AtHand<DB> {
    fn drop(&mut self) {
        // To return to the pool they would need a runtime, and there may be none any more.
        for (lent, _) in self.lock().conns.drain(..) {
            drop(lent.detach());
        }
    }
}

/// Gives back what has not been used for a while, until nothing is left.
async fn return_idle<DB: Database>(at_hand: Weak<AtHand<DB>>) {
    loop {
        sleep(IDLE).await;
        let Some(at_hand) = at_hand.upgrade() else { return };
        let mut idle = at_hand.lock();
        let unused = idle.conns.iter().take_while(|(_, used)| used.elapsed() >= IDLE).count();
        idle.conns.drain(..unused).for_each(drop);
        if idle.conns.is_empty() {
            idle.returning = false;
            return;
        }
    }
}

impl<DB: Database> Lent<DB> {
    fn new(conn: PoolConnection<DB>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { conn, since: Instant::now(), permit }
    }

    /// Takes the connection out of the pool for good, which may then open another.
    pub(crate) fn detach(self) -> DB::Connection {
        self.conn.detach()
    }
}

impl<DB: Database> Deref for Lent<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.conn
    }
}

impl<DB: Database> DerefMut for Lent<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.conn
    }
}

/// Counts one who waits for the pool, until it is dropped.
struct Counted<'w>(&'w AtomicUsize);

impl<'w> Counted<'w> {
    fn new(count: &'w AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

    use super::*;

    fn pool(max_connections: u32) -> Pool<Sqlite> {
        let options = SqlitePoolOptions::new().max_connections(max_connections);
        options.connect_lazy("sqlite::memory:").expect("an address of the test's own")
    }

    #[tokio::test]
    async fn a_connection_stays_at_hand_until_nobody_has_used_it_for_a_while() {
        let connections = Connections::of_the_store(pool(2));
        for _ in 0..3 {
            let lent = connections.acquire().await.expect("a connection");
            connections.give_back(lent);
            assert_eq!((connections.pool().size(), connections.pool().num_idle()), (1, 0));
        }
        while connections.pool().num_idle() == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(connections.pool().size(), 1, "it is not closed");
    }

    #[tokio::test]
    async fn as_many_are_lent_as_the_pool_has_and_each_is_handed_on() {
        let connections = Arc::new(Connections::of_the_store(pool(2)));
        let users = (0..20).map(|_| {
            let connections = Arc::clone(&connections);
            tokio::spawn(async move {
                let lent = connections.acquire().await.expect("a connection");
                assert!(connections.pool().size() <= 2);
                tokio::task::yield_now().await;
                connections.give_back(lent);
            })
        });
        for user in users.collect::<Vec<_>>() {
            user.await.expect("no user fails");
        }
        assert!(connections.try_acquire().is_some());
    }

    #[tokio::test]
    async fn who_waits_at_the_pool_itself_gets_the_connection_when_it_has_been_quiet() {
        let connections = Connections::of_the_store(pool(1));
        let lent = connections.acquire().await.expect("a connection");
        connections.give_back(lent);
        let other = connections.pool().acquire().await.expect("within the pool's patience");
        assert!(connections.try_acquire().is_none());
        drop(other);
    }

    #[tokio::test]
    async fn an_operation_that_waits_for_what_somebody_else_has_is_given_the_next_connection() {
        let connections = Arc::new(Connections::of_the_store(pool(2)));
        let lent = connections.acquire().await.expect("a connection");
        let _others = connections.pool().acquire().await.expect("the other one");
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.acquire().await.map(drop) }
        });
        while connections.at_hand.as_ref().is_some_and(|at_hand| at_hand.waiting.load(SeqCst) == 0) {
            sleep(Duration::from_millis(20)).await;
        }
        connections.give_back(lent);
        let given = timeout(10 * IDLE, waiting).await;
        given.expect("not only at the end of the pool's patience").expect("no panic").expect("a connection");
    }

    #[tokio::test]
    async fn what_was_not_given_back_returns_to_the_pool_and_leaves_room_for_another() {
        let connections = Connections::of_the_store(pool(1));
        drop(connections.acquire().await.expect("a connection"));
        drop(connections.acquire().await.expect("it again").detach());
        connections.acquire().await.expect("a new one in its place");
    }

    #[tokio::test]
    async fn what_is_still_being_opened_is_not_open() {
        for of in [Connections::of_the_store, Connections::of_the_application] {
            let slow = SqlitePoolOptions::new().after_connect(|_, _| Box::pin(std::future::pending()));
            let connections = of(slow.connect_lazy("sqlite::memory:").expect("an address of the test's own"));
            let mut opening = pin!(connections.acquire());
            while connections.pool().size() == 0 {
                let _ = timeout(IDLE / 50, &mut opening).await;
            }
            assert_eq!(connections.open(), 0);
        }
        let connections = Connections::of_the_store(pool(2));
        let _lent = connections.acquire().await.expect("a connection");
        assert_eq!(connections.open(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pool_that_is_closed_in_the_midst_of_traffic_gets_all_its_connections_back() {
        let connections = Arc::new(Connections::of_the_store(pool(2)));
        let users: Vec<_> = (0..4)
            .map(|_| {
                let connections = Arc::clone(&connections);
                tokio::spawn(async move {
                    loop {
                        match connections.acquire().await {
                            Ok(lent) => connections.give_back(lent),
                            Err(error) => return error,
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        sleep(IDLE / 5).await;
        timeout(CHECKED_EVERY / 6, connections.pool().close()).await.expect("nobody goes on lending");
        for user in users {
            let error = user.await.expect("no panic");
            assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
        }
        assert!(connections.try_acquire().is_none());
    }

    #[tokio::test]
    async fn a_pool_of_the_applications_gets_its_connections_back_at_once() {
        let connections = Connections::of_the_application(pool(1));
        let lent = connections.acquire().await.expect("a connection");
        connections.give_back(lent);
        let again = timeout(IDLE / 2, connections.pool().acquire()).await;
        again.expect("at once").expect("a connection");
    }

    #[test]
    fn a_store_that_is_dropped_after_its_runtime_closes_what_it_has_at_hand() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connections = runtime.block_on(async {
            let connections = Connections::of_the_store(pool(1));
            let lent = connections.acquire().await.expect("a connection");
            connections.give_back(lent);
            connections
        });
        drop(runtime);
        drop(connections);
    }
}
