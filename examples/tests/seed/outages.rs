//! What requests get while the store is away, and that each outage has the whole of its window.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::visitor::{SID, TEST_SID, Visitor};

const UNAVAILABLE: &str = "session store is unavailable";

/// How long a request took, by the clock of the test, which stands still unless everybody waits.
async fn timed<T>(request: impl Future<Output = T>) -> (T, u128) {
    let start = Instant::now();
    let answer = request.await;
    (answer, start.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_store_until_the_window_ends() {
    let mut visitor = Visitor::at("main");
    visitor.switch("disconnect").await;
    let (answer, took) = timed(visitor.get("/session/get")).await;
    answer.fails(UNAVAILABLE);
    assert!((100..150).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_as_soon_as_the_store_is_back() {
    let mut visitor = Visitor::at("main");
    visitor.switch("disconnect").await;
    let other = visitor.clone();
    let (answer, ()) = tokio::join!(timed(visitor.get("/session/get")), async {
        sleep(Duration::from_millis(30)).await;
        other.switch("connect").await;
    });
    assert_eq!((answer.0.ok().body.as_str(), answer.1), ("1", 30));
}

#[tokio::test(start_paused = true)]
async fn after_the_window_requests_fail_at_once_until_the_store_is_back() {
    let mut visitor = Visitor::at("main");
    visitor.get("/session/get").await;
    visitor.switch("disconnect").await;
    sleep(Duration::from_millis(101)).await;
    let (answer, took) = timed(visitor.get("/session/get")).await;
    answer.sets_nothing().fails(UNAVAILABLE);
    assert_eq!(took, 0);
    visitor.switch("connect").await;
    assert_eq!(visitor.get("/session/get").await.body, "2");
}

#[tokio::test(start_paused = true)]
async fn another_word_of_the_same_outage_does_not_stretch_the_window() {
    let mut visitor = Visitor::at("slowstore");
    visitor.switch("disconnect").await;
    sleep(Duration::from_millis(150)).await;
    visitor.switch("disconnect").await;
    let (answer, took) = timed(visitor.get("/inc")).await;
    answer.fails(UNAVAILABLE);
    assert_eq!(took, 50);
}

#[tokio::test(start_paused = true)]
async fn a_visitor_without_a_cookie_waits_too() {
    let mut visitor = Visitor::at("slowstore");
    visitor.switch("disconnect").await;
    let (answer, took) = timed(visitor.get("/get")).await;
    answer.fails(UNAVAILABLE);
    assert_eq!(took, 200);
}

#[tokio::test(start_paused = true)]
async fn outside_the_path_and_with_an_untouched_lazy_session_nobody_notices() {
    for (app, path) in [("main", "/wrongpath"), ("defer", "/session/notuse"), ("defer", "/session")] {
        let mut visitor = Visitor::at(app);
        visitor.switch("disconnect").await;
        let (answer, took) = timed(visitor.get(path)).await;
        answer.ok();
        assert_eq!(took, 0, "{app} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lazy_session_waits_when_it_is_taken() {
    let mut visitor = Visitor::at("defer");
    visitor.switch("disconnect").await;
    let (answer, took) = timed(visitor.get("/session/get")).await;
    answer.fails(UNAVAILABLE);
    assert_eq!(took, 100);
}

#[tokio::test]
async fn an_error_of_the_store_is_an_error_and_never_no_session() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    let id = visitor.jar[SID].clone();
    visitor.switch("fail&method=get&msg=boom").await;
    visitor.get("/get").await.sets_nothing().fails("boom");
    visitor.get("/inc").await.sets_nothing().fails("boom");
    visitor.switch("heal").await;
    assert_eq!(visitor.get("/inc").await.body, "2");
    assert_eq!(visitor.jar[SID], id);
}

/// The ancestor's save goes straight to the client. Here it waits like a load, since the handler was told that its write is
/// taken.
#[tokio::test(start_paused = true)]
async fn an_outage_between_load_and_save_is_waited_for_at_the_save() {
    for (back, expected) in [(Some(90), 200), (None, 500)] {
        let mut visitor = Visitor::at("slowstore");
        visitor.get("/inc").await;
        let other = visitor.clone();
        let (answer, ()) = tokio::join!(timed(visitor.get("/slowset?ms=50&k=late&v=1")), async {
            sleep(Duration::from_millis(20)).await;
            other.switch("disconnect").await;
            if let Some(after) = back {
                sleep(Duration::from_millis(after)).await;
                other.switch("connect").await;
            }
        });
        let (answer, took) = answer;
        assert_eq!(answer.status, expected, "{}", answer.body);
        // From the beginning of the outage: its return, or the end of its window.
        assert_eq!(took, 20 + u128::from(back.unwrap_or(200_u64)));
        if back.is_none() {
            answer.sets_nothing().fails(UNAVAILABLE);
            visitor.switch("connect").await;
        }
        let session = visitor.get("/get").await.json()["session"].clone();
        assert_eq!(session.get("late").is_some(), back.is_some());
        assert_eq!(session["n"], 1, "and the session is what it was");
    }
}

#[tokio::test]
async fn a_handlers_own_error_wins_whether_its_session_was_saved_or_not() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get_error").await.fails("oops");
        assert!(visitor.jar.contains_key(TEST_SID), "{app}");
        visitor.switch("fail&method=set&msg=boom").await;
        visitor.get("/session/get_error").await.sets_nothing().fails("oops");
        visitor.switch("heal").await;
        assert_eq!(visitor.get("/session/get").await.body, "2", "{app}");
    }
}
