//! The applications: four routes each, the same handlers in the words of each library.

use axum::{Router, http::StatusCode, routing::get};
use cloakroom::{Keyring, MemoryStore, Session, SessionLayer};
use tower_sessions::{MemoryStore as TowerStore, Session as TowerSession, SessionManagerLayer};

use super::Size;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// axum without sessions.
    Bare,
    Cloakroom,
    /// Cloakroom with signed cookies.
    Signed,
    TowerSessions,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Cloakroom, Self::Signed, Self::TowerSessions];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare axum",
            Self::Cloakroom => "Cloakroom",
            Self::Signed => "Cloakroom, signed",
            Self::TowerSessions => "tower-sessions",
        }
    }
}

/// Builds an application with an empty store.
pub(crate) fn app(peer: Peer, size: Size) -> Router {
    let secret = "a secret of 32 bytes or more, for the bench alone";
    match peer {
        Peer::Bare => Router::new()
            .route("/none", get(none))
            .route("/read", get(bare::read))
            .route("/change", get(bare::change))
            .route("/create", get(bare::create)),
        Peer::Cloakroom => cloakroom(size).layer(SessionLayer::new(MemoryStore::new()).build().unwrap()),
        Peer::Signed => cloakroom(size)
            .layer(SessionLayer::new(MemoryStore::new()).keys(Keyring::new([secret])).build().unwrap()),
        Peer::TowerSessions => tower_sessions(size).layer(SessionManagerLayer::new(TowerStore::default())),
    }
}

fn cloakroom(size: Size) -> Router {
    Router::new()
        .route("/none", get(none))
        .route("/read", get(ours::read))
        .route("/change", get(ours::change))
        .route("/create", get(async move |session| ours::create(session, size)))
}

fn tower_sessions(size: Size) -> Router {
    Router::new()
        .route("/none", get(none))
        .route("/read", get(theirs::read))
        .route("/change", get(theirs::change))
        .route("/create", get(async move |session| theirs::create(session, size).await))
}

/// The key of the number that `read` and `change` are about; there are `keys() - 1` texts beside it.
const NUMBER: &str = "n";

async fn none() {}

/// Returns the key and the value of a text: strings of the handler's own, as a real one has them.
fn text(number: usize, size: Size) -> (String, String) {
    (format!("key{number}"), "x".repeat(size.value_len()))
}

mod bare {
    pub(super) async fn read() -> String {
        std::hint::black_box(7_u64).to_string()
    }

    pub(super) async fn change() -> String {
        (std::hint::black_box(7_u64) + 1).to_string()
    }

    pub(super) async fn create() {}
}

mod ours {
    use super::{NUMBER, Session, Size, text};

    pub(super) async fn read(session: Session) -> cloakroom::Result<String> {
        Ok(session.get::<u64>(NUMBER)?.unwrap_or(0).to_string())
    }

    pub(super) async fn change(session: Session) -> cloakroom::Result<String> {
        let number = session.get::<u64>(NUMBER)?.unwrap_or(0) + 1;
        session.insert(NUMBER, number)?;
        Ok(number.to_string())
    }

    pub(super) fn create(session: Session, size: Size) -> cloakroom::Result<()> {
        for number in 1..size.keys() {
            let (key, value) = text(number, size);
            session.insert(&key, value)?;
        }
        session.insert(NUMBER, 0)
    }
}

mod theirs {
    use super::{NUMBER, Size, StatusCode, TowerSession, text};

    /// As tower-sessions itself answers a failure.
    fn failed(_: tower_sessions::session::Error) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    pub(super) async fn read(session: TowerSession) -> Result<String, StatusCode> {
        Ok(session.get::<u64>(NUMBER).await.map_err(failed)?.unwrap_or(0).to_string())
    }

    pub(super) async fn change(session: TowerSession) -> Result<String, StatusCode> {
        let number = session.get::<u64>(NUMBER).await.map_err(failed)?.unwrap_or(0) + 1;
        session.insert(NUMBER, number).await.map_err(failed)?;
        Ok(number.to_string())
    }

    pub(super) async fn create(session: TowerSession, size: Size) -> Result<(), StatusCode> {
        for number in 1..size.keys() {
            let (key, value) = text(number, size);
            session.insert(&key, value).await.map_err(failed)?;
        }
        session.insert(NUMBER, 0).await.map_err(failed)
    }
}
