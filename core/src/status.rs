//! The connection states of a store: a level that can be read at any time, and a wake-up at every change.

use std::fmt;

use futures_util::stream::{self, Stream};
use tokio::{sync::watch, time::Instant};

/// Whether a store can be reached, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Never connected yet. Treated like an outage that began at start-up.
    Connecting,
    /// The last thing heard from the backend was good.
    Connected,
    /// The backend cannot be reached.
    Disconnected {
        /// When this outage began. A repeated failure does not move it.
        since: Instant,
    },
}

/// The reading side: the current [`Status`] and a wake-up at every change.
///
/// It is a level, not a queue: a slow reader never blocks the store and never sees a stale state, but it may miss
/// states that came and went in between. Clones read independently.
#[derive(Clone)]
pub struct StatusStream(Option<watch::Receiver<Status>>);

impl StatusStream {
    /// Returns the stream of a store that cannot lose its connection: one inside the process, or in a file.
    #[must_use]
    pub const fn always_connected() -> Self {
        Self(None)
    }

    /// Returns the status right now.
    #[must_use]
    pub fn current(&self) -> Status {
        self.0.as_ref().map_or(Status::Connected, |receiver| *receiver.borrow())
    }

    /// Waits for the next change and returns the status after it.
    ///
    /// A change that came since this value was made, or since the last call, is returned at once. Never returns if
    /// the status can no longer change: the stream is [`always_connected`](Self::always_connected), or the store is
    /// gone. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Status {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            return *receiver.borrow_and_update();
        }
        std::future::pending().await
    }

    /// Turns this into a [`Stream`] that yields the current status first, then the status after each change.
    pub fn into_stream(self) -> impl Stream<Item = Status> + Send + Unpin {
        Box::pin(stream::unfold((self, true), |(mut status, first)| async move {
            let next = if first { status.see() } else { status.changed().await };
            Some((next, (status, false)))
        }))
    }

    /// Returns the current status, and counts it as seen.
    fn see(&mut self) -> Status {
        self.0.as_mut().map_or(Status::Connected, |receiver| *receiver.borrow_and_update())
    }
}

impl fmt::Debug for StatusStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusStream").field(&self.current()).finish()
    }
}

/// The writing side, for store authors: keep one in the store, report what the driver reports, hand out
/// [`subscribe`](Self::subscribe) from [`Store::status`](crate::Store::status).
///
/// ```
/// use cloakroom_core::{Status, StatusSender};
///
/// let sender = StatusSender::connecting();
/// let reader = sender.subscribe();
/// assert_eq!(reader.current(), Status::Connecting);
/// sender.connected();
/// assert_eq!(reader.current(), Status::Connected);
/// sender.disconnected();
/// assert!(matches!(reader.current(), Status::Disconnected { .. }));
/// ```
///
/// Reporting the status that already holds wakes nobody. No call blocks, whoever is reading.
pub struct StatusSender(watch::Sender<Status>);

impl StatusSender {
    /// Creates a sender whose store has not been connected yet.
    #[must_use]
    pub fn connecting() -> Self {
        Self(watch::Sender::new(Status::Connecting))
    }

    /// Reports that the backend answered.
    pub fn connected(&self) {
        self.0.send_if_modified(|status| {
            let changed = *status != Status::Connected;
            *status = Status::Connected;
            changed
        });
    }

    /// Reports that the backend cannot be reached. The outage began at the first such report.
    pub fn disconnected(&self) {
        self.0.send_if_modified(|status| {
            let changed = !matches!(status, Status::Disconnected { .. });
            if changed {
                *status = Status::Disconnected { since: Instant::now() };
            }
            changed
        });
    }

    /// Returns the status as last reported.
    #[must_use]
    pub fn current(&self) -> Status {
        *self.0.borrow()
    }

    /// Returns a reader that starts at the current status.
    #[must_use]
    pub fn subscribe(&self) -> StatusStream {
        StatusStream(Some(self.0.subscribe()))
    }
}

impl fmt::Debug for StatusSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusSender").field(&self.current()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn the_stream_yields_the_level_first_and_then_each_change() {
        let sender = StatusSender::connecting();
        let mut stream = sender.subscribe().into_stream();
        assert_eq!(stream.next().await, Some(Status::Connecting));
        sender.connected();
        assert_eq!(stream.next().await, Some(Status::Connected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_failure_does_not_move_the_start_of_the_outage() {
        let sender = StatusSender::connecting();
        sender.disconnected();
        let first = sender.current();
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        sender.disconnected();
        assert_eq!(sender.current(), first);
    }

    #[tokio::test]
    async fn a_storm_of_changes_blocks_nobody_and_ends_in_the_right_state() {
        let sender = StatusSender::connecting();
        let slow = sender.subscribe();
        for _ in 0..100_000 {
            sender.disconnected();
            sender.connected();
        }
        assert_eq!(slow.current(), Status::Connected);
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let sender = StatusSender::connecting();
        let mut reader = sender.subscribe();
        sender.connected();
        assert_eq!(reader.changed().await, Status::Connected);
    }

    #[test]
    fn a_store_that_cannot_disconnect_is_connected() {
        assert_eq!(StatusStream::always_connected().current(), Status::Connected);
    }
}
