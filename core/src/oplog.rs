//! The operation log: what a request did to its session, kept so that it can be done again on a newer record.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use smallvec::SmallVec;

use crate::{
    cookie::CookieOptions,
    document::{Document, Pair},
    error::{Error, ErrorKind, Result},
    record::{Meta, Millis, Record},
};

/// Takes the raw JSON under a key, if any, and returns the key with what shall be there.
pub(crate) type Change = Box<dyn Fn(Option<&str>) -> Result<Pair> + Send>;

/// Changes any part of the data.
pub(crate) type Edit = Box<dyn Fn(&mut Document) -> Result<bool> + Send>;

/// One change of a session.
pub(crate) enum Op {
    Set(Pair),
    Remove {
        key: Arc<str>,
    },
    Clear,
    /// A session that begins anew: no data, no user, no ttl of its own.
    Restart {
        now: Millis,
        deadline: Option<Millis>,
    },
    Update {
        key: Arc<str>,
        change: Change,
    },
    Edit(Edit),
    Ttl(Millis),
    User(Box<str>),
    NoUser,
    Cookie(CookieOptions),
}

impl Op {
    /// Applies the change; `true` if it made a difference.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when a closure cannot read what it finds, and [`ErrorKind::Backend`] when it panics.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<bool> {
        let Record { meta, data } = record;
        match self {
            Self::Set(pair) => Ok(data.set(pair)),
            Self::Remove { key } => Ok(data.remove(key)),
            Self::Clear => Ok(data.clear()),
            Self::Restart { now, deadline } => {
                data.clear();
                *meta = Meta::starting(*now, *deadline);
                Ok(true)
            }
            Self::Update { key, change } => {
                let pair = guarded(|| change(data.get(key)))?;
                Ok(data.set(&pair))
            }
            Self::Edit(edit) => guarded(|| edit(data)),
            Self::Ttl(ttl) => Ok(meta.ttl.replace(*ttl) != Some(*ttl)),
            Self::Cookie(options) => Ok(meta.cookie.replace(*options) != Some(*options)),
            Self::NoUser => Ok(meta.user.take().is_some()),
            Self::User(user) => {
                let changed = meta.user.as_ref() != Some(user);
                meta.user = Some(user.clone());
                Ok(changed)
            }
        }
    }

    /// Whether the change is one that the browser must hear of: of the session's end, or of its cookie.
    pub(crate) const fn concerns_the_cookie(&self) -> bool {
        matches!(self, Self::Ttl(_) | Self::Cookie(_))
    }
}

/// A closure that panics while it is replayed must not take the response down with it.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Value).operation("update").hint("the closure panicked"))
    })
}

/// Says what kind of change it is, never the key or the value.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set(_) => "Set",
            Self::Remove { .. } => "Remove",
            Self::Clear => "Clear",
            Self::Restart { .. } => "Restart",
            Self::Update { .. } => "Update",
            Self::Edit(_) => "Edit",
            Self::Ttl(_) => "Ttl",
            Self::User(_) => "User",
            Self::NoUser => "NoUser",
            Self::Cookie(_) => "Cookie",
        })
    }
}

/// Changes in order, each with its number. Up to four, more than most requests make, are held without an allocation.
pub(crate) type Ops = SmallVec<[(u64, Op); 4]>;

/// The changes of one request, in order, each with a number that never repeats within the request.
#[derive(Debug, Default)]
pub(crate) struct OpLog {
    ops: Ops,
    next: u64,
}

impl OpLog {
    /// Adds a change and returns its number.
    pub(crate) fn push(&mut self, op: Op) -> u64 {
        let number = self.next;
        self.next += 1;
        self.ops.push((number, op));
        number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().map(|(_, op)| op)
    }

    /// Takes all changes out, for a commit.
    pub(crate) fn take(&mut self) -> Ops {
        std::mem::take(&mut self.ops)
    }

    /// Puts the changes of a failed commit back before those that came meanwhile.
    pub(crate) fn put_back(&mut self, mut ops: Ops) {
        ops.append(&mut self.ops);
        self.ops = ops;
    }

    /// Forgets one change.
    pub(crate) fn forget(&mut self, number: u64) {
        self.ops.retain(|(n, _)| *n != number);
    }

    /// Forgets every change up to and including `number`.
    pub(crate) fn forget_through(&mut self, number: u64) {
        self.ops.retain(|(n, _)| *n > number);
    }

    pub(crate) fn clear(&mut self) {
        self.ops.clear();
    }
}

/// Applies changes in order; `true` if any made a difference.
///
/// # Errors
/// As [`Op::apply`]: of the first that fails.
pub(crate) fn replay(ops: &[(u64, Op)], record: &mut Record) -> Result<bool> {
    ops.iter().try_fold(false, |changed, (_, op)| Ok(op.apply(record)? || changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let meta = Meta::starting(0, None);
        Record { meta, data: Document::default() }
    }

    fn set(key: &str, value: &str) -> Op {
        Op::Set(Pair::new(key, value))
    }

    #[test]
    fn changes_are_replayed_in_order() {
        let mut log = OpLog::default();
        log.push(set("a", "1"));
        log.push(Op::Clear);
        log.push(set("b", "2"));
        log.push(Op::Update {
            key: "b".into(),
            change: Box::new(|old| Ok(Pair::new("b", &format!("[{}]", old.unwrap())))),
        });
        let mut record = record();
        assert!(replay(&log.ops, &mut record).unwrap());
        assert_eq!((record.data.get("a"), record.data.get("b")), (None, Some("[2]")));
    }

    #[test]
    fn a_change_that_makes_no_difference_says_so() {
        let mut record = record();
        assert!(set("a", "1").apply(&mut record).unwrap());
        assert!(!set("a", "1").apply(&mut record).unwrap());
        assert!(!Op::Remove { key: "b".into() }.apply(&mut record).unwrap());
    }

    #[test]
    fn a_failed_commit_puts_its_changes_back_before_later_ones() {
        let mut log = OpLog::default();
        log.push(set("a", "1"));
        let taken = log.take();
        let later = log.push(set("a", "2"));
        log.put_back(taken);
        let mut record = record();
        replay(&log.ops, &mut record).unwrap();
        assert_eq!(record.data.get("a"), Some("2"));
        log.forget(later);
        assert_eq!(log.ops.len(), 1);
        log.forget_through(0);
        assert!(log.is_empty());
    }

    #[test]
    fn a_closure_that_panics_is_an_error() {
        let op = Op::Update { key: "a".into(), change: Box::new(|_| panic!("canary")) };
        let error = op.apply(&mut record()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(!format!("{error:?}").contains("canary"));
    }
}
