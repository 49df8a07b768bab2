//! Learn to encrypt what is stored, and to change the secret without logging anybody out.

use std::env;

use axum::{Router, extract::Path, routing::get};
use cloakroom::{Error, Keyring, MemoryStore, Result, Session, SessionLayer, Store};
use cloakroom_examples::{Failure, serve};

/// `SECRETS` has them, newest first, with spaces between: the first encrypts, all of them decrypt. To rotate, put a
/// new one in front and keep the old one for as long as a session may live.
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let secrets = env::var("SECRETS").unwrap_or_default();
    serve(app(MemoryStore::new(), &secrets)?).await
}

/// Without a secret, or with one that is too short, `build` says so. There is none in this file: it would be no secret.
pub(crate) fn app(store: MemoryStore, secrets: &str) -> Result<Router> {
    let keys = Keyring::new(secrets.split_whitespace());
    let sessions = SessionLayer::new(store.clone()).encrypt(keys).insecure().build()?;
    Ok(Router::new()
        .route("/", get(note))
        .route("/note/{text}", get(take_down))
        .route("/stored", get(async move |session: Session| stored(&store, &session).await))
        .layer(sessions))
}

async fn note(session: Session) -> Result<String> {
    Ok(session.get::<String>("note")?.unwrap_or_else(|| "Nothing yet: go to /note/whatever".into()))
}

async fn take_down(Path(text): Path<String>, session: Session) -> Result<String, Error> {
    session.insert("note", text)?;
    Ok("Noted. Now look at /stored".into())
}

/// What a thief of the database gets: four bytes that say what it is, which secret it takes, and noise.
async fn stored(store: &MemoryStore, session: &Session) -> Result<String> {
    let Some(id) = session.id() else { return Ok("Nothing is stored".into()) };
    let bytes = store.get(&id.key()).await?.unwrap_or_default();
    Ok(bytes.escape_ascii().to_string())
}
