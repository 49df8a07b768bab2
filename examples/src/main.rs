//! The quickstart: a small web page with real sessions. `cargo run` starts it; `PORT` changes the port, `SESSION_URL`
//! the place where sessions are kept.

use std::time::Duration;

use cloakroom_examples::{Failure, quickstart, serve, store};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let sessions = quickstart::sessions(store().await?)?;
    let engine = sessions.engine().clone();
    serve(quickstart::app(sessions)).await?;
    // No request is under way any more; a commit of several steps may be, if its client hung up.
    engine.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
