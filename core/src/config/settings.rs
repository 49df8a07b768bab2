//! The configuration as checked: what the engine goes by.

use std::{fmt, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{ClockFn, millis_of};
use crate::{
    backend::Backend,
    expiry::Expiry,
    gate::{Gate, OnOutage},
    hooks::Hooks,
    ids::IdSource,
    migrate::{Home, OldHome},
    profile::{ReadRenewal, Wire},
    record::{Meta, Millis},
    store::{Guarantee, Ttl},
    transport::Carrier,
};

/// The configuration, checked.
pub(crate) struct Settings {
    pub(crate) guarantee: Guarantee,
    pub(crate) backend: Backend,
    pub(crate) gate: Gate,
    pub(crate) on_outage: OnOutage,
    pub(crate) carrier: Carrier,
    pub(crate) ids: IdSource,
    pub(crate) hooks: Hooks,
    pub(crate) expiry: Expiry,
    pub(crate) rolling: bool,
    pub(crate) allow_empty: bool,
    pub(crate) save_on_server_error: bool,
    pub(super) clock: Arc<ClockFn>,
    pub(crate) profile: Wire,
    /// Where sessions move away from.
    pub(crate) old: Option<OldHome>,
    /// Commits of several steps run here, where a client that hangs up cannot stop them half-way.
    pub(crate) tasks: TaskTracker,
}

impl Settings {
    /// Returns the time by the configured clock.
    pub(crate) fn now(&self) -> Millis {
        millis_of((self.clock)())
    }

    /// Whether records of this home are in the ticket itself.
    pub(crate) fn in_cookie(&self, home: Home) -> bool {
        match (home, &self.old) {
            (Home::Old, Some(old)) => old.wire.in_cookie,
            _ => self.profile.in_cookie,
        }
    }

    /// Returns how long a record lives from `now`, as the store is told; `None` if the session is over.
    pub(crate) fn ttl_left(&self, meta: &Meta, now: Millis) -> Option<Ttl> {
        // Where every write begins the time anew, what is written lives for the whole of it, to the millisecond.
        let from = if self.profile.renewal.every_write { meta.renewed } else { now };
        let left = self.expiry.left(meta, from)?;
        Some(if self.profile.whole_seconds { Ttl::from_secs(left.secs_rounded_up()) } else { left })
    }

    /// Tells whether a use now renews a stored session.
    pub(crate) fn renewal_due(&self, meta: &Meta, now: impl FnOnce() -> Millis) -> bool {
        self.rolling
            || match self.profile.renewal.reads {
                ReadRenewal::WhenDue => self.expiry.renewal_due(meta, now()),
                ReadRenewal::Never => false,
                ReadRenewal::Always => true,
            }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("store", self.backend.store())
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}
