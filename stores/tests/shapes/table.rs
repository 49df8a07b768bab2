//! Tables as the Node programs make them, in the tests' server.

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
