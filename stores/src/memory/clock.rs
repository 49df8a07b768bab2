//! The clock of a memory store: nanoseconds since it was made, monotonic.

use std::time::{Duration, Instant};

pub(super) struct Clock {
    epoch: Instant,
    /// Lets a test live through hours.
    #[cfg(test)]
    skew: std::sync::atomic::AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            #[cfg(test)]
            skew: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Returns nanoseconds since the store was made: room for 584 years.
    pub(super) fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let elapsed = elapsed + self.skew.load(std::sync::atomic::Ordering::SeqCst);
        elapsed
    }

    /// Returns the instant of a time of this clock, or `None` for "never".
    pub(super) fn instant(&self, at: u64) -> Option<Instant> {
        #[cfg(test)]
        let at = if at == u64::MAX {
            at
        } else {
            at.saturating_sub(self.skew.load(std::sync::atomic::Ordering::SeqCst))
        };
        if at == u64::MAX {
            return None;
        }
        self.epoch.checked_add(Duration::from_nanos(at))
    }

    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        self.skew.fetch_add(by.as_nanos() as u64, std::sync::atomic::Ordering::SeqCst);
    }
}
