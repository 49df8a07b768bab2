//! The sessions of one user: a list of devices, and the end of one of them or of all.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;

use crate::{
    backend::no_index,
    config::Settings,
    end::{self, Ended},
    engine::{Engine, over},
    error::{Error, ErrorKind, Result},
    event,
    handle::Stored,
    id::{Fingerprint, SessionId},
    migrate::Home,
    record::{Decoded, Record},
    session::Session,
    value::from_json,
};

/// How many records of a list are read at once.
const AT_ONCE: usize = 16;

/// One session of a user, as [`Engine::sessions_of`] found it: for a page that lists devices.
///
/// It is a snapshot, and reads no further. It holds no id, so nobody can be given this session by it.
#[derive(Clone)]
pub struct UserSession {
    settings: Arc<Settings>,
    stored: Stored,
    record: Arc<Record>,
}

impl UserSession {
    /// Returns the short hash that tells this session apart: equal to [`Session::fingerprint`] of the same session, and
    /// fit for a form's field that says which one to end.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.stored.key.fingerprint()
    }

    /// Returns when the session began, by the application's clock.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.record.meta.created)
    }

    /// Returns when its idle time last began anew: at most as long ago as a use may go unnoticed
    /// ([`Expiry::renew_below`](crate::Expiry::renew_below)).
    #[must_use]
    pub fn renewed_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.record.meta.renewed)
    }

    /// Returns when the session ends unless it is used again.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.settings.expiry.ends(&self.record.meta))
    }

    /// Returns the value under `key`, such as a device's name that the login stored.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.record.data.get(key).map(from_json).transpose()
    }

    /// Ends this session, whatever was written to it since; `false` if it has ended already, or moved to a new id.
    ///
    /// A session that has moved is in the list anew. Dropping the future leaves the session as it was, or ended.
    ///
    /// # Errors
    /// Whatever the store answers; [`ErrorKind::Corrupt`] when the record can no longer be read;
    /// [`ErrorKind::Contention`] when 64 other writers came first.
    pub async fn destroy(&self) -> Result<bool> {
        match end::remove(&self.settings, self.stored.clone()).await? {
            Ended::Removed => Ok(true),
            Ended::Lost(_) | Ended::NothingStored => Ok(false),
            Ended::Unreadable => Err(Error::new(ErrorKind::Corrupt).operation("destroy").hint(
                "the stored session can no longer be read and is kept as it is; destroy_user ends it all the same",
            )),
        }
    }
}

/// Shows a short hash of the key and the number of values, never the user or the data.
impl fmt::Debug for UserSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserSession(#{}, {} keys)", self.fingerprint(), self.record.data.len())
    }
}

impl Engine {
    /// Returns the live sessions bound to `user`, the one renewed last first.
    ///
    /// A session whose record cannot be read is left out, with an event; [`destroy_user`](Self::destroy_user) ends it
    /// like the others.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the store keeps no index; whatever the store answers.
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<UserSession>> {
        list(self.settings(), user).await
    }

    /// Ends every session of `user`, and returns how many there were: "log out everywhere", without a request of
    /// theirs.
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of). After an error some may have ended; call again to end the rest.
    pub async fn destroy_user(&self, user: &str) -> Result<u64> {
        self.settings().backend.destroy_user(user, None).await
    }
}

impl Session {
    /// Returns the live sessions of the user this one is [bound](Self::bind_user) to, this one among them once it is
    /// stored: it is the one with the same [`fingerprint`](Self::fingerprint).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the session is bound to nobody, or the store keeps no index; whatever the store
    /// answers.
    pub async fn user_sessions(&self) -> Result<Vec<UserSession>> {
        let user = {
            let state = self.0.lock();
            state.check_granted()?;
            state.record.meta.user.clone()
        };
        list(&self.0.settings, &user.ok_or_else(|| unbound("user_sessions"))?).await
    }
}

/// The error of what needs a user, on a session that has none.
pub(crate) fn unbound(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported)
        .operation(operation)
        .hint("the session is bound to no user; call bind_user first")
}

async fn list(settings: &Arc<Settings>, user: &str) -> Result<Vec<UserSession>> {
    let indexed = settings.backend.store().as_indexed().ok_or_else(no_index)?;
    let keys = settings.backend.within("keys_of", indexed.keys_of(user)).await?;
    let mut reads = stream::iter(keys)
        .map(|key| async move {
            match settings.backend.get(&key).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    event::corrupt(&key, &error);
                    Ok(None)
                }
                found => found.map(|bytes| bytes.map(|bytes| (key, bytes))),
            }
        })
        .buffered(AT_ONCE);
    let mut found = Vec::new();
    while let Some(read) = reads.next().await {
        // Ended since it was listed, or nothing that could be read.
        let Some((key, bytes)) = read? else { continue };
        match settings.profile.records.decode(&key, &bytes) {
            Ok(Decoded::Session(record)) => {
                // The entry outlives a binding that was taken back; the record has the last word.
                let theirs = record.meta.user.as_deref() == Some(user);
                if theirs && !over(settings, record.meta.deadline) {
                    // No id leads to a key, and none is needed to end what is stored there.
                    let stored = Stored { id: SessionId::unknown(), key, bytes, home: Home::Own };
                    found.push(UserSession {
                        settings: Arc::clone(settings),
                        stored,
                        record: Arc::new(record),
                    });
                }
            }
            Ok(Decoded::Tombstone) => {}
            Err(error) => event::corrupt(&key, &error),
        }
    }
    found.sort_by_key(|session| std::cmp::Reverse(session.record.meta.renewed));
    Ok(found)
}
