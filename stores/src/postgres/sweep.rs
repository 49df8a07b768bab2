//! Sweeping a table in a PostgreSQL database: through its values and its bindings, a page at a time.

use async_trait::async_trait;
use cloakroom_core::Result;
use sqlx::Row;
use tokio::time::Instant;

use super::{Inner, decoding, no_row, query};
use crate::{
    sql::more,
    sweep::{Batch, More, Sweep},
};

/// How many rows a page has for each that is deleted at most. There is no index that would find those that are over.
const LOOKED_AT: u32 = 4;

#[async_trait]
impl Sweep for Inner {
    async fn sweep_batch(&self, rows: u32) -> Result<More> {
        let swept = match self.values.place() {
            None => Ok(()),
            Some(from) => {
                let page = self.sweep_page(&from, rows * LOOKED_AT, rows).await;
                page.map(|(_, next)| self.values.go_on_from(next))
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
    /// Deletes up to so many values that are over: once around the table from where the last sweep came to, at most.
    /// Then one page of stale bindings.
    pub(super) async fn sweep_up_to(&self, limit: u32) -> Result<u64> {
        let (mut left, mut batch) = (u64::from(limit), Batch::default());
        let start = self.values.place().unwrap_or_default();
        let mut from = start.clone();
        // Where to end, once it has begun anew at the table's beginning.
        let mut end = None;
        while left > 0 {
            let (began, rows) = (Instant::now(), batch.rows());
            let most = u32::try_from(left).unwrap_or(rows).min(rows);
            let (gone, next) = self.sweep_page(&from, rows * LOOKED_AT, most).await?;
            batch.took(began.elapsed());
            left = left.saturating_sub(gone);
            self.values.go_on_from(next.clone());
            match next {
                Some(next) if end.as_ref().is_some_and(|end| next >= *end) => break,
                Some(next) => from = next,
                None if start.is_empty() || end.is_some() => break,
                None => {
                    end = Some(start.clone());
                    from.clear();
                }
            }
        }
        let from = self.bindings.place().unwrap_or_default();
        self.sweep_bindings(&from, batch.rows()).await?;
        Ok(u64::from(limit) - left)
    }

    /// Deletes what is over on the next page: how many that were, and where to go on, unless this was the end.
    async fn sweep_page(&self, from: &str, looked_at: u32, most: u32) -> Result<(u64, Option<String>)> {
        let sql = &self.statements.sweep;
        let sweep = || query(sql).bind(from).bind(i64::from(looked_at)).bind(i64::from(most));
        let row = self.link.row("sweep", sweep).await?.ok_or_else(|| no_row("sweep"))?;
        let gone: i64 = row.try_get(0).map_err(decoding)?;
        Ok((gone.unsigned_abs(), row.try_get(1).map_err(decoding)?))
    }

    /// Drops the stale among the next bindings: all of them at once would be a long statement.
    async fn sweep_bindings(&self, from: &str, rows: u32) -> Result<()> {
        let last = || query(&self.statements.last_binding).bind(from).bind(i64::from(rows));
        let row = self.link.row("sweep", last).await?;
        let to: Option<String> = row.map(|row| row.try_get(0).map_err(decoding)).transpose()?.flatten();
        if let Some(to) = &to {
            let drop = || query(&self.statements.sweep_bindings).bind(from).bind(to.as_str());
            self.link.run("sweep", drop).await?;
        }
        self.bindings.go_on_from(to);
        Ok(())
    }
}
