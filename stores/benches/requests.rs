//! Measures the processor time of each kind of request beside tower-sessions, and requests a second on two threads.
//!
//! `cargo bench -p cloakroom --features axum --bench requests [-- ROUNDS]`, 41 rounds unless told otherwise. Each
//! round measures every peer, and figures are medians of what a round says on top of its own bare axum, so that a
//! machine that is busy for a while is busy for all. Requests a second are by the wall clock: on a busy machine they
//! mean little.
#![allow(clippy::unwrap_used, clippy::panic)] // A bench that cannot run says why and stops.

mod support;

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use support::{
    ROWS, Row, Visitor, Work,
    apps::{self, Peer},
    runtime,
    table::{head, line, verdict},
};

/// Requests of each peer in each round.
const BATCH: usize = 400;

/// Sessions of each thread where requests spread over many.
const MANY: usize = 1000;

fn main() {
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(41_usize).max(3);
    println!(
        "Processor time of a request in nanoseconds, medians of {rounds} interleaved rounds of {BATCH} requests."
    );
    println!("All but the first column on top of bare axum. Load of the machine: {}.\n", load());
    let headings = [
        "request",
        "bare axum",
        "Cloakroom",
        "signed cookie adds",
        "tower-sessions",
        "Cloakroom / tower-sessions",
    ];
    head(&headings);
    for row in ROWS {
        let [bare, plain, signed, theirs] = processor_time(row, rounds);
        let ratio = plain / theirs;
        line(
            &headings,
            &[
                row.name.to_owned(),
                format!("{bare:.0}"),
                format!("{plain:.0}"),
                format!("{:.0}, <= 600 {}", signed - plain, verdict(signed - plain <= 600.0)),
                format!("{theirs:.0}"),
                format!("{ratio:.2}, <= {:.2} {}", row.ratio, verdict(ratio <= row.ratio)),
            ],
        );
    }
    throughput(rounds.div_ceil(4));
}

/// Returns the medians: bare axum as it is, the other peers on top of it.
fn processor_time(row: Row, rounds: usize) -> [f64; 4] {
    let runtime = runtime();
    let fresh = |peer| {
        let mut visitor = runtime.block_on(Visitor::new(peer, row));
        runtime.block_on(visitor.visits(BATCH / 2));
        visitor
    };
    let mut visitors = Peer::ALL.map(fresh);
    let mut times = [const { Vec::new() }; 4];
    for round in 0..rounds {
        let mut nanos = [0.0; 4];
        for turn in 0..Peer::ALL.len() {
            let place = (round + turn) % Peer::ALL.len();
            // A store that grows from round to round would be another one in each.
            if row.work == Work::Create {
                visitors[place] = fresh(Peer::ALL[place]);
            }
            let started = ThreadTime::now();
            runtime.block_on(visitors[place].visits(BATCH));
            nanos[place] = started.elapsed().as_secs_f64() * 1e9 / BATCH as f64;
        }
        let bare = nanos[0];
        for (place, times) in times.iter_mut().enumerate() {
            times.push(if place == 0 { bare } else { nanos[place] - bare });
        }
    }
    times.map(median)
}

/// Prints requests a second of read-modify-write, on one thread and on two, with one session and with many.
fn throughput(rounds: usize) {
    let row = ROWS[2];
    println!(
        "\nThousand requests a second by the wall clock, {}, medians of {rounds} interleaved rounds.",
        row.name
    );
    println!("Load of the machine: {}.\n", load());
    let headings = [
        "peer",
        "one session, 1 thread",
        "one session, 2 threads",
        "many sessions, 1 thread",
        "many sessions, 2 threads",
    ];
    head(&headings);
    let peers = [Peer::Bare, Peer::Cloakroom, Peer::TowerSessions];
    let mut rates = peers.map(|_| [const { Vec::new() }; 4]);
    for _ in 0..rounds {
        for (peer, rates) in peers.into_iter().zip(&mut rates) {
            for (place, (sessions, threads)) in [(1, 1), (1, 2), (MANY, 1), (MANY, 2)].into_iter().enumerate()
            {
                rates[place].push(rate(peer, row, sessions, threads));
            }
        }
    }
    for (peer, rates) in peers.into_iter().zip(rates) {
        let mut cells = vec![peer.name().to_owned()];
        cells.extend(rates.map(|rates| format!("{:.0}", median(rates))));
        line(&headings, &cells);
    }
}

/// Returns thousand requests a second of all threads together.
fn rate(peer: Peer, row: Row, sessions: usize, threads: usize) -> f64 {
    const REQUESTS: usize = 20_000;
    let app = apps::app(peer, row.size);
    let one = runtime().block_on(Visitor::of(app.clone(), peer, row));
    let visitors: Vec<Vec<Visitor>> = (0..threads)
        .map(|_| match sessions {
            1 => vec![one.clone()],
            _ => (0..sessions).map(|_| runtime().block_on(Visitor::of(app.clone(), peer, row))).collect(),
        })
        .collect();
    let took: Vec<Duration> = thread::scope(|scope| {
        let each = visitors.into_iter().map(|mut visitors| {
            scope.spawn(move || {
                let runtime = runtime();
                let started = Instant::now();
                runtime.block_on(async {
                    for number in 0..REQUESTS {
                        let count = visitors.len();
                        visitors[number % count].visits(1).await;
                    }
                });
                started.elapsed()
            })
        });
        each.collect::<Vec<_>>()
            .into_iter()
            .map(|thread| thread.join().expect("no thread of a benchmark panics"))
            .collect()
    });
    took.iter().map(|took| REQUESTS as f64 / took.as_secs_f64() / 1e3).sum()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the mean number of running processes over 1, 5 and 15 minutes, as Linux counts it.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
