//! Counts the processor instructions of each kind of request on top of bare axum, beside tower-sessions.
//!
//! `cargo bench -p cloakroom --features axum --bench instructions` runs itself under callgrind, once for each figure,
//! and needs `valgrind` to be installed. One figure alone, with a profile that `callgrind_annotate` shows:
//!
//! ```sh
//! valgrind --tool=callgrind --toggle-collect='*measured*' --collect-atstart=no BINARY measure cloakroom 'read, 100 B'
//! ```
//!
//! where `BINARY` is what `cargo bench` prints. Callgrind knows no SHA instructions, so hashing costs more here than
//! on a processor that has them.
#![allow(clippy::unwrap_used, clippy::panic)] // A bench that cannot run says why and stops.

mod support;

use std::{
    env,
    io::ErrorKind,
    process::{Command, ExitCode},
};

use support::{
    ROWS, Row, Visitor,
    apps::Peer,
    block_on,
    table::{head, line, verdict},
};

const REQUESTS: usize = 500;

const HEADINGS: [&str; 6] =
    ["request", "bare axum", "Cloakroom", "     budget", "signed cookie", "tower-sessions"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let [_, measure, peer, row] = &*arguments
        && measure == "measure"
    {
        let peer = Peer::ALL.into_iter().find(|known| format!("{known:?}").eq_ignore_ascii_case(peer));
        let row = ROWS.into_iter().find(|known| known.name == row);
        return match (peer, row) {
            (Some(peer), Some(row)) => {
                prepare(peer, row);
                ExitCode::SUCCESS
            }
            _ => {
                eprintln!("no such peer or row; peers: {:?}", Peer::ALL);
                ExitCode::FAILURE
            }
        };
    }
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        let cure = "install it first (Debian: apt-get install valgrind)";
        eprintln!("valgrind cannot be run: {}", if error.kind() == ErrorKind::NotFound { cure } else { "?" });
        return ExitCode::FAILURE;
    }
    println!("Instructions a request; all but the first column on top of bare axum.\n");
    head(&HEADINGS);
    for row in ROWS {
        let bare = callgrind(Peer::Bare, row);
        let over = |peer| callgrind(peer, row).saturating_sub(bare);
        let plain = over(Peer::Cloakroom);
        line(
            &HEADINGS,
            &[
                row.name.to_owned(),
                bare.to_string(),
                plain.to_string(),
                format!("<= {} {}", row.instructions, verdict(plain <= row.instructions)),
                over(Peer::Signed).to_string(),
                over(Peer::TowerSessions).to_string(),
            ],
        );
    }
    ExitCode::SUCCESS
}

/// Runs this program under callgrind and returns the instructions of one request.
fn callgrind(peer: Peer, row: Row) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured*", "--collect-atstart=no"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(env::current_exe().unwrap())
        .args(["measure", &format!("{peer:?}"), row.name])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count);
    let count: u64 =
        collected.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"));
    count / REQUESTS as u64
}

fn prepare(peer: Peer, row: Row) {
    let runtime = support::runtime();
    let mut visitor = block_on(Visitor::new(peer, row));
    runtime.block_on(visitor.visits(50));
    measured(&runtime, &mut visitor);
}

/// What callgrind collects. Nothing else may have this name in its own.
#[inline(never)]
fn measured(runtime: &tokio::runtime::Runtime, visitor: &mut Visitor) {
    runtime.block_on(visitor.visits(REQUESTS));
}
