//! Two homes of sessions: the one that is configured, and the one they move away from when their visitors come.

use std::{any::TypeId, fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    backend::Backend,
    config::{Settings, storeless},
    error::{Error, Result},
    handle::Stored,
    id::Key,
    no_store::NoStore,
    profile::{Profile, Shared, Terms, Wire},
    record::Decoded,
    store::Store,
    transport::Carrier,
};

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Where every session is written.
    Own,
    /// Where sessions are only read, and removed once they have moved.
    Old,
}

/// What [`Builder::migrate_from`](crate::Builder::migrate_from) was given.
pub(crate) struct Origin {
    profile: Profile,
    store: Arc<dyn Store>,
    storeless: bool,
}

impl Origin {
    pub(crate) fn new<S: Store>(profile: Profile, store: S) -> Self {
        Self { profile, store: Arc::new(store), storeless: TypeId::of::<S>() == TypeId::of::<NoStore>() }
    }

    /// Checks it and makes it ready. `terms` and `ours` are the layer's; the cookie and the keys are the old format's own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `migrate_from`.
    pub(crate) fn open(
        self,
        terms: &Terms<'_>,
        ours: Shared,
        carrier: &Carrier,
        deadline: Duration,
    ) -> Result<OldHome> {
        let format = self.profile.format();
        if self.storeless != (format.shared() == Shared::InTheCookie) {
            return Err(Error::config("migrate_from", storeless(self.storeless)));
        }
        let terms = Terms {
            cookie: if terms.cookie.insecure {
                self.profile.default_cookie().insecure()
            } else {
                self.profile.default_cookie()
            },
            ids: format.ids().shape(),
            keys: None,
            #[cfg(feature = "encrypt")]
            encrypt: None,
            limit: terms.limit,
            expiry: terms.expiry,
            clock: Arc::clone(&terms.clock),
        };
        // Whatever is wrong, it is wrong with what was given here.
        let here = |error: Error| Error::config("migrate_from", error.to_string());
        let old = OldHome {
            carrier: format.carrier(&terms).map_err(here)?,
            wire: format.wire(&terms).map_err(here)?,
            backend: Backend::new(self.store, deadline),
            shared: format.shared(),
            leaves_word: ours == Shared::No && !self.storeless,
        };
        let taken = carrier.names();
        if let Some(name) = old.carrier.names().into_iter().find(|name| taken.contains(name)) {
            return Err(Error::config(
                "migrate_from",
                format!(
                    "both formats have a cookie called `{name}`: give the new one another name with `cookie`"
                ),
            ));
        }
        Ok(old)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("profile", &self.profile)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Where sessions come from, ready for use.
pub(crate) struct OldHome {
    pub(crate) carrier: Carrier,
    pub(crate) wire: Wire,
    pub(crate) backend: Backend,
    shared: Shared,
    /// A session that moves leaves word of it in the new store: in a format that others read there is no such thing, and
    /// a record in a cookie stays there.
    leaves_word: bool,
}

impl Settings {
    /// Returns the store that a record is kept in.
    pub(crate) fn backend_of(&self, home: Home) -> &Backend {
        match (home, &self.old) {
            (Home::Old, Some(old)) => &old.backend,
            _ => &self.backend,
        }
    }

    /// Whether a session that moves over leaves word of it, in our store.
    pub(crate) fn leaves_word(&self) -> bool {
        self.old.as_ref().is_some_and(|old| old.leaves_word)
    }

    /// Tells whether the session under this key of the old store has just moved over.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub(crate) async fn has_moved(&self, old: &Key) -> Result<bool> {
        if !self.leaves_word() {
            return Ok(false);
        }
        let note = old.moved();
        let found = self.backend.get(&note).await?;
        let read = found.map(|bytes| self.profile.records.decode(&note, &bytes));
        Ok(matches!(read, Some(Ok(Decoded::Tombstone))))
    }

    /// Tells whether a record that is gone from where it was has moved over, and has not ended.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub(crate) async fn moved_over(&self, stored: &Stored) -> Result<bool> {
        Ok(stored.home == Home::Old && self.has_moved(&stored.key).await?)
    }

    /// Decodes the stored bytes of a record, whose key and home are `stored`'s.
    ///
    /// What comes from another format is a session of ours from here on: with the times that are configured, and the
    /// cookie options too, since those of the old row were about another cookie.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt).
    pub(crate) fn decode(&self, stored: &Stored, bytes: &Bytes) -> Result<Decoded> {
        let (Home::Old, Some(old)) = (stored.home, &self.old) else {
            return self.profile.records.decode(&stored.key, bytes);
        };
        let mut decoded = old.wire.records.decode(&stored.key, bytes)?;
        if let Decoded::Session(record) = &mut decoded
            && old.shared != Shared::No
        {
            let meta = &mut record.meta;
            meta.cookie = None;
            meta.extra = None;
            // A row there says how long it lives in any case: that is the other program's configuration, not a wish.
            meta.ttl = None;
            meta.deadline = [meta.deadline, self.expiry.deadline(meta.created)].into_iter().flatten().min();
        }
        Ok(decoded)
    }
}
