//! Learn to stop a server without breaking off a login or a logout: serve, then `shutdown` with a deadline.

use std::{net::Ipv4Addr, time::Duration};

use axum::{Router, extract::Path, response::Redirect, routing::get};
use cloakroom::{MemoryStore, Result, Session, SessionLayer, Store};
use cloakroom_examples::Failure;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    let ctrl_c = async {
        // Where Ctrl-C cannot be listened for, nothing asks to stop but the end of the process.
        let _ = tokio::signal::ctrl_c().await;
    };
    run(listener, MemoryStore::new(), ctrl_c).await
}

/// Serves until `stop`, answers what is under way, and lets the commits end.
pub(crate) async fn run(
    listener: TcpListener,
    store: impl Store,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let sessions = SessionLayer::new(store).insecure().build()?;
    // The engine is cheap to clone. The layer itself goes into the router.
    let engine = sessions.engine().clone();
    let app = Router::new()
        .route("/", get(async |session: Session| session.user().unwrap_or_default()))
        .route("/login/{user}", get(log_in))
        .layer(sessions);
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // Every request is answered or broken off by now. A login takes several writes and goes on when its client has
    // hung up: without this line the process could end between two of them.
    engine.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<Redirect> {
    session.cycle_id().await?;
    session.bind_user(&user)?;
    Ok(Redirect::to("/"))
}
