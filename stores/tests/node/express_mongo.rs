//! Express with express-session and connect-mongo, over its collection in MongoDB.

use cloakroom::shape::ConnectMongo;
use cloakroom_conformance::Server;

use crate::{
    home::{Home, Later},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static EXPRESS_MONGO: Kind = Kind { format: Format::Express, store: "mongo", prefix: "", home };

fn home(database: String) -> Later<Home> {
    Box::pin(async {
        let server = Server::mongo().shared().await.unwrap();
        let environment = [("MONGO_URL", &*server.url().to_owned()), ("DATABASE", &*database.clone())];
        Home::new(&environment, move || {
            let (server, database) = (server.clone(), database.clone());
            async move { ConnectMongo::builder().database(database).connect(server.url()).await }
        })
    })
}

shared_tests!(&EXPRESS_MONGO);
