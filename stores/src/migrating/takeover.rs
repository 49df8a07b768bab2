//! How one session gets from `from` to `to`: in steps that anybody may do, again and at any time.
//!
//! The steps: a *pending* claim is created in `to`, where nothing is; the value is seen in `from` once more, and the
//! claim becomes *verified*; the value leaves `from`; the claim becomes the value. Each is one conditional write of one
//! store, and each claim is unique, so a process that does a step late finds it done or void.
//!
//! Why a session that was destroyed cannot come back: a destroy empties `from` first and `to` second. For a value to
//! come up in `to` after that, its claim must become verified after that, and must therefore have been made after
//! that; but then the look into `from` comes later still, and finds it empty.

use bytes::Bytes;
use cloakroom_core::{AtomicStore, Error, ErrorKind, Key, Result, Store, Swapped, Ttl};

use super::{
    Migrating,
    held::{Claim, Held, MOVED, Stage},
};

/// Attempts before a call gives up: each failed one means that another process got further.
pub(super) const TRIES: usize = 16;

/// How long a pending claim may stand. It is worth nothing, so this only has to outlast a step.
const PENDING_TTL: Ttl = Ttl::from_secs(60);

/// How long a key that was destroyed stays bound in `from`, as the index promises.
pub(super) const BOUND: Ttl = Ttl::from_secs(61);

impl<F: Store, T: Store> Migrating<F, T> {
    pub(super) fn atomic_from(&self) -> Result<&dyn AtomicStore> {
        self.from.as_atomic().ok_or_else(|| unsupported("the store to move from cannot compare and swap"))
    }

    pub(super) fn atomic_to(&self) -> Result<&dyn AtomicStore> {
        self.to.as_atomic().ok_or_else(|| unsupported("the store to move to cannot compare and swap"))
    }

    /// Returns the session's value if it is in `from`.
    pub(super) async fn left(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.from.get(key).await?.map(Held::read).transpose()? {
            Some(Held::Value(value)) => Ok(Some(value)),
            Some(Held::Moved | Held::Claim(_)) | None => Ok(None),
        }
    }

    /// Moves a value that was found in `from`, to live for `ttl`. What came of it shows at the next look.
    pub(super) async fn take_over(&self, key: &Key, value: &[u8], ttl: Ttl) -> Result<()> {
        let claim = Claim::pending(value, ttl)?;
        if self.atomic_to()?.create(key, claim.raw.clone(), PENDING_TTL).await? {
            self.settle(key, claim).await?;
        }
        Ok(())
    }

    /// Does what is left of a move, whoever began it.
    pub(super) async fn settle(&self, key: &Key, claim: Claim) -> Result<()> {
        let to = self.atomic_to()?;
        let verified = match claim.stage {
            Stage::Verified => claim,
            Stage::Pending => {
                if self.left(key).await?.is_none_or(|value| value != claim.value) {
                    to.remove(key, &claim.raw).await?;
                    return Ok(());
                }
                let verified = claim.verified();
                match to.replace(key, &claim.raw, verified.raw.clone(), verified.ttl).await? {
                    Swapped::Done => verified,
                    // Somebody else did it, or ended the session.
                    Swapped::Gone | Swapped::Conflict(_) => return Ok(()),
                }
            }
        };
        match self.retire(key, &verified.value, Ttl::MAX).await? {
            Swapped::Done | Swapped::Gone => {
                to.replace(key, &verified.raw, verified.value.clone(), verified.ttl).await?;
            }
            // It changed in `from` since: a process that leaves sessions there was faster.
            Swapped::Conflict(_) => {
                to.remove(key, &verified.raw).await?;
            }
        }
        Ok(())
    }

    /// Takes a value out of `from`. A note stays for `note` where there is an index, whose entry it keeps alive.
    pub(super) async fn retire(&self, key: &Key, value: &[u8], note: Ttl) -> Result<Swapped> {
        let from = self.atomic_from()?;
        if self.from.as_indexed().is_none() {
            return from.remove(key, value).await;
        }
        match from.replace(key, value, MOVED, note).await? {
            Swapped::Conflict(current) if current == MOVED => Ok(Swapped::Gone),
            swapped => Ok(swapped),
        }
    }

    /// Ends a session in `from`; `true` if it was there.
    pub(super) async fn destroy_left(&self, key: &Key) -> Result<bool> {
        for _ in 0..TRIES {
            let Some(value) = self.left(key).await? else { return Ok(false) };
            match self.retire(key, &value, BOUND).await? {
                Swapped::Done => return Ok(true),
                Swapped::Gone => return Ok(false),
                Swapped::Conflict(_) => {}
            }
        }
        Err(contention())
    }

    /// Removes what a move of `value`, which has just been removed from `from`, may have left in `to` meanwhile.
    pub(super) async fn remove_moved(&self, key: &Key, value: &[u8]) -> Result<Swapped> {
        let to = self.atomic_to()?;
        for _ in 0..TRIES {
            let Some(found) = self.to.get(key).await? else { return Ok(Swapped::Done) };
            let removed = match Held::read(found)? {
                Held::Claim(claim) => to.remove(key, &claim.raw).await?,
                Held::Value(current) if current == value => to.remove(key, value).await?,
                // It was moved, and then changed: this removal comes too late.
                Held::Value(current) => return Ok(Swapped::Conflict(current)),
                Held::Moved => return Ok(Swapped::Done),
            };
            if !matches!(removed, Swapped::Conflict(_)) {
                return Ok(Swapped::Done);
            }
        }
        Err(contention())
    }
}

pub(super) fn contention() -> Error {
    Error::new(ErrorKind::Contention)
        .store("migrating")
        .hint("16 others came first, one after the other, while the session was moved between two stores")
}

pub(super) fn unsupported(hint: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported).store("migrating").hint(hint)
}
