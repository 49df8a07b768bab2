//! Holds requests back while the store cannot be reached: for a bounded time, and a bounded number of them.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::{
    error::{Error, ErrorKind, Result},
    status::{Status, StatusStream},
};

/// What a request gets whose session cannot be loaded because the store is down.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum OnOutage {
    /// An error: by default the answer is 503 with `Retry-After`.
    #[default]
    Fail,
    /// An empty session that refuses writes: pages go on for anonymous visitors, and nothing is overwritten.
    ///
    /// # Risk
    /// A visitor who is logged in looks logged out until the store is back. Code that treats "no user" as more than
    /// "unknown" is in danger.
    Anonymous,
    /// What a function of yours decides for each request: [`OnOutage::decide`] makes it.
    Decide(Arc<dyn Fn(&Error) -> Fallback + Send + Sync>),
}

/// The answer of an [`OnOutage::Decide`] function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// As [`OnOutage::Fail`].
    Fail,
    /// As [`OnOutage::Anonymous`].
    Anonymous,
}

impl OnOutage {
    /// Lets a function decide for each request, by its error.
    ///
    /// ```
    /// use cloakroom_core::{ErrorKind, Fallback, OnOutage};
    ///
    /// // A store that is slow is waited for no longer; one that is away is an error.
    /// let policy = OnOutage::decide(|error| match error.kind() {
    ///     ErrorKind::Timeout => Fallback::Anonymous,
    ///     _ => Fallback::Fail,
    /// });
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn decide(policy: impl Fn(&Error) -> Fallback + Send + Sync + 'static) -> Self {
        Self::Decide(Arc::new(policy))
    }

    pub(crate) fn fallback(&self, error: &Error) -> Fallback {
        match self {
            Self::Fail => Fallback::Fail,
            Self::Anonymous => Fallback::Anonymous,
            Self::Decide(decide) => decide(error),
        }
    }
}

impl fmt::Debug for OnOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "Fail",
            Self::Anonymous => "Anonymous",
            Self::Decide(_) => "Decide",
        })
    }
}

/// Lets requests through while the store is connected, and lets them wait while it is not.
///
/// Each outage has one window, counted from its beginning. Nothing runs while nobody waits: an outage without
/// requests costs nothing, and no timer outlives the outage it was set for.
#[derive(Debug)]
pub(crate) struct Gate {
    status: StatusStream,
    window: Duration,
    waiters: Semaphore,
    /// `Connecting` counts as an outage that began now.
    started: Instant,
}

impl Gate {
    pub(crate) fn new(status: StatusStream, window: Duration, max_waiters: usize) -> Self {
        let waiters = Semaphore::new(max_waiters.min(Semaphore::MAX_PERMITS));
        Self { status, window, waiters, started: Instant::now() }
    }

    /// Returns at once while the store is connected; else waits for its return until the outage's window ends.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] at the end of the window, at once after it, and at once when too many wait already.
    pub(crate) async fn ready(&self) -> Result<()> {
        if self.status.current() == Status::Connected {
            return Ok(());
        }
        // Boxed, so that who need not wait does not carry the room to wait.
        Box::pin(self.wait()).await
    }

    async fn wait(&self) -> Result<()> {
        let _place = self.waiters.try_acquire().map_err(|_| {
            unavailable("the session store is unavailable, and too many requests wait for it")
        })?;
        let mut status = self.status.clone();
        loop {
            let since = match status.current() {
                Status::Connected => return Ok(()),
                Status::Disconnected { since } => since,
                Status::Connecting => self.started,
            };
            // A window beyond the end of time never ends.
            let Some(end) = since.checked_add(self.window) else {
                status.changed().await;
                continue;
            };
            if Instant::now() >= end || timeout_at(end, status.changed()).await.is_err() {
                return Err(unavailable("session store is unavailable"));
            }
        }
    }
}

fn unavailable(hint: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable).operation("load").hint(hint)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::status::StatusSender;

    const WINDOW: Duration = Duration::from_secs(10);

    fn gate(sender: &StatusSender, max_waiters: usize) -> Arc<Gate> {
        Arc::new(Gate::new(sender.subscribe(), WINDOW, max_waiters))
    }

    /// Waits at the gate in a task; resolves to the outcome and the time it took.
    fn wait(gate: &Arc<Gate>) -> tokio::task::JoinHandle<(bool, Duration)> {
        let gate = Arc::clone(gate);
        tokio::spawn(async move {
            let start = Instant::now();
            (gate.ready().await.is_ok(), start.elapsed())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connected_store_holds_nobody_back() {
        let sender = StatusSender::connecting();
        sender.connected();
        assert_eq!(wait(&gate(&sender, 0)).await.unwrap(), (true, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_connects_is_an_outage_since_start_up() {
        let sender = StatusSender::connecting();
        let gate = gate(&sender, 9);
        advance(Duration::from_secs(4)).await;
        assert_eq!(wait(&gate).await.unwrap(), (false, Duration::from_secs(6)));
        assert_eq!(wait(&gate).await.unwrap(), (false, Duration::ZERO), "after the window nobody waits");
        sender.connected();
        assert_eq!(wait(&gate).await.unwrap(), (true, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_return_of_the_store_lets_the_waiting_through() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 9);
        sender.disconnected();
        let waiting = wait(&gate);
        sleep(Duration::from_secs(3)).await;
        sender.connected();
        assert_eq!(waiting.await.unwrap(), (true, Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn each_outage_has_its_whole_window_whatever_the_one_before_used_up() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 9);
        sender.disconnected();
        let first = wait(&gate);
        sleep(Duration::from_secs(9)).await;
        sender.connected();
        assert_eq!(first.await.unwrap(), (true, Duration::from_secs(9)));
        sender.disconnected();
        assert_eq!(wait(&gate).await.unwrap(), (false, WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flap_that_a_waiting_request_sleeps_through_begins_a_new_window() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 9);
        sender.disconnected();
        let waiting = wait(&gate);
        sleep(Duration::from_secs(9)).await;
        sender.connected();
        sender.disconnected();
        assert_eq!(waiting.await.unwrap(), (false, Duration::from_secs(19)));
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_failures_do_not_stretch_the_window() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 9);
        sender.disconnected();
        let waiting = wait(&gate);
        for _ in 0..9 {
            sleep(Duration::from_secs(1)).await;
            sender.disconnected();
        }
        assert_eq!(waiting.await.unwrap(), (false, WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_with_nobody_waiting_harms_nobody() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 9);
        sender.disconnected();
        advance(WINDOW * 100).await;
        sender.connected();
        assert_eq!(wait(&gate).await.unwrap(), (true, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_past_the_bound_fail_at_once_and_their_places_come_free_again() {
        let sender = StatusSender::connecting();
        sender.connected();
        let gate = gate(&sender, 2);
        sender.disconnected();
        let (first, second) = (wait(&gate), wait(&gate));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(wait(&gate).await.unwrap(), (false, Duration::ZERO));
        second.abort();
        let _ = second.await;
        let third = wait(&gate);
        sleep(Duration::from_millis(1)).await;
        sender.connected();
        assert!(first.await.unwrap().0 && third.await.unwrap().0);
    }
}
