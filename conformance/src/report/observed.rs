//! A report on cases that a test harness has run: how they ended is told, the rest is observed.

use std::time::Duration;

use super::{CaseReport, Outcome, Report};
use crate::{cases, failure::Failure, subject::Subject};

impl Subject {
    /// Reports on cases that a test harness has run already, without running any of them again.
    ///
    /// `ended` is asked for each case that is called for, by its id (`base::an_absent_key_is_none`): how long it took if
    /// it passed, and what was seen of it otherwise. What only the store and its server can tell is asked of them:
    /// the guarantee, the server, and the round trips, which are counted on a quiet wire.
    pub async fn report(&self, mut ended: impl FnMut(&str) -> Result<Duration, String>) -> Report {
        let mut report = self.clone().groups([]).run().await;
        report.cases = cases::all()
            .filter(|case| case.is_called_for(self))
            .map(|case| {
                let id = format!("{}::{}", case.group, case.name);
                let (outcome, duration) = match ended(&id) {
                    Ok(duration) => (Outcome::Passed, duration),
                    Err(seen) => (Outcome::Failed(Failure::new(RULE, seen)), Duration::ZERO),
                };
                CaseReport { group: case.group, name: case.name, outcome, duration }
            })
            .collect();
        report
    }
}

/// What is asked of a case that the harness ran.
const RULE: &str = "the case passes";

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet};

    use cloakroom_core::Guarantee;

    use super::*;
    use crate::{env::Env, reference::Reference, subject::Ability};

    #[tokio::test]
    async fn a_report_on_cases_that_ran_asks_for_each_of_them_and_for_no_other() {
        let open = |env: Env| async move { Ok::<_, cloakroom_core::Error>(env.shared(Reference::new)) };
        let subject = Subject::new(open, [Ability::Atomic]).name("mine");
        let asked = RefCell::new(BTreeSet::new());
        let report = subject
            .report(|id| {
                assert!(asked.borrow_mut().insert(id.to_owned()), "{id} twice");
                if id.contains("touch") { Err("it hung".into()) } else { Ok(Duration::from_millis(2)) }
            })
            .await;
        let asked = asked.into_inner();
        assert!(asked.contains("base::an_absent_key_is_none"));
        assert!(!asked.iter().any(|id| id.starts_with("admin::") || id.starts_with("server::")));
        assert_eq!(report.cases().len(), asked.len());
        assert_eq!((report.store(), report.guarantee()), ("mine", Guarantee::Strict));
        let failed: Vec<_> = report.failures().map(CaseReport::id).collect();
        assert!(failed.iter().all(|id| id.contains("touch")) && !failed.is_empty(), "{failed:?}");
        assert_eq!(report.failures().next().unwrap().failure().unwrap().seen(), "it hung");
    }
}
