//! How long a session lives: idle time, absolute time, or both; one value for the cookie and the store.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    record::{Meta, Millis},
    store::Ttl,
};

/// When a session ends: after a time without use, at a fixed time after it began, or at whichever comes first.
///
/// The same value gives the store its ttl and the cookie its `Max-Age`, so they cannot drift apart. Both ends are
/// enforced on the server; the cookie only spares the browser a useless header (OWASP Session Management Cheat
/// Sheet, "Session Expiration").
///
/// ```
/// use std::time::Duration;
/// use cloakroom_core::Expiry;
///
/// let expiry = Expiry::idle(Duration::from_secs(30 * 60)).absolute(Duration::from_secs(12 * 60 * 60));
/// # let _ = expiry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expiry {
    idle: Option<Duration>,
    absolute: Option<Duration>,
    renew_below: f64,
}

impl Expiry {
    /// Ends a session that has not been loaded for `idle`.
    ///
    /// To spare writes, a use is noted only once less than half of the idle time is left
    /// ([`renew_below`](Self::renew_below)): a session may end after as little as half of `idle` without use.
    #[must_use]
    pub const fn idle(idle: Duration) -> Self {
        Self { idle: Some(idle), absolute: None, renew_below: 0.5 }
    }

    /// Ends a session at `lifetime` after it began, however much it is used.
    #[must_use]
    pub const fn fixed(lifetime: Duration) -> Self {
        Self { idle: None, absolute: Some(lifetime), renew_below: 0.5 }
    }

    /// Adds an absolute end to an idle time: `lifetime` after the session began, however much it is used.
    ///
    /// `cycle_id` keeps the beginning; `regenerate` begins anew.
    #[must_use]
    pub const fn absolute(mut self, lifetime: Duration) -> Self {
        self.absolute = Some(lifetime);
        self
    }

    /// Sets the share of the idle time below which a use renews the session: 0 (never) to 1 (on every use).
    ///
    /// A renewal is one write and sends the cookie again. The default is 0.5.
    #[must_use]
    pub const fn renew_below(mut self, share: f64) -> Self {
        self.renew_below = share;
        self
    }

    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `expiry`.
    pub(crate) fn check(&self) -> Result<()> {
        let zero = |time: Option<Duration>| time.is_some_and(|time| time < Duration::from_millis(1));
        if zero(self.idle) {
            return Err(Error::config("expiry.idle", "a session must live at least 1 ms; try 30 minutes"));
        }
        if zero(self.absolute) {
            return Err(Error::config("expiry.absolute", "a session must live at least 1 ms; try 12 hours"));
        }
        if let (Some(idle), Some(absolute)) = (self.idle, self.absolute)
            && idle > absolute
        {
            return Err(Error::config("expiry.idle", "must not be longer than the absolute lifetime"));
        }
        if !(0.0..=1.0).contains(&self.renew_below) {
            return Err(Error::config("expiry.renew_below", "must be a share between 0 and 1"));
        }
        Ok(())
    }

    /// Returns the idle time, of formats that have nothing else.
    pub(crate) fn idle_millis(&self) -> Millis {
        self.idle.map_or(Ttl::MAX, Ttl::new).millis()
    }

    pub(crate) const fn has_absolute_end(&self) -> bool {
        self.absolute.is_some()
    }

    /// Returns the absolute end of a session that begins at `now`.
    pub(crate) fn deadline(&self, now: Millis) -> Option<Millis> {
        self.absolute.map(|lifetime| now.saturating_add(Ttl::new(lifetime).millis()))
    }

    /// Returns when a session ends if it is not renewed again.
    pub(crate) fn ends(&self, meta: &Meta) -> Millis {
        let idle_end = self.idle_of(meta).map(|idle| meta.renewed.saturating_add(idle));
        let longest = meta.renewed.saturating_add(Ttl::MAX.millis());
        [idle_end, meta.deadline].into_iter().flatten().fold(longest, Millis::min)
    }

    /// Returns how long a session has left at `now`, never more than a whole idle time; `None` if it is over.
    pub(crate) fn left(&self, meta: &Meta, now: Millis) -> Option<Ttl> {
        let left = self.ends(meta).saturating_sub(now);
        // A server whose clock is behind must not grant more than the idle time.
        let left = self.idle_of(meta).map_or(left, |idle| left.min(idle));
        (left > 0).then(|| Ttl::from_millis(left))
    }

    /// Returns whether a use at `now` should renew the session.
    pub(crate) fn renewal_due(&self, meta: &Meta, now: Millis) -> bool {
        let Some(idle) = self.idle_of(meta) else {
            return false;
        };
        let idle_left = meta.renewed.saturating_add(idle).saturating_sub(now);
        // Once the absolute end is nearer than the idle end, renewing gains nothing.
        let gains = meta.deadline.is_none_or(|deadline| deadline > meta.renewed.saturating_add(idle));
        gains && (idle_left as f64) < idle as f64 * self.renew_below
    }

    /// Returns the longest this session may live from `now`, for the by-user index.
    pub(crate) fn longest(&self, meta: &Meta, now: Millis) -> Ttl {
        let end = meta.deadline.map(|deadline| deadline.saturating_sub(now));
        Ttl::from_millis(end.or(self.idle_of(meta)).unwrap_or(Ttl::MAX.millis()))
    }

    fn idle_of(&self, meta: &Meta) -> Option<Millis> {
        meta.ttl.or_else(|| self.idle.map(|idle| Ttl::new(idle).millis()))
    }
}

/// One day of idle time, as the ancestor koa-generic-session has.
impl Default for Expiry {
    fn default() -> Self {
        Self::idle(Duration::from_secs(24 * 60 * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(1000);

    fn meta(renewed: Millis, deadline: Option<Millis>) -> Meta {
        Meta { renewed, ..Meta::starting(0, deadline) }
    }

    #[test]
    fn the_nearer_of_both_ends_counts() {
        let expiry = Expiry::idle(IDLE).absolute(Duration::from_secs(3));
        assert_eq!(expiry.ends(&meta(500, expiry.deadline(0))), 1500);
        assert_eq!(expiry.ends(&meta(2500, expiry.deadline(0))), 3000);
        assert_eq!(expiry.left(&meta(2500, Some(3000)), 2900), Some(Ttl::from_millis(100)));
        assert_eq!(expiry.left(&meta(2500, Some(3000)), 3000), None);
    }

    #[test]
    fn a_renewal_is_due_below_half_of_the_idle_time() {
        let expiry = Expiry::idle(IDLE);
        assert!(!expiry.renewal_due(&meta(0, None), 500));
        assert!(expiry.renewal_due(&meta(0, None), 501));
        assert!(!Expiry::idle(IDLE).renew_below(0.0).renewal_due(&meta(0, None), 999));
        assert!(Expiry::idle(IDLE).renew_below(1.0).renewal_due(&meta(0, None), 1));
        assert!(!Expiry::fixed(IDLE).renewal_due(&meta(0, Some(1000)), 999));
    }

    #[test]
    fn a_renewal_that_gains_nothing_is_not_due() {
        let expiry = Expiry::idle(IDLE).absolute(Duration::from_secs(2));
        assert!(!expiry.renewal_due(&meta(1000, Some(2000)), 1999));
    }

    #[test]
    fn a_clock_that_is_behind_grants_no_more_than_the_idle_time() {
        assert_eq!(Expiry::idle(IDLE).left(&meta(600_000, None), 0), Some(Ttl::from_millis(1000)));
    }

    #[test]
    fn a_session_of_its_own_ttl_follows_it() {
        let own = Meta { ttl: Some(50), ..meta(0, None) };
        assert_eq!(Expiry::idle(IDLE).ends(&own), 50);
        assert_eq!(Expiry::idle(IDLE).longest(&own, 0), Ttl::from_millis(50));
    }

    #[test]
    fn times_that_cannot_work_are_refused_by_name() {
        let field = |expiry: Expiry| expiry.check().unwrap_err().field();
        assert_eq!(field(Expiry::idle(Duration::ZERO)), Some("expiry.idle"));
        assert_eq!(field(Expiry::idle(IDLE).absolute(Duration::ZERO)), Some("expiry.absolute"));
        assert_eq!(field(Expiry::fixed(Duration::from_nanos(1))), Some("expiry.absolute"));
        assert_eq!(field(Expiry::idle(IDLE).absolute(IDLE / 2)), Some("expiry.idle"));
        assert_eq!(field(Expiry::idle(IDLE).renew_below(f64::NAN)), Some("expiry.renew_below"));
        assert!(Expiry::default().check().is_ok());
    }
}
