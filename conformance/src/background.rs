//! The runtime of the suite itself: what manages servers and moves bytes, apart from the runtimes of the cases.

use std::{future::Future, sync::OnceLock};

use tokio::runtime::{Builder, Handle};
#[cfg(feature = "servers")]
use tokio::{runtime::RuntimeFlavor, task::block_in_place};

use crate::failure::{Failure, Verdict};

/// Returns the runtime that lives as long as the process.
///
/// Each test has a runtime of its own, which ends with it and whose clock may be paused. A server that several tests
/// share belongs to none of them, and neither do connections to the container engine.
pub(crate) fn handle() -> Verdict<&'static Handle> {
    static RUNTIME: OnceLock<Result<Handle, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("conformance-servers")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let handle = runtime.handle().clone();
        // Never shut down: it would abort what other tests still need.
        std::mem::forget(runtime);
        Ok(handle)
    });
    started.as_ref().map_err(|error| Failure::new("the suite can start a runtime", error.clone()))
}

/// Runs `work` there and waits for it; dropped, the work goes on to its end.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Verdict<T>> + Send + 'static,
) -> Verdict<T> {
    match handle()?.spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::new("the suite itself does not panic", error.to_string())),
    }
}

/// Runs `work` there and blocks this thread until it is done, also within a runtime: for `Drop`.
#[cfg(feature = "servers")]
pub(crate) fn block_on<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    handle().ok()?.spawn(async move {
        let _ = done.send(work.await);
    });
    let wait = || wait.recv().ok();
    // To stop a server takes seconds. What else this worker had to do, other cases of the same report among it, is
    // handed to another meanwhile; a runtime with a single thread has nobody to hand it to.
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(wait),
        _ => wait(),
    }
}
