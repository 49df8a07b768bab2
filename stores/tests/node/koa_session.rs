//! Koa with koa-session: the session is in the cookie, and there is no store between the two sides.

use cloakroom::{NoStore, Profile, SessionLayer};
use serde_json::json;

use crate::{
    app::App,
    pair::{SECRETS, logged_in},
    program::Program,
    rotation,
};

fn node(secrets: &[&str]) -> Program {
    Program::start("koa-session", &[("SECRETS", &secrets.join(","))])
}

async fn rust(secrets: &[&str]) -> App {
    let layer = SessionLayer::new(NoStore).profile(Profile::koa_session(secrets.iter().copied()));
    App::start(layer.build().unwrap()).await
}

#[tokio::test]
async fn a_session_in_the_cookie_is_read_and_written_on_both_sides() {
    let (node, rust) = (node(SECRETS), rust(SECRETS).await);
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
    let (node, rust) = (node(SECRETS), rust(SECRETS).await);
    for (here, there) in [(node.site(), rust.site()), (rust.site(), node.site())] {
        let browser = logged_in(here).await;
        browser.get(there, "/logout").await;
        assert_eq!(browser.session(here).await, json!({}));
        assert_eq!(browser.cookies(), "");
    }
}

#[tokio::test]
async fn secrets_of_a_cookie_session_are_rotated_step_by_step_without_a_logout() {
    rotation::nobody_is_logged_out(node, rust).await;
}
