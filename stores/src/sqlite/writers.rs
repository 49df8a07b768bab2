//! The queue of one process's writers before the one lock of a file.

use std::time::Duration;

use cloakroom_core::{Error, ErrorKind, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The writers of this process queue here; only the first of them try for the file's lock in turns.
pub(crate) struct Writers {
    store: &'static str,
    at_work: Semaphore,
    timeout: Duration,
}

impl Writers {
    /// Lets `at_once` writers try for the lock at a time; the others wait for up to `timeout`.
    pub(crate) const fn new(store: &'static str, at_once: usize, timeout: Duration) -> Self {
        Self { store, at_work: Semaphore::const_new(at_once), timeout }
    }

    /// Waits until few other writers of this process are at work.
    pub(crate) async fn turn(&self, operation: &'static str) -> Result<SemaphorePermit<'_>> {
        let waited = tokio::time::timeout(self.timeout, self.at_work.acquire()).await;
        let late = || {
            let hint = format!("the other writers of this process were not done within {:?}", self.timeout);
            Error::new(ErrorKind::Timeout).operation(operation).store(self.store).hint(hint)
        };
        waited.map_err(|_| late())?.map_err(|_| late())
    }
}
