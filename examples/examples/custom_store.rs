//! Learn to keep sessions anywhere: a store of your own is three methods.

use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

use axum::{Router, routing::get};
use cloakroom::{Bytes, Key, Result, Session, SessionLayer, Store, Ttl, async_trait};
use cloakroom_examples::{Failure, serve};
use tokio::sync::Mutex;

/// Values with the time at which they end. Clones are handles onto the same map.
#[derive(Clone, Default)]
pub(crate) struct MapStore(Arc<Mutex<HashMap<Key, (Bytes, Instant)>>>);

#[async_trait]
impl Store for MapStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let map = self.0.lock().await;
        let live = map.get(key).filter(|(_, end)| *end > Instant::now());
        Ok(live.map(|(value, _)| value.clone()))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let end = Instant::now() + ttl.duration();
        self.0.lock().await.insert(key.clone(), (value, end));
        Ok(())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let removed = self.0.lock().await.remove(key);
        Ok(removed.is_some_and(|(_, end)| end > Instant::now()))
    }
}

/// Shows neither keys nor values.
impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapStore")
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app(MapStore::default())?).await
}

/// Without `AtomicStore` the later of two parallel changes wins; `require_strict()` would refuse such a store.
pub(crate) fn app(store: MapStore) -> Result<Router> {
    let sessions = SessionLayer::new(store).insecure().build()?;
    Ok(Router::new().route("/", get(greet)).layer(sessions))
}

async fn greet(session: Session) -> Result<String> {
    let visits = session.update("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1)?;
    Ok(format!("Visit {visits}"))
}
