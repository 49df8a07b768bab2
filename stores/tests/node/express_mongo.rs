//! Express with express-session and connect-mongo, over its collection in MongoDB.

use cloakroom::{Express, SessionLayer, shape::ConnectMongo};
use cloakroom_conformance::Server;
use serde_json::json;

use crate::{app::App, pair::logged_in, program::Program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_the_collection_of_connect_mongo_is_shared_both_ways() {
    let server = Server::mongo().start().await.unwrap();
    let database = format!("node_{}", std::process::id());
    let node = Program::start(
        "express",
        &[("STORE", "mongo"), ("MONGO_URL", server.url()), ("DATABASE", &database), ("SECRETS", "keys")],
    );
    let store = ConnectMongo::builder().database(&database).connect(server.url()).await.unwrap();
    let layer = SessionLayer::new(store).profile(Express::new(["keys"]).prefix("").into());
    let rust = App::start(layer.build().unwrap()).await;
    for (here, there) in [(node.site(), rust.site()), (rust.site(), node.site())] {
        let browser = logged_in(here).await;
        assert_eq!(browser.session(there).await, json!({ "user": "ada" }));
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
