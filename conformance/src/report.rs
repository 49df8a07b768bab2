//! The result of a whole run: for people as Markdown, for programs as JSON.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use cloakroom_core::Guarantee;
use serde_json::json;

use crate::{failure::Failure, operation::Operation, subject::Ability};

mod observed;
mod table;

/// Which part of the contract a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The three methods that every store has.
    Base,
    /// [`Ability::Atomic`].
    Atomic,
    /// [`Ability::Indexed`].
    Indexed,
    /// [`Ability::Admin`].
    Admin,
    /// Races between two handles.
    Concurrency,
    /// Outages: what operations answer, what the status says, what comes back.
    Status,
    /// The real server: its death and return, and what goes over the wire to it.
    Server,
}

impl Group {
    /// Every group there is.
    pub const ALL: [Self; 7] =
        [Self::Base, Self::Atomic, Self::Indexed, Self::Admin, Self::Concurrency, Self::Status, Self::Server];

    /// Returns the group as it stands in a case's id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Atomic => "atomic",
            Self::Indexed => "indexed",
            Self::Admin => "admin",
            Self::Concurrency => "concurrency",
            Self::Status => "status",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store keeps the rule.
    Passed,
    /// The store breaks it.
    Failed(Failure),
}

/// One case of a [`Report`].
#[derive(Clone, Debug)]
pub struct CaseReport {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
}

impl CaseReport {
    /// Returns the part of the contract that the case belongs to.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.group
    }

    /// Returns the case's name, a sentence: `an_absent_key_is_none`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns group and name: `base::an_absent_key_is_none`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// Returns how the case ended.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Returns why the case failed, or `None` if it passed.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }

    /// Returns how long the case took.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }
}

/// Whether the cases of a group ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tested {
    Yes,
    No,
}

/// The server that the cases ran on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerReport {
    pub(crate) product: String,
    /// Empty if it does not tell.
    pub(crate) version: String,
    pub(crate) way: String,
}

/// What a store keeps of the contract: the outcome of every case, and what the store does not claim.
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) store: String,
    pub(crate) guarantee: Guarantee,
    pub(crate) abilities: Vec<Ability>,
    pub(crate) status: Tested,
    pub(crate) server: Option<ServerReport>,
    pub(crate) round_trips: Vec<(Operation, u64)>,
    pub(crate) refusals: Vec<(Operation, u64)>,
    pub(crate) cases: Vec<CaseReport>,
}

impl Report {
    /// Returns the store's name.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Returns what the store, as opened, promises to parallel requests; `LastWriterWins` if it cannot be opened.
    #[must_use]
    pub const fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// Returns the abilities that the store declares and that were tested.
    #[must_use]
    pub fn abilities(&self) -> &[Ability] {
        &self.abilities
    }

    /// Returns the abilities that the store does not declare: their cases did not run.
    #[must_use]
    pub fn absent(&self) -> Vec<Ability> {
        let mut absent = Ability::ALL.to_vec();
        absent.retain(|ability| !self.abilities.contains(ability));
        absent
    }

    /// Returns whether the cases of [`Group::Status`] ran: only a subject with an [`Outage`](crate::Outage) has them.
    #[must_use]
    pub const fn tests_status(&self) -> bool {
        matches!(self.status, Tested::Yes)
    }

    /// Returns what the server said it is, `Redis` or `MariaDB`; `None` for a store without one.
    #[must_use]
    pub fn product(&self) -> Option<&str> {
        self.server.as_ref().map(|server| server.product.as_str())
    }

    /// Returns the server's version; `None` for a store without one, and if it does not tell.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.server.as_ref().map(|server| server.version.as_str()).filter(|version| !version.is_empty())
    }

    /// Returns how the server was started, such as `container redis:7.0`; `None` for a store without one.
    #[must_use]
    pub fn way(&self) -> Option<&str> {
        self.server.as_ref().map(|server| server.way.as_str())
    }

    /// Returns how many round trips each operation took, as counted on the wire; empty for a store without a server, with
    /// one of several addresses for which no [`wire`](crate::Subject::wire) was given, and where the count failed.
    #[must_use]
    pub fn round_trips(&self) -> &[(Operation, u64)] {
        &self.round_trips
    }

    /// Returns how many round trips each operation took that answered `None`, `false`, `Gone` or `Conflict`, of several
    /// such answers the one that took most; empty where [`round_trips`](Self::round_trips) is.
    #[must_use]
    pub fn refusals(&self) -> &[(Operation, u64)] {
        &self.refusals
    }

    /// Returns every case that ran, group by group.
    #[must_use]
    pub fn cases(&self) -> &[CaseReport] {
        &self.cases
    }

    /// Returns the cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|case| case.failure().is_some())
    }

    /// Returns whether every case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Returns the report as Markdown: a summary, a line for each group, and every failure in full.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "## {}\n", self.store)?;
        writeln!(out, "Guarantee: {}\n", self.guarantee.as_str())?;
        if let Some(server) = &self.server {
            let product = format!("{} {}", server.product, server.version);
            writeln!(out, "Server: {}, {}\n", product.trim_end(), server.way)?;
        }
        for (what, trips) in [("Round trips", &self.round_trips), ("Refusals", &self.refusals)] {
            if !trips.is_empty() {
                let counted: Vec<_> =
                    trips.iter().map(|(operation, count)| format!("{operation} {count}")).collect();
                writeln!(out, "{what}: {}\n", counted.join(", "))?;
            }
        }
        writeln!(out, "| group | passed | failed | time |\n|---|---|---|---|")?;
        for group in Group::ALL {
            let cases = || self.cases.iter().filter(|case| case.group == group);
            if cases().next().is_none() {
                let why = match group {
                    Group::Status => NO_OUTAGE,
                    Group::Server => NO_SERVER,
                    _ => "absent",
                };
                writeln!(out, "| {group} | {why} | | |")?;
                continue;
            }
            let failed = cases().filter(|case| case.failure().is_some()).count();
            let passed = cases().count() - failed;
            let time: Duration = cases().map(|case| case.duration).sum();
            writeln!(out, "| {group} | {passed} | {failed} | {} ms |", time.as_millis())?;
        }
        let mut failures = self.failures().peekable();
        if failures.peek().is_some() {
            writeln!(out, "\n### Failures\n")?;
        }
        for case in failures {
            if let Some(failure) = case.failure() {
                writeln!(out, "- `{}`\n  - rule: {}", case.id(), failure.rule())?;
                writeln!(out, "  - seen: {}", failure.seen())?;
            }
        }
        Ok(())
    }

    /// Returns the report as JSON: `store`, `guarantee`, `abilities`, `absent`, `status` (`tested` or why not),
    /// `server` with `product`, `version` and `way`, or null, `round_trips` and `refusals` by operation, `passed`, and `cases` with `group`, `name`, `passed`, `millis`, and `rule` and `seen` of a failure.
    #[must_use]
    pub fn to_json(&self) -> String {
        let names =
            |abilities: &[Ability]| abilities.iter().map(|ability| ability.as_str()).collect::<Vec<_>>();
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                json!({
                    "group": case.group.as_str(),
                    "name": case.name,
                    "passed": case.failure().is_none(),
                    "millis": u64::try_from(case.duration.as_millis()).unwrap_or(u64::MAX),
                    "rule": case.failure().map(Failure::rule),
                    "seen": case.failure().map(Failure::seen),
                })
            })
            .collect();
        json!({
            "store": self.store,
            "guarantee": self.guarantee.as_str(),
            "abilities": names(&self.abilities),
            "absent": names(&self.absent()),
            "status": if self.tests_status() { "tested" } else { NO_OUTAGE },
            "server": self.server.as_ref().map(|ServerReport { product, version, way }| {
                json!({ "product": product, "version": version, "way": way })
            }),
            "round_trips": by_operation(&self.round_trips),
            "refusals": by_operation(&self.refusals),
            "passed": self.passed(),
            "cases": cases,
        })
        .to_string()
    }
}

fn by_operation(trips: &[(Operation, u64)]) -> serde_json::Map<String, serde_json::Value> {
    trips.iter().map(|(operation, count)| (operation.as_str().to_owned(), json!(count))).collect()
}

/// Why the status was not tested.
const NO_OUTAGE: &str = "not tested (no outage given)";

/// Why nothing about servers was tested.
const NO_SERVER: &str = "not tested (no server)";

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let case = |name, outcome| CaseReport {
            group: Group::Base,
            name,
            outcome,
            duration: Duration::from_millis(3),
        };
        Report {
            store: "mine".into(),
            guarantee: Guarantee::LastWriterWins,
            abilities: vec![Ability::Admin],
            status: Tested::No,
            server: Some(ServerReport {
                product: "Redis".into(),
                version: "7.0.15".into(),
                way: "container redis:7.0".into(),
            }),
            round_trips: vec![
                (Operation::Get, 1),
                (Operation::Replace, 1),
                (Operation::Remove, 1),
                (Operation::KeysOf, 2),
            ],
            refusals: vec![(Operation::Get, 1), (Operation::Replace, 2), (Operation::Remove, 2)],
            cases: vec![
                case("a_good_one", Outcome::Passed),
                case("a_bad_one", Outcome::Failed(Failure::new("it works", "\"it\" broke"))),
            ],
        }
    }

    #[test]
    fn the_markdown_names_failures_and_absent_groups() {
        let text = report().to_markdown();
        assert!(text.contains("Guarantee: last writer wins"), "{text}");
        assert!(text.contains("| base | 1 | 1 | 6 ms |"), "{text}");
        assert!(text.contains("| atomic | absent | | |"), "{text}");
        assert!(text.contains("| status | not tested (no outage given) | | |"), "{text}");
        assert!(text.contains("- `base::a_bad_one`\n  - rule: it works\n  - seen: \"it\" broke"), "{text}");
    }

    #[test]
    fn the_markdown_tells_the_server_and_the_round_trips() {
        let text = report().to_markdown();
        assert!(text.contains("Server: Redis 7.0.15, container redis:7.0\n"), "{text}");
        assert!(text.contains("Round trips: get 1, replace 1, remove 1, keys_of 2\n"), "{text}");
        assert!(text.contains("Refusals: get 1, replace 2, remove 2\n"), "{text}");
        assert!(text.contains("| server | not tested (no server) | | |"), "{text}");
    }

    #[test]
    fn a_table_has_what_is_the_same_in_every_run() {
        let table = Report::table(&[report()]);
        let row = table.lines().nth(2).unwrap();
        let trips = "1; keys_of 2, a refused replace or remove 2";
        assert_eq!(row, format!("| mine | the later wins | no | yes | {trips} | Redis 7.0 | 1 of 2 |"));
    }

    #[test]
    fn the_json_holds_every_case_and_what_is_absent() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["absent"], json!(["atomic", "indexed"]));
        assert_eq!(json["status"], json!("not tested (no outage given)"));
        assert_eq!(json["passed"], json!(false));
        assert_eq!(json["server"]["version"], json!("7.0.15"));
        assert_eq!(json["round_trips"]["keys_of"], json!(2));
        assert_eq!(json["refusals"]["replace"], json!(2));
        assert_eq!(json["cases"][1]["seen"], json!("\"it\" broke"));
        assert_eq!(json["cases"][0]["rule"], json!(null));
    }
}
