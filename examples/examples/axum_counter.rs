//! Learn the smallest complete app: count a visitor's requests, and never lose one.

use axum::{Router, routing::get};
use cloakroom::{Error, MemoryStore, Result, Session, SessionLayer};
use cloakroom_examples::{Failure, serve};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

/// One layer around the routes. `insecure` because this is plain http: a real server leaves it out.
pub(crate) fn app() -> Result<Router> {
    let sessions = SessionLayer::new(MemoryStore::new()).insecure().build()?;
    Ok(Router::new().route("/", get(count)).layer(sessions))
}

async fn count(session: Session) -> Result<String, Error> {
    let count = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    Ok(count.to_string())
}
