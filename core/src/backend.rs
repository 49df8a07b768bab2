//! The store as the engine sees it: each operation with a deadline, and conditional writes on every store.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind, Result},
    id::Key,
    store::{Guarantee, Store, Swapped, Ttl},
};

/// How often at most the sessions of one user are looked for again: a client that does nothing but change its id must
/// not hold up who ends them.
const PASSES: usize = 16;

/// A store with the engine's deadline on every operation.
///
/// On a store that is no `AtomicStore` the conditional writes are a read and then a write. Another request can slip
/// in between: that is [`Guarantee::LastWriterWins`]. Reading first keeps the gap as small as it can be made, and
/// lets the engine have one course of action for both kinds.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    store: Arc<dyn Store>,
    deadline: Duration,
}

impl Backend {
    pub(crate) fn new(store: Arc<dyn Store>, deadline: Duration) -> Self {
        Self { store, deadline }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn guarantee(&self) -> Guarantee {
        Guarantee::of(&*self.store)
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.within("get", self.store.get(key)).await
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.within("set", self.store.set(key, value, ttl)).await
    }

    /// As [`AtomicStore::create`](crate::AtomicStore::create). Without it, a plain `set`: a new id is random, so
    /// there is nothing to write over.
    pub(crate) async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        match self.store.as_atomic() {
            Some(atomic) => self.within("create", atomic.create(key, value, ttl)).await,
            None => self.within("set", self.store.set(key, value, ttl)).await.map(|()| true),
        }
    }

    pub(crate) async fn replace(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Ttl,
    ) -> Result<Swapped> {
        if let Some(atomic) = self.store.as_atomic() {
            return self.within("replace", atomic.replace(key, expected, value, ttl)).await;
        }
        match self.get(key).await? {
            None => Ok(Swapped::Gone),
            Some(current) if current != expected => Ok(Swapped::Conflict(current)),
            Some(_) => self.within("set", self.store.set(key, value, ttl)).await.map(|()| Swapped::Done),
        }
    }

    pub(crate) async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        if let Some(atomic) = self.store.as_atomic() {
            return self.within("remove", atomic.remove(key, expected)).await;
        }
        match self.get(key).await? {
            None => Ok(Swapped::Gone),
            Some(current) if current != expected => Ok(Swapped::Conflict(current)),
            Some(_) => {
                let removed = self.within("destroy", self.store.destroy(key)).await?;
                Ok(if removed { Swapped::Done } else { Swapped::Gone })
            }
        }
    }

    /// As [`AtomicStore::touch`](crate::AtomicStore::touch). Without it the value is read and written back.
    pub(crate) async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        if let Some(atomic) = self.store.as_atomic() {
            return self.within("touch", atomic.touch(key, ttl)).await;
        }
        match self.get(key).await? {
            Some(value) => self.within("set", self.store.set(key, value, ttl)).await.map(|()| true),
            None => Ok(false),
        }
    }

    pub(crate) async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let indexed = self.store.as_indexed().ok_or_else(no_index)?;
        self.within("bind", indexed.bind(key, user, ttl)).await
    }

    /// Ends the sessions of a user until none is left.
    ///
    /// One pass of a store may miss a session that just then moves to another id: the index named the old one when it
    /// was read. Once a pass finds nothing, whoever still moves meets an old record that is gone.
    pub(crate) async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let indexed = self.store.as_indexed().ok_or_else(no_index)?;
        let mut ended = 0;
        for _ in 0..PASSES {
            match self.within("destroy_user", indexed.destroy_user(user, except)).await? {
                0 => break,
                more => ended += more,
            }
        }
        Ok(ended)
    }

    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut call = pin!(call);
        // A store that answers at once, as one in memory does, needs no timer, and timers are not free.
        if let Poll::Ready(outcome) = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            return outcome.map_err(|error| error.operation(operation));
        }
        // Boxed, so that the calls that need no timer do not carry the room for one.
        match Box::pin(tokio::time::timeout(self.deadline, call)).await {
            Ok(outcome) => outcome.map_err(|error| error.operation(operation)),
            Err(_) => Err(Error::new(ErrorKind::Timeout)
                .operation(operation)
                .hint(format!("the store took longer than the operation deadline of {:?}", self.deadline))),
        }
    }
}

pub(crate) fn no_index() -> Error {
    Error::new(ErrorKind::Unsupported)
        .operation("bind_user")
        .hint("the store keeps no index of sessions by user")
}
