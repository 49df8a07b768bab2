//! Measures requests a second of a handler with a session in Redis, at 64 connections.
//!
//! `./bench redis [ROUNDS]`. Each round measures every peer for half a second after the other, and ratios are medians
//! of what a round says beside its own bare connection, so that a machine that is busy for a while is busy for all.
//! Fails when a bound is exceeded, at the end.

mod apps;
mod load;
mod server;

use std::{env, error::Error, time::Duration};

use apps::Peer;

/// How long each peer is measured in each round.
const SPAN: Duration = Duration::from_millis(500);

const ROUNDS: usize = 15;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS).max(3);
    let server = server::Server::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{}; {} connections, a session of 100 B,", server.name()?, load::CONNECTIONS);
    println!("medians of {rounds} interleaved rounds of {} ms.\n", SPAN.as_millis());
    println!("| handler | peer | requests a second | beside the bare connection |");
    println!("|---|---|---|---|");
    let mut exceeded = false;
    for (work, path, least) in [("one read", "/read", 0.90), ("one read, one write", "/change", 0.80)] {
        let mut measured = [const { Vec::new() }; Peer::ALL.len()];
        let mut visitors = Vec::new();
        for peer in Peer::ALL {
            let address = runtime.block_on(apps::serve(peer, server.url()))?;
            visitors.push(load::Load::new(address, path)?);
        }
        for round in 0..=rounds {
            for turn in 0..Peer::ALL.len() {
                let place = (round + turn) % Peer::ALL.len();
                let rate = visitors[place].measure(SPAN)?;
                // The first round warms up.
                if round > 0 {
                    measured[place].push(rate);
                }
            }
        }
        let bare = measured[0].clone();
        for (peer, rates) in Peer::ALL.into_iter().zip(measured) {
            let ratios = rates.iter().zip(&bare).map(|(rate, bare)| rate / bare).collect();
            let (rate, ratio) = (median(rates), median(ratios));
            let verdict = match peer {
                Peer::Cloakroom if ratio < least => {
                    exceeded = true;
                    format!(", >= {least:.2} EXCEEDED")
                }
                Peer::Cloakroom => format!(", >= {least:.2} kept"),
                _ => String::new(),
            };
            println!("| {work} | {} | {rate:.0} | {ratio:.2}{verdict} |", peer.name());
        }
    }
    if exceeded { Err("a bound is exceeded: see above".into()) } else { Ok(()) }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
