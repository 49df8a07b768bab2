//! The single writes of a commit: create, and compare-and-swap with replay; lost replies are settled by reading.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    commit::Fate,
    error::{Error, ErrorKind, Result},
    event,
    handle::{Access, Refusal},
    oplog::replay,
    plan::{Plan, Ticket},
    record::Decoded,
    repair::{Repair, Retired},
    session::Session,
    store::{Swapped, Ttl},
    work::Work,
};

impl Work<'_> {
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
    pub(crate) async fn create_bound(&mut self) -> Result<Fate> {
        self.create().await?;
        if self.binds
            && let Err(error) = Box::pin(self.bind()).await
        {
            Box::pin(self.undo(None)).await;
            return Err(error);
        }
        event::created(&self.target.key);
        Ok(Fate::Done)
    }

    /// Stores the target under its new key. A lost reply is settled by reading.
    pub(crate) async fn create(&mut self) -> Result<()> {
        let backend = &self.settings.backend;
        let mut doubtful = false;
        self.written.push(self.target.bytes.clone());
        for _ in 0..3 {
            self.note_attempt();
            let doubt = match backend.create(&self.target.key, self.target.bytes.clone(), self.ttl).await {
                Ok(true) => return Ok(()),
                // The key is taken: by an earlier try of ours, or the source of ids repeats itself.
                Ok(false) => {
                    let taken = Error::new(ErrorKind::Backend)
                        .operation("create")
                        .hint("a new id is already in use: the source of ids repeats itself");
                    if !doubtful && self.attempts.len() <= 1 && self.plan == Plan::Create {
                        // Nothing of ours is under this key, and the id is somebody else's.
                        self.forget_attempt();
                        self.handle.lock().next_id.take_if(|id| *id == self.target.id);
                        return Err(taken);
                    }
                    taken
                }
                Err(error) if error.kind().leaves_doubt() => error,
                Err(error) => {
                    if !doubtful {
                        self.forget_attempt();
                    }
                    return Err(error);
                }
            };
            doubtful = true;
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

    pub(crate) async fn replace_bound(&mut self) -> Result<Fate> {
        let mut bound_to = None;
        if self.binds {
            bound_to = self.meta.user.clone();
            Box::pin(self.bind()).await?;
        }
        let fate = self.replace().await?;
        if matches!(fate, Fate::Done) {
            // Another request bound the session to somebody else, and this one's entry is now the wrong one; or it wrote
            // its own entry after this one's.
            if self.binds && (self.meta.user != bound_to || self.conflicts > 0) {
                Box::pin(self.bind()).await?;
            }
            if self.meta.user.is_none() && (self.unbinds || bound_to.is_some()) {
                self.unbind_key(self.target.key.clone()).await;
            }
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
                    if lost_replies == 0 {
                        self.forget_attempt();
                    }
                    return Err(error);
                }
            };
            let own = self.attempt(&current).is_some();
            self.settle_attempts(&current)?;
            if own && self.ops.is_empty() {
                return self.found_applied(current);
            }
            if let Some(refusal) = self.replay_on(current)? {
                return Ok(Fate::Lost(refusal));
            }
            self.before_save().await?;
        }
    }

    /// The stored record is a write of ours whose reply was lost.
    fn found_applied(&mut self, current: Bytes) -> Result<Fate> {
        if let Decoded::Session(record) = self.settings.profile.records.decode(&self.target.key, &current)? {
            self.meta = record.meta.clone();
            self.replayed = Some(record);
        }
        self.target.bytes = current;
        Ok(Fate::Done)
    }

    /// Gives the record to the application's hooks before it is written, and writes what they make of it.
    ///
    /// # Errors
    /// What the hook answers, and those of encoding.
    pub(crate) async fn before_save(&mut self) -> Result<()> {
        if self.settings.hooks.touch_saves() { Box::pin(self.run_hooks()).await } else { Ok(()) }
    }

    async fn run_hooks(&mut self) -> Result<()> {
        let hooks = &self.settings.hooks;
        let Some(record) = self.replayed.take_if(|_| hooks.touch_saves()) else { return Ok(()) };
        let (ttl_before, user_before) = (record.meta.ttl, record.meta.user.clone());
        let access = match self.plan {
            Plan::Create => Access::Fresh,
            _ => Access::Stored(self.target.clone()),
        };
        let session = Session(Arc::new(self.handle.detached(access, record)));
        if let Some(before_save) = &hooks.before_save {
            before_save(self.handle.head.clone().unwrap_or_default(), session.clone()).await?;
        }
        if let Some(idle) = hooks.idle_by.as_ref().and_then(|idle_by| idle_by(&session)) {
            session.set_ttl(idle)?;
        }
        let mut record = session.0.lock().record.clone();
        let now = self.settings.now();
        if record.meta.ttl != ttl_before {
            record.meta.renewed = now;
            self.ticket = Ticket::Send;
        }
        self.ttl = self.settings.ttl_left(&record.meta, now).unwrap_or(Ttl::MIN);
        self.target.bytes =
            self.settings.profile.records.encode(&self.target.key, &record.meta, &record.data)?;
        let entry_changes = record.meta.user != user_before || record.meta.ttl != ttl_before;
        self.binds |= record.meta.user.is_some() && entry_changes;
        self.unbinds |= user_before.is_some() && record.meta.user.is_none();
        self.meta = record.meta.clone();
        self.replayed = Some(record);
        Ok(())
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
        let mut record = match self.settings.decode(self.base_place(), &current)? {
            Decoded::Session(record) => record,
            Decoded::Tombstone => return Ok(Some(Refusal::Moved)),
        };
        replay(&self.ops, &mut record)?;
        let now = self.settings.now();
        if !matches!(self.plan, Plan::Replace { renew: false }) {
            record.meta.renewed = now;
        }
        let Some(ttl) = self.settings.ttl_left(&record.meta, now) else {
            return Ok(Some(Refusal::Gone));
        };
        self.target.bytes =
            self.settings.profile.records.encode(&self.target.key, &record.meta, &record.data)?;
        self.ttl = ttl;
        self.meta = record.meta.clone();
        self.base = current;
        self.replayed = Some(record);
        Ok(None)
    }

    /// Writes the record anew with a new renewal time. A failure is an event, not an error: nothing else depends on
    /// it, and the next request tries again.
    pub(crate) async fn renew(mut self: Box<Self>) {
        match self.write_renewal().await {
            Ok(Swapped::Done) => {
                if self.meta.user.is_some()
                    && let Err(error) = self.bind().await
                {
                    event::unbound(&self.target.key, &error);
                }
                // Cannot fail without a replay.
                let _ = self.publish();
            }
            // Another request wrote first. If it renewed the session, its response carries the cookie; if not, the
            // next request that loads it is due again.
            Ok(Swapped::Conflict(_)) => {}
            Ok(Swapped::Gone) => {
                self.give_up(Refusal::Gone);
            }
            Err(error) => event::renewal_failed(&self.target.key, &error),
        }
    }

    async fn write_renewal(&mut self) -> Result<Swapped> {
        let backend = &self.settings.backend;
        if self.settings.profile.renewal.by_touch {
            self.target.bytes = self.base.clone();
            let touched = backend.touch(&self.target.key, self.ttl).await?;
            return Ok(if touched { Swapped::Done } else { Swapped::Gone });
        }
        let value = self.target.bytes.clone();
        match backend.replace(&self.target.key, &self.base, value, self.ttl).await {
            // If it was applied the cookie must go out, or it would end before the record does.
            Err(error) if error.kind().leaves_doubt() => match backend.get(&self.target.key).await {
                Ok(Some(found)) if found == self.target.bytes => Ok(Swapped::Done),
                _ => Err(error),
            },
            swapped => swapped,
        }
    }

    /// Removes what was stored under a new key and shall not be, and brings back what it was to replace.
    pub(crate) async fn undo(&mut self, old: Option<Retired>) {
        let settings = Arc::clone(&self.handle.settings);
        let target = (self.target.key.clone(), std::mem::take(&mut self.written));
        let note = self.note.take().zip(self.old.as_ref()).map(|(note, old)| (old.key.moved(), note));
        Repair { settings, old, target, note }.run().await;
        self.forget_attempts();
    }
}
