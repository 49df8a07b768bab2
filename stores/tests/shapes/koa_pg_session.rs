//! The conformance suite over the table of koa-pg-session.

use cloakroom::{Result, shape::KoaPgSession};
use cloakroom_conformance::{Env, Server, conformance_tests};

use crate::{
    json::InJson,
    table::{self, KOA_PG_SESSION},
};

async fn open(env: Env) -> Result<InJson<KoaPgSession>> {
    table::make(env.url(), KOA_PG_SESSION, env.namespace()).await;
    let builder = KoaPgSession::builder("Europe/Berlin").table(env.namespace());
    builder.max_connections(4).sweep_every(None).connect(env.url()).await.map(InJson)
}

conformance_tests! { server: Server::postgres, open: open, abilities: [atomic] }
