//! How long writers wait while 100,000 expired rows are swept from beside 100,000 live ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cloakroom::{AdminStore, AtomicStore, Key, PostgresStore, SqliteStore, Ttl};
use futures_util::future::join_all;

use crate::Failure;

const ROWS: u32 = 100_000;

/// Those that write meanwhile.
const WRITERS: u32 = 4;

/// How many rows one call sweeps, as the background task does.
const BATCH: u32 = 250;

const LONG: Ttl = Ttl::from_secs(24 * 3600);

pub(crate) async fn measure(url: &str) -> Result<(), Failure> {
    let value = "x".repeat(100);
    if url.starts_with("sqlite:") {
        let store = SqliteStore::builder().table("swept").sweep_every(None).connect(url).await?;
        store.migrate().await?;
        for (word, end) in [("over", 1), ("live", 4_102_444_800_000_i64)] {
            sqlx::query(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                 INSERT INTO swept SELECT ?2 || '-' || n, CAST(?3 AS BLOB), ?4 FROM n",
            )
            .bind(ROWS)
            .bind(word)
            .bind(&value)
            .bind(end)
            .execute(store.pool())
            .await?;
        }
        beside_writers(store, BATCH).await
    } else {
        let store = PostgresStore::builder().table("swept").sweep_every(None).connect(url).await?;
        store.migrate().await?;
        for (word, end) in [("over", 1), ("live", 4_102_444_800_000_i64)] {
            sqlx::query(
                "INSERT INTO swept SELECT $2 || '-' || n, convert_to($3, 'UTF8'), $4 FROM generate_series(1, $1) n",
            )
            .bind(ROWS as i32)
            .bind(word)
            .bind(&value)
            .bind(end)
            .execute(store.pool())
            .await?;
        }
        beside_writers(store, BATCH).await
    }
}

async fn beside_writers<S: AtomicStore + AdminStore + Clone>(store: S, batch: u32) -> Result<(), Failure> {
    // First without a sweep, to know what a write takes on this machine as it is.
    let alone = writing(&store, tokio::time::sleep(Duration::from_secs(2))).await?.0;
    let sweep = async {
        let (mut swept, mut batches) = (0, Vec::new());
        loop {
            let began = Instant::now();
            let some = store.sweep(batch).await?;
            swept += some;
            if some == 0 {
                // It has looked through all of the table, and locked nothing.
                return Ok::<_, Failure>((swept, batches, began.elapsed()));
            }
            batches.push(began.elapsed());
            tokio::time::sleep(began.elapsed()).await;
        }
    };
    let began = Instant::now();
    let (beside, swept) = writing(&store, sweep).await?;
    let (swept, batches, nothing) = swept?;
    let took = began.elapsed();
    let live = store.len().await?;
    println!(
        "\n{ROWS} expired and {ROWS} live rows, {WRITERS} writers; {swept} rows swept in {took:.1?}, {live} left.\n"
    );
    println!("| | median | 99 % | longest |");
    println!("|---|---|---|---|");
    let batch = format!("a batch of {batch}");
    for (name, mut waits) in
        [(&*batch, batches), ("a write without a sweep", alone), ("a write beside the sweep", beside)]
    {
        waits.sort();
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
        println!("| {name} | {:.1?} | {:.1?} | {:.1?} |", at(0.5), at(0.99), at(1.0));
    }
    println!("| the batch that finds nothing more | | | {nothing:.1?} |");
    if live != u64::from(ROWS) || swept != u64::from(ROWS) {
        return Err("a live row is missing, or one that is over was left".into());
    }
    Ok(())
}

/// Writes live rows from all sides until `work` is done; returns how long each write took.
async fn writing<S: AtomicStore + Clone, T>(
    store: &S,
    work: impl Future<Output = T>,
) -> Result<(Vec<Duration>, T), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut waits = Vec::new();
                let mut number = writer;
                while !stop.load(Ordering::Relaxed) {
                    number = (number * 7919 + 13) % ROWS;
                    let key = Key::new(format!("live-{}", number + 1))?;
                    let began = Instant::now();
                    if number % 2 == 0 {
                        store.touch(&key, LONG).await?;
                    } else {
                        store.set(&key, "changed".into(), LONG).await?;
                    }
                    waits.push(began.elapsed());
                }
                Ok::<_, cloakroom::Error>(waits)
            })
        })
        .collect();
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for waits in join_all(writers).await {
        all.extend(waits??);
    }
    Ok((all, done))
}
