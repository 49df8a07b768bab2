//! What operators do: list, count, clear, sweep, none of it in one long command.

use async_trait::async_trait;
use cloakroom_core::{AdminStore, Key, Result};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt, once};
use mongodb::{
    action::Action,
    bson::{Bson, Document, doc},
};

use super::{MongoStore, commands, key};

/// Keys that one command lists or deletes, so that it ends before the deadline of operations.
const PAGE: u32 = 1000;

#[async_trait]
impl AdminStore for MongoStore {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let open = async {
            let found = self.sessions.find(commands::live_any()).projection(doc! { "_id": 1 });
            self.run("scan", found.batch_size(PAGE)).await
        };
        let keys = once(open).map_ok(move |cursor| {
            futures_util::stream::try_unfold(cursor, move |mut cursor| async move {
                let next = self.run("scan", cursor.try_next()).await?;
                next.map(|document| key(document).map(|key| (key, cursor))).transpose()
            })
        });
        keys.try_flatten().boxed()
    }

    /// In one round trip for each 1000 keys.
    async fn len(&self) -> Result<u64> {
        let (mut len, mut last) = (0, first());
        loop {
            let mut page = self.page("len", last).await?;
            len += page.len() as u64;
            match page.pop() {
                Some(end) if page.len() + 1 == PAGE as usize => last = end,
                _ => return Ok(len),
            }
        }
    }

    /// In two round trips for each 1000 keys, live or expired.
    async fn clear(&self) -> Result<u64> {
        let (mut cleared, mut last) = (0, Some(first()));
        while let Some(begin) = last {
            let page = self.page("clear", begin).await?;
            last = page.last().filter(|_| page.len() == PAGE as usize).cloned();
            if page.is_empty() {
                break;
            }
            let call = self
                .sessions
                .delete_many(commands::among(commands::live_any(), page))
                .optional(self.durable.clone(), |call, concern| call.write_concern(concern));
            cleared += self.run("clear", call).await?.deleted_count;
        }
        self.delete_dead("clear", u32::MAX).await?;
        Ok(cleared)
    }

    /// The server's TTL index does this by itself, within a minute or so. Two round trips for each 1000 keys.
    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.delete_dead("sweep", limit).await
    }
}

impl MongoStore {
    /// Returns the live keys that come after one, in their order: a page of them at most.
    async fn page(&self, operation: &'static str, last: Bson) -> Result<Vec<Bson>> {
        let call = async {
            let found = self.sessions.find(commands::after(commands::live_any(), last));
            let found = found.sort(doc! { "_id": 1 }).limit(i64::from(PAGE));
            ids(found).await
        };
        self.run(operation, call).await
    }

    /// Deletes up to `limit` values that have expired.
    async fn delete_dead(&self, operation: &'static str, limit: u32) -> Result<u64> {
        let mut deleted = 0;
        while deleted < u64::from(limit) {
            let most = (u64::from(limit) - deleted).min(u64::from(PAGE));
            // In no order, so that the server finds them by their end and not by their keys.
            let found = self.sessions.find(commands::dead_any()).limit(most as i64);
            let page = self.run(operation, ids(found)).await?;
            let last = page.len() < most as usize;
            let call = self.sessions.delete_many(commands::among(commands::dead_any(), page));
            let some = self.run(operation, call).await?.deleted_count;
            deleted += some;
            // None is deleted when others were faster, who then go on themselves.
            if last || some == 0 {
                break;
            }
        }
        Ok(deleted)
    }
}

/// What comes before every key, and is none. To begin with it leaves out what has another type.
fn first() -> Bson {
    Bson::String(String::new())
}

/// Collects the keys of what is found, in one round trip.
async fn ids(found: mongodb::action::Find<'_, Document>) -> mongodb::error::Result<Vec<Bson>> {
    // One more than there can be: with as many the server would keep the cursor open.
    let found = found.projection(doc! { "_id": 1 }).batch_size(PAGE + 1).await?;
    let found: Vec<Document> = found.try_collect().await?;
    Ok(found.into_iter().filter_map(|mut document| document.remove("_id")).collect())
}
