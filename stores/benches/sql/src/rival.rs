//! Somebody else in the same database, who wants the locks that the sweep wants.

use std::time::{Duration, Instant};

use sqlx::{
    ConnectOptions, Connection, MySqlConnection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use crate::Failure;

/// A connection of its own.
pub(crate) enum Rival {
    MySql(MySqlConnection),
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Rival {
    pub(crate) async fn new(url: &str) -> Result<Self, Failure> {
        if url.starts_with("mysql:") {
            return Ok(Self::MySql(MySqlConnection::connect(url).await?));
        }
        if url.starts_with("sqlite:") {
            // SQLite itself would only try again after a nap.
            let options: SqliteConnectOptions = url.parse()?;
            let options = options.create_if_missing(true).busy_timeout(Duration::ZERO);
            return Ok(Self::Sqlite(options.connect().await?));
        }
        Ok(Self::Postgres(PgConnection::connect(url).await?))
    }

    /// Takes a lock, and returns how long that took: the one of the file, or that of the next row that is to be swept;
    /// `None` if there is none left.
    pub(crate) async fn lock(&mut self) -> Result<Option<Duration>, Failure> {
        match self {
            Self::Sqlite(conn) => {
                let began = Instant::now();
                loop {
                    match sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await {
                        Ok(_) => break,
                        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("5") => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                let took = began.elapsed();
                sqlx::query("ROLLBACK").execute(conn).await?;
                Ok(Some(took))
            }
            Self::Postgres(conn) => {
                let next = "SELECT key FROM swept WHERE key > 'over' ORDER BY key LIMIT 1";
                let next: Option<String> = sqlx::query_scalar(next).fetch_optional(&mut *conn).await?;
                let Some(next) = next else { return Ok(None) };
                let began = Instant::now();
                let lock = sqlx::query("SELECT 1 FROM swept WHERE key = $1 FOR UPDATE").bind(next);
                lock.fetch_optional(conn).await?;
                Ok(Some(began.elapsed()))
            }
            Self::MySql(conn) => {
                let next = "SELECT `key` FROM swept WHERE expires_at = 1 ORDER BY expires_at, `key` LIMIT 1";
                let next: Option<Vec<u8>> = sqlx::query_scalar(next).fetch_optional(&mut *conn).await?;
                let Some(next) = next else { return Ok(None) };
                let began = Instant::now();
                let lock = sqlx::query("SELECT 1 FROM swept WHERE `key` = ? FOR UPDATE").bind(next);
                lock.fetch_optional(conn).await?;
                Ok(Some(began.elapsed()))
            }
        }
    }

    /// Counts the rows that are over.
    pub(crate) async fn over(&mut self) -> Result<i64, Failure> {
        let sql = "SELECT count(*) FROM swept WHERE expires_at = 1";
        Ok(match self {
            Self::MySql(conn) => sqlx::query_scalar(sql).fetch_one(conn).await?,
            Self::Postgres(conn) => sqlx::query_scalar(sql).fetch_one(conn).await?,
            Self::Sqlite(conn) => sqlx::query_scalar(sql).fetch_one(conn).await?,
        })
    }
}
