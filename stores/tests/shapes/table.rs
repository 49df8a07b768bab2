//! Tables as the Node programs make them, in the tests' server.

use cloakroom::{Bytes, Key, Result, Store, Ttl};
use cloakroom_conformance::Server;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// The table that connect-pg-simple 10 makes, in its words.
pub(crate) const CONNECT_PG_SIMPLE: &str = r#"
    CREATE TABLE "session" (
      "sid" varchar NOT NULL COLLATE "default",
      "sess" json NOT NULL,
      "expire" timestamp(6) NOT NULL
    )
    WITH (OIDS=FALSE);
    ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid") NOT DEFERRABLE INITIALLY IMMEDIATE;
    CREATE INDEX "IDX_session_expire" ON "session" ("expire");
"#;

/// The table that koa-pg-session 2 makes, with its names.
pub(crate) const KOA_PG_SESSION: &str =
    r#"CREATE TABLE "session" (id TEXT NOT NULL PRIMARY KEY, expiry TIMESTAMP NOT NULL, session JSON)"#;

/// Makes a table under another name, unless it is there.
pub(crate) async fn make(url: &str, ddl: &str, name: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    // Held until the connection ends: several handles may be opened at once.
    connection.execute("SELECT pg_advisory_lock(1795398198514)").await.unwrap();
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("\"{name}\""))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    if !there {
        let ddl =
            ddl.replace("\"session\"", &format!("\"{name}\"")).replace("_session_", &format!("_{name}_"));
        let ddl = ddl.replace("\"session_pkey\"", &format!("\"{name}_pkey\""));
        connection.execute(AssertSqlSafe(ddl)).await.unwrap();
    }
}

/// Carries out a statement of a test.
pub(crate) async fn execute(url: &str, sql: String) {
    PgConnection::connect(url).await.unwrap().execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Returns one text.
pub(crate) async fn text(url: &str, sql: String) -> Option<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(&mut connection).await.unwrap().flatten()
}

/// As [`text`], over a connection in that time zone, as the connections of a Node program are.
pub(crate) async fn text_in(url: &str, zone: &str, sql: &str) -> Option<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET TIME ZONE '{zone}'"))).await.unwrap();
    let rows = connection.fetch_all(AssertSqlSafe(sql.to_owned())).await.unwrap();
    rows.first().map(|row| sqlx::Row::get(row, 0))
}

/// Checks for several zones that the end of a row is written and read in that of the Node program: `open` is given an
/// address, the name of a table, and a zone.
pub(crate) async fn ends_in_the_zone_of_node<S: Store>(
    table: &str,
    expiry: &str,
    open: impl AsyncFn(&str, &str, &str) -> Result<S>,
) {
    let server = Server::postgres().private().start().await.unwrap();
    let url = server.url();
    let (key, row) =
        (Key::new("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap(), Bytes::from("{\"n\":1}"));
    for zone in ["UTC", "Asia/Tokyo", "America/St_Johns"] {
        let name = format!("{table}_{}", zone.to_lowercase().replace('/', "_"));
        let store = open(url, &name, zone).await.unwrap();
        store.set(&key, row.clone(), Ttl::from_secs(3600)).await.unwrap();
        // As a Node program asks, over a connection in its own zone.
        let asked = format!(
            "SELECT ({expiry} >= to_timestamp(extract(epoch FROM clock_timestamp()) + 3500) \
             AND {expiry} <= to_timestamp(extract(epoch FROM clock_timestamp()) + 3601))::text FROM \"{name}\""
        );
        assert_eq!(text_in(url, zone, &asked).await.as_deref(), Some("true"), "{zone}");
        // And what Node writes is read here: a row of an hour is there, one that has just ended is not.
        let write = |seconds: i32| {
            format!(
                "UPDATE \"{name}\" SET {expiry} = to_timestamp(extract(epoch FROM clock_timestamp()) + {seconds})"
            )
        };
        text_in(url, zone, &write(3600)).await;
        assert_eq!(store.get(&key).await.unwrap(), Some(row.clone()), "{zone}");
        text_in(url, zone, &write(-1)).await;
        assert_eq!(store.get(&key).await.unwrap(), None, "{zone}");
    }
}
