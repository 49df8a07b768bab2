//! The suite itself is tested: each mutant has one bug, and exactly its pinned cases fail.
//!
//! `mutants/pinned.txt` has a line for each mutant: the case that names the bug first, then the others. To pin a new
//! mutant or case, run this test: it prints the lines as they are to be. The clock is paused, so nothing here waits
//! and everything happens in the same order in every run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cloakroom_conformance::{Ability, Report, Subject};
use tokio::runtime::Builder;

use crate::{broken::Server, bug::Bug};

#[path = "mutants/admin.rs"]
mod admin;
#[path = "mutants/atomic.rs"]
mod atomic;
#[path = "mutants/broken.rs"]
mod broken;
#[path = "mutants/bug.rs"]
mod bug;
#[path = "mutants/index.rs"]
mod index;
#[path = "mutants/linked.rs"]
mod linked;

const PINNED: &str = include_str!("mutants/pinned.txt");

/// Where the random walks begin.
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// Runs the whole suite over one mutant.
fn run(bug: Bug) -> Report {
    let subject = if bug.is_of_the_link() { linked::subject(bug) } else { broken(bug) };
    // What is pinned is what fails on the same walk in every run.
    let subject = subject.seed(SEED);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output can always be made");
    runtime.block_on(subject.run())
}

fn broken(bug: Bug) -> Subject {
    let server = Server::new(bug);
    let abilities: &[Ability] = match bug {
        Bug::AbilitiesUndeclared => &[],
        _ => &Ability::ALL,
    };
    let open = move |env: cloakroom_conformance::Env| {
        let server = Arc::clone(&server);
        async move { server.open(&env).await }
    };
    let subject = Subject::new(open, abilities.iter().copied());
    match bug {
        Bug::LongKeysAreCut | Bug::LongKeysAreAbsent => subject.longest_key(broken::LONGEST_KEY),
        _ => subject,
    }
}

/// Runs every mutant, as many at once as there are cores.
fn run_all() -> Vec<(Bug, Report)> {
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut reports: Vec<(usize, Report)> = thread::scope(|scope| {
        let worker = || {
            let mut reports = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(bug) = Bug::ALL.get(index) else {
                    return reports;
                };
                reports.push((index, run(*bug)));
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("cases catch their panics"));
        joined.flatten().collect()
    });
    reports.sort_unstable_by_key(|(index, _)| *index);
    reports.into_iter().map(|(index, report)| (Bug::ALL[index], report)).collect()
}

fn failing(report: &Report) -> BTreeSet<String> {
    report.failures().map(|case| case.id()).collect()
}

/// The pinned cases of each mutant, the one that names its bug first.
fn pinned() -> BTreeMap<&'static str, Vec<&'static str>> {
    let lines = PINNED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &'static str| {
        line.split_once(':').map(|(bug, cases)| (bug, cases.split_whitespace().collect()))
    };
    lines.filter_map(split).collect()
}

#[test]
fn every_mutant_fails_exactly_its_pinned_cases_and_every_case_catches_one() {
    let pinned = pinned();
    let mut caught = BTreeSet::new();
    let mut wrong = String::new();
    let reports = run_all();
    for (bug, report) in &reports {
        let failing = failing(report);
        let expected = pinned.get(format!("{bug:?}").as_str()).cloned().unwrap_or_default();
        if failing != expected.iter().map(ToString::to_string).collect() {
            // The case that names the bug stays first.
            let first = expected.first().filter(|case| failing.contains(**case));
            let rest = failing.iter().filter(|case| Some(case.as_str()) != first.copied());
            let line: Vec<&str> = first.copied().into_iter().chain(rest.map(String::as_str)).collect();
            wrong += &format!("{bug:?}: {}\n", line.join(" "));
        }
        assert!(expected.is_empty() == bug.is_control() || !wrong.is_empty(), "{bug:?} is not caught");
        caught.extend(failing);
    }
    assert!(wrong.is_empty(), "these mutants fail other cases than those pinned:\n{wrong}");
    assert_eq!(pinned.len(), Bug::ALL.len(), "a mutant is pinned that is none, or twice");
    let controls = reports.iter().filter(|(bug, _)| bug.is_control());
    let cases = controls.flat_map(|(_, report)| report.cases().iter().map(|case| case.id()));
    let idle: BTreeSet<String> = cases.filter(|case| !caught.contains(case)).collect();
    assert!(idle.is_empty(), "these cases catch no mutant: {idle:?}");
}
