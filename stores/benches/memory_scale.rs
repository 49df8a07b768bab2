//! Measures the memory store at a million sessions: resident memory, speed on one and two threads, and mass expiry.
//!
//! `cargo bench -p cloakroom --bench memory_scale [-- COUNT]`, 1,000,000 sessions unless told otherwise. Fails when a
//! budget is exceeded. Wall clock: figures of a busy machine mean little. What is left on the heap is counted by `memory_heap`.

use std::{
    fs,
    hint::black_box,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use cloakroom::{AdminStore, AtomicStore, Bytes, Key, MemoryStore, Result, Store, Swapped, Ttl};

static VALUES: [[u8; 100]; 2] = [[b'a'; 100], [b'b'; 100]];
const LONG: Ttl = Ttl::from_secs(3600);
const ROUNDS: usize = 3;

/// Whether a budget was exceeded.
static EXCEEDED: AtomicBool = AtomicBool::new(false);

fn main() -> Result<ExitCode> {
    let count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000_000_usize)
        .max(1000);
    let keys: Vec<Key> = (0..count).map(key).collect::<Result<_>>()?;
    println!("{count} sessions of 100 bytes, keys of 43 bytes, best of {ROUNDS}\n");
    println!("{:<44} {:>14}   budget", "", "measured");

    let store = MemoryStore::new();
    let before = resident();
    let started = Instant::now();
    run(async {
        for key in &keys {
            store.set(key, value(0), LONG).await?;
        }
        Ok(())
    })?;
    row("fill", per(started.elapsed(), count), "ns/op", None);
    let full = resident() - before;
    row("resident memory", full as f64 / count as f64, "B/entry", Some(350.0));
    row("counted by the store", store.stats().bytes as f64 / count as f64, "B/entry", None);

    for (name, spread) in [("get, many keys", count), ("get, one hot key", 1)] {
        for threads in [1, 2] {
            let took = best(|| {
                on_threads(threads, |thread| {
                    run(async {
                        for round in 0..count / 2 {
                            let place = scattered(2 * round + thread, count) % spread;
                            black_box(store.get(&keys[place]).await?);
                        }
                        Ok(())
                    })
                })
            });
            let name = format!("{name}, {threads} thread(s), each");
            row(&name, per(took, count / 2), "ns/op", None);
        }
    }

    // One thread and two in turn, so that both meet the same neighbours on the machine.
    let (mut wall, mut cpu) = ([Duration::MAX; 2], [Duration::MAX; 2]);
    for round in 0..2 * ROUNDS {
        for threads in [1, 2] {
            let took = modify(&store, &keys, threads, round)?;
            wall[threads - 1] = wall[threads - 1].min(took.0);
            cpu[threads - 1] = cpu[threads - 1].min(took.1);
        }
    }
    for threads in [1, 2] {
        let name = format!("read-modify-write, {threads} thread(s), each");
        row(&name, per(wall[threads - 1], count / 4), "ns/op", None);
    }
    let ratio = |times: [Duration; 2]| 2.0 * times[0].as_secs_f64() / times[1].as_secs_f64();
    println!(
        "{:<44} {:>10.2} x        >= 1.6 {} ({:.2} by processor time; load {})",
        "  two threads against one",
        ratio(wall),
        verdict(ratio(wall) >= 1.6),
        ratio(cpu),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );

    let calls = 1000;
    let took = best(|| {
        let started = Instant::now();
        for _ in 0..calls {
            run(async { store.sweep(u32::MAX).await.map(drop) }).expect("this store does not fail");
        }
        started.elapsed()
    });
    row("sweep with nothing due", per(took, calls) / 1e6, "ms", Some(0.1));

    expire(&store, &keys)?;
    row(
        "resident memory left, as the allocator has it",
        100.0 * (resident().saturating_sub(before)) as f64 / full as f64,
        "%",
        None,
    );
    Ok(if EXCEEDED.load(Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads and changes each key once, a quarter of them on each thread; returns wall and processor time of the slowest.
fn modify(store: &MemoryStore, keys: &[Key], threads: usize, round: usize) -> Result<(Duration, Duration)> {
    let cpu = Mutex::new(Duration::ZERO);
    let wall = on_threads(threads, |thread| {
        let before = processor_time();
        run(async {
            for number in 0..keys.len() / 4 {
                let key = &keys[scattered(2 * number + thread, keys.len())];
                let read = store.get(key).await?.unwrap_or_default();
                let next = value(usize::from(read[0] == VALUES[0][0]));
                let swapped = store.replace(key, &read, next, LONG).await?;
                assert!(swapped == Swapped::Done, "round {round}");
            }
            Ok(())
        })?;
        let mut slowest = cpu.lock().unwrap_or_else(PoisonError::into_inner);
        *slowest = slowest.max(processor_time().saturating_sub(before));
        Ok(())
    });
    Ok((wall, cpu.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Returns how long this thread was on a processor.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Lets all but one session expire at one moment, and reads that one all the while.
fn expire(store: &MemoryStore, keys: &[Key]) -> Result<()> {
    // As long as touching takes, and half a second more.
    let touching = Instant::now();
    run(async {
        for key in &keys[1..] {
            store.touch(key, LONG).await?;
        }
        Ok(())
    })?;
    row("touch", per(touching.elapsed(), keys.len()), "ns/op", None);
    let due = Instant::now() + touching.elapsed() * 2 + Duration::from_millis(500);
    run(async {
        for key in &keys[1..] {
            store.touch(key, Ttl::new(due.saturating_duration_since(Instant::now()))).await?;
        }
        Ok(())
    })?;
    let calm = worst_gets(store, &keys[0], || Instant::now() < due - Duration::from_millis(20))?;
    thread::sleep(due.saturating_duration_since(Instant::now()));
    let started = Instant::now();
    let busy = worst_gets(store, &keys[0], || store.stats().entries > 1)?;
    row("all expired, and gone without a read, after", started.elapsed().as_secs_f64() * 1e3, "ms", None);
    for (name, calm, busy) in
        [("get of a live key meanwhile, 99.9 %", calm.0, busy.0), ("  the slowest", calm.1, busy.1)]
    {
        println!(
            "{name:<44} {:>10.1} us     ({:.1} us before)",
            busy.as_secs_f64() * 1e6,
            calm.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

/// Reads `key` as long as told, and returns how long the 99.9th percentile and the slowest took.
fn worst_gets(store: &MemoryStore, key: &Key, go_on: impl Fn() -> bool) -> Result<(Duration, Duration)> {
    let mut times = Vec::with_capacity(1 << 20);
    run(async {
        while go_on() {
            for _ in 0..1000 {
                let started = Instant::now();
                black_box(store.get(key).await?);
                if times.len() < times.capacity() {
                    times.push(started.elapsed());
                }
            }
        }
        Ok(())
    })?;
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    Ok((at(last - last / 1000), at(last)))
}

fn run<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing of the system")
        .block_on(future)
}

/// Runs `work` on so many threads and returns how long the last of them took.
fn on_threads(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Duration {
    let started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread).expect("this store does not fail"));
        }
    });
    started.elapsed()
}

fn best(mut measure: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| measure()).min().unwrap_or_default()
}

fn value(which: usize) -> Bytes {
    Bytes::from_static(&VALUES[which])
}

/// Returns the key of a number: 43 characters that look random.
fn key(number: usize) -> Result<Key> {
    let mixed = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Key::new(format!("{:016x}{mixed:016x}{number:011x}", mixed.rotate_left(29)))
}

/// Visits all places in an order that no cache foresees; places of even and of odd numbers stay apart.
const fn scattered(number: usize, count: usize) -> usize {
    let half = count / 2;
    let place = (number / 2).wrapping_mul(611_953) % half;
    place * 2 + number % 2
}

/// Returns the process's resident memory in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.unwrap_or(0) * 4096
}

fn per(took: Duration, operations: usize) -> f64 {
    took.as_secs_f64() * 1e9 / operations as f64
}

fn row(name: &str, measured: f64, unit: &str, budget: Option<f64>) {
    let budget = budget.map_or(String::new(), |most| format!("<= {most} {}", verdict(measured <= most)));
    let digits = if measured < 10.0 { 4 } else { 0 };
    println!("{name:<44} {measured:>10.digits$} {unit:<8} {budget}");
}

/// Says whether a figure keeps to its budget, and remembers if it does not.
fn verdict(kept: bool) -> &'static str {
    EXCEEDED.fetch_or(!kept, Relaxed);
    if kept { "ok" } else { "EXCEEDED" }
}
