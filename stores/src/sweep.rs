//! The background task that takes expired rows out of a table, for stores whose backend does not do it by itself.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use cloakroom_core::{Result, async_trait};

use crate::{backoff::jittered, task::Task};

/// How often a store sweeps unless its builder says otherwise. Expired rows are never read, so this is about space.
pub(crate) const EVERY: Duration = Duration::from_secs(300);

/// A store that is swept a batch at a time.
#[async_trait]
pub(crate) trait Sweep: Send + Sync + 'static {
    /// Deletes one batch of what is over, and says whether there may be more.
    async fn sweep_batch(&self) -> Result<More>;
}

/// Whether a sweep is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Maybe,
    No,
}

/// Sweeps a store from time to time until it is dropped.
///
/// Every process that uses a table sweeps it, each at times of its own, and they do not wait for one another: no
/// leader has to be found, and none can be missing.
#[derive(Debug)]
pub(crate) struct Sweeper {
    every: Option<Duration>,
    task: Task,
}

impl Sweeper {
    /// Creates a sweeper that does nothing yet; with `None` it never will.
    pub(crate) fn new(every: Option<Duration>) -> Self {
        Self { every, task: Task::default() }
    }

    /// Starts the task unless it runs. It holds the store only while it sweeps.
    pub(crate) fn wake<S: Sweep>(&self, store: impl FnOnce() -> Weak<S>) {
        if let Some(every) = self.every {
            self.task.start(|| run(store(), every));
        }
    }
}

async fn run<S: Sweep>(store: Weak<S>, every: Duration) {
    loop {
        // Which is `every` on average.
        tokio::time::sleep(jittered(every * 4 / 3)).await;
        loop {
            let Some(store) = store.upgrade() else { return };
            let began = Instant::now();
            // After an error the rows are still there for the next time, and an outage shows in the status.
            if !matches!(store.sweep_batch().await, Ok(More::Maybe)) {
                break;
            }
            drop(store);
            // As long as the batch took, so that sweeping never takes more than half of a backend's time.
            tokio::time::sleep(began.elapsed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    struct Counted(AtomicU32);

    #[async_trait]
    impl Sweep for Counted {
        async fn sweep_batch(&self) -> Result<More> {
            // Three batches a round.
            let batches = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(if batches.is_multiple_of(3) { More::No } else { More::Maybe })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_round_goes_on_until_nothing_is_left() {
        let store = Arc::new(Counted(AtomicU32::new(0)));
        let sweeper = Sweeper::new(Some(Duration::from_secs(10)));
        sweeper.wake(|| Arc::downgrade(&store));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let batches = store.0.load(Ordering::SeqCst);
        assert!((18..=63).contains(&batches) && batches.is_multiple_of(3), "{batches}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_sweeper_sweeps_no_more_and_holds_nothing() {
        let store = Arc::new(Counted(AtomicU32::new(0)));
        let sweeper = Sweeper::new(Some(Duration::from_secs(1)));
        sweeper.wake(|| Arc::downgrade(&store));
        drop(sweeper);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
        assert_eq!((Arc::strong_count(&store), Arc::weak_count(&store)), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_interval_nothing_is_swept() {
        let store = Arc::new(Counted(AtomicU32::new(0)));
        let sweeper = Sweeper::new(None);
        sweeper.wake(|| Arc::downgrade(&store));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
    }
}
