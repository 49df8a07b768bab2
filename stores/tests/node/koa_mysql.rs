//! Koa with koa-generic-session and koa-mysql-session, over its table in MariaDB.

use cloakroom::shape::KoaMysqlSession;
use cloakroom_conformance::Server;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::{
    home::{Home, Later, with_path},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static KOA_MYSQL: Kind = Kind { format: Format::Koa, store: "mysql", prefix: "koa:sess:", home };

/// Makes a database, for the table always has the same name.
fn home(database: String) -> Later<Home> {
    Box::pin(async move {
        let server = Server::mariadb().shared().await.unwrap();
        let url = with_path(server.url(), &database);
        let make = format!("CREATE DATABASE {database} CHARACTER SET utf8mb4");
        MySqlConnection::connect(server.url()).await.unwrap().execute(AssertSqlSafe(make)).await.unwrap();
        Home::new(&[("MYSQL_URL", &url.clone())], move || {
            let (server, url) = (server.clone(), url.clone());
            async move {
                let store = KoaMysqlSession::builder().connect(&url).await;
                drop(server);
                store
            }
        })
    })
}

shared_tests!(&KOA_MYSQL);
