//! The twelve applications: what each configures otherwise than the ancestor's defaults, and its routes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Router, response::Response};
use cloakroom::{Error, Expiry, Koa, OwnedHead, Profile, Result, SameSite, Session, SessionLayer};
use tokio::task::yield_now;

use super::{answer::on_error, bench::Bench, classic, extra, forced::query, header::InHeader};

/// The secrets of every application: the newest first.
pub(crate) const KEYS: [&str; 2] = ["keys", "keykeys"];

/// How long cookies live unless an application says otherwise.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The cookie's name in the applications of the ancestor's own tests.
pub(crate) const TEST_COOKIE: &str = "koss:test_sid";

/// How long cookies live in those.
const COOKIE: Duration = Duration::from_millis(86_400);

/// How long rows live in those that set it.
const ROW: Duration = Duration::from_millis(1000);

/// How long requests wait for the store in those.
const WINDOW: Duration = Duration::from_millis(100);

/// A layer's builder, as every application begins with it.
pub(crate) type Builder = cloakroom::Builder<SessionLayer>;

/// A layer that answers errors with their message.
type Layer = SessionLayer<fn(&Error, &OwnedHead) -> Response>;

/// One application and its store.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) routes: Router,
    pub(crate) bench: Bench,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Apps(BTreeMap<&'static str, App>);

impl Apps {
    pub(crate) fn new() -> Result<Self> {
        let mut apps = BTreeMap::new();
        for name in NAMES {
            let bench = Bench::new();
            let routes = routes(name, configured(name, &bench)?.build()?);
            apps.insert(name, App { routes, bench });
        }
        Ok(Self(apps))
    }

    pub(crate) fn named(&self, name: &str) -> Option<&App> {
        self.0.get(name)
    }
}

const NAMES: [&str; 12] = [
    "main",
    "defer",
    "override",
    "rolling",
    "plain",
    "empty",
    "browser",
    "lax",
    "ttlfn",
    "handled",
    "slowstore",
    "header",
];

/// Configures the application of that name.
///
/// # Errors
/// None but those of a wrong configuration.
pub(crate) fn configured(name: &str, bench: &Bench) -> Result<Builder> {
    let plain = || SessionLayer::new(bench.clone()).profile(Profile::koa(KEYS));
    let cookie = || Profile::koa(KEYS).default_cookie();
    let tested = |koa: Koa| {
        let cookie = cookie().name(TEST_COOKIE).path("/session");
        SessionLayer::new(bench.clone()).profile(koa.into()).cookie(cookie).reconnect_timeout(WINDOW)
    };
    let short = || {
        let koa = Koa::new(KEYS).prefix("koss:test").max_age(COOKIE);
        tested(koa).expiry(Expiry::idle(ROW))
    };
    Ok(match name {
        "main" => short().validate(valid).before_save(note_the_path),
        "defer" => tested(Koa::new(KEYS)).expiry(Expiry::idle(COOKIE)),
        "rolling" => short().rolling(true),
        "override" => short(),
        "empty" => plain().allow_empty(true),
        "browser" => plain().cookie(cookie().browser_session()),
        "lax" => plain()
            .cookie(cookie().same_site(SameSite::Lax).domain("example.com"))
            .expiry(Expiry::idle(Duration::from_secs(3600))),
        // A function for the row: the cookie has a time of its own, as there, and the rows say that one.
        "ttlfn" => plain().profile(Koa::new(KEYS).max_age(DAY).into()).idle_by(|session| {
            let seconds = session.get::<u64>("n").ok().flatten()?;
            Some(Duration::from_secs(seconds))
        }),
        "handled" => plain().recover(async |_, _| Ok(())),
        "slowstore" => plain().reconnect_timeout(Duration::from_millis(200)),
        "header" => plain().transport(InHeader),
        _ => plain(),
    })
}

/// Puts the application's routes behind its layer.
pub(crate) fn routes(name: &str, layer: SessionLayer) -> Router {
    let layer: Layer = layer.on_error(on_error);
    match name {
        // The ancestor's server mounts its middleware twice here, to show that the second one steps back.
        "main" => classic::main().layer(layer.clone().eager()).layer(layer.eager()),
        "defer" => classic::defer().layer(layer.clone()).layer(layer),
        "override" => classic::overriding().layer(layer.eager()),
        "rolling" => classic::rolling().layer(layer.eager()),
        _ => extra::routes().layer(layer.eager()),
    }
}

/// The ancestor's `valid` in `main`: whatever the query says. It waits before it does: there, that was always a yes.
async fn valid(head: Arc<OwnedHead>, _: Session) -> Result<bool> {
    yield_now().await;
    Ok(query(&head.uri, "valid").as_deref() != Some("false"))
}

/// The ancestor's `beforeSave` in `main`. It waits as well: there, what came later was lost.
async fn note_the_path(head: Arc<OwnedHead>, session: Session) -> Result<()> {
    yield_now().await;
    session.insert("path", head.uri.path())
}
