//! Express with express-session and connect-pg-simple, over its table in PostgreSQL.

use cloakroom::shape::ConnectPgSimple;
use cloakroom_conformance::Server;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    home::{Home, Later, ZONE, in_zone, with_path},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static EXPRESS_POSTGRES: Kind = Kind { format: Format::Express, store: "postgres", prefix: "", home };

/// Makes a database, for the table's index always has the same name.
fn home(name: String) -> Later<Home> {
    Box::pin(async move {
        let server = Server::postgres().shared().await.unwrap();
        let url = with_path(server.url(), &name);
        let make = format!("CREATE DATABASE {name}");
        PgConnection::connect(server.url()).await.unwrap().execute(AssertSqlSafe(make)).await.unwrap();
        let environment = [("POSTGRES_URL", &*in_zone(&url)), ("TABLE", &*name.clone())];
        Home::new(&environment, move || {
            let (server, url, table) = (server.clone(), url.clone(), name.clone());
            async move {
                let store = ConnectPgSimple::builder(ZONE).table(table).connect(&url).await;
                drop(server);
                store
            }
        })
    })
}

shared_tests!(&EXPRESS_POSTGRES);
