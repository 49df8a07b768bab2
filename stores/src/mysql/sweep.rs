//! Sweeping a table in a MySQL or MariaDB database: through the values that are over, by the index of their ends, and
//! through the bindings.

use std::{iter::repeat, sync::atomic::Ordering::Relaxed};

use async_trait::async_trait;
use cloakroom_core::Result;
use sqlx::{
    Connection, MySql, MySqlConnection, Row,
    mysql::{MySqlArguments, MySqlDatabaseError},
    query::Query,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Inner, decoding, query,
    schema::{ATTEMPTS, Statements},
    text,
};
use crate::{
    sql::{Sql, Tells, more},
    sweep::{Batch, MOST, More, Sweep},
};

/// The place of a value in the index of ends.
#[derive(Clone, Debug)]
pub(super) struct Due {
    end: i64,
    key: Vec<u8>,
}

impl Default for Due {
    fn default() -> Self {
        Self { end: i64::MIN, key: Vec::new() }
    }
}

#[async_trait]
impl Sweep for Inner {
    async fn sweep_batch(&self, rows: u32) -> Result<More> {
        let swept = match self.values.place() {
            None => Ok(()),
            Some(from) => {
                let batch = self.sweep_values(&from, rows).await;
                batch.map(|(_, next)| self.values.go_on_from(next))
            }
        };
        // Also when the values could not be swept: the index must not grow without end because of them.
        let bindings_swept = match self.bindings.place() {
            None => Ok(()),
            Some(from) => self.sweep_bindings(&from, rows).await,
        };
        more((&self.values, swept), (&self.bindings, bindings_swept))
    }
}

impl Inner {
    /// Deletes up to so many values that are over, and looks through one page of bindings.
    pub(super) async fn sweep_up_to(&self, limit: u32) -> Result<u64> {
        let (mut left, mut batch) = (u64::from(limit), Batch::default());
        let mut next = Some(Due::default());
        while let Some(from) = next.filter(|_| left > 0) {
            let (began, rows) = (Instant::now(), batch.rows());
            let most = u32::try_from(left).unwrap_or(rows).min(rows);
            let gone;
            (gone, next) = self.sweep_values(&from, most).await?;
            batch.took(began.elapsed());
            left = left.saturating_sub(gone);
        }
        let from = self.bindings.place().unwrap_or_default();
        self.sweep_bindings(&from, batch.rows()).await?;
        Ok(u64::from(limit) - left)
    }

    /// Deletes the next of the values that are over: how many that were, and where to go on if there may be more.
    async fn sweep_values(&self, from: &Due, most: u32) -> Result<(u64, Option<Due>)> {
        let due = || {
            let start = query(&self.statements.due).bind(from.end).bind(from.end).bind(&from.key[..]);
            start.bind(i64::from(most))
        };
        let rows = self.link.run("sweep", due).await?.rows;
        let Some(last) = rows.last() else { return Ok((0, None)) };
        let next = Due { end: last.try_get(1).map_err(decoding)?, key: last.try_get(0).map_err(decoding)? };
        let keys = rows.iter().map(|row| row.try_get(0).map_err(decoding)).collect::<Result<Vec<_>>>()?;
        let gone = self.delete_due(&keys).await?;
        Ok((gone, (rows.len() == most as usize).then_some(next)))
    }

    /// Deletes those of these values that are still over and that nobody holds.
    async fn delete_due(&self, keys: &[Vec<u8>]) -> Result<u64> {
        let mut attempts = 0;
        loop {
            let mut lease = self.link.lease("sweep").await?;
            let deadline = lease.deadline;
            let gaps = if self.logs_statements.load(Relaxed) { Gaps::Locked } else { Gaps::Free };
            let gone = timeout_at(deadline, delete_free(lease.conn(), &self.statements, keys, gaps)).await;
            attempts += 1;
            let refused = matches!((&gone, gaps), (Ok(Err(error)), Gaps::Free) if needs_locked_gaps(error));
            if refused {
                self.logs_statements.store(true, Relaxed);
            }
            match lease.end(gone) {
                Ok(gone) => return Ok(gone),
                Err(fault) if (refused || fault.tells == Tells::RolledBack) && attempts < ATTEMPTS => {}
                Err(fault) => return Err(fault.error),
            }
        }
    }

    /// Drops the stale among the next bindings: all of them at once would be a long statement.
    async fn sweep_bindings(&self, from: &str, rows: u32) -> Result<()> {
        let last = || query(&self.statements.last_binding).bind(from.as_bytes()).bind(i64::from(rows));
        let row = self.link.row("sweep", last).await?;
        let to = row.map(|row| text(&row, 0)).transpose()?.flatten();
        if let Some(to) = &to {
            let drop = || query(&self.statements.sweep_bindings).bind(from.as_bytes()).bind(to.as_bytes());
            self.link.run("sweep", drop).await?;
        }
        self.bindings.go_on_from(to);
        Ok(())
    }
}

/// What becomes of the gaps where keys belong that vanished since they were found.
#[derive(Clone, Copy)]
enum Gaps {
    /// Whoever logs in and gets a key there waits for nobody.
    Free,
    /// The server's default.
    Locked,
}

/// In one transaction, which holds what it locks until it is deleted. Nothing in it depends on what is read again.
async fn delete_free(
    conn: &mut MySqlConnection,
    sql: &Statements,
    keys: &[Vec<u8>],
    gaps: Gaps,
) -> sqlx::Result<u64> {
    if let Gaps::Free = gaps {
        // For the next transaction alone.
        sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut *conn).await?;
    }
    let mut transaction = conn.begin().await?;
    let free = of_batch(&sql.held, keys).fetch_all(&mut *transaction).await?;
    let free = free.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<Vec<u8>>>>()?;
    let mut gone = 0;
    if !free.is_empty() {
        gone = of_batch(&sql.sweep, &free).execute(&mut *transaction).await?.rows_affected();
    }
    transaction.commit().await?;
    Ok(gone)
}

/// Tells whether the server refuses to delete without locks on gaps: one that writes statements and not rows into its log
/// for replicas, with `binlog_format=STATEMENT`.
fn needs_locked_gaps(error: &sqlx::Error) -> bool {
    let answer = error.as_database_error().and_then(|answer| answer.try_downcast_ref::<MySqlDatabaseError>());
    answer.is_some_and(|answer| answer.number() == 1665)
}

/// Binds some keys. There is one statement for every number of them: what is left of it is filled with the last, for a
/// key that nobody has would lock the gap where it belongs.
fn of_batch<'q>(sql: &Sql, keys: &'q [Vec<u8>]) -> Query<'q, MySql, MySqlArguments> {
    let padded = keys.iter().chain(repeat(&keys[keys.len() - 1])).take(MOST as usize);
    padded.fold(query(sql), |query, key| query.bind(&key[..]))
}
