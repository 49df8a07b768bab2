//! The bugs of `bind`, `keys_of` and `destroy_user`.

use std::collections::BTreeMap;

use cloakroom_core::{AtomicStore, ErrorKind, IndexedStore, Key, Result, Store, Ttl, async_trait};

use crate::{
    broken::{Broken, FOR_EVER, gap},
    bug::Bug,
};

/// As many rounds of a batch as a mutant makes: one.
const BATCH: usize = 1_000;

impl Broken {
    /// The user as this store writes it.
    fn user(&self, user: &str) -> String {
        match self.bug {
            Bug::UsersFolded => user.to_lowercase(),
            Bug::BindTakesAnyUser if user.is_empty() => "(nobody)".into(),
            Bug::BindTakesAnyUser if user.len() > 255 => "(somebody)".into(),
            Bug::BindCutsUsers => {
                let end = (0..=user.len().min(255)).rev().find(|&end| user.is_char_boundary(end));
                user[..end.unwrap_or(0)].to_owned()
            }
            _ => user.to_owned(),
        }
    }

    /// The keys whose last binding was to `user`, whether or not it has expired.
    fn bound_last_to(&self, user: &str) -> Vec<Key> {
        let last: BTreeMap<Key, String> = self.space.bound.lock().iter().cloned().collect();
        last.into_iter().filter(|(_, other)| other == user).map(|(key, _)| key).collect()
    }

    /// The live keys bound to `user`, as this handle knows them.
    async fn bound(&self, user: &str) -> Result<Vec<Key>> {
        if !self.is(Bug::IndexPerHandle) {
            return self.rows().keys_of(user).await;
        }
        let mut live = Vec::new();
        for key in self.own_index.keys_of(user).await? {
            if self.rows().get(&key).await?.is_some() {
                live.push(key);
            }
        }
        Ok(live)
    }
}

#[async_trait]
impl IndexedStore for Broken {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        if self.is(Bug::LogsUsers) {
            tracing::info_span!("bind", user).in_scope(|| ());
        }
        let (key, user) = (&self.row(key), &self.user(user));
        let binding = (key.clone(), user.clone());
        let again = self.is(Bug::BindKeepsTheTtl) && self.space.bound.lock().contains(&binding);
        if user.is_empty() || user.len() > 255 {
            return Err(ErrorKind::Value.into());
        }
        self.space.bound.lock().push(binding);
        match self.bug {
            Bug::BindNeedsAValue if self.rows().get(key).await?.is_none() => return Ok(()),
            Bug::BindKeepsTheTtl if again => return Ok(()),
            Bug::BindNeverExpires => return self.rows().bind(key, user, FOR_EVER).await,
            Bug::BindTouches => {
                self.rows().touch(key, ttl).await?;
            }
            Bug::IndexPerHandle => {
                // A key is only listed by the index while that holds a value for it.
                self.own_index.set(key, Default::default(), ttl).await?;
                return self.own_index.bind(key, user, ttl).await;
            }
            _ => {}
        }
        self.rows().bind(key, user, ttl).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        let user = &self.user(user);
        let mut keys = self.bound(user).await?;
        let ever = || -> Vec<Key> {
            let bound = self.space.bound.lock();
            bound.iter().filter(|(_, other)| other == user).map(|(key, _)| key.clone()).collect()
        };
        match self.bug {
            Bug::UnknownUserIsAnError if ever().is_empty() => return Err(ErrorKind::Backend.into()),
            Bug::ListsTheNewestOnly => keys = keys.pop().into_iter().collect(),
            Bug::ListsDeadKeys => {
                keys = ever();
                keys.sort_unstable();
                keys.dedup();
            }
            Bug::ListsKeysTwice => {
                let mut listed = Vec::new();
                for key in ever() {
                    if self.rows().get(&key).await?.is_some() {
                        listed.push(key);
                    }
                }
                keys = listed;
            }
            Bug::BindAdds => {
                for key in ever() {
                    if !keys.contains(&key) && self.rows().get(&key).await?.is_some() {
                        keys.push(key);
                    }
                }
            }
            Bug::ListingDropsWhatWaits => {
                for key in ever() {
                    if !keys.contains(&key) {
                        self.unbind(&key).await?;
                    }
                }
            }
            Bug::BatchesOf1000 => keys.truncate(BATCH),
            _ => {}
        }
        Ok(keys)
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let user = &self.user(user);
        let mut keys = match self.bug {
            Bug::DestroyUserByPrefix => {
                let mut keys = Vec::new();
                let users = self.space.bound.lock().clone();
                for (key, other) in users {
                    if other.starts_with(user.as_str()) && !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                keys
            }
            Bug::DestroyUserTakesExpiredBindings => self.bound_last_to(user),
            _ => self.keys_of(user).await?,
        };
        match self.bug {
            Bug::DestroyUserLeavesOne => {
                keys.pop();
            }
            Bug::DestroyUserSparesOneForAnyExcept if except.is_some_and(|key| !keys.contains(key)) => {
                keys.pop();
            }
            Bug::DestroyUserDropsTheIndexLast => gap().await,
            _ => {}
        }
        let mut removed = 0;
        for key in &keys {
            if Some(key) != except || self.is(Bug::DestroyUserIgnoresExcept) {
                removed += u64::from(self.rows().destroy(key).await?);
                self.forget(key);
            }
        }
        match self.bug {
            Bug::DestroyUserDropsTheIndexLast => {
                for key in self.rows().keys_of(user).await? {
                    if Some(&key) != except {
                        self.unbind(&key).await?;
                    }
                }
            }
            Bug::DestroyUserUnbinds => {
                for key in self.bound_last_to(user).iter().filter(|key| Some(*key) != except) {
                    self.unbind(key).await?;
                }
            }
            Bug::DestroyUserCountsDead => {
                let bound = self.space.bound.lock();
                let dead = bound.iter().filter(|(key, other)| other == user && Some(key) != except);
                removed = dead.count() as u64;
            }
            _ => {}
        }
        Ok(removed)
    }
}
