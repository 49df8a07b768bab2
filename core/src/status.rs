//! The connection states of a store: a level that can be read at any time, and a wake-up at every change.

use std::fmt;

use futures_util::{
    future::{self, BoxFuture},
    stream::{self, Stream},
};
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
pub struct StatusStream(Source);

#[derive(Clone)]
enum Source {
    Always,
    One(watch::Receiver<Status>),
    Both(Box<Both>),
}

/// Two stores that are needed together.
#[derive(Clone)]
struct Both {
    streams: [StatusStream; 2],
    seen: Status,
}

impl StatusStream {
    /// Returns the stream of a store that cannot lose its connection: one inside the process, or in a file.
    #[must_use]
    pub const fn always_connected() -> Self {
        Self(Source::Always)
    }

    /// Returns the status of two stores that are needed together, for wrappers of two: connected while both are.
    ///
    /// While both are disconnected the outage began with the first of the two.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Source::Always, one) | (one, Source::Always) => Self(one),
            (one, other) => {
                let mut streams = [Self(one), Self(other)];
                let seen = worse(streams[0].see(), streams[1].see());
                Self(Source::Both(Box::new(Both { streams, seen })))
            }
        }
    }

    /// Returns the status right now.
    #[must_use]
    pub fn current(&self) -> Status {
        match &self.0 {
            Source::Always => Status::Connected,
            Source::One(receiver) => *receiver.borrow(),
            Source::Both(both) => both.current(),
        }
    }

    /// Waits for the next change and returns the status after it.
    ///
    /// A change that came since this value was made, or since the last call, is returned at once. Never returns if
    /// the status can no longer change: the stream is [`always_connected`](Self::always_connected), or the store is
    /// gone. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Status {
        match &mut self.0 {
            Source::Always => {}
            Source::One(receiver) => {
                if receiver.changed().await.is_ok() {
                    return *receiver.borrow_and_update();
                }
            }
            Source::Both(both) => return both.changed().await,
        }
        future::pending().await
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
        match &mut self.0 {
            Source::Always => Status::Connected,
            Source::One(receiver) => *receiver.borrow_and_update(),
            Source::Both(both) => {
                let [one, other] = &mut both.streams;
                both.seen = worse(one.see(), other.see());
                both.seen
            }
        }
    }
}

impl Both {
    fn current(&self) -> Status {
        worse(self.streams[0].current(), self.streams[1].current())
    }

    /// Boxed: each of the two may be two again.
    fn changed(&mut self) -> BoxFuture<'_, Status> {
        Box::pin(async move {
            // One may change while the other keeps both as they are.
            while self.current() == self.seen {
                let [one, other] = &mut self.streams;
                future::select(Box::pin(one.changed()), Box::pin(other.changed())).await;
            }
            self.seen = self.current();
            self.seen
        })
    }
}

/// Of two outages the one that began first; any outage before a first connection, and that before connected.
fn worse(one: Status, other: Status) -> Status {
    match (one, other) {
        (Status::Disconnected { since: one }, Status::Disconnected { since: other }) => {
            Status::Disconnected { since: one.min(other) }
        }
        (outage @ Status::Disconnected { .. }, _) | (_, outage @ Status::Disconnected { .. }) => outage,
        (Status::Connecting, _) | (_, Status::Connecting) => Status::Connecting,
        (Status::Connected, Status::Connected) => Status::Connected,
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
        StatusStream(Source::One(self.0.subscribe()))
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

    #[tokio::test]
    async fn two_stores_together_are_connected_while_both_are() {
        let (one, other) = (StatusSender::connecting(), StatusSender::connecting());
        let mut both = one.subscribe().both(other.subscribe());
        assert_eq!(both.current(), Status::Connecting);
        one.connected();
        assert_eq!(both.current(), Status::Connecting);
        other.connected();
        assert_eq!(both.changed().await, Status::Connected);
        other.disconnected();
        assert_eq!(both.changed().await, other.current());
        one.disconnected();
        other.connected();
        assert_eq!(both.changed().await, one.current());
        one.connected();
        assert_eq!(both.changed().await, Status::Connected);
    }

    #[tokio::test(start_paused = true)]
    async fn the_outage_of_two_stores_began_with_the_first() {
        let (one, other) = (StatusSender::connecting(), StatusSender::connecting());
        let both = one.subscribe().both(other.subscribe());
        one.disconnected();
        let first = one.current();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        other.disconnected();
        assert_eq!(both.current(), first);
    }

    #[tokio::test]
    async fn a_change_of_one_store_that_leaves_both_as_they_were_wakes_nobody() {
        let (one, other) = (StatusSender::connecting(), StatusSender::connecting());
        let mut both = one.subscribe().both(other.subscribe());
        one.connected();
        let woken = tokio::time::timeout(std::time::Duration::from_millis(20), both.changed()).await;
        assert!(woken.is_err());
    }

    #[tokio::test]
    async fn a_store_without_a_connection_changes_nothing_for_the_other() {
        let one = StatusSender::connecting();
        let both = StatusStream::always_connected().both(one.subscribe());
        assert_eq!(both.current(), Status::Connecting);
        let none = StatusStream::always_connected().both(StatusStream::always_connected());
        assert_eq!(none.current(), Status::Connected);
    }
}
