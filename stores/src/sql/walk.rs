//! How far the sweeps of a store have come in a table that they go through a page at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sweep::More;

/// The place in a table to go on from: first the beginning, and none once the round has come to the end.
#[derive(Debug)]
pub(crate) struct Walk<P>(Mutex<Option<P>>);

impl<P: Default> Default for Walk<P> {
    fn default() -> Self {
        Self(Mutex::new(Some(P::default())))
    }
}

impl<P: Clone + Default> Walk<P> {
    /// Returns the place to go on from in this round, or `None` if that is over.
    pub(crate) fn place(&self) -> Option<P> {
        self.lock().clone()
    }

    /// Notes how far the last step came. Two that sweep at once may both look at some pages, and leave none out.
    pub(crate) fn go_on_from(&self, next: Option<P>) {
        *self.lock() = next;
    }

    fn lock(&self) -> MutexGuard<'_, Option<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether the round through the values and that through the bindings are both over, and then begins the next.
pub(crate) fn more<V: Clone + Default, B: Clone + Default>(values: &Walk<V>, bindings: &Walk<B>) -> More {
    if values.place().is_some() || bindings.place().is_some() {
        return More::Maybe;
    }
    values.go_on_from(Some(V::default()));
    bindings.go_on_from(Some(B::default()));
    More::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_over_when_both_tables_were_gone_through_and_the_next_begins_anew() {
        let (values, bindings) = (Walk::<String>::default(), Walk::<u32>::default());
        assert_eq!((values.place(), bindings.place()), (Some(String::new()), Some(0)));
        values.go_on_from(Some("k".to_owned()));
        bindings.go_on_from(None);
        assert_eq!(more(&values, &bindings), More::Maybe);
        assert_eq!((values.place().as_deref(), bindings.place()), (Some("k"), None));
        values.go_on_from(None);
        assert_eq!(more(&values, &bindings), More::No);
        assert_eq!((values.place(), bindings.place()), (Some(String::new()), Some(0)));
    }
}
