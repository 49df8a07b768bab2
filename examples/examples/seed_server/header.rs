//! Ids in the header `x-session-id`, the ancestor's `sessionIdStore`.

use axum::http::HeaderName;
use cloakroom::{HeaderEdits, Presented, RequestHead, SessionId, Transport, Ttl};

const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

/// Reads and sends ids; a client whose session has ended is told `reset`.
#[derive(Debug)]
pub(crate) struct InHeader;

impl Transport for InHeader {
    fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>) {
        if let Some(id) = head.headers.get(SESSION_ID) {
            presented.offer(id.as_bytes());
        }
    }

    fn send(&self, id: &SessionId, _: Ttl, response: &mut HeaderEdits) {
        response.set_secret_header(SESSION_ID, id.expose());
    }

    fn take_back(&self, response: &mut HeaderEdits) {
        response.set_secret_header(SESSION_ID, "reset");
    }

    fn varies_on(&self) -> Option<HeaderName> {
        Some(SESSION_ID)
    }
}
