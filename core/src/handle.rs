//! The state behind a session handle: what is stored, what the request did to it, what the browser must hear.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    config::Settings,
    cookie::{Candidates, CookieOptions, Rejection},
    document::Document,
    error::{Error, ErrorKind, Result},
    hooks::OwnedHead,
    id::{Key, SessionId},
    migrate::Home,
    oplog::{Op, OpLog, replay},
    plan::{Facts, Save, Standing, Ticket},
    record::{Decoded, Meta, Millis, Record},
};

/// How often a closure is run again because somebody wrote in between.
pub(crate) const MAX_TRIES: u32 = 16;

/// The error of a change that clones of the session kept overtaking.
pub(crate) fn busy(operation: &'static str) -> Error {
    Error::new(ErrorKind::Contention)
        .operation(operation)
        .hint("clones of this session wrote 16 times while its closures ran; let one of them write at a time")
}

/// One request's session. Every `Session` and `LazySession` of the request is a pointer to this.
pub(crate) struct Handle {
    pub(crate) settings: Arc<Settings>,
    /// The request is within the cookie's path.
    pub(crate) in_scope: bool,
    pub(crate) candidates: Candidates,
    /// Tickets of the format that sessions move away from.
    pub(crate) old_candidates: Option<Box<Candidates>>,
    /// The request, where a hook wants to see it.
    pub(crate) head: Option<Arc<OwnedHead>>,
    /// A stand-in that `before_save` is given: it is read and written, never committed.
    pub(crate) detached: bool,
    /// Full once the session is loaded. A failed load leaves it empty, so that the next one tries again.
    pub(crate) loading: OnceCell<()>,
    /// One commit at a time, whoever of the clones asks for it.
    pub(crate) committing: Semaphore,
    state: Mutex<State>,
}

/// What changes while a request runs. Locked for a few instructions at a time: never across an await, never while a
/// closure of the user's runs.
pub(crate) struct State {
    pub(crate) access: Access,
    /// The session as the handler sees it: what is stored, with the log applied.
    pub(crate) record: Record,
    pub(crate) log: OpLog,
    /// The log makes a difference.
    pub(crate) changed: bool,
    pub(crate) cookie_stale: bool,
    /// This request has already begun the idle time anew.
    pub(crate) renewed: bool,
    /// Counts the changes of `record`.
    pub(crate) revision: u64,
    /// The id that the next commit stores under, where a handler asked for one.
    pub(crate) next_id: Option<SessionId>,
    pub(crate) old_signature: bool,
    /// A ticket came that leads to no session.
    pub(crate) rejected: Option<Rejection>,
    pub(crate) save: Save,
    /// What commits so far owe the browser.
    pub(crate) ticket: Ticket,
    pub(crate) destroyed: bool,
    /// A good ticket of the old format was looked up: it is taken back with whatever the browser is told, be it that its
    /// session has moved here or that it led to none and a new one begins.
    pub(crate) old_ticket: bool,
    /// The cookie options of the destroyed session, for the removal of its cookie.
    pub(crate) taken_back: Option<CookieOptions>,
    /// Boxed, as most requests have none: it would be a quarter of every handle.
    pub(crate) doubt: Option<Box<Doubt>>,
    /// A change that could not be made where nobody could be told. The next commit tells.
    pub(crate) failure: Option<Error>,
    /// The response is being committed: writes come too late.
    pub(crate) closed: bool,
}

/// What is known of the stored record.
pub(crate) enum Access {
    Fresh,
    Stored(Stored),
    Refused(Refusal),
}

/// A record in the store, as last seen or written.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) id: SessionId,
    pub(crate) key: Key,
    pub(crate) bytes: Bytes,
    pub(crate) home: Home,
}

/// Why a session may be read (as an empty one) but not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Gone,
    Moved,
    Corrupt,
    /// It could not be loaded, and the application lets the request go on without.
    Unloaded,
    /// As above, because the store is down.
    Outage,
}

impl Refusal {
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Gone => Error::new(ErrorKind::Gone).hint("the session ended while this request was under way"),
            Self::Moved => Error::new(ErrorKind::WritesRefused)
                .hint("the session has just moved to a new id, and this request came with the old one"),
            Self::Unloaded => Error::new(ErrorKind::WritesRefused)
                .hint("the session could not be loaded, and this request goes on without it"),
            Self::Outage => Error::new(ErrorKind::Unavailable)
                .hint("the session store is unavailable, and this request goes on without its session"),
            Self::Corrupt => Error::new(ErrorKind::WritesRefused)
                .hint("the stored session cannot be read and is kept as it is; destroy() gives the visitor a new one"),
        }
    }
}

/// A write of this request whose outcome is not known: its future was dropped, or its reply was lost.
pub(crate) struct Doubt {
    pub(crate) target: Stored,
    /// Every way this request tried to write it.
    pub(crate) attempts: Attempts,
}

/// The writes of one commit; the only one of nearly all commits is held without an allocation.
pub(crate) type Attempts = SmallVec<[Attempt; 1]>;

/// A write that may have been applied.
pub(crate) struct Attempt {
    pub(crate) bytes: Bytes,
    /// The number of the last change it held, if any.
    pub(crate) through: Option<u64>,
}

impl Handle {
    #[inline]
    pub(crate) fn new(
        settings: Arc<Settings>,
        in_scope: bool,
        candidates: Candidates,
        old_candidates: Option<Box<Candidates>>,
        head: Option<Arc<OwnedHead>>,
    ) -> Self {
        let state = State {
            access: Access::Fresh,
            record: Record { meta: Meta::starting(0, None), data: Document::default() },
            log: OpLog::default(),
            changed: false,
            cookie_stale: false,
            renewed: false,
            revision: 0,
            next_id: None,
            old_signature: false,
            rejected: None,
            save: Save::default(),
            ticket: Ticket::Keep,
            destroyed: false,
            old_ticket: false,
            taken_back: None,
            doubt: None,
            failure: None,
            closed: false,
        };
        Self {
            settings,
            in_scope,
            candidates,
            old_candidates,
            head,
            detached: false,
            loading: OnceCell::new(),
            committing: Semaphore::new(1),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes a stand-in of this session that shows `record`, for a hook to read and write.
    pub(crate) fn detached(&self, access: Access, record: Record) -> Self {
        let mut handle =
            Self::new(Arc::clone(&self.settings), true, Candidates::default(), None, self.head.clone());
        handle.detached = true;
        let state = handle.state.get_mut();
        state.access = access;
        state.record = record;
        handle
    }

    /// # Errors
    /// [`ErrorKind::Unsupported`] for the stand-in that a hook is given.
    pub(crate) fn check_attached(&self, operation: &'static str) -> Result<()> {
        if self.detached {
            return Err(Error::new(ErrorKind::Unsupported).operation(operation).hint(
                "before_save is part of a commit: it may change the session, and not commit or end it",
            ));
        }
        Ok(())
    }

    /// Applies one change and notes it for the commit. Not for changes that hold a closure of the user's.
    ///
    /// # Errors
    /// As [`State::check_writable`] and [`Op::apply`].
    pub(crate) fn write(&self, op: Op) -> Result<bool> {
        let mut state = self.lock();
        state.check_writable()?;
        let changed = op.apply(&mut state.record)?;
        state.note(op, changed);
        Ok(changed)
    }

    /// Makes the handler's view anew from `stored` (nothing, for a new session) and the changes not yet committed.
    ///
    /// # Errors
    /// As [`Op::apply`], and [`ErrorKind::Contention`] when clones wrote each time. The view is then as before.
    pub(crate) fn rebase(&self, stored: &Record) -> Result<()> {
        for _ in 0..MAX_TRIES {
            let ops = self.lock().log.take();
            let mut record = stored.clone();
            let outcome = replay(&ops, &mut record);
            let count = ops.len();
            let mut state = self.lock();
            let quiet = state.log.is_empty();
            state.log.put_back(ops);
            let changed = outcome?;
            // A clone of this session wrote while the closures ran: once more, with its change.
            if quiet {
                state.changed = changed && count > 0;
                state.record = record;
                state.revision += 1;
                return Ok(());
            }
        }
        Err(busy("save"))
    }

    /// Makes the view anew after a change was taken back.
    ///
    /// # Errors
    /// As [`rebase`](Self::rebase), and [`ErrorKind::Corrupt`] if the known bytes cannot be read.
    pub(crate) fn rebuild(&self) -> Result<()> {
        let stored = match &self.lock().access {
            Access::Stored(stored) => Some(stored.clone()),
            Access::Fresh | Access::Refused(_) => None,
        };
        match stored.map(|stored| self.settings.decode(&stored, &stored.bytes)).transpose()? {
            Some(Decoded::Session(record)) => self.rebase(&record),
            Some(Decoded::Tombstone) | None => self.rebase(&self.blank()),
        }
    }

    /// Returns a new session's record.
    pub(crate) fn blank(&self) -> Record {
        let now = self.settings.now();
        let deadline = self.settings.expiry.deadline(now);
        let meta = Meta::starting(now, deadline);
        Record { meta, data: Document::default() }
    }
}

impl State {
    /// # Errors
    /// [`ErrorKind::Committed`], [`ErrorKind::Gone`] or [`ErrorKind::WritesRefused`].
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Committed)
                .hint("write before the response is returned, or use update_now on a stored session"));
        }
        self.check_granted()
    }

    /// # Errors
    /// [`ErrorKind::Gone`] or [`ErrorKind::WritesRefused`].
    pub(crate) fn check_granted(&self) -> Result<()> {
        match self.access {
            Access::Refused(refusal) => Err(refusal.error()),
            Access::Fresh | Access::Stored(_) => Ok(()),
        }
    }

    /// Notes a change that has been applied to the view, and returns its number.
    pub(crate) fn note(&mut self, op: Op, changed: bool) -> u64 {
        self.changed |= changed;
        self.cookie_stale |= changed && op.concerns_the_cookie();
        self.revision += u64::from(changed);
        self.log.push(op)
    }

    /// Drops everything this request did: the session is not its own any more.
    pub(crate) fn refuse(&mut self, refusal: Refusal, blank: Record) {
        self.access = Access::Refused(refusal);
        self.forget_changes();
        self.record = blank;
        self.ticket = Ticket::Keep;
        self.destroyed = false;
    }

    /// Becomes a new session, with nothing stored.
    pub(crate) fn start_over(&mut self, blank: Record) {
        self.access = Access::Fresh;
        self.forget_changes();
        self.record = blank;
        self.old_signature = false;
    }

    /// Becomes a session that is stored as `stored`, which reads as `record`.
    pub(crate) fn install(&mut self, stored: Stored, record: Record) {
        self.access = Access::Stored(stored);
        self.forget_changes();
        self.record = record;
    }

    fn forget_changes(&mut self) {
        self.log.clear();
        self.changed = false;
        self.cookie_stale = false;
        self.next_id = None;
        self.doubt = None;
        self.revision += 1;
    }

    /// Whether there is something a commit could write.
    pub(crate) fn has_changes(&self) -> bool {
        !self.log.is_empty() || self.next_id.is_some() || self.is_old()
    }

    /// Whether the session is still where it is to move away from.
    pub(crate) fn is_old(&self) -> bool {
        matches!(&self.access, Access::Stored(stored) if stored.home == Home::Old)
    }

    /// Notes what the browser must hear. A later word replaces an earlier one.
    pub(crate) fn owe(&mut self, ticket: Ticket) {
        if ticket != Ticket::Keep {
            self.ticket = ticket;
        }
    }

    /// Notes that the session is stored under `id`. An id asked for since is still to come.
    pub(crate) fn settle_on(&mut self, id: &SessionId) {
        if self.next_id.as_ref() == Some(id) {
            self.next_id = None;
        }
    }

    /// Collects what [`decide`](crate::plan::decide) needs.
    pub(crate) fn facts(
        &self,
        settings: &Settings,
        now: impl FnOnce() -> Millis,
        server_error: bool,
    ) -> Facts {
        let standing = match self.access {
            Access::Fresh => Standing::Fresh,
            Access::Stored(_) => Standing::Stored,
            Access::Refused(_) => Standing::Refused,
        };
        // Without a stored session there is no idle time to renew; the clock is not even read.
        let renewal_due =
            standing == Standing::Stored && !self.renewed && settings.renewal_due(&self.record.meta, now);
        let silent = settings.profile.renewal.in_silence && !settings.rolling;
        let endless = self.record.meta.cookie.and_then(|own| own.browser_session);
        let endless = endless.unwrap_or(settings.profile.endless_cookie);
        Facts {
            standing,
            changed: self.changed,
            empty: self.record.data.is_empty() && self.record.meta.user.is_none(),
            // A session of the old home moves whenever it is saved.
            new_id: self.next_id.is_some() || self.is_old(),
            cookie_stale: self.cookie_stale,
            renewal_due,
            writes_renew: settings.profile.renewal.every_write,
            renews_in_silence: silent,
            writes_in_silence: silent && endless,
            old_signature: self.old_signature,
            save: self.save,
            allow_empty: settings.allow_empty,
            destroyed: self.destroyed,
            unsaved_error: server_error && !settings.save_on_server_error,
        }
    }
}

/// Shows a short hash of the key, never the id or the data.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(state) = self.state.try_lock() else {
            return f.write_str("Session(in use)");
        };
        match (&state.access, self.loading.initialized()) {
            (_, false) => f.write_str("Session(not loaded)"),
            (Access::Fresh, _) => write!(f, "Session(new, {} keys)", state.record.data.len()),
            (Access::Stored(stored), _) => {
                write!(f, "Session(#{}, {} keys)", stored.key.fingerprint(), state.record.data.len())
            }
            (Access::Refused(refusal), _) => write!(f, "Session({refusal:?})"),
        }
    }
}
