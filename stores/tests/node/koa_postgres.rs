//! Koa with koa-generic-session and koa-pg-session, over its table in PostgreSQL.

use cloakroom::shape::KoaPgSession;
use cloakroom_conformance::Server;

use crate::{
    home::{Home, Later, ZONE, in_zone},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static KOA_POSTGRES: Kind = Kind { format: Format::Koa, store: "postgres", prefix: "koa:sess:", home };

fn home(table: String) -> Later<Home> {
    Box::pin(async {
        let server = Server::postgres().shared().await.unwrap();
        let environment = [("POSTGRES_URL", &*in_zone(server.url())), ("TABLE", &*table.clone())];
        Home::new(&environment, move || {
            let (server, table) = (server.clone(), table.clone());
            async move { KoaPgSession::builder(ZONE).table(table).connect(server.url()).await }
        })
    })
}

shared_tests!(&KOA_POSTGRES);
