//! What the browser is sent: the pair of cookies, its attributes, its signature, and its removal.

use crate::visitor::{Answer, SID, SetCookie, TEST_SID, Visitor, ends_in, signature, signed};

fn names(cookie: &SetCookie) -> Vec<&str> {
    cookie.attributes.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_session_is_a_pair_of_cookies_signed_with_the_newest_key() {
    let answer = Visitor::at("plain").get("/inc").await;
    let (id, sig) = (answer.cookie(SID), answer.cookie("koa.sid.sig"));
    assert_eq!(answer.cookies.len(), 2);
    assert!(
        id.value.len() == 32 && id.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
    assert_eq!(sig.value, signature(&format!("{SID}={}", id.value), "keys"));
    for cookie in [id, sig] {
        assert_eq!(names(cookie), ["path", "expires", "httponly"]);
        assert_eq!(cookie.attribute("path"), Some("/"));
        ends_in(cookie, 86_400.0);
    }
}

#[tokio::test]
async fn name_path_and_life_are_the_applications() {
    let answer = Visitor::at("main").get("/session/get").await;
    for name in [TEST_SID.to_owned(), format!("{TEST_SID}.sig")] {
        let cookie = answer.cookie(&name);
        assert_eq!(cookie.attribute("path"), Some("/session"));
        assert!(cookie.attribute("httponly").is_some() && cookie.attribute("secure").is_none());
        ends_in(cookie, 86.4);
    }
}

#[tokio::test]
async fn same_site_and_domain_are_sent_and_taken_back_alike() {
    let mut visitor = Visitor::at("lax");
    for (answer, page) in [(visitor.get("/inc").await, "/inc"), (visitor.get("/remove").await, "/remove")] {
        for name in [SID, "koa.sid.sig"] {
            let cookie = answer.cookie(name);
            assert_eq!(names(cookie), ["path", "expires", "domain", "samesite", "httponly"], "{page}");
            assert_eq!(cookie.attribute("domain"), Some("example.com"));
            assert_eq!(cookie.attribute("samesite").map(str::to_lowercase).as_deref(), Some("lax"));
        }
    }
}

#[tokio::test]
async fn a_cookie_that_ends_with_the_browser_names_no_end() {
    let answer = Visitor::at("browser").get("/inc").await;
    for name in [SID, "koa.sid.sig"] {
        assert_eq!(names(answer.cookie(name)), ["path", "httponly"]);
    }
}

#[tokio::test]
async fn one_visitors_cookie_may_be_shown_to_scripts_and_hidden_again() {
    for app in ["main", "defer"] {
        let mut visitor = Visitor::at(app);
        visitor.get("/session/get").await;
        let shown = |answer: &Answer| answer.cookies.iter().all(|c| c.attribute("httponly").is_none());
        let off = visitor.get("/session/httponly").await;
        assert_eq!((off.body.as_str(), shown(&off)), ("httpOnly: false", true), "{app}");
        assert!(shown(&visitor.get("/session/get").await), "{app}: it is kept with the session");
        let on = visitor.get("/session/httponly").await;
        assert_eq!((on.body.as_str(), shown(&on)), ("httpOnly: true", false), "{app}");
        assert!(!shown(&visitor.another().get("/session/get").await));
    }
}

#[tokio::test]
async fn one_visitors_session_may_live_shorter_and_cookie_and_row_agree() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    ends_in(visitor.get("/maxage?v=60000").await.cookie(SID), 60.0);
    let (_, row) = visitor.only_row().await;
    assert_eq!((&row["ttl"], &row["value"]["cookie"]["maxAge"]), (&60_000.into(), &60_000.into()));
    ends_in(visitor.get("/inc").await.cookie(SID), 60.0);
}

#[tokio::test]
async fn one_visitors_cookie_may_end_with_the_browser() {
    let mut visitor = Visitor::at("plain");
    visitor.get("/inc").await;
    assert_eq!(visitor.get("/maxage?v=null").await.cookie(SID).attribute("expires"), None);
    assert_eq!(visitor.get("/inc").await.cookie(SID).attribute("expires"), None);
}

#[tokio::test]
async fn an_older_key_is_good_and_its_signature_is_made_anew() {
    let mut visitor = Visitor::at("main");
    let id = visitor.get("/session/get").await.cookie(TEST_SID).value.clone();
    let old = signed(TEST_SID, &id, "keykeys");
    let answer = visitor.send("/session/nothing", &[("cookie", &old)]).await;
    assert_eq!(answer.body, "1");
    let sig = answer.cookie(&format!("{TEST_SID}.sig"));
    assert_eq!(sig.value, signature(&format!("{TEST_SID}={id}"), "keys"));
}

#[tokio::test]
async fn a_wrong_signature_is_taken_back_and_the_store_is_not_asked() {
    let mut visitor = Visitor::at("main");
    let id = visitor.get("/session/get").await.cookie(TEST_SID).value.clone();
    visitor.log().await;
    for key in ["another", ""] {
        let cookies = signed(TEST_SID, &id, key);
        let answer = visitor.send("/session/notuse", &[("cookie", &cookies)]).await;
        assert!(answer.cookie(&format!("{TEST_SID}.sig")).is_removal());
    }
    assert!(visitor.log().await.is_empty());
}

#[tokio::test]
async fn an_id_without_its_signature_is_nobodys_and_is_not_answered() {
    let mut visitor = Visitor::at("plain");
    let id = visitor.get("/inc").await.cookie(SID).value.clone();
    visitor.log().await;
    visitor.send("/get", &[("cookie", &format!("{SID}={id}"))]).await.ok().sets_nothing();
    assert!(visitor.log().await.is_empty());
}

#[tokio::test]
async fn the_pair_is_found_among_other_cookies_in_any_order() {
    let mut visitor = Visitor::at("plain");
    let id = visitor.get("/inc").await.cookie(SID).value.clone();
    let sig = signature(&format!("{SID}={id}"), "keys");
    for cookies in [
        format!("a=b; {SID}.sig={sig};{SID}={id}; z=1"),
        format!("{SID}={id}; {SID}=zzz; {SID}.sig={sig}; {SID}.sig=zzz"),
        format!("{SID}=\"{id}\"; {SID}.sig={sig}"),
    ] {
        let answer = visitor.send("/get", &[("cookie", &cookies)]).await;
        assert_eq!(answer.json()["session"]["n"], 1, "{cookies}");
    }
    for cookies in
        [format!("x{SID}={id}; x{SID}.sig={sig}"), "koa.sid=s:dsfdss.PjOnUyhFG5bk; path=/".to_owned()]
    {
        let answer = visitor.send("/get", &[("cookie", &cookies)]).await;
        assert!(answer.json()["session"].get("n").is_none(), "{cookies}");
    }
}
