//! What a handler uses: `LazySession` before loading, `Session` after.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    backend::no_index,
    commit::{Trigger, commit},
    cookie::CookieOptions,
    end,
    engine::load,
    error::{Error, ErrorKind, Result},
    handle::{Access, Handle, MAX_TRIES, busy},
    id::{Fingerprint, SessionId},
    migrate::Home,
    oplog::Op,
    plan::Save,
    relocate::NOBODY,
    store::Ttl,
    value::{from_json, to_pair},
};

/// A request's session before it is loaded. It is found in the extensions of every request behind the layer.
///
/// A handler that never calls [`load`](Self::load) costs the store nothing.
#[derive(Clone)]
pub struct LazySession(pub(crate) Arc<Handle>);

impl LazySession {
    /// Loads the session, once a request; every later call returns the same one without I/O.
    ///
    /// No cookie, or one with a malformed, unknown or expired id, is a new and empty session.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] when the store cannot be read: that is never taken for
    /// "no session". [`ErrorKind::Unsupported`] when the request is outside the cookie's path.
    pub async fn load(&self) -> Result<Session> {
        load(&self.0).await?;
        Ok(Session(Arc::clone(&self.0)))
    }

    /// As [`load`](Self::load), for who keeps the loaded session alone.
    #[cfg(feature = "axum-core-0_5")]
    pub(crate) async fn into_loaded(self) -> Result<Session> {
        load(&self.0).await?;
        Ok(Session(self.0))
    }

    /// Returns whether the request is within the session cookie's path, so that it can have a session.
    #[must_use]
    pub fn in_scope(&self) -> bool {
        self.0.in_scope
    }
}

impl fmt::Debug for LazySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A visitor's session, loaded: read and write it without `.await`; it is saved when the handler has answered.
///
/// Clones are cheap and share one state. Values are kept as JSON and decoded when asked for. Nothing here hands out a
/// lock, and no closure runs while one is held.
///
/// # Parallel requests
/// What a handler does is a list of changes. If another request has stored something meanwhile, the changes are done
/// again on top of that: closures given to [`update`](Self::update) run again, so no count is lost, and a write to
/// one key never undoes a write to another. Of two plain [`insert`](Self::insert)s to one key the later commit wins.
///
/// # When writes are refused
/// Writing methods answer [`ErrorKind::Gone`] once it is known that the session has ended,
/// [`ErrorKind::WritesRefused`] when the stored record cannot be read or has just moved to a new id,
/// [`ErrorKind::Unavailable`] when it could not be loaded in an outage and the request goes on without it, and
/// [`ErrorKind::Committed`] after the response has been committed. Reading such a session shows an empty one.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Handle>);

impl Session {
    /// Returns the value under `key`, or `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.0.lock().record.data.get(key).map(from_json).transpose()
    }

    /// Stores `value` under `key`.
    ///
    /// Storing what is already there does not make a session count as changed.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when the value cannot become JSON: a map whose keys are no strings, or nesting deeper
    /// than 120 levels. Else as the type's documentation says.
    pub fn insert<T: Serialize>(&self, key: &str, value: T) -> Result<()> {
        self.0.write(Op::Set(to_pair(key, &value)?)).map(|_| ())
    }

    /// Removes the value under `key`; `true` if there was one.
    ///
    /// # Errors
    /// As the type's documentation says.
    pub fn remove(&self, key: &str) -> Result<bool> {
        self.0.write(Op::Remove { key: key.into() })
    }

    /// Removes the value under `key` and returns it: for messages that are shown once.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when the value is not a `T`; it then stays. Else as the type's documentation says.
    pub fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key)?;
        if value.is_some() {
            self.remove(key)?;
        }
        Ok(value)
    }

    /// Returns whether there is a value under `key`.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.0.lock().record.data.get(key).is_some()
    }

    /// Returns the keys, in the order they were first stored.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.0.lock().record.data.iter().map(|(key, _)| key.to_owned()).collect()
    }

    /// Returns whether there is no value at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().record.data.is_empty()
    }

    /// Removes every value. The session itself stays; [`destroy`](Self::destroy) ends it.
    ///
    /// # Errors
    /// As the type's documentation says.
    pub fn clear(&self) -> Result<()> {
        self.0.write(Op::Clear).map(|_| ())
    }

    /// Changes the value under `key` by `change`, and returns the value as this request sees it.
    ///
    /// If another request stores the session first, `change` runs again on what that one stored: let it depend on
    /// its argument alone. The value returned is provisional; [`update_now`](Self::update_now) returns the stored one.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when what is there is not a `T`, or what it becomes cannot be JSON.
    /// [`ErrorKind::Contention`] when clones of this session wrote 16 times while `change` ran. Else as the type's
    /// documentation says.
    pub fn update<T, F>(&self, key: &str, change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> T + Send + 'static,
    {
        self.0.lock().check_writable()?;
        self.apply_update(key, change, Force::No, |_| {}).map(|(value, _)| value)
    }

    /// Changes the value under `key` by `change`, commits at once, and returns what was stored.
    ///
    /// No two calls, in whatever requests and processes, see the same argument and both succeed: a counter hands out
    /// each number once. Everything else this request has changed so far is committed with it. On a session that is
    /// stored already this works after the response as well, from a body that is still being streamed.
    ///
    /// # Errors
    /// As [`update`](Self::update) and [`save`](Self::save), and [`ErrorKind::WritesRefused`] under [`Save::Never`].
    /// The change is then taken back from this session; after [`ErrorKind::Timeout`] or [`ErrorKind::Unavailable`] it
    /// may have been stored all the same.
    pub async fn update_now<T, F>(&self, key: &str, change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Clone + Send + 'static,
        F: Fn(Option<T>) -> T + Send + 'static,
    {
        {
            let state = self.0.lock();
            match state.access {
                Access::Stored(_) => {}
                Access::Fresh | Access::Refused(_) => state.check_writable()?,
            }
            if state.save == Save::Never {
                return Err(never("update_now"));
            }
        }
        let last = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&last);
        let note = move |value: &T| *seen.lock() = Some(value.clone());
        let (provisional, number) = self.apply_update(key, change, Force::Yes, note)?;
        match commit(&self.0, Trigger::Explicit).await {
            Ok(()) => Ok(last.lock().take().unwrap_or(provisional)),
            Err(error) => {
                self.0.lock().log.forget(number);
                // The view without the change; where that cannot be made, the commit's own error says more.
                let _ = self.0.rebuild();
                Err(error)
            }
        }
    }

    /// Runs `change` on the current value without holding the lock, and again if a clone wrote in between.
    fn apply_update<T, F>(
        &self,
        key: &str,
        change: F,
        force: Force,
        seen: impl Fn(&T) + Send + 'static,
    ) -> Result<(T, u64)>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> T + Send + 'static,
    {
        for _ in 0..MAX_TRIES {
            let before: Option<Arc<str>> = self.0.lock().record.data.get(key).map(Into::into);
            let value = change(before.as_deref().map(from_json).transpose()?);
            let after = to_pair(key, &value)?;
            seen(&value);
            let mut state = self.0.lock();
            // Again: the response may have been committed while `change` ran.
            match force {
                Force::Yes => state.check_granted()?,
                Force::No => state.check_writable()?,
            }
            if state.record.data.get(key) != before.as_deref() {
                continue;
            }
            let key: Arc<str> = key.into();
            let changed = state.record.data.set(&after) || force == Force::Yes;
            let name = Arc::clone(&key);
            let change = Box::new(move |before: Option<&str>| {
                let value = change(before.map(from_json).transpose()?);
                seen(&value);
                to_pair(&name, &value)
            });
            let number = state.note(Op::Update { key, change }, changed);
            return Ok((value, number));
        }
        Err(busy("update"))
    }

    /// Saves now what this request has changed so far, instead of at its end. A cookie still goes out with the
    /// response.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when the session ended meanwhile: its changes are dropped. [`ErrorKind::Contention`] when
    /// 16 other writers came first. [`ErrorKind::TooLarge`] when the record exceeds the limit.
    /// [`ErrorKind::WritesRefused`] when there are changes and [`Save::Never`] is set. Whatever the store answers. Except after `Gone`, the changes are kept and saved at the end of the request, if that succeeds.
    pub async fn save(&self) -> Result<()> {
        {
            let state = self.0.lock();
            if state.save == Save::Never && state.has_changes() {
                return Err(never("save"));
            }
        }
        commit(&self.0, Trigger::Explicit).await
    }

    /// Drops the changes not yet committed and loads what is stored now.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when the session has ended; [`ErrorKind::WritesRefused`] when it has moved to a new id or cannot
    /// be read; whatever the store answers, with the changes kept.
    pub async fn reload(&self) -> Result<()> {
        end::reload(&self.0).await
    }

    /// Ends the session: its record is removed now, and the browser's cookie with the response.
    ///
    /// Done when this returns, even if the client hangs up meanwhile, and no other request can undo it. The session
    /// is then a new, empty one; what is written to it is stored under a new id. Destroying a session that is not
    /// stored, or that another request has ended already, is fine.
    ///
    /// # Errors
    /// Whatever the store answers; the session is then as it was. [`ErrorKind::WritesRefused`] when it could not be
    /// loaded, or has just moved to a new id by a login: it lives on, and this request cannot end it.
    /// [`ErrorKind::Contention`] when 64 other writers came first.
    pub async fn destroy(&self) -> Result<()> {
        end::destroy(&self.0).await
    }

    /// Ends every other session of the user this one is [bound](Self::bind_user) to, and returns how many there were.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the session is bound to nobody, or the store keeps no index; whatever the
    /// store answers.
    pub async fn destroy_others(&self) -> Result<u64> {
        end::destroy_others(&self.0).await
    }

    /// Gives the session a new id and keeps its data. Call it at every login and change of rights.
    ///
    /// The new id is returned now; the move happens when the session is saved. The old id is worth nothing from then
    /// on (OWASP Session Management Cheat Sheet, "Renew the Session ID After Any Privilege Level Change"). A request
    /// that is under way with the old id can neither write nor replace the new cookie: for 60 seconds a tombstone stands
    /// under the old key, which [`AdminStore`](crate::AdminStore) lists and counts as a value.
    ///
    /// # Errors
    /// As the type's documentation says; [`ErrorKind::Backend`] when there are no random bytes.
    pub async fn cycle_id(&self) -> Result<SessionId> {
        self.0.check_attached("cycle_id")?;
        self.0.lock().check_writable()?;
        let id = self.0.settings.ids.generate().await?;
        let mut state = self.0.lock();
        state.check_writable()?;
        state.next_id = Some(id.clone());
        Ok(id)
    }

    /// Gives the session a new id and drops its data, its user and its age.
    ///
    /// # Errors
    /// As [`cycle_id`](Self::cycle_id).
    pub async fn regenerate(&self) -> Result<SessionId> {
        let id = self.cycle_id().await?;
        let now = self.0.settings.now();
        self.0.write(Op::Restart { now, deadline: self.0.settings.expiry.deadline(now) })?;
        Ok(id)
    }

    /// Returns the id, or `None` if a new session has not been given one yet. Treat it as a password.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        let state = self.0.lock();
        match (&state.next_id, &state.access) {
            (Some(id), Access::Fresh | Access::Stored(_)) => Some(id.clone()),
            // The id of a session in its old home is another format's, and about to be replaced.
            (None, Access::Stored(stored)) if stored.home == Home::Own => Some(stored.id.clone()),
            (_, Access::Refused(_)) | (None, Access::Fresh | Access::Stored(_)) => None,
        }
    }

    /// Returns the id, and settles on one now if a new session has none yet.
    ///
    /// Settling on an id stores nothing: a session that stays empty gets neither a record nor a cookie.
    ///
    /// # Errors
    /// As [`cycle_id`](Self::cycle_id).
    pub async fn ensure_id(&self) -> Result<SessionId> {
        match self.id() {
            Some(id) => Ok(id),
            None => self.cycle_id().await,
        }
    }

    /// Returns a short hash that tells this session apart in logs and on pages, as the events of this crate show it;
    /// `None` until it is stored. Nothing can be made of it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.0.lock().access {
            Access::Stored(stored) => Some(stored.key.fingerprint()),
            Access::Fresh | Access::Refused(_) => None,
        }
    }

    /// Tells whether a write would be taken now.
    ///
    /// # Errors
    /// What a write would answer: see the type's documentation.
    pub fn writable(&self) -> Result<()> {
        self.0.lock().check_writable()
    }

    /// Returns whether nothing is stored for this session yet. So it is too for one that has ended or cannot be read:
    /// [`writable`](Self::writable) tells those apart.
    #[must_use]
    pub fn is_new(&self) -> bool {
        !matches!(self.0.lock().access, Access::Stored(_))
    }

    /// Returns when the session began, by the application's clock.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.lock().record.meta.created)
    }

    /// Returns when the session ends unless it is used again.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        let ends = self.0.settings.expiry.ends(&self.0.lock().record.meta);
        SystemTime::UNIX_EPOCH + Duration::from_millis(ends)
    }

    /// Gives this session an idle time of its own, kept with it: 1 ms to 400 days. "Keep me logged in".
    ///
    /// The absolute end, if one is configured, still holds. The cookie is sent again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a time of zero. Else as the type's documentation says.
    pub fn set_ttl(&self, ttl: Duration) -> Result<()> {
        if ttl.is_zero() {
            return Err(Error::config("ttl", "a session must live at least 1 ms; destroy() ends it"));
        }
        self.0.write(Op::Ttl(Ttl::new(ttl).millis())).map(|_| ())
    }

    /// Changes this session's cookie options, which are kept with it. The cookie is sent again.
    ///
    /// Name, path and domain are the application's and stay.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for `SameSite=None` on an insecure cookie, and whatever else the browser would refuse;
    /// [`ErrorKind::Unsupported`] when ids do not travel in cookies. Else as the type's documentation says.
    pub fn cookie(&self, change: impl FnOnce(CookieOptions) -> CookieOptions) -> Result<()> {
        let now = self.0.lock().record.meta.cookie.unwrap_or_default();
        let options = change(now);
        self.0.settings.carrier.check_options(&options)?;
        self.0.write(Op::Cookie(options)).map(|_| ())
    }

    /// Binds the session to a user, so that all sessions of that user can be listed and ended.
    ///
    /// The binding is stored before the cookie is sent, renewed with the session, and follows it to a new id.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the store keeps no index. [`ErrorKind::Value`] when the user is not 1 to 255
    /// bytes long. Else as the type's documentation says.
    pub fn bind_user(&self, user: &str) -> Result<()> {
        if self.0.settings.backend.store().as_indexed().is_none() {
            return Err(no_index());
        }
        if !self.0.settings.profile.records.keeps_users() {
            return Err(Error::new(ErrorKind::Unsupported)
                .operation("bind_user")
                .hint("the records of this profile have no room for a user"));
        }
        if user.is_empty() || user.len() > 255 || user.starts_with(NOBODY) {
            return Err(Error::new(ErrorKind::Value)
                .operation("bind_user")
                .hint("a user is 1 to 255 bytes of text, and not one of the names kept for sessions that have moved"));
        }
        self.0.write(Op::User(user.into())).map(|_| ())
    }

    /// Takes the [binding](Self::bind_user) to a user back: the session stays, and is nobody's. For a log-out that keeps
    /// what an anonymous visitor has, such as a cart; call [`cycle_id`](Self::cycle_id) as well then.
    ///
    /// The record is written first and the index after it, so that "log out everywhere" never misses a session that is
    /// still the user's.
    ///
    /// # Errors
    /// As the type's documentation says.
    pub fn unbind_user(&self) -> Result<()> {
        self.0.write(Op::NoUser).map(|_| ())
    }

    /// Returns the user the session is bound to.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        self.0.lock().record.meta.user.as_deref().map(str::to_owned)
    }

    /// Sets whether this request's changes are saved, for this request only.
    pub fn set_save(&self, save: Save) {
        self.0.lock().save = save;
    }
}

/// The error of an explicit save that the request itself has ruled out.
fn never(operation: &'static str) -> Error {
    Error::new(ErrorKind::WritesRefused)
        .operation(operation)
        .hint("set_save(Save::Never) keeps this request from storing anything")
}

/// Whether a change that makes no difference is committed all the same, so that the store confirms the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Force {
    Yes,
    No,
}

/// Shows a short hash of the key and the number of values, never the id or the data.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
