//! The session as a struct: `Data<T>`.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    str,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    document::{Document, Pair},
    error::{Error, ErrorKind, Result},
    handle::{MAX_TRIES, busy},
    oplog::{Edit, Op},
    session::Session,
    value::{from_json, to_pair},
};

/// The session's data as a struct of your own: each field is one key of the session.
///
/// Fields that are not stored yet have the value `T::default()` gives them. Keys that are no fields of `T` are left
/// alone, so several structs can share a session.
///
/// ```
/// # use cloakroom_core::{Data, Session};
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Visit {
///     views: u64,
///     theme: String,
/// }
///
/// fn handler(visit: Data<Visit>) -> Result<String, cloakroom_core::Error> {
///     visit.update(|v| v.views += 1)?;              // done again if another request stored first
///     visit.write()?.theme = "dark".into();          // last writer wins, for this field alone
///     Ok(visit.read().views.to_string())
/// }
/// # let _ = handler;
/// ```
///
/// With the axum adapter it is an extractor.
pub struct Data<T> {
    session: Session,
    /// The struct as last decoded, with the revision of the session it shows.
    seen: Arc<Mutex<(u64, Arc<T>)>>,
}

impl<T: Default + Serialize + DeserializeOwned> Data<T> {
    /// Reads the session's data as a `T`.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when a stored field is not of its type, or `T` is not a struct with named fields.
    pub fn of(session: Session) -> Result<Self> {
        let (revision, document) = snapshot(&session);
        let value = Arc::new(decode(&document)?);
        Ok(Self { session, seen: Arc::new(Mutex::new((revision, value))) })
    }

    /// Returns the data as this request sees it now: a snapshot, not a lock.
    ///
    /// Should other code of this request have stored something else under a field's name in between, the data is as
    /// it was before that.
    #[must_use]
    pub fn read(&self) -> Arc<T> {
        let (revision, document) = snapshot(&self.session);
        let mut seen = self.seen.lock();
        if seen.0 != revision
            && let Ok(value) = decode(&document)
        {
            *seen = (revision, Arc::new(value));
        }
        Arc::clone(&seen.1)
    }

    /// Changes the data by `change`, which runs again on what another request stored, if that one came first.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when a field is not of its type or cannot become JSON. [`ErrorKind::Contention`] when
    /// clones of this session wrote 16 times while `change` ran. Else as [`Session`]'s documentation says.
    pub fn update(&self, change: impl Fn(&mut T) + Send + 'static) -> Result<()> {
        self.session.0.lock().check_writable()?;
        let edit: Edit = Box::new(move |document| {
            let mut value: T = decode(document)?;
            let before = fields(&value)?;
            change(&mut value);
            Ok(write_changes(document, &before, &fields(&value)?))
        });
        for _ in 0..MAX_TRIES {
            let (revision, mut document) = snapshot(&self.session);
            let changed = edit(&mut document)?;
            let mut state = self.session.0.lock();
            state.check_writable()?;
            if state.revision == revision {
                state.record.data = document;
                state.note(Op::Edit(edit), changed);
                return Ok(());
            }
        }
        Err(busy("update"))
    }

    /// Returns the data for plain assignment. The fields that differ when the returned value is dropped are stored,
    /// each on its own: last writer wins. Should a field turn out not to fit into JSON then, saving fails.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when a field is not of its type. Else as [`Session`]'s documentation says.
    pub fn write(&self) -> Result<DataMut<'_, T>> {
        self.session.0.lock().check_writable()?;
        let (_, document) = snapshot(&self.session);
        let value: T = decode(&document)?;
        let before = fields(&value)?;
        Ok(DataMut { session: &self.session, value, before })
    }

    /// Returns the session behind the data.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }
}

/// Not derived: that would ask `Clone` of `T`.
impl<T> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), seen: Arc::clone(&self.seen) }
    }
}

impl<T> fmt::Debug for Data<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Data").field(&self.session).finish()
    }
}

/// Session data to assign to: see [`Data::write`]. What has changed is stored when this is dropped.
pub struct DataMut<'s, T: Serialize> {
    session: &'s Session,
    value: T,
    before: Fields,
}

impl<T: Serialize> Deref for DataMut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> DerefMut for DataMut<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Serialize> Drop for DataMut<'_, T> {
    fn drop(&mut self) {
        let outcome = fields(&self.value).and_then(|after| {
            differences(&self.before, &after).try_for_each(|(key, value)| {
                let op = match value {
                    Some(value) => Op::Set(Pair::new(key, value.get())),
                    None => Op::Remove { key: key.into() },
                };
                self.session.0.write(op).map(|_| ())
            })
        });
        if let Err(error) = outcome {
            self.session.0.lock().failure = Some(error);
        }
    }
}

impl<T: Serialize> fmt::Debug for DataMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataMut").field(self.session).finish()
    }
}

/// A struct's fields as raw JSON.
type Fields = BTreeMap<String, Box<RawValue>>;

fn snapshot(session: &Session) -> (u64, Document) {
    let state = session.0.lock();
    (state.revision, state.record.data.clone())
}

/// Decodes the whole document, with the defaults of `T` for what is not stored.
fn decode<T: Default + Serialize + DeserializeOwned>(document: &Document) -> Result<T> {
    let mut whole = document.clone();
    for (key, value) in fields(&T::default())? {
        if whole.get(&key).is_none() {
            whole.set(&Pair::new(&key, value.get()));
        }
    }
    let mut json = Vec::with_capacity(whole.json_len());
    whole.write_json(&mut json);
    from_json(str::from_utf8(&json).unwrap_or_default())
}

fn fields<T: Serialize>(value: &T) -> Result<Fields> {
    serde_json::from_slice(to_pair("", value)?.value()).map_err(|_| {
        Error::new(ErrorKind::Value)
            .operation("read data")
            .hint(format!("{} is not a struct with named fields", std::any::type_name::<T>()))
    })
}

/// Yields the fields that differ, with their new values; `None` for one that is no longer there.
fn differences<'a>(
    before: &'a Fields,
    after: &'a Fields,
) -> impl Iterator<Item = (&'a str, Option<&'a RawValue>)> {
    let set = after.iter().filter(|(key, value)| before.get(*key).is_none_or(|old| old.get() != value.get()));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    set.map(|(key, value)| (key.as_str(), Some(&**value))).chain(gone.map(|key| (key.as_str(), None)))
}

fn write_changes(document: &mut Document, before: &Fields, after: &Fields) -> bool {
    differences(before, after).fold(false, |changed, (key, value)| {
        let now = match value {
            Some(value) => document.set(&Pair::new(key, value.get())),
            None => document.remove(key),
        };
        now || changed
    })
}
