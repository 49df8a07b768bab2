//! The applications: three routes each, the same handlers in the words of each library.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use cloakroom::{RedisStore, Session, SessionLayer};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_sessions::{Session as TowerSession, SessionManagerLayer};
use tower_sessions_redis_store::{
    RedisStore as TowerStore,
    fred::prelude::{ClientLike, Config, Pool},
};

use crate::Failure;

/// Who keeps the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The handler itself, on the driver's connection.
    Bare,
    Cloakroom,
    TowerSessions,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Cloakroom, Self::TowerSessions];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare connection",
            Self::Cloakroom => "Cloakroom",
            Self::TowerSessions => "tower-sessions",
        }
    }
}

/// Serves the application of a peer and returns its address.
pub(crate) async fn serve(peer: Peer, url: &str) -> Result<SocketAddr, Failure> {
    let app = match peer {
        Peer::Bare => {
            let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
            Router::new()
                .route("/create", get(bare::create))
                .route("/read", get(bare::read))
                .route("/change", get(bare::change))
                .with_state(connection)
        }
        Peer::Cloakroom => Router::new()
            .route("/create", get(ours::create))
            .route("/read", get(ours::read))
            .route("/change", get(ours::change))
            .layer(SessionLayer::new(RedisStore::connect(url).await?).build()?),
        Peer::TowerSessions => {
            // As many connections as its documentation shows.
            let pool = Pool::new(Config::from_url(url)?, None, None, None, 6)?;
            drop(pool.connect());
            pool.wait_for_connect().await?;
            Router::new()
                .route("/create", get(theirs::create))
                .route("/read", get(theirs::read))
                .route("/change", get(theirs::change))
                .layer(SessionManagerLayer::new(TowerStore::new(pool)))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// What a session holds besides its count: some 100 bytes together.
const NAME: &str = "Ada Lovelace, countess";
const MAIL: &str = "ada@example.com";

const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

mod bare {
    use super::{
        AppendHeaders, AtomicU64, BROKEN, HeaderMap, IntoResponse, MAIL, MultiplexedConnection, NAME,
        Ordering, State, StatusCode, Value, header, json,
    };

    const LIFE: u64 = 24 * 3600 * 1000;

    pub(super) async fn create(
        State(connection): State<MultiplexedConnection>,
    ) -> Result<impl IntoResponse, StatusCode> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = format!("bare:{:0>38}", NEXT.fetch_add(1, Ordering::Relaxed));
        store(connection, &key, &json!({"n": 0, "name": NAME, "mail": MAIL, "roles": ["user"]})).await?;
        Ok(AppendHeaders([(header::SET_COOKIE, format!("sid={key}; HttpOnly"))]))
    }

    pub(super) async fn read(
        State(connection): State<MultiplexedConnection>,
        headers: HeaderMap,
    ) -> Result<String, StatusCode> {
        let session = load(connection, key(&headers)?).await?;
        Ok(session["n"].to_string())
    }

    pub(super) async fn change(
        State(connection): State<MultiplexedConnection>,
        headers: HeaderMap,
    ) -> Result<String, StatusCode> {
        let key = key(&headers)?;
        let mut session = load(connection.clone(), key).await?;
        let count = session["n"].as_u64().ok_or(BROKEN)? + 1;
        session["n"] = count.into();
        store(connection, key, &session).await?;
        Ok(count.to_string())
    }

    fn key(headers: &HeaderMap) -> Result<&str, StatusCode> {
        let cookie = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
        cookie.and_then(|cookie| cookie.strip_prefix("sid=")).ok_or(BROKEN)
    }

    async fn load(mut connection: MultiplexedConnection, key: &str) -> Result<Value, StatusCode> {
        let bytes: Vec<u8> =
            redis::cmd("GET").arg(key).query_async(&mut connection).await.map_err(|_| BROKEN)?;
        serde_json::from_slice(&bytes).map_err(|_| BROKEN)
    }

    async fn store(
        mut connection: MultiplexedConnection,
        key: &str,
        session: &Value,
    ) -> Result<(), StatusCode> {
        let bytes = serde_json::to_vec(session).map_err(|_| BROKEN)?;
        let mut set = redis::cmd("SET");
        set.arg(key).arg(bytes).arg("PX").arg(LIFE);
        set.query_async(&mut connection).await.map_err(|_| BROKEN)
    }
}

mod ours {
    use super::{BROKEN, MAIL, NAME, Session, StatusCode};

    pub(super) async fn create(session: Session) -> Result<(), cloakroom::Error> {
        session.insert("n", 0_u64)?;
        session.insert("name", NAME)?;
        session.insert("mail", MAIL)?;
        session.insert("roles", ["user"])
    }

    pub(super) async fn read(session: Session) -> Result<String, StatusCode> {
        let count: Option<u64> = session.get("n").map_err(|_| BROKEN)?;
        Ok(count.ok_or(BROKEN)?.to_string())
    }

    pub(super) async fn change(session: Session) -> Result<String, StatusCode> {
        let count: Option<u64> = session.get("n").map_err(|_| BROKEN)?;
        let count = count.ok_or(BROKEN)? + 1;
        session.insert("n", count).map_err(|_| BROKEN)?;
        Ok(count.to_string())
    }
}

mod theirs {
    use super::{BROKEN, MAIL, NAME, StatusCode, TowerSession};

    pub(super) async fn create(session: TowerSession) -> Result<(), StatusCode> {
        session.insert("n", 0_u64).await.map_err(|_| BROKEN)?;
        session.insert("name", NAME).await.map_err(|_| BROKEN)?;
        session.insert("mail", MAIL).await.map_err(|_| BROKEN)?;
        session.insert("roles", ["user"]).await.map_err(|_| BROKEN)
    }

    pub(super) async fn read(session: TowerSession) -> Result<String, StatusCode> {
        let count: Option<u64> = session.get("n").await.map_err(|_| BROKEN)?;
        Ok(count.ok_or(BROKEN)?.to_string())
    }

    pub(super) async fn change(session: TowerSession) -> Result<String, StatusCode> {
        let count: Option<u64> = session.get("n").await.map_err(|_| BROKEN)?;
        let count = count.ok_or(BROKEN)? + 1;
        session.insert("n", count).await.map_err(|_| BROKEN)?;
        Ok(count.to_string())
    }
}
