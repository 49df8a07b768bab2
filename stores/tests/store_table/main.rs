//! Reports on the stores after a run of their tests: prints the reports, and writes the table of stores in README.md or
//! checks that it is true.
//!
//! `./test` starts it as `store_table print|write|check LOG [store]..`. How the cases ended is read from what the test
//! runner printed, so none runs twice; guarantee, server and round trips are asked of each store.

use std::{env, fs, path::Path, process::ExitCode};

use cloakroom_conformance::Report;

mod log;
mod readme;
mod subjects;

use self::log::Log;

/// What is done with what was found, besides printing it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    /// Nothing.
    Print,
    /// Write it into README.md.
    Write,
    /// Fail if README.md says something else.
    Check,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (what, log, wanted) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["print", log, wanted @ ..] => (Do::Print, *log, wanted.to_vec()),
        ["write", log] => (Do::Write, *log, Vec::new()),
        ["check", log] => (Do::Check, *log, Vec::new()),
        _ => {
            eprintln!("usage: store_table print <log> [store].. | write <log> | check <log>");
            return ExitCode::from(2);
        }
    };
    let log = Log::read(&fs::read_to_string(log).expect("what the runner printed can be read"));
    let reports = reports(&log, &wanted);
    for report in &reports {
        println!("{}", report.to_markdown());
    }
    let table = Report::table(&reports);
    println!("{table}");
    let passed = reports.iter().all(Report::passed);
    let done = match what {
        Do::Print => Ok(()),
        Do::Write if !passed => Err("README.md is left as it is: not every case passed".to_owned()),
        Do::Write => write(&table),
        Do::Check => readme::check(&read(), &table),
    };
    if let Err(wrong) = &done {
        eprintln!("{wrong}");
    }
    if done.is_ok() && passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports on the stores of these names, or on all of them.
fn reports(log: &Log, wanted: &[&str]) -> Vec<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the system has room for a runtime");
    let subjects = subjects::subjects().into_iter();
    let reports = subjects
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
        .map(|(name, subject)| runtime.block_on(subject.report(|case| log.ended(name, case))))
        .collect();
    // Drivers leave tasks behind.
    runtime.shutdown_background();
    reports
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

fn read() -> String {
    fs::read_to_string(path()).expect("README.md stands beside the packages")
}

fn write(table: &str) -> Result<(), String> {
    fs::write(path(), readme::with_table(&read(), table)).map_err(|error| format!("README.md: {error}"))
}
