//! Learn to guard routes: an extractor that is there for who has logged in, and sends all others to the login.

use axum::{
    Form, Router,
    extract::FromRequestParts,
    http::request::Parts,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use cloakroom::{MemoryStore, Result, Session, SessionLayer};
use cloakroom_examples::{Failure, serve};
use serde::Deserialize;

/// Who has logged in. A handler that takes this runs for nobody else.
struct User(String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let session = Session::from_request_parts(parts, state).await;
        match session.map(|session| session.user()) {
            Ok(Some(name)) => Ok(Self(name)),
            Ok(None) => Err(Redirect::to("/login").into_response()),
            // Not "nobody": while the store is down, no one is sent to log in again.
            Err(error) => Err(error.into_response()),
        }
    }
}

const FORM: &str = "<form method=post><input name=user required><button>Log in</button></form>";

#[derive(Deserialize)]
struct Login {
    user: String,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

/// Only `/` is guarded: its handler takes a `User`.
pub(crate) fn app() -> Result<Router> {
    let sessions = SessionLayer::new(MemoryStore::new()).insecure().build()?;
    Ok(Router::new()
        .route("/", get(async |User(name): User| format!("Only {name} sees this")))
        .route("/login", get(async || Html(FORM)).post(log_in))
        .layer(sessions))
}

async fn log_in(session: Session, Form(login): Form<Login>) -> Result<Redirect> {
    // The password would be checked here. Then: a new id, so that one planted before the login is worth nothing.
    session.cycle_id().await?;
    session.bind_user(&login.user)?;
    Ok(Redirect::to("/"))
}
