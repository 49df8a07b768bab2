//! Reports as a table for a README: what a reader chooses a store by, and nothing that another run would change.

use std::{collections::BTreeMap, fmt::Write as _};

use cloakroom_core::Guarantee;

use super::Report;
use crate::subject::Ability;

const HEAD: &str = "| store | parallel requests | sessions by user | list, count, clear | round trips | proved on | cases passed |\n\
                    |---|---|---|---|---|---|---|\n";

impl Report {
    /// Returns a Markdown table with a row for each report.
    ///
    /// It has no times and no small versions, so that it stays the same while the store does: a check in CI can compare
    /// it with the one in a README.
    #[must_use]
    pub fn table(reports: &[Self]) -> String {
        let mut table = HEAD.to_owned();
        for report in reports {
            let parallel = match report.guarantee {
                Guarantee::Strict => "nothing lost",
                Guarantee::Migrating => "nothing lost on the way",
                Guarantee::LastWriterWins => "the later wins",
            };
            let has = |ability| if report.abilities.contains(&ability) { "yes" } else { "no" };
            let passed = report.cases.len() - report.failures().count();
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                table,
                "| {} | {parallel} | {} | {} | {} | {} | {passed} of {} |",
                report.store,
                has(Ability::Indexed),
                has(Ability::Admin),
                report.trips_text(),
                report.server_text(),
                report.cases.len(),
            );
        }
        table
    }

    /// What most operations take, and the others by name.
    fn trips_text(&self) -> String {
        if self.server.is_none() {
            return "none".into();
        }
        // Not to be taken for one each: there was no wire to look at, or what was seen there differed.
        if self.round_trips.is_empty() {
            return "not counted".into();
        }
        let mut text = "1".to_owned();
        let others = self.round_trips.iter().filter(|(_, count)| *count != 1);
        for (operation, count) in others {
            let separator = if text == "1" { "; " } else { ", " };
            let _ = write!(text, "{separator}{operation} {count}");
        }
        for (count, operations) in self.dear_refusals() {
            let separator = if text == "1" { "; " } else { ", " };
            let _ = write!(text, "{separator}a refused {} {count}", operations.join(" or "));
        }
        text
    }

    /// The operations that take another number of round trips when they are refused, by that number.
    fn dear_refusals(&self) -> BTreeMap<u64, Vec<&'static str>> {
        let mut dear = BTreeMap::<_, Vec<_>>::new();
        for (operation, count) in self.refusals.iter().filter(|refused| !self.round_trips.contains(refused)) {
            dear.entry(*count).or_default().push(operation.as_str());
        }
        dear
    }

    /// The product and as much of its version as what a store supports is said in.
    fn server_text(&self) -> String {
        let Some(server) = &self.server else {
            return "this process".into();
        };
        // Of PostgreSQL the second number counts mended mistakes, which is the third elsewhere.
        let numbers = if server.product == "PostgreSQL" { 1 } else { 2 };
        let release = server.version.split('.').take(numbers).collect::<Vec<_>>().join(".");
        format!("{} {release}", server.product).trim_end().to_owned()
    }
}
