//! How long writers wait, and how long locks are held, while 100,000 expired rows are swept from beside 100,000 live ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cloakroom::{AdminStore, AtomicStore, Key, MySqlStore, PostgresStore, SqliteStore, Ttl};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Executor};

use crate::{Failure, rival::Rival};

const ROWS: u32 = 100_000;

/// Those that write meanwhile.
const WRITERS: u32 = 4;

/// How often the background task looks, so that it begins soon.
const EVERY: Duration = Duration::from_millis(100);

/// How long somebody may wait for a lock of the sweep.
const LOCKED: Duration = Duration::from_millis(50);

const LONG: Ttl = Ttl::from_secs(24 * 3600);

/// Measures at an address, and returns whether a lock was held for too long.
pub(crate) async fn measure(url: &str) -> Result<bool, Failure> {
    let rivals = [Rival::new(url).await?, Rival::new(url).await?];
    if url.starts_with("sqlite:") {
        let builder = SqliteStore::builder().table("swept");
        let store = builder.clone().sweep_every(None).connect(url).await?;
        store.migrate().await?;
        fill(
            store.pool(),
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) \
             INSERT INTO swept SELECT '{word}-' || n, CAST(printf('%.100c', 'x') AS BLOB), {end} FROM n",
        )
        .await?;
        beside_writers(store, rivals, builder.sweep_every(EVERY).connect(url)).await
    } else if url.starts_with("mysql:") {
        let builder = MySqlStore::builder().table("swept");
        let store = builder.clone().sweep_every(None).connect(url).await?;
        store.migrate().await?;
        fill(
            store.pool(),
            "INSERT INTO swept WITH RECURSIVE d (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM d WHERE d < 9) \
             SELECT CONCAT('{word}-', a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 1), REPEAT('x', 100), \
             {end} FROM d a, d b, d c, d e, d f",
        )
        .await?;
        beside_writers(store, rivals, builder.sweep_every(EVERY).connect(url)).await
    } else {
        let builder = PostgresStore::builder().table("swept");
        let store = builder.clone().sweep_every(None).connect(url).await?;
        store.migrate().await?;
        fill(
            store.pool(),
            "INSERT INTO swept SELECT '{word}-' || n, convert_to(repeat('x', 100), 'UTF8'), {end} \
             FROM generate_series(1, {rows}) n",
        )
        .await?;
        beside_writers(store, rivals, builder.sweep_every(EVERY).connect(url)).await
    }
}

/// Inserts rows that are over, and rows that live.
async fn fill<'p, DB>(pool: &'p sqlx::Pool<DB>, sql: &str) -> Result<(), Failure>
where
    DB: sqlx::Database,
    &'p sqlx::Pool<DB>: Executor<'p, Database = DB>,
{
    for (word, end) in [("over", "1"), ("live", "4102444800000")] {
        let sql = sql.replace("{rows}", &ROWS.to_string()).replace("{word}", word).replace("{end}", end);
        pool.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    }
    Ok(())
}

/// Sweeps with the background task of another handle, as applications do.
async fn beside_writers<S: AtomicStore + AdminStore + Clone>(
    store: S,
    [mut rival, mut counter]: [Rival; 2],
    sweeper: impl Future<Output = cloakroom::Result<S>>,
) -> Result<bool, Failure> {
    // First without a sweep, to know what a write and a lock take on this machine as it is.
    let span = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(())
    };
    let (writes_alone, locks_alone) = meanwhile(&store, &mut rival, span).await?;
    let began = Instant::now();
    let sweeper = sweeper.await?;
    let sweep = async {
        // Whatever is asked first wakes it.
        sweeper.get(&Key::new("live-1")?).await?;
        while counter.over().await? > 0 {
            tokio::time::sleep(EVERY).await;
        }
        Ok(())
    };
    let (writes, locks) = meanwhile(&store, &mut rival, sweep).await?;
    let took = began.elapsed();
    let live = store.len().await?;
    println!("\n{ROWS} expired and {ROWS} live rows, {WRITERS} writers; swept in {took:.1?}, {live} left.\n");
    println!("| | median | 99 % | longest |");
    println!("|---|---|---|---|");
    let mut longest = Vec::new();
    for (name, mut waits) in [
        ("a write without a sweep", writes_alone),
        ("a write beside the sweep", writes),
        ("a lock without a sweep", locks_alone),
        ("a lock that the sweep wants as well", locks),
    ] {
        waits.sort();
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
        println!("| {name} | {:.1?} | {:.1?} | {:.1?} |", at(0.5), at(0.99), at(1.0));
        longest.push(at(1.0));
    }
    let held = longest[3].saturating_sub(longest[2]);
    let verdict = if held > LOCKED { "EXCEEDED" } else { "kept" };
    println!("\nThe sweep makes the longest wait for a lock {held:.1?} longer, <= {LOCKED:.0?} {verdict}.");
    if live != u64::from(ROWS) {
        return Err("a live row is missing".into());
    }
    Ok(held > LOCKED)
}

/// Writes live rows from all sides, and lets a rival take locks, until `work` is done; returns how long each write and
/// each lock took.
async fn meanwhile<S: AtomicStore + Clone>(
    store: &S,
    rival: &mut Rival,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
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
    let locks = async {
        let mut waits = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            waits.extend(rival.lock().await?);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Failure>(waits)
    };
    let work = async {
        let done = work.await;
        stop.store(true, Ordering::Relaxed);
        done
    };
    let (locks, done) = futures_util::join!(locks, work);
    done?;
    let mut writes = Vec::new();
    for waits in join_all(writers).await {
        writes.extend(waits??);
    }
    Ok((writes, locks?))
}
