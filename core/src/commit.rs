//! Carries out a plan: takes the changes of a request to the store, and the outcome back to its handle.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind, Result},
    event,
    handle::{Access, Attempt, Handle, Refusal, Stored},
    plan::{Plan, Ticket},
    record::Decoded,
    work::{Begun, Work},
};

/// Who asks for a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trigger {
    /// `save`, `update_now`.
    Explicit,
    /// The end of the request.
    Response { server_error: bool },
}

/// How a write against a record that others write too came out.
pub(crate) enum Fate {
    Done,
    /// The session is not this request's any more. Nothing was written.
    Lost(Refusal),
}

enum Ran {
    ToTheEnd,
    /// The commit has several steps: it must run where dropping the caller's future does not stop it.
    NotHere,
}

/// Commits what the request did so far.
///
/// Dropping the future of a commit of one step leaves the store before or after that step, and the changes in the
/// log: the next commit finds out which. A commit of several steps goes on.
///
/// # Errors
/// [`ErrorKind::Gone`] when the session ended meanwhile: the changes are then dropped for good. After any other
/// error they are kept, and the next commit tries again.
pub(crate) async fn commit(handle: &Arc<Handle>, trigger: Trigger) -> Result<()> {
    handle.check_attached("save")?;
    match run(handle, trigger, false).await? {
        Ran::ToTheEnd => Ok(()),
        Ran::NotHere => {
            let owned = Arc::clone(handle);
            in_task(handle, Box::pin(async move { run(&owned, trigger, true).await.map(|_| ()) })).await
        }
    }
}

/// Runs `work` to its end even if the caller goes away, and lets `shutdown` wait for it.
///
/// # Errors
/// Those of `work`, and [`ErrorKind::Backend`] when it panicked or the runtime is being shut down.
pub(crate) async fn in_task<T: Send + 'static>(
    handle: &Handle,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    handle.settings.tasks.spawn(work).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Backend).operation("commit").hint("the commit was stopped before its end"))
    })
}

async fn run(handle: &Handle, trigger: Trigger, in_task: bool) -> Result<Ran> {
    // What is rare is boxed, here and below, so that the usual commit is a small future.
    let _one_at_a_time = match handle.committing.try_acquire() {
        Ok(turn) => Some(turn),
        // The semaphore is never closed; an error here would only mean one commit fewer at a time.
        Err(_) => Box::pin(handle.committing.acquire()).await.ok(),
    };
    let (changed, in_doubt) = {
        let state = handle.lock();
        (state.has_changes(), state.doubt.is_some())
    };
    if changed {
        handle.settings.gate.ready().await?;
    }
    if in_doubt {
        Box::pin(settle_doubt(handle)).await?;
    }
    let mut work = loop {
        match Work::begin(handle, trigger, in_task)? {
            Begun::Nothing => return Ok(Ran::ToTheEnd),
            Begun::HasSteps => return Ok(Ran::NotHere),
            Begun::NeedsId => {
                let id = handle.settings.ids.generate().await?;
                handle.lock().next_id.get_or_insert(id);
            }
            Begun::Work(work) => break work,
        }
    };
    if !matches!(work.plan, Plan::Nothing | Plan::Forget | Plan::Renew) {
        work.before_save().await?;
    }
    let fate = match work.plan {
        Plan::Nothing | Plan::Forget => Fate::Done,
        Plan::Renew => {
            Box::pin(work.renew()).await;
            return Ok(Ran::ToTheEnd);
        }
        Plan::Create => work.create_bound().await?,
        Plan::Replace { .. } => work.replace_bound().await?,
        Plan::Move => Box::pin(work.relocate()).await?,
    };
    match fate {
        Fate::Done => work.publish()?,
        Fate::Lost(refusal) => return Err(work.give_up(refusal)),
    }
    Ok(Ran::ToTheEnd)
}

/// Finds out what became of a write whose future was dropped or whose reply was lost, before anything is built on it.
async fn settle_doubt(handle: &Handle) -> Result<()> {
    let (target, known) = {
        let state = handle.lock();
        let Some(doubt) = &state.doubt else { return Ok(()) };
        if !state.has_changes() {
            return Ok(());
        }
        let known = match &state.access {
            Access::Stored(stored) => Some(stored.bytes.clone()),
            Access::Fresh | Access::Refused(_) => None,
        };
        (doubt.target.clone(), known)
    };
    let found = handle.settings.backend_of(target.home).get(&target.key).await?;
    if found == known {
        // It was not applied. Should it still be, the compare-and-swap of the next one meets it and knows it.
        return Ok(());
    }
    let Some(found) = found else {
        handle.lock().refuse(Refusal::Gone, handle.blank());
        event::gone(&target.key);
        return Err(Error::new(ErrorKind::Gone).operation("save"));
    };
    let applied = {
        let state = handle.lock();
        let attempts = state.doubt.as_ref().map(|doubt| doubt.attempts.as_slice()).unwrap_or_default();
        let ours =
            |attempt: &&Attempt| attempt.bytes == found && handle.settings.profile.records.marks_writes();
        attempts.iter().find(ours).map(|attempt| attempt.through).ok_or_else(unknown_outcome)?
    };
    bind_settled(handle, &target, &found).await?;
    {
        let mut state = handle.lock();
        if let Some(through) = applied {
            state.log.forget_through(through);
        }
        state.doubt = None;
        state.ticket = Ticket::Send;
        state.settle_on(&target.id);
        state.destroyed = false;
        state.access = Access::Stored(Stored { bytes: found, ..target });
    }
    handle.rebuild()
}

/// Writes the by-user index entry of a record that was found to be stored after all: whoever stored it may not have come
/// that far, and its cookie is about to be sent.
async fn bind_settled(handle: &Handle, target: &Stored, found: &Bytes) -> Result<()> {
    let settings = &handle.settings;
    let Decoded::Session(record) = settings.decode(target, found)? else { return Ok(()) };
    let Some(user) = record.meta.user.as_deref() else { return Ok(()) };
    let longest = settings.expiry.longest(&record.meta, settings.now());
    settings.backend.bind(&target.key, user, longest).await
}

pub(crate) fn unknown_outcome() -> Error {
    Error::new(ErrorKind::Timeout).operation("save").hint(
        "an earlier write of this request may or may not have been applied, and others wrote since; \
         reload() drops the changes and shows what is stored",
    )
}
