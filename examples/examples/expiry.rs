//! Learn when sessions end: idle and absolute time, "keep me logged in", and cookies that end with the browser.

use std::time::Duration;

use axum::{Router, extract::Path, routing::get};
use cloakroom::{CookieConfig, Expiry, MemoryStore, Result, Session, SessionLayer};
use cloakroom_examples::{Failure, serve};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

pub(crate) fn app() -> Result<Router> {
    let sessions = SessionLayer::new(MemoryStore::new())
        // Twenty minutes without use end a session, and thirty days end it however much it is used. Both hold on the
        // server, whatever the browser does.
        .expiry(Expiry::idle(20 * MINUTE).absolute(30 * DAY))
        // Each use begins the idle time anew, for one write. Without it, only one in the second half does.
        .rolling(true)
        // The cookie has no `Max-Age`: it ends with the browser, while the session keeps its twenty minutes.
        .cookie(CookieConfig::new().browser_session())
        .insecure()
        .build()?;
    Ok(Router::new()
        .route("/", get(time_left))
        .route("/login/{user}", get(log_in))
        .route("/login/{user}/and-remember-me", get(log_in_for_a_week))
        .layer(sessions))
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<String> {
    session.cycle_id().await?;
    session.insert("user", &user)?;
    Ok(format!("Hello {user}, until you close the browser"))
}

/// "Keep me logged in": an idle time and a cookie of its own for this one session, kept with it.
async fn log_in_for_a_week(session: Session, Path(user): Path<String>) -> Result<String> {
    session.cycle_id().await?;
    session.insert("user", &user)?;
    session.set_ttl(7 * DAY)?;
    session.cookie(|cookie| cookie.browser_session(false))?;
    Ok(format!("Hello {user}, for a week"))
}

async fn time_left(session: Session) -> Result<String> {
    let user: Option<String> = session.get("user")?;
    let left = session.expires_at().duration_since(std::time::SystemTime::now()).unwrap_or_default();
    Ok(format!("{} has {} minutes", user.as_deref().unwrap_or("Nobody"), left.as_secs().div_ceil(60)))
}
