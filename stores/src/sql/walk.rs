//! How far the sweeps of a store have come in a table that they go through a page at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_core::Result;

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

    /// Goes back to the beginning from the end, and from nowhere else.
    fn begin_anew(&self) {
        self.lock().get_or_insert_default();
    }

    fn lock(&self) -> MutexGuard<'_, Option<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws a step's conclusions from how the values and the bindings were swept, each as far as they go: whether the round
/// through both is over. If so the next begins.
///
/// After an error the round does not end. Whichever of the two is through goes round again, for otherwise an error of the
/// one that does not pass would keep the other from ever being swept.
pub(crate) fn more<V: Clone + Default, B: Clone + Default>(
    (values, of_values): (&Walk<V>, Result<()>),
    (bindings, of_bindings): (&Walk<B>, Result<()>),
) -> Result<More> {
    let error = of_values.and(of_bindings).err();
    if error.is_none() && (values.place().is_some() || bindings.place().is_some()) {
        return Ok(More::Maybe);
    }
    values.begin_anew();
    bindings.begin_anew();
    error.map_or(Ok(More::No), Err)
}

#[cfg(test)]
mod tests {
    use cloakroom_core::{Error, ErrorKind};

    use super::*;

    fn swept(values: &Walk<String>, bindings: &Walk<u32>) -> More {
        more((values, Ok(())), (bindings, Ok(()))).expect("nothing failed")
    }

    #[test]
    fn a_round_is_over_when_both_tables_were_gone_through_and_the_next_begins_anew() {
        let (values, bindings) = (Walk::<String>::default(), Walk::<u32>::default());
        assert_eq!((values.place(), bindings.place()), (Some(String::new()), Some(0)));
        values.go_on_from(Some("k".to_owned()));
        bindings.go_on_from(None);
        assert_eq!(swept(&values, &bindings), More::Maybe);
        assert_eq!((values.place().as_deref(), bindings.place()), (Some("k"), None));
        values.go_on_from(None);
        assert_eq!(swept(&values, &bindings), More::No);
        assert_eq!((values.place(), bindings.place()), (Some(String::new()), Some(0)));
    }

    #[test]
    fn an_error_of_the_one_table_does_not_keep_the_other_from_being_gone_through_again() {
        let (values, bindings) = (Walk::<String>::default(), Walk::<u32>::default());
        let failed = || Err(Error::new(ErrorKind::Timeout));
        values.go_on_from(Some("k".to_owned()));
        bindings.go_on_from(None);
        let error = more((&values, failed()), (&bindings, Ok(()))).expect_err("the values failed");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!((values.place().as_deref(), bindings.place()), (Some("k"), Some(0)));
        values.go_on_from(None);
        bindings.go_on_from(Some(7));
        let error = more((&values, Ok(())), (&bindings, failed())).expect_err("the bindings failed");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!((values.place().as_deref(), bindings.place()), (Some(""), Some(7)));
    }
}
