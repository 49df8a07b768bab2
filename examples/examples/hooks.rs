//! Learn to have a say in every session: end all that are older than a date, and note something at each save.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{Router, routing::get};
use cloakroom::{MemoryStore, Result, Session, SessionLayer};
use cloakroom_examples::{Failure, serve};

/// Sessions that began before this are over. A real application keeps it in its database.
#[derive(Clone)]
struct Cutoff(Arc<Mutex<SystemTime>>);

impl Cutoff {
    fn get(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_to_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

pub(crate) fn app() -> Result<Router> {
    let cutoff = Cutoff(Arc::new(Mutex::new(SystemTime::UNIX_EPOCH)));
    let asked = cutoff.clone();
    let sessions = SessionLayer::new(MemoryStore::new())
        .insecure()
        // Asked once for each session that is loaded. `false`: the visitor is nobody, and gets a new id if need be.
        .validate(move |_head, session: Session| {
            let cutoff = asked.get();
            async move { Ok(session.created_at() >= cutoff) }
        })
        // Called right before a session is written, with what is about to be: its changes are part of that write.
        .before_save(async |head, session: Session| session.insert("last_page", head.uri.path()))
        .build()?;
    Ok(Router::new()
        .route("/", get(show))
        .route("/coat", get(async |session: Session| session.insert("coat", "wool")))
        .route("/end-all", get(async move || cutoff.set_to_now()))
        .layer(sessions))
}

async fn show(session: Session) -> Result<String> {
    let coat: Option<String> = session.get("coat")?;
    let page: Option<String> = session.get("last_page")?;
    Ok(format!(
        "{} coat, last saved by {}",
        coat.as_deref().unwrap_or("no"),
        page.as_deref().unwrap_or("nobody")
    ))
}
