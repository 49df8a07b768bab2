//! `Steps`, a store whose every call takes one poll to begin and is applied in the next, and a task to poll by hand.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use cloakroom::{
    AdminStore, AtomicStore, BoxStream, Bytes, IndexedStore, Key, Result, Store, Swapped, Ttl, async_trait,
};
use cloakroom_conformance::Reference;

/// A reference store that lets others run before each call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Reference);

impl Steps {
    /// The store without the steps.
    pub(crate) const fn inner(&self) -> &Reference {
        &self.0
    }

    async fn step(&self) -> &Reference {
        let mut waited = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        &self.0
    }
}

#[async_trait]
impl Store for Steps {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.step().await.get(key).await
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.step().await.set(key, value, ttl).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.step().await.destroy(key).await
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }
    fn as_admin(&self) -> Option<&dyn AdminStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Steps {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.step().await.create(key, value, ttl).await
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.step().await.replace(key, expected, value, ttl).await
    }
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.step().await.remove(key, expected).await
    }
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.step().await.touch(key, ttl).await
    }
}

#[async_trait]
impl IndexedStore for Steps {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.step().await.bind(key, user, ttl).await
    }
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.step().await.keys_of(user).await
    }
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        self.step().await.destroy_user(user, except).await
    }
}

#[async_trait]
impl AdminStore for Steps {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        self.0.scan()
    }
    async fn len(&self) -> Result<u64> {
        self.step().await.len().await
    }
    async fn clear(&self) -> Result<u64> {
        self.step().await.clear().await
    }
    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.step().await.sweep(limit).await
    }
}

/// A call under way: as many steps of it are done as it is told to do.
pub(crate) struct Call<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    answer: Option<T>,
}

impl<'a, T> Call<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self { future: Box::pin(future), answer: None }
    }

    /// Does at most `steps` steps; `true` if it has ended.
    pub(crate) fn run(&mut self, steps: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..steps {
            if self.answer.is_some() {
                break;
            }
            if let Poll::Ready(answer) = self.future.as_mut().poll(&mut context) {
                self.answer = Some(answer);
            }
        }
        self.answer.is_some()
    }

    /// Does all steps that are left.
    pub(crate) fn finish(mut self) -> T {
        assert!(self.run(10_000), "a call goes on for ever");
        self.answer.expect("it has just ended")
    }
}
