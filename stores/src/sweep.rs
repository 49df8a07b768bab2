//! The background task that takes expired rows out of a table, for stores whose backend does not do it by itself.

use std::{sync::Weak, time::Duration};

use cloakroom_core::{Result, async_trait};
use tokio::time::{Instant, sleep};

use crate::{backoff::jittered, task::Task};

/// How often a store sweeps unless its builder says otherwise. Expired rows are never read, so this is about space.
pub(crate) const EVERY: Duration = Duration::from_secs(300);

/// The most rows that one statement deletes. Most are small, and then it takes some milliseconds.
pub(crate) const MOST: u32 = 250;

/// The fewest. With less, what every statement costs is most of it.
const LEAST: u32 = 50;

/// How long the rows of a batch may take before the next one is smaller, since its locks may be held for as long.
const LONG: Duration = Duration::from_millis(20);

/// A store that is swept a batch at a time.
#[async_trait]
pub(crate) trait Sweep: Send + Sync + 'static {
    /// Deletes one batch of what is over, of so many rows at most, and says whether there may be more.
    async fn sweep_batch(&self, rows: u32) -> Result<More>;
}

/// How many rows the next batch may have: half as many after one whose rows took long, and slowly more again.
///
/// A part of every batch's time is the way to the server and back, several times, and no smaller batch would make that
/// shorter. How long that is shows when two batches of different sizes follow each other.
#[derive(Debug)]
pub(crate) struct Batch {
    rows: u32,
    /// What a batch takes whatever its size, as far as is known.
    idle: Duration,
    /// The last batch, if its rows seemed to take long: the next one has another size.
    long: Option<(u32, Duration)>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { rows: MOST, idle: Duration::ZERO, long: None }
    }
}

impl Batch {
    pub(crate) const fn rows(&self) -> u32 {
        self.rows
    }

    /// Learns from the last batch.
    pub(crate) fn took(&mut self, time: Duration) {
        let this = (self.rows, time);
        if let Some(long) = self.long.take() {
            self.idle = idle(long, this);
        }
        // No more than any one took: a guess that was too high, since something else held it up, does not last.
        self.idle = self.idle.min(time);
        let more = (self.rows + self.rows / 8).min(MOST);
        if time - self.idle <= LONG {
            self.rows = more;
            return;
        }
        self.long = Some(this);
        // Of the smallest it is not known whether their rows are slow or their server has moved away: one a little larger
        // tells.
        self.rows = if self.rows > LEAST { (self.rows / 2).max(LEAST) } else { more };
    }
}

/// Returns what is left of the time of two batches of different sizes without what their rows took.
fn idle(one: (u32, Duration), other: (u32, Duration)) -> Duration {
    let ((few, less), (many, more)) = if one.0 < other.0 { (one, other) } else { (other, one) };
    let each = more.saturating_sub(less) / (many - few).max(1);
    less.saturating_sub(each * few)
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

    /// Ends the task for good.
    pub(crate) fn stop(&self) {
        self.task.stop();
    }
}

async fn run<S: Sweep>(store: Weak<S>, every: Duration) {
    let mut batch = Batch::default();
    loop {
        // Which is `every` on average.
        sleep(jittered(every * 4 / 3)).await;
        loop {
            let Some(store) = store.upgrade() else { return };
            let began = Instant::now();
            let more = store.sweep_batch(batch.rows()).await;
            drop(store);
            let took = began.elapsed();
            batch.took(took);
            // After an error the rows are still there for the next time, and an outage shows in the status.
            if !matches!(more, Ok(More::Maybe)) {
                break;
            }
            // As long as the batch took, so that sweeping never takes more than half of a backend's time.
            sleep(took).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicU32);

    #[async_trait]
    impl Sweep for Counted {
        async fn sweep_batch(&self, _rows: u32) -> Result<More> {
            // Three batches a round.
            let batches = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(if batches.is_multiple_of(3) { More::No } else { More::Maybe })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_round_goes_on_until_nothing_is_left() {
        let store = Arc::new(Counted::default());
        let sweeper = Sweeper::new(Some(Duration::from_secs(10)));
        sweeper.wake(|| Arc::downgrade(&store));
        sleep(Duration::from_secs(4)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
        sleep(Duration::from_secs(100)).await;
        let batches = store.0.load(Ordering::SeqCst);
        assert!((18..=63).contains(&batches) && batches.is_multiple_of(3), "{batches}");
    }

    /// Notes when it is swept.
    #[derive(Default)]
    struct Noted(Mutex<Vec<Instant>>);

    #[async_trait]
    impl Sweep for Noted {
        async fn sweep_batch(&self, _rows: u32) -> Result<More> {
            self.0.lock().expect("no panic").push(Instant::now());
            Ok(More::No)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_are_apart_at_random_and_as_often_as_was_asked_for() {
        const EVERY: Duration = Duration::from_secs(60);
        let store = Arc::new(Noted::default());
        let sweeper = Sweeper::new(Some(EVERY));
        sweeper.wake(|| Arc::downgrade(&store));
        sleep(EVERY * 1000).await;
        let rounds = store.0.lock().expect("no panic").clone();
        let pauses: Vec<Duration> = rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A thousand stores that were started together do not sweep together.
        let (least, most) = (pauses.iter().min(), pauses.iter().max());
        let (least, most) = (*least.expect("some rounds"), *most.expect("some rounds"));
        assert!(least < EVERY * 4 / 5 && least >= EVERY * 2 / 3, "{least:?}");
        assert!(most > EVERY * 6 / 5 && most <= EVERY * 4 / 3 + Duration::from_millis(2), "{most:?}");
        assert!((900..=1100).contains(&rounds.len()), "{} rounds", rounds.len());
    }

    /// Takes so many microseconds for each row, and for the ways to and from a server, and never comes to the end.
    #[derive(Default)]
    struct Slow {
        micros: AtomicU32,
        away: AtomicU32,
        rows: Mutex<Vec<u32>>,
    }

    #[async_trait]
    impl Sweep for Slow {
        async fn sweep_batch(&self, rows: u32) -> Result<More> {
            self.rows.lock().expect("no panic").push(rows);
            let load = |micros: &AtomicU32| Duration::from_micros(u64::from(micros.load(Ordering::SeqCst)));
            sleep(load(&self.away) + load(&self.micros) * rows).await;
            Ok(More::Maybe)
        }
    }

    impl Slow {
        /// Sweeps for a while, at these speeds, and returns how many rows the batches had.
        async fn batches(&self, micros: u32, away: u32) -> Vec<u32> {
            self.micros.store(micros, Ordering::SeqCst);
            self.away.store(away, Ordering::SeqCst);
            sleep(Duration::from_secs(20)).await;
            std::mem::take(&mut *self.rows.lock().expect("no panic"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_takes_long_is_followed_by_smaller_ones_and_they_grow_again() {
        let store = Arc::new(Slow::default());
        // A full batch would take 75 ms, and the smallest 15.
        store.micros.store(300, Ordering::SeqCst);
        let sweeper = Sweeper::new(Some(Duration::from_millis(100)));
        sweeper.wake(|| Arc::downgrade(&store));
        sleep(Duration::from_secs(10)).await;
        let rows = std::mem::take(&mut *store.rows.lock().expect("no panic"));
        assert_eq!(rows[..4], [250, 125, 62, 69], "{rows:?}");
        assert!(rows.len() > 100 && rows[4..].iter().all(|rows| (LEAST..=72).contains(rows)), "{rows:?}");
        store.micros.store(1, Ordering::SeqCst);
        sleep(Duration::from_secs(10)).await;
        let rows = store.rows.lock().expect("no panic").clone();
        assert!(rows.windows(2).all(|pair| pair[1] >= pair[0]), "{rows:?}");
        assert_eq!(rows.last(), Some(&MOST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_far_away_is_swept_in_large_batches_and_a_slow_one_in_small_ones() {
        let store = Arc::new(Slow::default());
        let sweeper = Sweeper::new(Some(Duration::from_millis(100)));
        sweeper.wake(|| Arc::downgrade(&store));
        // Quick at what it does, and seven ways there and back of 15 ms: a smaller batch is not worth the way.
        let rows = store.batches(10, 105_000).await;
        assert_eq!(rows[..2], [250, 125], "{rows:?}");
        let later = &rows[rows.len() / 4..];
        assert!(rows.len() > 50 && later.iter().all(|rows| *rows == MOST), "{rows:?}");
        // It becomes slow as well. What it takes for the rows counts, as if it were near.
        let rows = store.batches(300, 105_000).await;
        let later = &rows[10..];
        assert!(rows.len() > 40 && later.iter().all(|rows| (LEAST..=90).contains(rows)), "{rows:?}");
        // So slow that no batch is short, and still there is none of more than about the fewest rows.
        let rows = store.batches(1000, 105_000).await;
        let later = &rows[10..];
        assert!(rows.len() > 40 && later.iter().all(|rows| (LEAST..=72).contains(rows)), "{rows:?}");
        // Quick again and further away.
        let rows = store.batches(10, 200_000).await;
        assert!(rows.len() > 40 && rows[rows.len() - 10..].iter().all(|rows| *rows == MOST), "{rows:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_moves_away_while_batches_are_the_smallest_is_swept_in_large_ones_again() {
        let store = Arc::new(Slow::default());
        let sweeper = Sweeper::new(Some(Duration::from_millis(100)));
        sweeper.wake(|| Arc::downgrade(&store));
        let rows = store.batches(1000, 0).await;
        assert!(rows[4..].iter().all(|rows| (LEAST..=72).contains(rows)), "{rows:?}");
        let rows = store.batches(10, 105_000).await;
        assert!(rows[rows.len() - 10..].iter().all(|rows| *rows == MOST), "{rows:?}");
    }

    #[test]
    fn a_batch_that_something_else_held_up_is_no_reason_to_take_locks_for_long() {
        let mut batch = Batch::default();
        let millis = Duration::from_millis;
        let took = |batch: &mut Batch, also: u64| batch.took(millis(also + u64::from(batch.rows()) / 4));
        took(&mut batch, 0);
        // Half as many rows, and longer: as if rows cost nothing.
        took(&mut batch, 500);
        for round in 0..20 {
            took(&mut batch, 0);
            assert!(round < 6 || batch.rows() <= 100, "{batch:?} in round {round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_sweeper_sweeps_no_more_and_holds_nothing() {
        let store = Arc::new(Counted::default());
        let sweeper = Sweeper::new(Some(Duration::from_secs(1)));
        sweeper.wake(|| Arc::downgrade(&store));
        drop(sweeper);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
        assert_eq!((Arc::strong_count(&store), Arc::weak_count(&store)), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_sweeper_is_not_woken_again() {
        let store = Arc::new(Counted::default());
        let sweeper = Sweeper::new(Some(Duration::from_secs(1)));
        sweeper.wake(|| Arc::downgrade(&store));
        sweeper.stop();
        sweeper.wake(|| Arc::downgrade(&store));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_interval_nothing_is_swept() {
        let store = Arc::new(Counted::default());
        let sweeper = Sweeper::new(None);
        sweeper.wake(|| Arc::downgrade(&store));
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(store.0.load(Ordering::SeqCst), 0);
    }
}
