//! The applications: three routes each, the same handlers on bare prepared statements and on the stores.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use cloakroom::{PostgresStore, Session, SessionLayer, SqliteStore};
use serde_json::{Value, json};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::net::TcpListener;

use crate::Failure;

/// As many connections as the stores open by themselves.
const CONNECTIONS: u32 = 10;

const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

/// A day, in milliseconds.
const LIFE: i64 = 24 * 3600 * 1000;

/// What a session holds besides its count: some 100 bytes together.
const NAME: &str = "Ada Lovelace, countess";
const MAIL: &str = "ada@example.com";

/// Serves the handlers over our store.
pub(crate) async fn ours(url: &str) -> Result<SocketAddr, Failure> {
    let layer = if url.starts_with("sqlite:") {
        let store = SqliteStore::builder().max_connections(CONNECTIONS).connect(url).await?;
        store.migrate().await?;
        SessionLayer::new(store).build()?
    } else {
        let store = PostgresStore::builder().max_connections(CONNECTIONS).connect(url).await?;
        store.migrate().await?;
        SessionLayer::new(store).build()?
    };
    let app = Router::new()
        .route("/create", get(session::create))
        .route("/read", get(session::read))
        .route("/change", get(session::change));
    serve(app.layer(layer)).await
}

/// Serves the handlers over prepared statements of their own: the least that any store could do.
pub(crate) async fn bare(url: &str) -> Result<SocketAddr, Failure> {
    let database = if url.starts_with("sqlite:") {
        let options: SqliteConnectOptions = url.parse()?;
        let options = options
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        let pool = pool.connect_with(options).await?;
        sqlx::query(
            "CREATE TABLE bare (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL) \
             WITHOUT ROWID",
        )
        .execute(&pool)
        .await?;
        Database::Sqlite(pool)
    } else {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        let pool = pool.connect(url).await?;
        sqlx::query(
            "CREATE TABLE bare (key text NOT NULL PRIMARY KEY, value bytea NOT NULL, expires_at bigint NOT NULL) \
             WITH (fillfactor = 80)",
        )
        .execute(&pool)
        .await?;
        Database::Postgres(pool)
    };
    let app = Router::new()
        .route("/create", get(handler::create))
        .route("/read", get(handler::read))
        .route("/change", get(handler::change));
    serve(app.with_state(database)).await
}

async fn serve(app: Router) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

#[derive(Clone)]
enum Database {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Database {
    async fn load(&self, key: &str) -> Result<Value, StatusCode> {
        let now = now();
        let bytes: Option<Vec<u8>> = match self {
            Self::Postgres(pool) => {
                let sql = "SELECT value FROM bare WHERE key = $1 AND expires_at > $2";
                sqlx::query_scalar(sql).bind(key).bind(now).fetch_optional(pool).await
            }
            Self::Sqlite(pool) => {
                let sql = "SELECT value FROM bare WHERE key = ?1 AND expires_at > ?2";
                sqlx::query_scalar(sql).bind(key).bind(now).fetch_optional(pool).await
            }
        }
        .map_err(|_| BROKEN)?;
        serde_json::from_slice(&bytes.ok_or(BROKEN)?).map_err(|_| BROKEN)
    }

    async fn store(&self, key: &str, session: &Value) -> Result<(), StatusCode> {
        let (bytes, end) = (serde_json::to_vec(session).map_err(|_| BROKEN)?, now() + LIFE);
        match self {
            Self::Postgres(pool) => {
                let sql = "INSERT INTO bare VALUES ($1, $2, $3) \
                           ON CONFLICT (key) DO UPDATE SET value = $2, expires_at = $3";
                sqlx::query(sql).bind(key).bind(bytes).bind(end).execute(pool).await.map(drop)
            }
            Self::Sqlite(pool) => {
                let sql = "INSERT INTO bare VALUES (?1, ?2, ?3) \
                           ON CONFLICT (key) DO UPDATE SET value = ?2, expires_at = ?3";
                sqlx::query(sql).bind(key).bind(bytes).bind(end).execute(pool).await.map(drop)
            }
        }
        .map_err(|_| BROKEN)
    }
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

mod handler {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{
        AppendHeaders, BROKEN, Database, HeaderMap, IntoResponse, MAIL, NAME, State, StatusCode, header, json,
    };

    pub(super) async fn create(State(database): State<Database>) -> Result<impl IntoResponse, StatusCode> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = format!("{:0>43}", NEXT.fetch_add(1, Ordering::Relaxed));
        database.store(&key, &json!({"n": 0, "name": NAME, "mail": MAIL, "roles": ["user"]})).await?;
        Ok(AppendHeaders([(header::SET_COOKIE, format!("sid={key}; HttpOnly"))]))
    }

    pub(super) async fn read(
        State(database): State<Database>,
        headers: HeaderMap,
    ) -> Result<String, StatusCode> {
        Ok(database.load(key(&headers)?).await?["n"].to_string())
    }

    pub(super) async fn change(
        State(database): State<Database>,
        headers: HeaderMap,
    ) -> Result<String, StatusCode> {
        let key = key(&headers)?;
        let mut session = database.load(key).await?;
        let count = session["n"].as_u64().ok_or(BROKEN)? + 1;
        session["n"] = count.into();
        database.store(key, &session).await?;
        Ok(count.to_string())
    }

    fn key(headers: &HeaderMap) -> Result<&str, StatusCode> {
        let cookie = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
        cookie.and_then(|cookie| cookie.strip_prefix("sid=")).ok_or(BROKEN)
    }
}

mod session {
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
