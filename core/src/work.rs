//! One commit under way: the changes taken out of a handle's log, and the write they have become.

use std::mem;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    commit::{Trigger, unknown_outcome},
    config::Settings,
    error::{Error, ErrorKind, Result},
    event,
    handle::{Access, Attempt, Attempts, Doubt, Handle, Refusal, Stored},
    migrate::Home,
    oplog::{Op, Ops},
    plan::{Plan, Ticket, decide},
    record::{Meta, Record},
    store::Ttl,
};

/// Records larger than this are reported, once a commit.
const SOFT_LIMIT: usize = 64 * 1024;

/// What [`Work::begin`] finds.
pub(crate) enum Begun<'h> {
    Nothing,
    /// It takes more than one write, and this is no task yet.
    HasSteps,
    /// A new session must be given an id first.
    NeedsId,
    /// Boxed: it goes through several hands, and would make each of their futures a kilobyte larger.
    Work(Box<Work<'h>>),
}

/// One commit: the changes taken out of the log, and the write they have become.
///
/// Dropped before its end, it puts the changes back and notes what it cannot know.
pub(crate) struct Work<'h> {
    pub(crate) handle: &'h Handle,
    pub(crate) settings: &'h Settings,
    pub(crate) plan: Plan,
    pub(crate) ticket: Ticket,
    pub(crate) ops: Ops,
    /// What is stored under the old key: the expected value of the swap. Empty for a new session.
    pub(crate) base: Bytes,
    /// What the session moves away from.
    pub(crate) old: Option<Stored>,
    /// Where the record goes, and what is written there.
    pub(crate) target: Stored,
    pub(crate) meta: Meta,
    pub(crate) ttl: Ttl,
    /// The record after a replay; without one, the handle's view is what was written.
    pub(crate) replayed: Option<Record>,
    pub(crate) conflicts: u32,
    /// Writes whose outcome is not known.
    pub(crate) attempts: Attempts,
    /// What was written under a new key.
    pub(crate) written: SmallVec<[Bytes; 1]>,
    /// The old record may have been replaced by a tombstone, though no reply said so.
    pub(crate) half_retired: bool,
    /// The note that the session is gone from its old home, where this move was the first to leave one.
    pub(crate) note: Option<Bytes>,
    /// The by-user index entry is to be written as well.
    pub(crate) binds: bool,
    /// The session was bound, and shall not be: its index entry is to be moved away.
    pub(crate) unbinds: bool,
    finished: bool,
}

impl<'h> Work<'h> {
    /// Decides, and takes the changes. `None` if nothing is to be written; what is owed to the browser is noted.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], with the changes left in the log; [`ErrorKind::Committed`] for a session that cannot
    /// be created or moved any more, since its cookie could not be sent.
    pub(crate) fn begin(handle: &'h Handle, trigger: Trigger, in_task: bool) -> Result<Begun<'h>> {
        let settings = &*handle.settings;
        let mut state = handle.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if let (Trigger::Explicit, Access::Refused(refusal)) = (trigger, &state.access) {
            // A clone may have lost the race with this one's changes in its hands.
            return Err(refusal.error());
        }
        let server_error = matches!(trigger, Trigger::Response { server_error: true });
        let now = settings.now();
        let mut facts = state.facts(settings, || now, server_error);
        // The cookie of a renewal can no longer be sent, and would then end before the record does.
        facts.renewal_due &= !(state.closed && matches!(trigger, Trigger::Explicit));
        let (plan, ticket) = decide(&facts);
        let user_changed = state.log.iter().any(|op| matches!(op, Op::User(_) | Op::NoUser));
        let rewrites = matches!(plan, Plan::Replace { renew: false });
        let binds = state.record.meta.user.is_some() && (!rewrites || user_changed);
        // A move takes the old key's entry away in any case, and the new one is not bound yet.
        let unbinds =
            matches!(plan, Plan::Replace { .. }) && state.log.iter().any(|op| matches!(op, Op::NoUser));
        let writes = !matches!(plan, Plan::Nothing | Plan::Forget);
        // A hook may bind a user only later.
        if !in_task && writes && (plan == Plan::Move || binds || unbinds || settings.hooks.touch_saves()) {
            return Ok(Begun::HasSteps);
        }
        if matches!(plan, Plan::Create | Plan::Move) && state.next_id.is_none() {
            return Ok(Begun::NeedsId);
        }
        let mut meta = state.record.meta.clone();
        let (id, stored) = match (plan, &state.access) {
            (Plan::Nothing | Plan::Forget, _) | (_, Access::Refused(_)) => {
                state.owe(ticket);
                return Ok(Begun::Nothing);
            }
            (Plan::Create, _) => {
                meta.created = now;
                meta.renewed = now;
                meta.deadline = settings.expiry.deadline(now);
                (state.next_id.as_ref(), None)
            }
            (Plan::Move, Access::Stored(stored)) => {
                meta.renewed = now;
                (state.next_id.as_ref(), Some(stored))
            }
            (_, Access::Stored(stored)) => {
                if matches!(plan, Plan::Renew | Plan::Replace { renew: true }) {
                    meta.renewed = now;
                }
                (Some(&stored.id), Some(stored))
            }
            (_, Access::Fresh) => return Ok(Begun::Nothing),
        };
        let Some(id) = id else { return Ok(Begun::NeedsId) };
        if state.closed && matches!(trigger, Trigger::Explicit) && matches!(plan, Plan::Create | Plan::Move) {
            return Err(Error::new(ErrorKind::Committed).hint("the new cookie can no longer be sent"));
        }
        let id = id.clone();
        let key = match stored {
            Some(stored) if plan != Plan::Move => stored.key.clone(),
            _ => settings.profile.keys.key(&id)?,
        };
        let base = stored.map(|stored| stored.bytes.clone()).unwrap_or_default();
        let old = stored.filter(|_| plan == Plan::Move).cloned();
        // Encoded while locked: this is pure computation, and the view need not be copied for it.
        let bytes = settings.profile.records.encode(&key, &meta, &state.record.data)?;
        let ttl = settings.ttl_left(&meta, now).unwrap_or(Ttl::MIN);
        if bytes.len() > SOFT_LIMIT {
            event::large(&key, bytes.len());
        }
        // Hooks see a copy of what is about to be written.
        let replayed = settings
            .hooks
            .touch_saves()
            .then(|| Record { meta: meta.clone(), data: state.record.data.clone() });
        let ops = state.log.take();
        let attempts = state.doubt.take().map(|doubt| doubt.attempts).unwrap_or_default();
        Ok(Begun::Work(Box::new(Self {
            handle,
            settings,
            plan,
            ticket,
            binds,
            unbinds,
            ops,
            base,
            old,
            target: Stored { id, key, bytes, home: Home::Own },
            meta,
            ttl,
            replayed,
            conflicts: 0,
            attempts,
            written: SmallVec::new(),
            half_retired: false,
            note: None,
            finished: false,
        })))
    }

    /// Notes a write that is about to be made, for the case that its outcome stays unknown. A move cleans up behind
    /// itself: what is noted there are earlier writes to the old key.
    pub(crate) fn note_attempt(&mut self) {
        if self.plan == Plan::Move {
            return;
        }
        if self.attempts.last().is_none_or(|last| last.bytes != self.target.bytes) {
            let through = self.ops.last().map(|(number, _)| *number);
            self.attempts.push(Attempt { bytes: self.target.bytes.clone(), through });
        }
    }

    /// Returns which change the write that `current` is held last, if `current` is a write of this request.
    pub(crate) fn attempt(&self, current: &Bytes) -> Option<Option<u64>> {
        // Equal bytes prove nothing where two writers can write the same.
        if !self.settings.profile.records.marks_writes() {
            return None;
        }
        self.attempts.iter().find(|attempt| attempt.bytes == current).map(|attempt| attempt.through)
    }

    /// Forgets the last write: it was answered.
    pub(crate) fn forget_attempt(&mut self) {
        if self.plan != Plan::Move {
            self.attempts.pop();
        }
    }

    /// Forgets every write to the target: it has been removed.
    pub(crate) fn forget_attempts(&mut self) {
        if self.plan != Plan::Move {
            self.attempts.clear();
        }
    }

    /// Takes from the changes those that `current` holds already, if it is a write of this request.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when it is somebody else's, and an earlier write of this request may be below it.
    pub(crate) fn settle_attempts(&mut self, current: &Bytes) -> Result<()> {
        if let Some(through) = self.attempt(current) {
            self.ops.retain(|(number, _)| through.is_none_or(|through| *number > through));
            // An earlier write of this request was applied late; the changes made since go on top of it.
            self.attempts.clear();
        }
        if self.attempts.is_empty() { Ok(()) } else { Err(unknown_outcome()) }
    }

    /// Tells the handle what is stored now.
    pub(crate) fn publish(&mut self) -> Result<()> {
        self.finished = true;
        let replayed = self.replayed.take();
        let overtaken = {
            let mut state = self.handle.lock();
            state.access = Access::Stored(self.target.clone());
            let cookie_stale = state.log.iter().any(Op::concerns_the_cookie);
            state.cookie_stale = cookie_stale;
            state.renewed |= self.plan != (Plan::Replace { renew: false });
            state.owe(self.ticket);
            if self.ticket == Ticket::Send {
                state.old_signature = false;
            }
            if matches!(self.plan, Plan::Create | Plan::Move) {
                state.settle_on(&self.target.id);
                state.destroyed = false;
            }
            // Changes that clones made since are in the view and in the log: the view is made anew with both.
            let overtaken = !state.log.is_empty();
            state.changed = overtaken;
            if !overtaken {
                state.record.meta = self.meta.clone();
            }
            overtaken
        };
        let viewed = match replayed {
            Some(record) => self.handle.rebase(&record),
            None if overtaken => self.handle.rebuild(),
            None => Ok(()),
        };
        if viewed.is_err() && !self.base.is_empty() {
            // The view lacks what others stored. The next commit must not take it for the record: it meets a conflict,
            // and does its changes again on what is there.
            let stale = Stored { bytes: self.base.clone(), ..self.target.clone() };
            self.handle.lock().access = Access::Stored(stale);
        }
        viewed
    }

    /// Returns where the record is that the changes are made on.
    pub(crate) fn base_place(&self) -> &Stored {
        self.old.as_ref().unwrap_or(&self.target)
    }

    /// Drops the changes: the session is not this request's any more.
    pub(crate) fn give_up(&mut self, refusal: Refusal) -> Error {
        self.finished = true;
        let key = &self.base_place().key;
        match refusal {
            Refusal::Moved => event::moved(key),
            Refusal::Gone | Refusal::Corrupt | Refusal::Unloaded | Refusal::Outage => event::gone(key),
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
        // A renewal notes no attempt: whether it was applied makes no difference.
        if self.attempts.is_empty() {
            return;
        }
        let target = self.old.as_ref().unwrap_or(&self.target).clone();
        if self.plan == Plan::Create {
            state.next_id.get_or_insert_with(|| target.id.clone());
        }
        state.doubt = Some(Box::new(Doubt { target, attempts: mem::take(&mut self.attempts) }));
    }
}
