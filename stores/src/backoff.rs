//! How long to wait before a server that is away is tried again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first pause, and the least.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause in an outage that is young: whoever waits hears of its end within a second.
const YOUNG: Duration = Duration::from_millis(600);
/// How long an outage counts as young.
const YOUTH: Duration = Duration::from_secs(60);
/// The longest pause in an outage that lasts.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double, each with jitter, so that a thousand clients do not come back at the same moment.
#[derive(Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Returns the next pause, counted from the beginning of one try to the beginning of the next.
    ///
    /// `outage` is how long the server has been away.
    pub(crate) fn next(&mut self, outage: Duration) -> Duration {
        let limit = if outage < YOUTH { YOUNG } else { LONGEST };
        let pause = FIRST.saturating_mul(1 << self.tries.min(16)).min(limit);
        self.tries += 1;
        jittered(pause)
    }
}

/// Returns half of a pause to the whole of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    // Hashers are seeded at random, and each new one differently.
    let random = RandomState::new().hash_one(()) % 1024;
    pause / 2 + pause.mul_f64(random as f64 / 2048.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_that_grows_with_the_outage() {
        let mut backoff = Backoff::default();
        for pause in [50, 100, 200, 400, 600, 600] {
            let next = backoff.next(Duration::from_secs(1));
            let pause = Duration::from_millis(pause);
            assert!(next >= pause / 2 && next <= pause, "{next:?} is not about {pause:?}");
        }
        for _ in 0..100 {
            let next = backoff.next(YOUTH);
            assert!(next <= LONGEST && next >= YOUNG / 2);
        }
    }

    #[test]
    fn a_thousand_clients_do_not_come_back_at_once() {
        let mut buckets = [0; 10];
        for _ in 0..1000 {
            let pause = jittered(Duration::from_millis(1000));
            buckets[(pause.as_millis() as usize - 500).min(499) / 50] += 1;
        }
        assert!(buckets.iter().all(|&clients| clients > 50), "{buckets:?}");
    }
}
