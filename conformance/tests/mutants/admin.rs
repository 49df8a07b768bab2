//! The bugs of `scan`, `len`, `clear` and `sweep`.

use std::sync::Arc;

use cloakroom_core::{AdminStore, BoxStream, Key, Result, Store, async_trait};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    broken::{Broken, FOR_EVER, Space},
    bug::Bug,
};

/// Keys on one page of a scan that goes by pages.
const PAGE: usize = 100;

impl Broken {
    /// The namespaces that an operation takes for its own.
    fn own_spaces(&self) -> Vec<Arc<Space>> {
        self.spaces_like(|own, other| match self.bug {
            Bug::ScanByPrefix | Bug::ClearByPrefix => other.starts_with(own),
            Bug::ScanByLike => {
                let fits = |(own, other): (u8, u8)| own == other || own == b'_';
                own.len() == other.len() && own.bytes().zip(other.bytes()).all(fits)
            }
            _ => own == other,
        })
    }

    async fn live_keys(&self) -> Result<Vec<Key>> {
        let mut keys: Vec<Key> = Vec::new();
        let spaces = match self.bug {
            Bug::ClearByPrefix => vec![Arc::clone(&self.space)],
            _ => self.own_spaces(),
        };
        for space in spaces {
            keys.extend(space.rows.scan().try_collect::<Vec<_>>().await?);
        }
        Ok(keys)
    }
}

#[async_trait]
impl AdminStore for Broken {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let page_size = if self.is(Bug::ScanByOffset) { PAGE } else { usize::MAX };
        let pages = stream::unfold(Some(0), move |offset: Option<usize>| async move {
            let offset = offset?;
            let mut keys = match self.live_keys().await {
                Ok(keys) => keys,
                Err(error) => return Some((vec![Err(error)], None)),
            };
            match self.bug {
                Bug::ScanYieldsExpired => keys = self.rows_ever(),
                Bug::ScanOfOnePage => keys.truncate(PAGE * 10),
                Bug::ScanFoldsKeys => {
                    let folded = |key: &Key| Key::new(key.as_str().to_ascii_lowercase());
                    keys = keys.iter().filter_map(|key| folded(key).ok()).collect();
                }
                _ => {}
            }
            let page: Vec<_> = keys.into_iter().skip(offset).take(page_size).map(Ok).collect();
            let next = (page.len() == page_size).then(|| offset + page_size);
            Some((page, next))
        });
        Box::pin(pages.flat_map(stream::iter))
    }

    async fn len(&self) -> Result<u64> {
        Ok(match self.bug {
            Bug::LenCountsRows => self.rows_ever().len(),
            _ => self.live_keys().await?.len(),
        } as u64)
    }

    async fn clear(&self) -> Result<u64> {
        let rows = if self.is(Bug::ClearCountsRows) { self.rows_ever().len() } else { 0 };
        let kept = if self.is(Bug::ClearLeavesOne) { self.live_keys().await?.pop() } else { None };
        let mut cleared = 0;
        let spaces = match self.bug {
            Bug::ClearByPrefix => self.own_spaces(),
            _ => vec![Arc::clone(&self.space)],
        };
        for space in spaces {
            let live = space.rows.clear().await?;
            // The count is right, so that only the neighbours can tell.
            cleared += if Arc::ptr_eq(&space, &self.space) { live } else { 0 };
        }
        self.forget_all();
        if let Some(kept) = kept {
            self.rows().set(&kept, Default::default(), FOR_EVER).await?;
        }
        Ok(cleared.max(rows as u64))
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        let expired: Vec<Key> = {
            let mut rows = self.rows_ever();
            rows.retain(|key| self.past(key).is_some_and(|past| past.is_expired()));
            rows
        };
        if self.is(Bug::SweepEatsLive)
            && let Some(victim) = self.live_keys().await?.pop()
        {
            self.rows().destroy(&victim).await?;
        }
        let limit = if self.is(Bug::SweepIgnoresItsLimit) { u32::MAX } else { limit };
        let swept = self.rows().sweep(limit).await?;
        for key in expired.iter().take(limit as usize) {
            match self.past(key) {
                Some(past) if self.is(Bug::SweepRevives) => self.write(key, past.value, FOR_EVER).await?,
                _ => self.forget(key),
            }
        }
        Ok(swept + u64::from(self.is(Bug::SweepCountsOneTooMany)))
    }
}
