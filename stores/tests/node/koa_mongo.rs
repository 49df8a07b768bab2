//! Koa with koa-generic-session and koa-generic-session-mongo, over its collection in MongoDB.
//!
//! The package is there as it is, over a driver of today: `programs/koa.cjs`.

use cloakroom::shape::KoaGenericSessionMongo;
use cloakroom_conformance::Server;

use crate::{
    home::{Home, Later},
    pair::{Format, Kind},
    rules::{self, shared_tests},
};

static KOA_MONGO: Kind = Kind { format: Format::Koa, store: "mongo", prefix: "koa:sess:", home };

fn home(database: String) -> Later<Home> {
    Box::pin(async {
        let server = Server::mongo().shared().await.unwrap();
        let environment = [("MONGO_URL", &*server.url().to_owned()), ("DATABASE", &*database.clone())];
        Home::new(&environment, move || {
            let (server, database) = (server.clone(), database.clone());
            async move { KoaGenericSessionMongo::builder().database(database).connect(server.url()).await }
        })
    })
}

// Without a row that Rust cannot read, for no JSON makes such a document: `shapes/koa_generic_session_mongo.rs` has one.
shared_tests!(
    &KOA_MONGO,
    a_login_and_what_is_written_are_seen_on_the_other_side,
    values_of_every_shape_survive_both_sides,
    a_row_says_the_same_of_its_cookie_whoever_makes_it,
    a_logout_on_either_side_ends_it_on_both,
    a_new_id_on_either_side_holds_on_both,
    secrets_are_rotated_step_by_step_without_a_logout,
    a_thousand_mixed_requests_lose_nothing,
    what_node_writes_during_a_rust_request_is_kept,
    what_node_ends_during_a_rust_request_stays_ended,
    parallel_rust_requests_count_right_while_node_reads,
    a_forged_cookie_opens_nothing,
);
