//! Learn what visitors get while the store is down: some pages go on without a session, others wait and then say so.

use std::time::Duration;

use axum::{Router, routing::get};
use cloakroom::{MemoryStore, OnOutage, Result, Session, SessionLayer};
use cloakroom_conformance::Switch;
use cloakroom_examples::{Failure, serve};

/// A store that can be switched off. Yours notices by itself when its server is gone.
type Store = Switch<MemoryStore>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app(Duration::from_secs(3))?).await
}

/// Two layers over one store: what they share is the session, what they do not is the answer to an outage.
pub(crate) fn app(patience: Duration) -> Result<Router> {
    let store = Store::new(MemoryStore::new());
    let sessions = |policy: OnOutage| {
        // Requests wait this long for the store to come back, counted from the beginning of the outage.
        let layer = SessionLayer::new(store.clone()).insecure().reconnect_timeout(patience);
        layer.on_outage(policy).build()
    };
    let shop = Router::new().route("/", get(shop)).layer(sessions(OnOutage::Anonymous)?);
    let till = Router::new().route("/buy", get(buy)).layer(sessions(OnOutage::Fail)?);
    Ok(shop.merge(till).merge(switch(store)))
}

/// Goes on with an empty session that takes no writes: `writable` tells it from a visitor who is new.
async fn shop(session: Session) -> Result<String> {
    if session.writable().is_err() {
        return Ok("The shop is open. Your coats will be back in a moment.".to_owned());
    }
    Ok(format!("{} coats are yours", session.get::<u32>("coats")?.unwrap_or(0)))
}

/// Is not even called without its session: the layer answers 503 with `Retry-After`.
async fn buy(session: Session) -> Result<String> {
    let coats = session.update_now("coats", |coats: Option<u32>| coats.unwrap_or(0) + 1).await?;
    Ok(format!("{coats} coats bought"))
}

/// Switches the store off and on. These routes use no session, so the outage does not touch them.
fn switch(store: Store) -> Router {
    let (off, on) = (store.clone(), store);
    Router::new()
        .route("/off", get(async move || off.disconnect()))
        .route("/on", get(async move || on.connect()))
}
