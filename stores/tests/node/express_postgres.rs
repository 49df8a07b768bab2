//! Express with express-session and connect-pg-simple, over its table in PostgreSQL.

use cloakroom::{Express, SessionLayer, shape::ConnectPgSimple};
use cloakroom_conformance::Server;
use serde_json::json;

use crate::{app::App, pair::logged_in, program::Program};

/// The zone of the Node program's connections: not the one of this driver's, nor of the server.
const ZONE: &str = "Asia/Tokyo";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_the_table_of_connect_pg_simple_is_shared_both_ways() {
    let server = Server::postgres().start().await.unwrap();
    let table = format!("node_{}", std::process::id());
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options=-c%20TimeZone%3D{ZONE}", server.url());
    let node = Program::start(
        "express",
        &[("STORE", "postgres"), ("POSTGRES_URL", &url), ("TABLE", &table), ("SECRETS", "keys")],
    );
    // The table is made by Node, when it first needs it.
    let first = logged_in(node.site()).await;
    let store = ConnectPgSimple::builder(ZONE).table(&table).connect(server.url()).await.unwrap();
    let layer = SessionLayer::new(store).profile(Express::new(["keys"]).prefix("").into());
    let rust = App::start(layer.build().unwrap()).await;
    assert_eq!(first.session(rust.site()).await, json!({ "user": "ada" }));
    for (here, there) in [(node.site(), rust.site()), (rust.site(), node.site())] {
        let browser = logged_in(here).await;
        for n in 1..=20 {
            let site = if n % 3 == 0 { here } else { there };
            assert_eq!(browser.get(site, "/add?k=n").await, n.to_string());
        }
        assert_eq!(browser.session(here).await, json!({ "user": "ada", "n": 20 }));
        let thief = browser.copied();
        browser.get(there, "/logout").await;
        assert_eq!(thief.session(here).await, json!({}));
        assert_eq!(thief.session(there).await, json!({}));
    }
}
