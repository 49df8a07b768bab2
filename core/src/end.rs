//! Ends or re-reads a session at once: `destroy`, `destroy_others` and `reload`.

use std::sync::Arc;

use crate::{
    commit::in_task,
    config::Settings,
    devices::unbound,
    engine::over,
    error::{Error, ErrorKind, Result},
    event,
    handle::{Access, Handle, Refusal, Stored},
    plan::Ticket,
    record::Decoded,
    store::Swapped,
};

/// Removes the stored session and starts over with a new, empty one.
///
/// Runs to its end even if the caller's future is dropped, so that a logout survives a client that hangs up.
///
/// # Errors
/// Whatever the store answers; the session is then as it was.
pub(crate) async fn destroy(handle: &Arc<Handle>) -> Result<()> {
    handle.check_attached("destroy")?;
    let owned = Arc::clone(handle);
    in_task(handle, async move {
        let _one_at_a_time = owned.committing.acquire().await;
        let (stored, doubtful) = {
            let mut state = owned.lock();
            match &state.access {
                Access::Stored(stored) => (Some(stored.clone()), None),
                // A new session whose `create` got no answer may be stored, though nobody has its id.
                Access::Fresh => (None, state.doubt.take()),
                // Gone is gone, and unreadable bytes stay; the others live on, and that must not pass for a logout.
                Access::Refused(Refusal::Gone | Refusal::Corrupt) => (None, None),
                Access::Refused(refusal) => return Err(refusal.error()),
            }
        };
        if let Some(doubt) = doubtful {
            for attempt in &doubt.attempts {
                owned.settings.backend.remove(&doubt.target.key, &attempt.bytes).await?;
            }
        }
        let ended = match stored {
            Some(stored) => remove(&owned.settings, stored).await?,
            None => Ended::NothingStored,
        };
        let blank = owned.blank();
        let mut state = owned.lock();
        match (ended, &state.access) {
            // Unreadable bytes stay where they are, and the visitor begins anew.
            (Ended::Removed | Ended::Unreadable, _) | (_, Access::Refused(Refusal::Corrupt)) => {
                state.taken_back = state.record.meta.cookie;
                state.start_over(blank);
                state.destroyed = true;
                state.ticket = Ticket::Keep;
            }
            // Somebody else ended it, or moved it by a login: what the browser holds now is theirs to say.
            (Ended::Lost(Refusal::Gone), _) => state.refuse(Refusal::Gone, blank),
            (Ended::Lost(refusal), _) => {
                state.refuse(refusal, blank);
                return Err(refusal.error());
            }
            (Ended::NothingStored, Access::Refused(_)) => {}
            (Ended::NothingStored, _) => state.start_over(blank),
        }
        Ok(())
    })
    .await
}

/// What became of a record that was to be removed.
pub(crate) enum Ended {
    Removed,
    /// Others ended or moved the session first.
    Lost(Refusal),
    NothingStored,
    /// What is there now cannot be read, and stays.
    Unreadable,
}

/// Removes the record whatever others wrote into it meanwhile, but not a tombstone: that protects a login's cookie. One
/// that is gone from its old home is looked for in the new one.
///
/// # Errors
/// Whatever the store answers, and [`ErrorKind::Contention`] after 64 conflicts; the session is then as it was.
pub(crate) async fn remove(settings: &Settings, mut stored: Stored) -> Result<Ended> {
    let backend = settings.backend_of(stored.home);
    let (mut conflicts, mut lost_replies) = (0, 0);
    loop {
        let current = match backend.remove(&stored.key, &stored.bytes).await {
            Ok(Swapped::Done) => break,
            Ok(Swapped::Gone) => None,
            Ok(Swapped::Conflict(current)) => Some(current),
            // So says a store that finds something else than bytes.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                event::corrupt(&stored.key, &error);
                return Ok(Ended::Unreadable);
            }
            Err(error) if error.kind().leaves_doubt() && lost_replies < 3 => {
                lost_replies += 1;
                backend.get(&stored.key).await.map_err(|_| error)?
            }
            Err(error) => return Err(error),
        };
        let Some(current) = current else {
            // It lives on in its new home, and that must not pass for a logout.
            if settings.moved_over(&stored).await? {
                return Ok(Ended::Lost(Refusal::Moved));
            }
            // Removed by this call, whose reply was lost, as far as anybody can tell.
            if lost_replies > 0 {
                break;
            }
            return Ok(Ended::Lost(Refusal::Gone));
        };
        match settings.decode(&stored, &current) {
            Ok(Decoded::Tombstone) => return Ok(Ended::Lost(Refusal::Moved)),
            Ok(Decoded::Session(_)) => {}
            Err(error) => {
                event::corrupt(&stored.key, &error);
                return Ok(Ended::Unreadable);
            }
        }
        conflicts += 1;
        stored.bytes = current;
        // A logout has more patience than a save, and never deletes what it has not looked at.
        if conflicts > 64 {
            return Err(Error::new(ErrorKind::Contention)
                .operation("destroy")
                .hint("64 other writers came first, one after the other; the session is as it was"));
        }
    }
    event::destroyed(&stored.key);
    Ok(Ended::Removed)
}

/// Ends every other session of the user this one is bound to.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when the session is bound to nobody or the store keeps no index.
pub(crate) async fn destroy_others(handle: &Handle) -> Result<u64> {
    handle.check_attached("destroy_others")?;
    let (user, own) = {
        let state = handle.lock();
        state.check_granted()?;
        let own = match &state.access {
            Access::Stored(stored) => Some(stored.key.clone()),
            Access::Fresh | Access::Refused(_) => None,
        };
        (state.record.meta.user.clone(), own)
    };
    let user = user.ok_or_else(|| unbound("destroy_others"))?;
    handle.settings.backend.destroy_user(&user, own.as_ref()).await
}

/// Drops the changes not yet committed and loads what is stored now.
///
/// # Errors
/// [`ErrorKind::Gone`] when the session has ended; [`ErrorKind::WritesRefused`] when it has moved or cannot be read;
/// whatever the store's `get` answers, with the changes kept.
pub(crate) async fn reload(handle: &Handle) -> Result<()> {
    handle.check_attached("reload")?;
    let _one_at_a_time = handle.committing.acquire().await;
    let stored = {
        let mut state = handle.lock();
        match &state.access {
            Access::Stored(stored) => stored.clone(),
            Access::Fresh => {
                state.start_over(handle.blank());
                return Ok(());
            }
            Access::Refused(_) => return state.check_granted(),
        }
    };
    // A record in the cookie is as it came, or as this request wrote it.
    let found = if handle.settings.in_cookie(stored.home) {
        Ok(Some(stored.bytes.clone()))
    } else {
        handle.settings.backend_of(stored.home).get(&stored.key).await
    };
    let bytes = match found {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let moved = handle.settings.moved_over(&stored).await?;
            return refuse(handle, if moved { Refusal::Moved } else { Refusal::Gone });
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            event::corrupt(&stored.key, &error);
            return refuse(handle, Refusal::Corrupt);
        }
        Err(error) => return Err(error),
    };
    let refusal = match handle.settings.decode(&stored, &bytes) {
        Ok(Decoded::Session(record)) if !over(&handle.settings, record.meta.deadline) => {
            handle.lock().install(Stored { bytes, ..stored }, record);
            return Ok(());
        }
        Ok(Decoded::Session(_)) => Refusal::Gone,
        Ok(Decoded::Tombstone) => Refusal::Moved,
        Err(error) => {
            event::corrupt(&stored.key, &error);
            Refusal::Corrupt
        }
    };
    refuse(handle, refusal)
}

/// Takes the session away from the request, and says why.
///
/// # Errors
/// That of the refusal.
fn refuse(handle: &Handle, refusal: Refusal) -> Result<()> {
    let mut state = handle.lock();
    state.refuse(refusal, handle.blank());
    state.check_granted()
}
