//! Measures requests a second of a handler with a session in a database, at 16 connections, and what a sweep holds up.
//!
//! `./bench sql URL [ROUNDS]`, with the address of a PostgreSQL database or of an SQLite file that is not there yet. With
//! that of a MySQL or MariaDB database only the sweep is measured. Fails when a bound is exceeded, at the end.
//! Each round measures every peer for half a second after the other, and ratios are medians of what a round says
//! beside its own bare statements, so that a machine that is busy for a while is busy for all.

mod apps;
mod load;
mod rival;
mod sweep;

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long each peer is measured in each round.
const SPAN: Duration = Duration::from_millis(500);

const ROUNDS: usize = 15;

const PEERS: [&str; 3] = ["bare prepared statements", "Cloakroom", "tower-sessions"];

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let url = arguments.first().ok_or("the address of a database")?;
    let rounds: usize = arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS).max(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut exceeded = false;
    if !url.starts_with("mysql:") {
        exceeded |= requests(&runtime, url, rounds)?;
    }
    exceeded |= runtime.block_on(sweep::measure(url))?;
    if exceeded { Err("a bound is exceeded: see above".into()) } else { Ok(()) }
}

/// Measures requests, and returns whether we are slower than we may be.
fn requests(runtime: &tokio::runtime::Runtime, url: &str, rounds: usize) -> Result<bool, Failure> {
    let least = if url.starts_with("sqlite:") { 0.90 } else { 0.95 };
    let kind = if url.starts_with("sqlite:") { "SQLite" } else { "PostgreSQL" };
    let mut exceeded = false;
    let peer = Peer::start(url)?;
    let addresses = [runtime.block_on(apps::bare(url))?, runtime.block_on(apps::ours(url))?, peer.address];
    println!("{kind}; {} connections, a session of 100 B,", load::CONNECTIONS);
    println!("medians of {rounds} interleaved rounds of {} ms.\n", SPAN.as_millis());
    println!("| handler | peer | requests a second | beside bare statements |");
    println!("|---|---|---|---|");
    for (work, path) in [("one read", "/read"), ("one read, one write", "/change")] {
        let mut visitors = Vec::new();
        for address in addresses {
            visitors.push(load::Load::new(address, path)?);
        }
        let mut measured = [const { Vec::new() }; PEERS.len()];
        for round in 0..=rounds {
            for turn in 0..PEERS.len() {
                let place = (round + turn) % PEERS.len();
                let rate = visitors[place].measure(SPAN)?;
                // The first round warms up.
                if round > 0 {
                    measured[place].push(rate);
                }
            }
        }
        let bare = measured[0].clone();
        for (place, rates) in measured.into_iter().enumerate() {
            let ratios = rates.iter().zip(&bare).map(|(rate, bare)| rate / bare).collect();
            let (rate, ratio) = (median(rates), median(ratios));
            let verdict = match place {
                1 if ratio < least => {
                    exceeded = true;
                    format!(", >= {least:.2} EXCEEDED")
                }
                1 => format!(", >= {least:.2} kept"),
                _ => String::new(),
            };
            println!("| {work} | {} | {rate:.0} | {ratio:.2}{verdict} |", PEERS[place]);
        }
    }
    Ok(exceeded)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The program beside this one that serves the handlers over tower-sessions.
struct Peer {
    program: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(url: &str) -> Result<Self, Failure> {
        // Beside this program, where `./bench` builds both.
        let built = env::current_exe()?.with_file_name("cloakroom-bench-sql-peer");
        let mut program = Command::new(built).arg(url).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(program.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { program, address: line.trim().parse()? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
