//! Carries out a plan: takes the changes of a request to the store, and the outcome back to its handle.

use std::{mem, sync::Arc};

use bytes::Bytes;

use crate::{
    config::Settings,
    error::{Error, ErrorKind, Result},
    event,
    handle::{Access, Attempt, Doubt, Handle, Refusal, Stored},
    id::SessionId,
    oplog::{Op, replay},
    plan::{Plan, Ticket, decide},
    record::{Decoded, Meta, Record, decode, encode},
    store::{Swapped, Ttl},
};

/// Records larger than this are reported, once a commit.
const SOFT_LIMIT: usize = 64 * 1024;

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
    match run(handle, trigger, false).await? {
        Ran::ToTheEnd => Ok(()),
        Ran::NotHere => {
            let owned = Arc::clone(handle);
            in_task(handle, async move { run(&owned, trigger, true).await.map(|_| ()) }).await
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
    // The semaphore is never closed; an error here would only mean one commit fewer at a time.
    let _one_at_a_time = handle.committing.acquire().await;
    if handle.lock().has_changes() {
        handle.settings.gate.ready().await?;
    }
    settle_doubt(handle).await?;
    let mut work = match Work::begin(handle, trigger, in_task)? {
        Begun::Nothing => return Ok(Ran::ToTheEnd),
        Begun::HasSteps => return Ok(Ran::NotHere),
        Begun::Work(work) => *work,
    };
    let fate = match work.plan {
        Plan::Nothing | Plan::Forget => Fate::Done,
        Plan::Renew => {
            work.renew().await;
            return Ok(Ran::ToTheEnd);
        }
        Plan::Create => work.create_bound().await?,
        Plan::Replace { .. } => work.replace_bound().await?,
        Plan::Move => work.relocate().await?,
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
    let found = handle.settings.backend.get(&target.key).await?;
    if found == known {
        // It was not applied. Should it still be, the compare-and-swap of the next one meets it and knows it.
        return Ok(());
    }
    let Some(found) = found else {
        handle.lock().refuse(Refusal::Gone, handle.blank());
        event::gone(&target.key);
        return Err(Error::new(ErrorKind::Gone).operation("save"));
    };
    {
        let mut state = handle.lock();
        let attempts = state.doubt.as_ref().map(|doubt| doubt.attempts.as_slice()).unwrap_or_default();
        let Some(applied) = attempts.iter().find(|attempt| attempt.bytes == found).map(|a| a.through) else {
            return Err(unknown_outcome());
        };
        if let Some(through) = applied {
            state.log.forget_through(through);
        }
        state.doubt = None;
        state.ticket = Ticket::Send;
        state.next_id = None;
        state.destroyed = false;
        state.access = Access::Stored(Stored { bytes: found, ..target });
    }
    handle.rebuild()
}

fn unknown_outcome() -> Error {
    Error::new(ErrorKind::Timeout).operation("save").hint(
        "an earlier write of this request may or may not have been applied, and others wrote since; \
         reload() drops the changes and shows what is stored",
    )
}

/// What [`Work::begin`] finds.
enum Begun<'h> {
    Nothing,
    /// It takes more than one write, and this is no task yet.
    HasSteps,
    Work(Box<Work<'h>>),
}

/// One commit: the changes taken out of the log, and the write they have become.
///
/// Dropped before its end, it puts the changes back and notes what it cannot know.
pub(crate) struct Work<'h> {
    handle: &'h Handle,
    pub(crate) settings: &'h Settings,
    plan: Plan,
    ticket: Ticket,
    ops: Vec<(u64, Op)>,
    /// What is stored under the old key: the expected value of the swap. Empty for a new session.
    pub(crate) base: Bytes,
    pub(crate) old: Option<Stored>,
    /// Where the record goes, and what is written there.
    pub(crate) target: Stored,
    pub(crate) meta: Meta,
    pub(crate) ttl: Ttl,
    /// The record after a replay; without one, the handle's view is what was written.
    replayed: Option<Record>,
    conflicts: u32,
    /// Writes whose outcome is not known.
    attempts: Vec<Attempt>,
    /// The by-user index entry is to be written as well.
    binds: bool,
    finished: bool,
}

impl<'h> Work<'h> {
    /// Decides, and takes the changes. `None` if nothing is to be written; what is owed to the browser is noted.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], with the changes left in the log; [`ErrorKind::Committed`] for a session that cannot
    /// be created or moved any more, since its cookie could not be sent.
    fn begin(handle: &'h Handle, trigger: Trigger, in_task: bool) -> Result<Begun<'h>> {
        let settings = &*handle.settings;
        let mut state = handle.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let server_error = matches!(trigger, Trigger::Response { server_error: true });
        let (plan, ticket) = decide(&state.facts(settings, server_error));
        let user_changed = state.log.iter().any(|op| matches!(op, Op::User(_)));
        let rewrites = matches!(plan, Plan::Replace { renew: false });
        let binds = state.record.meta.user.is_some() && (!rewrites || user_changed);
        let writes = !matches!(plan, Plan::Nothing | Plan::Forget);
        if !in_task && writes && (plan == Plan::Move || binds) {
            return Ok(Begun::HasSteps);
        }
        let now = settings.now();
        let mut meta = state.record.meta.clone();
        let (id, old) = match (plan, &state.access) {
            (Plan::Nothing | Plan::Forget, _) | (_, Access::Refused(_)) => {
                state.owe(ticket);
                return Ok(Begun::Nothing);
            }
            (Plan::Create, _) => {
                meta.created = now;
                meta.renewed = now;
                meta.deadline = settings.expiry.deadline(now);
                (state.next_id.clone().map_or_else(SessionId::generate, Ok)?, None)
            }
            (Plan::Move, Access::Stored(stored)) => {
                meta.renewed = now;
                (state.next_id.clone().map_or_else(SessionId::generate, Ok)?, Some(stored.clone()))
            }
            (_, Access::Stored(stored)) => {
                if matches!(plan, Plan::Renew | Plan::Replace { renew: true }) {
                    meta.renewed = now;
                }
                (stored.id.clone(), Some(stored.clone()))
            }
            (_, Access::Fresh) => return Ok(Begun::Nothing),
        };
        if state.closed && matches!(trigger, Trigger::Explicit) && matches!(plan, Plan::Create | Plan::Move) {
            return Err(Error::new(ErrorKind::Committed).hint("the new cookie can no longer be sent"));
        }
        // Encoded while locked: this is pure computation, and the view need not be copied for it.
        let bytes = encode(&meta, &state.record.data, &settings.nonces, settings.max_record)?;
        let ttl = settings.expiry.left(&meta, now).unwrap_or(Ttl::MIN);
        let key = match (&plan, &old) {
            (Plan::Create | Plan::Move, _) | (_, None) => id.key(),
            (_, Some(stored)) => stored.key.clone(),
        };
        if bytes.len() > SOFT_LIMIT {
            event::large(&key, bytes.len());
        }
        let ops = state.log.take();
        let attempts = state.doubt.take().map(|doubt| doubt.attempts).unwrap_or_default();
        Ok(Begun::Work(Box::new(Self {
            handle,
            settings,
            plan,
            ticket,
            binds,
            ops,
            base: old.as_ref().map(|stored| stored.bytes.clone()).unwrap_or_default(),
            old,
            target: Stored { id, key, bytes },
            meta,
            ttl,
            replayed: None,
            conflicts: 0,
            attempts,
            finished: false,
        })))
    }

    /// Writes the by-user index entry of the target.
    // `&mut`, here and in the steps of a move: the changes are `Send`, and need not be `Sync`.
    pub(crate) async fn bind(&mut self) -> Result<()> {
        let Some(user) = self.meta.user.as_deref() else {
            return Ok(());
        };
        let longest = self.settings.expiry.longest(&self.meta, self.settings.now());
        self.settings.backend.bind(&self.target.key, user, longest).await
    }

    /// Stores a new session, and its index entry before its cookie is sent.
    async fn create_bound(&mut self) -> Result<Fate> {
        self.create().await?;
        if self.binds
            && let Err(error) = self.bind().await
        {
            self.discard_target().await;
            return Err(error);
        }
        event::created(&self.target.key);
        Ok(Fate::Done)
    }

    /// Stores the target under its new key. A lost reply is settled by reading.
    pub(crate) async fn create(&mut self) -> Result<()> {
        let backend = &self.settings.backend;
        for _ in 0..3 {
            self.note_attempt();
            let doubt = match backend.create(&self.target.key, self.target.bytes.clone(), self.ttl).await {
                Ok(true) => return Ok(()),
                // The key is taken: by an earlier try of ours, or the source of ids repeats itself.
                Ok(false) => Error::new(ErrorKind::Backend)
                    .operation("create")
                    .hint("a new id is already in use: the source of ids repeats itself"),
                Err(error) if error.kind().leaves_doubt() => error,
                Err(error) => {
                    self.forget_attempt();
                    return Err(error);
                }
            };
            match backend.get(&self.target.key).await {
                Ok(Some(found)) if found == self.target.bytes => return Ok(()),
                Ok(None) => {}
                _ => return Err(doubt),
            }
        }
        Err(Error::new(ErrorKind::Unavailable)
            .operation("create")
            .hint("the store lost the reply three times"))
    }

    async fn replace_bound(&mut self) -> Result<Fate> {
        if self.binds {
            self.bind().await?;
        }
        let fate = self.replace().await?;
        if matches!(fate, Fate::Done) {
            event::saved(&self.target.key, self.conflicts);
        }
        Ok(fate)
    }

    /// Swaps the stored record for this request's, replaying its changes on whatever others stored meanwhile.
    async fn replace(&mut self) -> Result<Fate> {
        let backend = &self.settings.backend;
        let mut lost_replies = 0;
        loop {
            self.note_attempt();
            let value = self.target.bytes.clone();
            let current = match backend.replace(&self.target.key, &self.base, value, self.ttl).await {
                Ok(Swapped::Done) => return Ok(Fate::Done),
                Ok(Swapped::Gone) => return Ok(Fate::Lost(Refusal::Gone)),
                Ok(Swapped::Conflict(current)) => {
                    // An attempt that was answered is in no doubt, unless an earlier one with the same bytes is.
                    if lost_replies == 0 && self.attempt(&current).is_none() {
                        self.forget_attempt();
                    }
                    current
                }
                Err(error) if error.kind().leaves_doubt() => {
                    lost_replies += 1;
                    match backend.get(&self.target.key).await {
                        Ok(None) => return Ok(Fate::Lost(Refusal::Gone)),
                        Ok(Some(current)) if self.attempt(&current).is_some() => current,
                        Ok(Some(current)) if current == self.base && lost_replies <= 3 => continue,
                        _ => return Err(error),
                    }
                }
                Err(error) => {
                    self.forget_attempt();
                    return Err(error);
                }
            };
            if let Some(through) = self.attempt(&current) {
                self.ops.retain(|(number, _)| through.is_some_and(|through| *number > through));
                if self.ops.is_empty() {
                    return self.found_applied(current);
                }
                // An earlier write of this request was applied late; the changes made since go on top of it.
                self.attempts.clear();
            }
            if !self.attempts.is_empty() {
                return Err(unknown_outcome());
            }
            if let Some(refusal) = self.replay_on(current)? {
                return Ok(Fate::Lost(refusal));
            }
        }
    }

    /// The stored record is a write of ours whose reply was lost.
    fn found_applied(&mut self, current: Bytes) -> Result<Fate> {
        if let Decoded::Session(record) = decode(&current, self.settings.max_record)? {
            self.meta = record.meta.clone();
            self.replayed = Some(record);
        }
        self.target.bytes = current;
        Ok(Fate::Done)
    }

    /// Builds the next write on what others stored: their record with this request's changes done again.
    ///
    /// # Errors
    /// [`ErrorKind::Contention`] after 16 conflicts; [`ErrorKind::Corrupt`] when it cannot be read.
    pub(crate) fn replay_on(&mut self, current: Bytes) -> Result<Option<Refusal>> {
        self.conflicts += 1;
        if self.conflicts > 16 {
            return Err(Error::new(ErrorKind::Contention)
                .operation("save")
                .hint("16 other writers came first, one after the other; nothing was written"));
        }
        let mut record = match decode(&current, self.settings.max_record)? {
            Decoded::Session(record) => record,
            Decoded::Tombstone => return Ok(Some(Refusal::Moved)),
        };
        replay(&self.ops, &mut record)?;
        let now = self.settings.now();
        if !matches!(self.plan, Plan::Replace { renew: false }) {
            record.meta.renewed = now;
        }
        let Some(ttl) = self.settings.expiry.left(&record.meta, now) else {
            return Ok(Some(Refusal::Gone));
        };
        self.target.bytes =
            encode(&record.meta, &record.data, &self.settings.nonces, self.settings.max_record)?;
        self.ttl = ttl;
        self.meta = record.meta.clone();
        self.base = current;
        self.replayed = Some(record);
        Ok(None)
    }

    /// Writes the record anew with a new renewal time. A failure is an event, not an error: nothing else depends on
    /// it, and the next request tries again.
    async fn renew(mut self) {
        let backend = &self.settings.backend;
        let (key, value) = (&self.target.key, self.target.bytes.clone());
        match backend.replace(key, &self.base, value, self.ttl).await {
            Ok(Swapped::Done) => {
                if self.meta.user.is_some()
                    && let Err(error) = self.bind().await
                {
                    event::unbound(&self.target.key, &error);
                }
                // Cannot fail without a replay.
                let _ = self.publish();
            }
            // Another request wrote first, and renewed it: its response carries the cookie.
            Ok(Swapped::Conflict(_)) => {}
            Ok(Swapped::Gone) => {
                self.give_up(Refusal::Gone);
            }
            Err(error) => event::renewal_failed(key, &error),
        }
    }

    /// Removes what was stored under a new key and shall not be. Tried three times; what remains ends with its ttl.
    pub(crate) async fn discard_target(&mut self) {
        let mut outcome = Ok(false);
        for _ in 0..3 {
            outcome = self.settings.backend.destroy(&self.target.key).await;
            if outcome.is_ok() {
                break;
            }
        }
        if let Err(error) = outcome {
            event::left_over(&self.target.key, &error);
        }
        self.attempts.clear();
    }

    /// Notes a write that is about to be made, for the case that its outcome stays unknown.
    fn note_attempt(&mut self) {
        if self.attempts.last().is_none_or(|last| last.bytes != self.target.bytes) {
            let through = self.ops.last().map(|(number, _)| *number);
            self.attempts.push(Attempt { bytes: self.target.bytes.clone(), through });
        }
    }

    /// Returns which change the write that `current` is held last, if `current` is a write of this request.
    fn attempt(&self, current: &Bytes) -> Option<Option<u64>> {
        self.attempts.iter().find(|attempt| attempt.bytes == current).map(|attempt| attempt.through)
    }

    fn forget_attempt(&mut self) {
        self.attempts.pop();
    }

    /// Tells the handle what is stored now.
    fn publish(&mut self) -> Result<()> {
        self.finished = true;
        let replayed = self.replayed.take();
        {
            let mut state = self.handle.lock();
            state.access = Access::Stored(self.target.clone());
            state.record.meta = self.meta.clone();
            state.changed = !state.log.is_empty();
            state.end_moved = false;
            state.renewed |= self.plan != (Plan::Replace { renew: false });
            state.owe(self.ticket);
            if self.ticket == Ticket::Send {
                state.old_signature = false;
            }
            if matches!(self.plan, Plan::Create | Plan::Move) {
                state.next_id = None;
                state.destroyed = false;
            }
        }
        replayed.map_or(Ok(()), |record| self.handle.rebase(&record))
    }

    /// Drops the changes: the session is not this request's any more.
    fn give_up(&mut self, refusal: Refusal) -> Error {
        self.finished = true;
        let key = self.old.as_ref().map_or(&self.target.key, |old| &old.key);
        match refusal {
            Refusal::Moved => event::moved(key),
            Refusal::Gone | Refusal::Corrupt | Refusal::Outage => event::gone(key),
        }
        self.handle.lock().refuse(refusal, self.handle.blank());
        Error::new(ErrorKind::Gone)
            .operation("save")
            .hint("the session ended or moved to a new id while this request was under way; its changes are dropped")
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut state = self.handle.lock();
        state.log.put_back(mem::take(&mut self.ops));
        // A renewal notes no attempt: whether it was applied makes no difference. A move cleans up behind itself.
        if self.attempts.is_empty() || self.plan == Plan::Move {
            return;
        }
        if self.plan == Plan::Create {
            state.next_id = Some(self.target.id.clone());
        }
        state.doubt = Some(Doubt { target: self.target.clone(), attempts: mem::take(&mut self.attempts) });
    }
}
