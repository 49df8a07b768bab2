//! Koa with koa-session: the session is in the cookie, and there is no store between the two sides.

use cloakroom::{NoStore, Profile, SessionLayer};
use serde_json::json;

use crate::{
    app::App,
    pair::{SECRETS, logged_in},
    program::Program,
};

async fn both(secrets: &[&str]) -> (Program, App) {
    let node = Program::start("koa-session", &[("SECRETS", &secrets.join(","))]);
    let layer = SessionLayer::new(NoStore).profile(Profile::koa_session(secrets.iter().copied()));
    (node, App::start(layer.build().unwrap()).await)
}

#[tokio::test]
async fn a_session_in_the_cookie_is_read_and_written_on_both_sides() {
    let (node, rust) = both(SECRETS).await;
    for (here, there) in [(node.site(), rust.site()), (rust.site(), node.site())] {
        let browser = logged_in(here).await;
        assert_eq!(browser.session(there).await, json!({ "user": "ada" }));
        browser.get(there, "/put?k=word&v=%22%C3%A4%F0%9F%98%80%22").await;
        assert_eq!(browser.get(here, "/add?k=n").await, "1");
        assert_eq!(browser.get(there, "/add?k=n").await, "2");
        assert_eq!(browser.session(here).await, json!({ "user": "ada", "word": "ä😀", "n": 2 }));
    }
}

#[tokio::test]
async fn a_logout_on_either_side_takes_the_cookie_away() {
    let (node, rust) = both(SECRETS).await;
    for (here, there) in [(node.site(), rust.site()), (rust.site(), node.site())] {
        let browser = logged_in(here).await;
        browser.get(there, "/logout").await;
        assert_eq!(browser.session(here).await, json!({}));
        assert_eq!(browser.cookies(), "");
    }
}

#[tokio::test]
async fn secrets_of_a_cookie_session_are_rotated_without_a_logout() {
    let (old_node, old_rust) = both(&["first secret"]).await;
    for site in [old_node.site(), old_rust.site()] {
        let browser = logged_in(site).await;
        let (node, rust) = both(&["second secret", "first secret"]).await;
        assert_eq!(browser.get(rust.site(), "/add?k=n").await, "1");
        assert_eq!(browser.get(node.site(), "/add?k=n").await, "2");
        let (node, rust) = both(&["second secret"]).await;
        for site in [node.site(), rust.site()] {
            assert_eq!(browser.session(site).await, json!({ "user": "ada", "n": 2 }));
        }
    }
}
