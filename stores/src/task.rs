//! A background task of a store: it is started when there is a runtime, and ends when its handle is dropped or stopped.

use std::sync::{Mutex, PoisonError};

use tokio::{runtime::Handle, task::AbortHandle};

/// The handle of a task that runs at most once at a time.
#[derive(Debug, Default)]
pub(crate) struct Task(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    running: Option<AbortHandle>,
    /// Whether nothing is to be started any more.
    stopped: bool,
}

impl Task {
    /// Starts the task unless it runs already. Returns `false` if nothing runs: there is no runtime here.
    ///
    /// A task whose runtime was shut down has ended, so the next call starts it on another one.
    pub(crate) fn start<F>(&self, make: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return true;
        }
        spawn_into(&mut slot, make)
    }

    /// Starts the task, though the one before may not quite have ended: the caller knows that its work is done.
    pub(crate) fn restart<F>(&self, make: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        spawn_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), make)
    }

    /// Ends the task at its next `.await`, and lets none be started any more.
    pub(crate) fn stop(&self) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.stopped = true;
        if let Some(running) = slot.running.take() {
            running.abort();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let slot = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = slot.running.take() {
            running.abort();
        }
    }
}

fn spawn_into<F>(slot: &mut Slot, make: impl FnOnce() -> F) -> bool
where
    F: Future<Output = ()> + Send + 'static,
{
    if slot.stopped {
        return false;
    }
    let Ok(runtime) = Handle::try_current() else { return false };
    slot.running = Some(runtime.spawn(make()).abort_handle());
    true
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_task_runs_once_at_a_time_and_again_after_its_end() {
        let (task, runs) = (Task::default(), Arc::new(AtomicU32::new(0)));
        let start = || {
            task.start(|| {
                let runs = Arc::clone(&runs);
                async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        };
        assert!(start() && start());
        while Arc::strong_count(&runs) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        while runs.load(Ordering::SeqCst) < 2 {
            assert!(start());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn dropping_the_handle_ends_the_task() {
        let (task, alive) = (Task::default(), Arc::new(()));
        let held = Arc::clone(&alive);
        task.start(|| async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(task);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stopped_task_ends_and_is_not_started_again() {
        let (task, alive) = (Task::default(), Arc::new(()));
        let start = || {
            let held = Arc::clone(&alive);
            task.start(move || async move {
                let _held = held;
                std::future::pending::<()>().await;
            })
        };
        assert!(start());
        tokio::task::yield_now().await;
        task.stop();
        task.stop();
        assert!(!start());
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn without_a_runtime_nothing_is_started() {
        assert!(!Task::default().start(|| async {}));
    }
}
