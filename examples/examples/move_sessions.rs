//! Learn to move live sessions from one store to another, such as from SQLite to Redis, with nobody logged out.
//!
//! ```sh
//! OLD_URL=sqlite://quickstart.db NEW_URL=redis://localhost cargo run --features redis --example move_sessions
//! ```

use std::{env, sync::Arc};

use axum::{Router, extract::State, routing::get};
use cloakroom::{Error, Migrating, Result, Session, SessionLayer, Store, connect};
use cloakroom_examples::{Failure, serve};

type Moving = Migrating<Arc<dyn Store>, Arc<dyn Store>>;

/// Start this instead of the program that knows the old store alone. When `/left` says 0, or after the longest time that
/// a session lives unused, start the one that knows the new store alone.
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = |name| env::var(name).map_err(|_| Error::config(name, "must be set to the address of a store"));
    let (old, new) = (connect(url("OLD_URL")?).await?, connect(url("NEW_URL")?).await?);
    serve(app(old, new)?).await
}

pub(crate) fn app(old: Arc<dyn Store>, new: Arc<dyn Store>) -> Result<Router> {
    // Where several instances run, roll out `.in_place()` first, so that none of them knows the old store alone.
    let store = Migrating::new(old, new)?;
    let sessions = SessionLayer::new(store.clone()).insecure().build()?;
    Ok(Router::new()
        .route("/", get(read))
        .route("/visit", get(visit))
        .route("/left", get(left))
        .layer(sessions)
        .with_state(store))
}

/// Reading leaves a session where it is.
async fn read(session: Session) -> Result<String> {
    Ok(format!("{} visits", session.get::<u64>("visits")?.unwrap_or(0)))
}

/// Whatever writes it moves it, and keeps its id.
pub(crate) async fn visit(session: Session) -> Result<String, Error> {
    let visits = session.update_now("visits", |visits: Option<u64>| visits.unwrap_or(0) + 1).await?;
    Ok(format!("{visits} visits"))
}

async fn left(State(store): State<Moving>) -> Result<String> {
    Ok(format!("{} sessions are still in the old store", store.left_behind().await?))
}
