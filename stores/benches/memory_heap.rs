//! Counts what the memory store allocates: bytes a session, allocations an operation, and what is left after expiry.
//!
//! `cargo bench -p cloakroom --bench memory_heap [-- COUNT]`, 1,000,000 sessions unless told otherwise. Fails when a
//! budget is exceeded. Apart from `memory_scale`, because the counting allocator takes a lock with every allocation.

use std::{
    hint::black_box,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use cloakroom::{AtomicStore, Bytes, Key, MemoryStore, Result, Store, Ttl};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

static VALUE: [u8; 100] = [b'a'; 100];
const LONG: Ttl = Ttl::from_secs(3600);
const OPERATIONS: usize = 1000;

fn main() -> Result<ExitCode> {
    let count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000_000_usize)
        .max(OPERATIONS);
    let keys: Vec<Key> = (0..count).map(|number| Key::new(format!("{number:043}"))).collect::<Result<_>>()?;
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing of the system")
        .block_on(measure(&keys))
}

async fn measure(keys: &[Key]) -> Result<ExitCode> {
    let value = || Bytes::from_static(&VALUE);
    let _profiler = dhat::Profiler::builder().testing().build();
    let store = MemoryStore::new();
    let before = dhat::HeapStats::get().curr_bytes;
    println!(
        "{} sessions of 100 bytes, keys of 43 bytes; one allocation of each operation is its future\n",
        keys.len()
    );

    for key in keys {
        store.set(key, value(), LONG).await?;
    }
    let full = dhat::HeapStats::get().curr_bytes - before;
    println!("live heap                {:>9.1} B/entry", per(full, keys.len()));

    let some = &keys[..OPERATIONS];
    let mut total = dhat::HeapStats::get().total_blocks;
    let mut kept = true;
    let mut allocations = |name: &str, most: Option<f64>| {
        let now = dhat::HeapStats::get().total_blocks;
        let each = (now - total) as f64 / OPERATIONS as f64;
        let budget = most.map_or(String::new(), |most| {
            kept &= each <= most;
            let verdict = if each <= most { "ok" } else { "EXCEEDED" };
            format!("<= {most} {verdict}")
        });
        println!("{name:<24} {each:>9.1} allocations  {budget}");
        total = dhat::HeapStats::get().total_blocks;
    };
    for key in some {
        black_box(store.get(key).await?);
    }
    allocations("get", Some(2.0));
    for key in some {
        store.replace(key, &VALUE, value(), LONG).await?;
    }
    allocations("replace", None);
    for key in some {
        store.touch(key, LONG).await?;
    }
    allocations("touch", None);
    for key in some {
        store.destroy(key).await?;
    }
    allocations("destroy", None);
    for key in some {
        store.create(key, value(), LONG).await?;
    }
    allocations("create", None);

    // Nothing is read from here on: the store is only asked how much it holds.
    for key in keys {
        store.touch(key, Ttl::from_millis(10)).await?;
    }
    let started = Instant::now();
    while store.stats().entries > 0 && started.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(100));
    let left = 100.0 * dhat::HeapStats::get().curr_bytes.saturating_sub(before) as f64 / full as f64;
    kept &= left <= 5.0;
    let verdict = if left <= 5.0 { "ok" } else { "EXCEEDED" };
    println!("left after all expired   {left:>9.3} %            <= 5 {verdict}");
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn per(bytes: usize, count: usize) -> f64 {
    bytes as f64 / count as f64
}
