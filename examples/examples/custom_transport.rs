//! Learn to let ids travel without cookies, for clients that are no browsers: a transport is three methods.

use axum::{Router, http::HeaderName, routing::get};
use cloakroom::{
    HeaderEdits, MemoryStore, Presented, RequestHead, Result, Session, SessionId, SessionLayer, Transport,
    Ttl,
};
use cloakroom_examples::{Failure, serve};

const TICKET: HeaderName = HeaderName::from_static("x-ticket");

/// Carries the id and how many seconds it is good for: `x-ticket: <id>;<seconds>`.
///
/// For the id alone there are `HeaderTransport` and `BearerTransport`.
#[derive(Debug)]
struct TicketHeader;

impl Transport for TicketHeader {
    /// What is offered here is looked up only if it has the form of an id of this application.
    fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>) {
        for value in head.headers.get_all(TICKET) {
            let id = value.as_bytes().split(|&byte| byte == b';').next();
            presented.offer(id.unwrap_or_default());
        }
    }

    fn send(&self, id: &SessionId, lives: Ttl, response: &mut HeaderEdits) {
        // "Secret": no cache may keep the response, and no log of headers shows the value.
        response.set_secret_header(TICKET, &format!("{};{}", id.expose(), lives.secs_rounded_up()));
    }

    fn take_back(&self, response: &mut HeaderEdits) {
        response.set_secret_header(TICKET, "");
    }

    /// Caches learn that answers depend on this header.
    fn varies_on(&self) -> Option<HeaderName> {
        Some(TICKET)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

/// The cookie's options are without effect now; everything else stays as it is.
pub(crate) fn app() -> Result<Router> {
    let sessions = SessionLayer::new(MemoryStore::new()).transport(TicketHeader).build()?;
    let count = async |session: Session| {
        let count = session.update_now("count", |count: Option<u32>| count.unwrap_or(0) + 1).await?;
        Ok::<_, cloakroom::Error>(count.to_string())
    };
    let end = async |session: Session| session.destroy().await;
    Ok(Router::new().route("/", get(count)).route("/end", get(end)).layer(sessions))
}
