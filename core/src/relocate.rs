//! Moves a session to a new id in two steps, so that at every moment at least one of the two works.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    commit::Fate,
    error::Result,
    event,
    handle::{Refusal, Stored},
    id::Key,
    migrate::Home,
    record::Decoded,
    repair::Retired,
    store::{Swapped, Ttl},
    work::Work,
};

/// How long the old key is kept from being taken for an unknown one: longer than any request under way should run.
const TOMBSTONE_TTL: Ttl = Ttl::new(Duration::from_secs(60));

/// Begins the names that tombstones are bound to. No user may have such a name.
pub(crate) const NOBODY: &str = "cloakroom: moved from ";

/// What became of the old record.
enum Retirement {
    Done,
    Lost(Refusal),
    /// Others wrote it since: their changes must come along.
    Changed(Bytes),
}

impl Work<'_> {
    /// Stores the session under its new id, then replaces the old record, as it was read, by a tombstone.
    ///
    /// If others changed the old record in between, their changes are taken over first. If it is gone or has already
    /// moved, the race is lost and the new record is removed again. After an error the old session works, as soon as
    /// the store does.
    pub(crate) async fn relocate(&mut self) -> Result<Fate> {
        let Some(old) = self.old.clone() else {
            return Ok(Fate::Lost(Refusal::Gone));
        };
        // What has left its old home for good leaves nothing behind there, but a note here.
        let tombstone = match old.home {
            Home::Own => self.settings.profile.records.tombstone(&old.key, self.settings.now())?,
            Home::Old => None,
        };
        let fate = match self.create().await {
            Ok(()) => self.take_over(&old, tombstone.as_ref()).await,
            Err(error) => Err(error),
        };
        if let Ok(Fate::Done) = &fate {
            event::cycled(&old.key, &self.target.key);
            return fate;
        }
        // What was removed, in a format without tombstones, is not brought back: that could undo a logout.
        let retired = tombstone.filter(|_| self.half_retired && fate.is_err());
        let retired =
            retired.map(|tombstone| Retired { key: old.key.clone(), record: self.base.clone(), tombstone });
        self.undo(retired).await;
        let gone = matches!(fate, Ok(Fate::Lost(Refusal::Gone)));
        // A note that is still there is of whoever moved it over: it lives on, and a logout must not be told that it has
        // ended. Nor if that cannot be asked.
        if gone && self.settings.moved_over(&old).await.unwrap_or(true) {
            return Ok(Fate::Lost(Refusal::Moved));
        }
        fate
    }

    async fn take_over(&mut self, old: &Stored, tombstone: Option<&Bytes>) -> Result<Fate> {
        // The entry of the new key is there before the old key dies: "log out everywhere" misses neither.
        self.bind().await?;
        if old.home == Home::Old {
            self.leave_word(old).await?;
        }
        loop {
            match self.retire(old, tombstone).await? {
                Retirement::Done => {
                    self.unbind(old).await;
                    return Ok(Fate::Done);
                }
                Retirement::Lost(refusal) => return Ok(Fate::Lost(refusal)),
                Retirement::Changed(current) => {
                    let (stored, user) = (self.target.bytes.clone(), self.meta.user.clone());
                    self.settle_attempts(&current)?;
                    if let Some(refusal) = self.replay_on(current)? {
                        return Ok(Fate::Lost(refusal));
                    }
                    self.before_save().await?;
                    self.written.push(self.target.bytes.clone());
                    if self.meta.user != user {
                        self.bind().await?;
                    }
                    if let Some(refusal) = self.rewrite(&stored).await? {
                        return Ok(Fate::Lost(refusal));
                    }
                }
            }
        }
    }

    /// Notes here, as long as a tombstone would stand, that the session is gone from under its old key there.
    ///
    /// Before it is gone, so that nobody finds neither. While the old record is there, nobody asks for the note.
    ///
    /// A move that fails takes its note back, if it was the first to leave one and that one still stands: if the old record
    /// is gone by then, no session is left that the note could protect, and for as long as it stood the visitor could not
    /// log in. Who comes second writes over the note of the first and never takes it back, whatever becomes of either.
    /// So a note that stands as the first one wrote it is nobody else's, and a winner's is never taken away.
    async fn leave_word(&mut self, old: &Stored) -> Result<()> {
        if !self.settings.leaves_word() {
            return Ok(());
        }
        let key = old.key.moved();
        let Some(note) = self.settings.profile.records.tombstone(&key, self.settings.now())? else {
            return Ok(());
        };
        let backend = &self.settings.backend;
        // Who is the first can only be told where there is a `create`.
        if backend.store().as_atomic().is_some() {
            self.note = Some(note.clone());
            if backend.create(&key, note.clone(), TOMBSTONE_TTL).await? {
                return Ok(());
            }
            self.note = None;
        }
        backend.set(&key, note, TOMBSTONE_TTL).await
    }

    /// Takes the tombstone out of the user's index entries, so that ending the user's other sessions does not remove
    /// it: its key is bound, as long as it stands, to a name that no user has.
    async fn unbind(&mut self, old: &Stored) {
        let bound = match self.settings.decode(old, &self.base) {
            _ if old.home == Home::Old => false,
            Ok(Decoded::Session(record)) => record.meta.user.is_some(),
            Ok(Decoded::Tombstone) | Err(_) => false,
        };
        if bound {
            self.unbind_key(old.key.clone()).await;
        }
    }

    /// Moves the entry of a key away from its user, to a name that no user has. A failure is an event: the entry then
    /// ends with its ttl.
    pub(crate) async fn unbind_key(&mut self, key: Key) {
        let nobody = format!("{NOBODY}{}", key.fingerprint());
        if let Err(error) = self.settings.backend.bind(&key, &nobody, TOMBSTONE_TTL).await {
            event::unbound(&key, &error);
        }
    }

    /// Swaps the old record for the tombstone, or removes it where the format has none. A lost reply is settled by
    /// reading: the tombstone is one of a kind. An absent record may be somebody's logout, so the race counts as lost.
    async fn retire(&mut self, old: &Stored, tombstone: Option<&Bytes>) -> Result<Retirement> {
        let backend = self.settings.backend_of(old.home);
        let mut lost_replies = 0;
        self.half_retired = false;
        loop {
            let swapped = match tombstone {
                Some(tombstone) => {
                    backend.replace(&old.key, &self.base, tombstone.clone(), TOMBSTONE_TTL).await
                }
                None => backend.remove(&old.key, &self.base).await,
            };
            let current = match swapped {
                Ok(Swapped::Done) => return Ok(Retirement::Done),
                Ok(Swapped::Gone) => return Ok(Retirement::Lost(Refusal::Gone)),
                Ok(Swapped::Conflict(current)) => current,
                Err(error) if error.kind().leaves_doubt() && lost_replies < 3 => {
                    lost_replies += 1;
                    self.half_retired = true;
                    match backend.get(&old.key).await {
                        Ok(None) => return Ok(Retirement::Lost(Refusal::Gone)),
                        Ok(Some(current)) if current == self.base => continue,
                        Ok(Some(current)) => current,
                        Err(_) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            };
            if tombstone == Some(&current) {
                return Ok(Retirement::Done);
            }
            return Ok(match self.settings.decode(old, &current)? {
                Decoded::Tombstone => Retirement::Lost(Refusal::Moved),
                Decoded::Session(_) => Retirement::Changed(current),
            });
        }
    }

    /// Writes the replayed record over the one just created. Nobody else holds the new id yet, so a conflict can only
    /// be an earlier try of this very write.
    async fn rewrite(&mut self, stored: &Bytes) -> Result<Option<Refusal>> {
        let backend = &self.settings.backend;
        let mut lost_replies = 0;
        loop {
            let value = self.target.bytes.clone();
            match backend.replace(&self.target.key, stored, value, self.ttl).await {
                Ok(Swapped::Done) => return Ok(None),
                Ok(Swapped::Conflict(current)) if current == self.target.bytes => return Ok(None),
                Ok(Swapped::Conflict(_) | Swapped::Gone) => return Ok(Some(Refusal::Gone)),
                Err(error) if error.kind().leaves_doubt() && lost_replies < 3 => lost_replies += 1,
                Err(error) => return Err(error),
            }
        }
    }
}
