//! The quickstart, as its visitors use it.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod support;

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Method, StatusCode, header::SET_COOKIE},
};
use cloakroom::{AdminStore, MemoryStore};
use cloakroom_examples::quickstart::{app, sessions};

use crate::support::{Browser, start};

async fn open() -> Browser {
    let (browser, _) = open_with_store().await;
    browser
}

async fn open_with_store() -> (Browser, MemoryStore) {
    let store = MemoryStore::new();
    let site = start(app(sessions(store.clone()).unwrap())).await;
    (Browser::new(&site), store)
}

#[tokio::test]
async fn looking_around_stores_nothing_and_sets_no_cookie() {
    let (browser, store) = open_with_store().await;
    let page = browser.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    page.shows("none yet").shows("New, and nothing is stored");
    assert!(!page.sets_a_cookie());
    assert_eq!(store.len().await.unwrap(), 0);
}

#[tokio::test]
async fn the_counter_counts() {
    let browser = open().await;
    for count in 1..=3 {
        let page = browser.submit("/count", &[]).await;
        page.shows(&format!("Counted: {count}."));
        page.shows(&format!("<output class=\"figure\" aria-label=\"Count\">{count}</output>"));
    }
}

#[tokio::test]
async fn a_note_is_shown_once() {
    let browser = open().await;
    browser.submit("/count", &[]).await.shows("Counted: 1.");
    browser.get("/").await.hides("Counted: 1.");
}

#[tokio::test]
async fn a_login_changes_the_id_and_keeps_the_cart() {
    let browser = open().await;
    browser.submit("/cart/add", &[("thing", "a green scarf")]).await.shows("<span>a green scarf</span>");
    let before = browser.cookie().unwrap();
    let page = browser.submit("/login", &[("name", "Ada")]).await;
    page.shows("Hello, <span class=\"name\">Ada</span>").shows("Your id changed");
    page.shows("<span>a green scarf</span>");
    let after = browser.cookie().unwrap();
    assert_ne!(before, after);

    let intruder = browser.another();
    intruder.set_cookie("quickstart", &before);
    let page = intruder.get("/").await;
    page.hides("Ada").hides("green scarf").shows("Who are you?");
    assert!(!page.sets_a_cookie(), "a request with the old id must not replace the cookie of the login");
}

#[tokio::test]
async fn the_page_shows_a_fingerprint_and_never_the_id() {
    let browser = open().await;
    let page = browser.submit("/login", &[("name", "Ada")]).await;
    page.shows("<p>#").hides(&browser.cookie().unwrap());
    let page = browser.submit("/login", &[("name", "Ada")]).await;
    page.hides(&browser.cookie().unwrap());
}

#[tokio::test]
async fn a_logout_makes_the_old_cookie_nobody() {
    let (browser, store) = open_with_store().await;
    browser.submit("/login", &[("name", "Ada")]).await;
    let old = browser.cookie().unwrap();
    let page = browser.submit("/logout", &[]).await;
    page.shows("You are logged out").shows("Who are you?").hides("Ada");
    assert_eq!(browser.cookie(), None, "the browser's cookie is gone");
    assert_eq!(store.len().await.unwrap(), 0, "and so is the record");

    let thief = browser.another();
    thief.set_cookie("quickstart", &old);
    thief.get("/").await.hides("Ada").shows("none yet");
}

#[tokio::test]
async fn an_unknown_id_is_not_adopted() {
    let browser = open().await;
    let planted = "A".repeat(43);
    browser.set_cookie("quickstart", &planted);
    let page = browser.get("/").await;
    page.shows("none yet");
    assert!(!page.sets_a_cookie());
    browser.submit("/count", &[]).await.shows("Counted: 1.");
    let given = browser.cookie().unwrap();
    assert_ne!(given, planted);
}

#[tokio::test]
async fn what_visitors_type_is_escaped() {
    let browser = open().await;
    let script = "<script>alert('\"&')</script>";
    for (path, field) in [("/login", "name"), ("/cart/add", "thing")] {
        let page = browser.submit(path, &[(field, script)]).await;
        page.hides("<script").shows("&lt;script&gt;");
    }
    browser.get("/").await.hides("<script").hides("value=\"<");
}

#[tokio::test]
async fn a_thing_is_taken_out_again_by_its_name() {
    let browser = open().await;
    for thing in ["hat", "\"odd\" & <even>", "hat"] {
        browser.submit("/cart/add", &[("thing", thing)]).await;
    }
    let page = browser.submit("/cart/remove", &[("thing", "\"odd\" & <even>")]).await;
    page.hides("<span>&quot;odd");
    assert_eq!(page.body.matches("<span>hat</span>").count(), 2);
    let page = browser.submit("/cart/remove", &[("thing", "hat")]).await;
    assert_eq!(page.body.matches("<span>hat</span>").count(), 1);
}

#[tokio::test]
async fn a_name_that_is_empty_or_too_long_is_refused_in_words() {
    let browser = open().await;
    for name in ["", "   ", &"x".repeat(41)] {
        let page = browser.submit("/login", &[("name", name)]).await;
        page.shows("A name has 1 to 40 characters.").shows("Who are you?");
    }
    browser.submit("/login", &[("name", &"ä".repeat(40))]).await.shows("Hello");
}

#[tokio::test]
async fn other_sessions_of_the_user_can_be_ended() {
    let here = open().await;
    let there = here.another();
    let stranger = here.another();
    here.submit("/login", &[("name", "Ada")]).await;
    there.submit("/login", &[("name", "Ada")]).await;
    stranger.submit("/login", &[("name", "Bob")]).await;

    here.submit("/others/end", &[]).await.shows("Ended your one other session.").shows("Ada");
    there.get("/").await.shows("Who are you?");
    stranger.get("/").await.shows("Bob");
    here.submit("/others/end", &[]).await.shows("You have no other sessions.");
}

#[tokio::test]
async fn without_a_login_there_are_no_others_to_end() {
    let browser = open().await;
    browser.submit("/others/end", &[]).await.shows("Log in first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_32_tabs_at_once_none_loses_anything() {
    let browser = open().await;
    browser.submit("/login", &[("name", "Ada")]).await;
    let tabs: Vec<_> = (0..32)
        .map(|tab| {
            let browser = browser.clone();
            tokio::spawn(async move {
                browser.post("/cart/add", &[("thing", &format!("thing {tab}."))]).await.status
            })
        })
        .collect();
    for tab in tabs {
        assert_eq!(tab.await.unwrap(), StatusCode::SEE_OTHER);
    }

    let page = browser.get("/").await;
    let mut counts = BTreeSet::new();
    for tab in 0..32 {
        page.shows(&format!("<span>thing {tab}.</span>"));
        let (_, rest) =
            page.body.split_once(&format!("Took in: thing {tab}.. Counted: ")).expect("a note for each");
        counts.insert(rest.split('.').next().unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(counts, (1..=32).collect(), "32 different answers, none left out");
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let browser = open().await;
    for (from, status) in [
        ("cross-site", StatusCode::FORBIDDEN),
        ("same-site", StatusCode::FORBIDDEN),
        ("same-origin", StatusCode::SEE_OTHER),
        ("none", StatusCode::SEE_OTHER),
    ] {
        let request = browser.request(Method::POST, "/count").header("sec-fetch-site", from);
        let answer = browser.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{from}");
    }
    let request = browser.request(Method::GET, "/").header("sec-fetch-site", "cross-site");
    let answer = browser.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "a link from elsewhere works");
}

#[tokio::test]
async fn the_cookie_is_hidden_from_scripts_and_from_other_sites_posts() {
    let browser = open().await;
    let answer = browser.post("/count", &[]).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    assert!(!cookie.contains("Secure"), "plain http");
}

#[tokio::test]
async fn every_answer_forbids_scripts_and_caching() {
    let browser = open().await;
    for path in ["/", "/style.css", "/icon.svg", "/nowhere"] {
        let answer = browser.get(path).await;
        assert!(
            answer.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"),
            "{path}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!answer.body.contains("<script"), "{path}");
    }
}

#[tokio::test]
async fn an_error_has_a_page() {
    let browser = open().await;
    let lost = browser.get("/nowhere").await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    lost.shows("There is nothing here").shows("Back to the page");
    let odd = browser.post("/cart/add", &[("something", "else")]).await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
    odd.shows("That did not work");
}

#[tokio::test]
async fn a_request_with_the_id_from_before_a_login_changes_nothing() {
    let browser = open().await;
    browser.submit("/count", &[]).await;
    let late = browser.another();
    late.set_cookie("quickstart", &browser.cookie().unwrap());
    browser.submit("/login", &[("name", "Ada")]).await;
    let answer = late.post("/count", &[]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    answer.shows("Your session ended meanwhile");
    assert!(!answer.sets_a_cookie());
    browser.submit("/count", &[]).await.shows("Counted: 2.");
}
