//! Express with express-session and connect-pg-simple, over its table in PostgreSQL.

use cloakroom::shape::ConnectPgSimple;
use cloakroom_conformance::Server;

use crate::{
    home::{Home, Later, ZONE, in_zone},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static EXPRESS_POSTGRES: Kind = Kind { format: Format::Express, store: "postgres", prefix: "", home };

fn home(table: String) -> Later<Home> {
    Box::pin(async {
        let server = Server::postgres().start().await.unwrap();
        let environment = [("POSTGRES_URL", &*in_zone(server.url())), ("TABLE", &*table.clone())];
        Home::new(&environment, move || {
            let (server, table) = (server.clone(), table.clone());
            async move { ConnectPgSimple::builder(ZONE).table(table).connect(server.url()).await }
        })
    })
}

shared_tests!(&EXPRESS_POSTGRES);
