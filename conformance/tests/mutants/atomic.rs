//! The bugs of `create`, `replace`, `remove` and `touch`.

use cloakroom_core::{AtomicStore, Bytes, Key, Result, Store, Swapped, Ttl, async_trait};

use crate::{
    broken::{Broken, FOR_EVER, Past, apart, gap},
    bug::Bug,
};

impl Broken {
    /// Compares the live value with what is expected, as this store compares.
    fn equal(&self, current: &[u8], expected: &[u8]) -> bool {
        match self.bug {
            Bug::ReplaceIgnoresExpected => true,
            Bug::ReplaceComparesPrefixes => current.starts_with(expected) || expected.starts_with(current),
            Bug::ReplaceComparesLengths => current.len() == expected.len(),
            Bug::ReplaceCollates => current.trim_ascii_end().eq_ignore_ascii_case(expected.trim_ascii_end()),
            _ => current == expected,
        }
    }

    fn conflict(&self, key: &Key, stale: Option<Bytes>, current: Bytes) -> Swapped {
        match (self.bug, stale) {
            (Bug::ConflictIsStale, Some(stale)) => Swapped::Conflict(stale),
            _ => {
                self.seen.lock().insert(key.clone(), current.clone());
                Swapped::Conflict(current)
            }
        }
    }
}

#[async_trait]
impl AtomicStore for Broken {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let key = &self.row(key);
        self.refuse(key, &value, ttl).await?;
        let current = self.rows().get(key).await?;
        let past = self.past(key);
        match self.bug {
            Bug::CreateRefusesExpired if past.as_ref().is_some_and(Past::is_expired) => return Ok(false),
            Bug::CreateRefusesDestroyed | Bug::DestroyedForEver
                if past.as_ref().is_some_and(|past| past.destroyed) =>
            {
                return Ok(false);
            }
            Bug::CreateStoresApart if current.is_none() => {
                return self.rows().create(&apart(key), value, ttl).await;
            }
            Bug::CreateReadsFirst => gap().await,
            Bug::CreateBlanksFirst if current.is_none() => {
                if !self.rows().create(key, Bytes::new(), ttl).await? {
                    return Ok(false);
                }
                gap().await;
                self.write(key, value, ttl).await?;
                return Ok(true);
            }
            _ => {}
        }
        let taken = match self.bug {
            Bug::CreateOverwrites => false,
            Bug::CreateOverwritesEmpty => current.is_some_and(|value| !value.is_empty()),
            _ => current.is_some(),
        };
        // What was read is only trusted where nothing came between.
        let taken = taken && (self.is(Bug::CreateReadsFirst) || self.rows().get(key).await?.is_some());
        if taken {
            if self.is(Bug::CreateRenews) {
                self.rows().touch(key, ttl).await?;
            }
            return Ok(false);
        }
        let ttl = if self.is(Bug::CreateForgetsTheTtl) { FOR_EVER } else { ttl };
        self.write(key, value, ttl).await?;
        Ok(!self.is(Bug::CreateSaysFalse))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let key = &self.row(key);
        self.refuse(key, &value, ttl).await?;
        let stale = self.seen.lock().get(key).cloned();
        let Some(current) = self.rows().get(key).await? else {
            let expired = self.past(key).is_some_and(|past| past.is_expired() && past.value == expected);
            if self.is(Bug::ReplaceCreates) || self.is(Bug::ReplaceRevivesExpired) && expired {
                self.write(key, value, ttl).await?;
                return Ok(Swapped::Done);
            }
            return Ok(Swapped::Gone);
        };
        if !self.equal(&current, expected) {
            if self.is(Bug::ConflictRenews) {
                self.rows().touch(key, ttl).await?;
            }
            return Ok(self.conflict(key, stale, current));
        }
        match self.bug {
            Bug::ReplaceReadsFirst => gap().await,
            Bug::ReplaceKeepsTheTtl => {
                self.write(key, value, self.left(key)).await?;
                return Ok(Swapped::Done);
            }
            Bug::ReplaceOfTheSameIsNothing if value == current => return Ok(Swapped::Gone),
            Bug::ReplaceHitsTwins => {
                for twin in self.twins(key).await? {
                    self.write(&twin, value.clone(), ttl).await?;
                }
            }
            Bug::ReplaceDeletesFirst => {
                self.rows().destroy(key).await?;
                gap().await;
            }
            Bug::ReplaceIsAppliedTwice if value != expected => {
                self.write(key, value.clone(), ttl).await?;
                return Ok(Swapped::Conflict(value));
            }
            _ => {}
        }
        self.write(key, value, ttl).await?;
        Ok(Swapped::Done)
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let key = &self.row(key);
        let stale = self.seen.lock().get(key).cloned();
        let Some(current) = self.rows().get(key).await? else {
            let done = self.is(Bug::RemoveOfAbsentIsDone);
            return Ok(if done { Swapped::Done } else { Swapped::Gone });
        };
        let equal = match self.bug {
            Bug::RemoveIgnoresExpected => true,
            Bug::RemoveComparesLengths => current.len() == expected.len(),
            _ => current == expected,
        };
        if !equal {
            if self.is(Bug::RemoveConflictPersists) {
                self.rows().touch(key, FOR_EVER).await?;
            }
            return Ok(self.conflict(key, stale, current));
        }
        match self.bug {
            Bug::RemoveReadsFirst => gap().await,
            Bug::RemoveLeavesTheValue => return Ok(Swapped::Done),
            Bug::RemoveHitsTwins => {
                for twin in self.twins(key).await? {
                    self.rows().destroy(&twin).await?;
                }
            }
            Bug::RemoveBlanksFirst => {
                self.rows().set(key, Bytes::new(), FOR_EVER).await?;
                gap().await;
            }
            _ => {}
        }
        self.rows().destroy(key).await?;
        self.forget(key);
        Ok(Swapped::Done)
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let key = &self.row(key);
        let Some(current) = self.rows().get(key).await? else {
            let past = self.past(key);
            let revived = match self.bug {
                Bug::TouchCreates => Some(past.map_or_else(Bytes::new, |past| past.value)),
                Bug::TouchRevivesExpired => past.filter(Past::is_expired).map(|past| past.value),
                _ => None,
            };
            let Some(value) = revived else {
                return Ok(false);
            };
            self.write(key, value, ttl).await?;
            return Ok(true);
        };
        let same_ttl = self.past(key).is_some_and(|past| past.ttl == ttl);
        let ttl = match self.bug {
            Bug::TouchDoesNothing => return Ok(true),
            Bug::TouchNeverShortens => ttl.max(self.left(key)),
            Bug::TouchOfTheSameTtlIsFalse if same_ttl => return Ok(false),
            Bug::TouchReadsFirst => {
                gap().await;
                self.write(key, current, ttl).await?;
                return Ok(true);
            }
            Bug::TouchTakesTheValueOut => {
                self.rows().destroy(key).await?;
                gap().await;
                self.write(key, current, ttl).await?;
                return Ok(true);
            }
            Bug::TouchWritesBackWhatItRead => {
                let read = self.seen.lock().get(key).cloned().unwrap_or(current);
                self.write(key, read, ttl).await?;
                return Ok(true);
            }
            Bug::TouchHitsTwins => {
                for twin in self.twins(key).await? {
                    self.rows().touch(&twin, ttl).await?;
                }
                ttl
            }
            // The bugs of the ttl itself, in `write`.
            _ => {
                self.write(key, current, ttl).await?;
                return Ok(true);
            }
        };
        self.rows().touch(key, ttl).await
    }
}
