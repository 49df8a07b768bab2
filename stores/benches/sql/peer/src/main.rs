//! Serves the handlers of the benchmark over a store of tower-sessions, and prints the address: `peer URL`.

use std::{env, error::Error, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tower_sessions::{Session, SessionManagerLayer, SessionStore};
use tower_sessions_sqlx_store::{
    PostgresStore, SqliteStore,
    sqlx::{
        postgres::PgPoolOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

/// As many connections as the others have.
const CONNECTIONS: u32 = 10;

const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("the address of a database")?;
    if url.starts_with("sqlite:") {
        // In the mode that is best for it, which it does not choose itself.
        let options: SqliteConnectOptions = url.parse()?;
        let options = options
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(5))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let store = SqliteStore::new(
            SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?,
        );
        store.migrate().await?;
        serve(store).await
    } else {
        let store =
            PostgresStore::new(PgPoolOptions::new().max_connections(CONNECTIONS).connect(&url).await?);
        store.migrate().await?;
        serve(store).await
    }
}

async fn serve(store: impl SessionStore + Clone) -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/create", get(create))
        .route("/read", get(read))
        .route("/change", get(change))
        .layer(SessionManagerLayer::new(store));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn create(session: Session) -> Result<(), StatusCode> {
    session.insert("n", 0_u64).await.map_err(|_| BROKEN)?;
    session.insert("name", "Ada Lovelace, countess").await.map_err(|_| BROKEN)?;
    session.insert("mail", "ada@example.com").await.map_err(|_| BROKEN)?;
    session.insert("roles", ["user"]).await.map_err(|_| BROKEN)
}

async fn read(session: Session) -> Result<String, StatusCode> {
    let count: Option<u64> = session.get("n").await.map_err(|_| BROKEN)?;
    Ok(count.ok_or(BROKEN)?.to_string())
}

async fn change(session: Session) -> Result<String, StatusCode> {
    let count: Option<u64> = session.get("n").await.map_err(|_| BROKEN)?;
    let count = count.ok_or(BROKEN)? + 1;
    session.insert("n", count).await.map_err(|_| BROKEN)?;
    Ok(count.to_string())
}
