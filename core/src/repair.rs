//! Undoes what a commit of several steps left behind when it stopped half-way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep};

use crate::{
    config::Settings,
    error::Result,
    event,
    id::Key,
    record::Decoded,
    store::{Swapped, Ttl},
};

/// How long repairs are tried again: as long as a tombstone keeps the old key.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The way back to where the commit began.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) settings: Arc<Settings>,
    /// An old record that may have been replaced by a tombstone, though no reply said so.
    pub(crate) old: Option<Retired>,
    /// Where the new record is, and everything that was written there.
    pub(crate) target: (Key, SmallVec<[Bytes; 1]>),
    /// A note that the session has moved over, which it has not.
    pub(crate) note: Option<(Key, Bytes)>,
}

/// An old record and the tombstone in its place.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) key: Key,
    pub(crate) record: Bytes,
    pub(crate) tombstone: Bytes,
}

impl Repair {
    /// Tries once now. If the store cannot be reached, goes on in a task that `shutdown` waits for.
    pub(crate) async fn run(mut self) {
        if self.step().await.is_ok() {
            return;
        }
        let tasks = self.settings.tasks.clone();
        tasks.spawn(async move {
            let (end, mut pause) = (Instant::now() + PATIENCE, PAUSES.0);
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                match self.step().await {
                    Ok(()) => return,
                    Err(error) if Instant::now() >= end => return event::left_over(&self.target.0, &error),
                    Err(_) => {}
                }
            }
        });
    }

    /// First the old record, then the new one: while both fail, somebody's data is still in the store. The note goes last:
    /// it ends by itself before long.
    async fn step(&mut self) -> Result<()> {
        if let Some(old) = &self.old {
            self.revive(old).await?;
            self.old = None;
        }
        self.discard().await?;
        if let Some((key, note)) = &self.note {
            // Whoever else moves the session has written another one over it, and that stays.
            self.settings.backend.remove(key, note).await?;
            self.note = None;
        }
        Ok(())
    }

    /// Writes the old record anew. A tombstone that is still on its way expects other bytes, and finds nothing to
    /// replace.
    async fn revive(&self, old: &Retired) -> Result<()> {
        let records = &self.settings.profile.records;
        let Decoded::Session(record) = records.decode(&old.key, &old.record)? else { return Ok(()) };
        let anew = records.encode(&old.key, &record.meta, &record.data)?;
        let left = self.settings.expiry.left(&record.meta, self.settings.now()).unwrap_or(Ttl::MIN);
        let mut expected = &old.tombstone;
        loop {
            let current = match self.settings.backend.replace(&old.key, expected, anew.clone(), left).await? {
                // What is gone stays gone: that may be a logout.
                Swapped::Done | Swapped::Gone => return Ok(()),
                Swapped::Conflict(current) => current,
            };
            expected = if current == old.record {
                &old.record
            } else if current == old.tombstone {
                &old.tombstone
            } else {
                // Others have written it since, so it works.
                return Ok(());
            };
        }
    }

    /// Removes what was stored under the new key and shall not be, and nothing else.
    async fn discard(&self) -> Result<()> {
        let (key, written) = &self.target;
        // The last write is the most likely one to be there.
        let mut expected = written.last().cloned();
        while let Some(bytes) = expected {
            expected = match self.settings.backend.remove(key, &bytes).await? {
                Swapped::Done | Swapped::Gone => None,
                Swapped::Conflict(current) => written.contains(&current).then_some(current),
            };
        }
        Ok(())
    }
}
