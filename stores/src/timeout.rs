//! A store whose every operation ends in time.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Error, ErrorKind, IndexedStore, Key, Result, StatusStream, Swapped,
    Ttl,
};
use futures_util::stream::{StreamExt, unfold};

use crate::around::forward_around;

/// A store with a deadline for each operation: what takes longer is dropped and answers [`ErrorKind::Timeout`].
///
/// Sessions have this already: [`operation_timeout`](cloakroom_core::Builder::operation_timeout) is a deadline of the
/// engine's own. This is for stores that are used without it, by a command that lists or clears them, or below another
/// wrapper, where each of two stores is to have a deadline of its own. The shorter of two deadlines counts.
///
/// A write that was dropped was applied whole, or not at all, or is just being applied: read to find out. Of a scan
/// each key has its own deadline. The status is that of the store within.
///
/// ```
/// use std::time::Duration;
/// # #[cfg(feature = "memory")] {
/// use cloakroom::{MemoryStore, Timeout};
///
/// let second = Duration::from_secs(1);
/// let store = Timeout::new(MemoryStore::new(), second)?.administration(60 * second)?;
/// # let _ = store; }
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    deadline: Duration,
    administration: Duration,
}

impl<S: cloakroom_core::Store> Timeout<S> {
    /// Creates a store whose operations have `deadline` to end.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `timeout` when it is zero.
    pub fn new(store: S, deadline: Duration) -> Result<Self> {
        let deadline = longer_than_zero("timeout", deadline)?;
        Ok(Self { inner: store, deadline, administration: deadline })
    }

    /// Sets the deadline of `len`, `clear` and `sweep`, which may take longer the more there is. That of the others
    /// unless set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `administration` when it is zero.
    pub fn administration(mut self, deadline: Duration) -> Result<Self> {
        self.administration = longer_than_zero("administration", deadline)?;
        Ok(self)
    }

    fn inner_status(&self) -> StatusStream {
        self.inner.status()
    }

    async fn around<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = match operation {
            "len" | "clear" | "sweep" => self.administration,
            _ => self.deadline,
        };
        let mut call = pin!(call);
        // A store that answers at once, as one in memory does, needs no timer, and timers are not free.
        if let Poll::Ready(outcome) = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            return outcome;
        }
        match tokio::time::timeout(deadline, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(ErrorKind::Timeout)
                .operation(operation)
                .store("timeout")
                .hint(format!("the store took longer than {deadline:?}"))),
        }
    }

    fn around_scan<'a>(&'a self, keys: BoxStream<'a, Result<Key>>) -> BoxStream<'a, Result<Key>> {
        // An error ends the stream, also one of ours.
        unfold(Some(keys), move |keys| async move {
            let mut keys = keys?;
            match self.around("scan", async { Ok(keys.next().await) }).await {
                Ok(Some(Ok(key))) => Some((Ok(key), Some(keys))),
                Ok(Some(Err(error))) | Err(error) => Some((Err(error), None)),
                Ok(None) => None,
            }
        })
        .boxed()
    }
}

forward_around!(Timeout, "timeout");

fn longer_than_zero(field: &'static str, deadline: Duration) -> Result<Duration> {
    if deadline.is_zero() {
        return Err(Error::config(field, "must be longer than zero; try 2 seconds"));
    }
    Ok(deadline)
}
