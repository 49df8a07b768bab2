//! The quickstart's routes and handlers: log in, count, fill a cart, log out.

use std::time::Duration;

use axum::{
    Router,
    extract::{Form, Query, Request},
    http::{
        HeaderName, StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{Next, from_fn, map_response},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use cloakroom::{CookieConfig, Expiry, Result, Session, SessionId, SessionLayer, Store};
use serde::Deserialize;

mod page;

/// Says, for each request of a modern browser, which site's page made it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The page loads its own style sheet and icon, and posts its forms to itself. It has no scripts at all.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The longest name of a visitor and of a thing in the cart, in characters.
const MAX_TEXT: usize = 40;

/// The most things in a cart, and the most notes that wait to be shown.
const MAX_LIST: usize = 50;

/// Configures the quickstart's sessions over `store`.
///
/// # Errors
/// [`ErrorKind::Config`](cloakroom::ErrorKind::Config) for a mistake in the configuration.
pub fn sessions(store: impl Store) -> Result<SessionLayer> {
    SessionLayer::new(store)
        // Cookies know no ports: a name of our own keeps the session apart from other programs on this machine.
        .cookie(CookieConfig::new().name("__Host-quickstart"))
        // Over plain http, which this is, some browsers and tools drop a cookie that is `Secure`. It never leaves
        // this machine, so nobody can listen. Leave this line out wherever anybody else can come by.
        .insecure()
        .expiry(Expiry::idle(Duration::from_secs(30 * 60)).absolute(Duration::from_secs(12 * 60 * 60)))
        .build()
}

/// Builds the app.
pub fn app(sessions: SessionLayer) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/others/end", post(end_others))
        .route("/count", post(count))
        .route("/cart/add", post(add))
        .route("/cart/remove", post(remove))
        .layer(sessions)
        // Outside the layer: these have no session.
        .route("/style.css", get(style))
        .route("/icon.svg", get(icon))
        .layer(from_fn(own_site_only))
        .layer(map_response(explain))
        .layer(map_response(protect))
}

#[derive(Deserialize)]
struct Arrival {
    /// Present on the way back from the logout.
    goodbye: Option<String>,
}

/// Shows the page. Reading an empty session stores nothing and sends no cookie.
async fn show(session: Session, Query(arrival): Query<Arrival>) -> Result<Response> {
    let mut notes: Vec<String> = session.take("notes")?.unwrap_or_default();
    if arrival.goodbye.is_some() && session.is_new() {
        notes.push("You are logged out. The session is gone, and so is its cookie.".to_owned());
    }
    let page = page::Page {
        name: session.get("name")?,
        count: session.get("count")?.unwrap_or(0),
        cart: session.get("cart")?.unwrap_or_default(),
        notes,
        ticket: page::Ticket::of(&session)?,
    };
    Ok(Html(page.render().into_string()).into_response())
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Logs in: any name will do, there are no passwords here.
async fn log_in(session: Session, Form(login): Form<Login>) -> Result<Redirect> {
    let Some(name) = tidy(&login.name) else {
        note(&session, format!("A name has 1 to {MAX_TEXT} characters."))?;
        return Ok(back());
    };
    let before = session.id();
    // Whoever planted or saw the old id before the login holds nothing after it.
    let after = session.cycle_id().await?;
    session.insert("name", &name)?;
    session.bind_user(&name)?;
    note(
        &session,
        match before {
            Some(before) => format!(
                "Welcome, {name}. Your id changed: ticket {} became {}. Counter and cart came along.",
                number(&before),
                number(&after)
            ),
            None => format!("Welcome, {name}. You got your first ticket: {}.", number(&after)),
        },
    )?;
    Ok(back())
}

/// Logs out. Done when `destroy` returns: no request still under way can bring the session back.
async fn log_out(session: Session) -> Result<Redirect> {
    session.destroy().await?;
    Ok(Redirect::to("/?goodbye"))
}

/// Ends the user's sessions in other browsers. The store finds them by the name given to `bind_user`.
async fn end_others(session: Session) -> Result<Redirect> {
    if session.user().is_none() {
        note(&session, "Log in first: nobody's sessions are known by name.".to_owned())?;
        return Ok(back());
    }
    let ended = session.destroy_others().await?;
    note(
        &session,
        match ended {
            0 => "You have no other sessions. Log in with the same name in a private window and try again."
                .to_owned(),
            1 => "Ended your one other session.".to_owned(),
            _ => format!("Ended your {ended} other sessions."),
        },
    )?;
    Ok(back())
}

/// Counts. `update_now` returns the number that was stored, and no other request is given the same one.
async fn count(session: Session) -> Result<Redirect> {
    let count = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    note(&session, format!("Counted: {count}."))?;
    Ok(back())
}

#[derive(Deserialize)]
struct Thing {
    thing: String,
}

/// Puts a thing into the cart, and counts that as well.
async fn add(session: Session, Form(form): Form<Thing>) -> Result<Redirect> {
    let Some(thing) = tidy(&form.thing) else {
        note(&session, format!("A thing has 1 to {MAX_TEXT} characters."))?;
        return Ok(back());
    };
    let added = thing.clone();
    // Runs again on what another tab stored, if that one came first. So it depends on its argument alone.
    session.update("cart", move |cart: Option<Vec<String>>| {
        let mut cart = cart.unwrap_or_default();
        if cart.len() < MAX_LIST {
            cart.push(added.clone());
        }
        cart
    })?;
    let count = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    note(&session, format!("Took in: {thing}. Counted: {count}."))?;
    Ok(back())
}

/// Takes the first thing of that name out of the cart.
async fn remove(session: Session, Form(form): Form<Thing>) -> Result<Redirect> {
    session.update("cart", move |cart: Option<Vec<String>>| {
        let mut cart = cart.unwrap_or_default();
        if let Some(at) = cart.iter().position(|thing| *thing == form.thing) {
            cart.remove(at);
        }
        cart
    })?;
    Ok(back())
}

/// Leaves a note for the next page. `update`, so that the notes of parallel requests all get there.
fn note(session: &Session, text: String) -> Result<()> {
    session.update("notes", move |notes: Option<Vec<String>>| {
        let mut notes = notes.unwrap_or_default();
        if notes.len() < MAX_LIST {
            notes.push(text.clone());
        }
        notes
    })?;
    Ok(())
}

/// Sends the browser back to the page with a GET (303), so that reloading it repeats nothing.
fn back() -> Redirect {
    Redirect::to("/")
}

/// Returns a ticket's number to show: a short hash that nobody can turn into the id.
fn number(id: &SessionId) -> String {
    format!("#{}", id.key().fingerprint())
}

/// Returns the text without space around it; `None` if it is empty or too long.
fn tidy(text: &str) -> Option<String> {
    let text = text.trim();
    (1..=MAX_TEXT).contains(&text.chars().count()).then(|| text.to_owned())
}

async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("quickstart/style.css"))
}

async fn icon() -> impl IntoResponse {
    ([(CONTENT_TYPE, "image/svg+xml")], include_str!("quickstart/icon.svg"))
}

/// Refuses what pages of other sites post.
///
/// With `SameSite=Lax` such a request comes without our cookie, so it cannot act for anybody who is logged in. It
/// could still log somebody in under a name of its own choice, for which no cookie is needed.
async fn own_site_only(request: Request, next: Next) -> Response {
    let from = request.headers().get(SEC_FETCH_SITE).map(|value| value.as_bytes());
    let foreign = from.is_some_and(|from| from != b"same-origin" && from != b"none");
    if foreign && !request.method().is_safe() {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

/// Gives errors a page: the session's own have an empty body, so that nothing of the inside shows.
async fn explain(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let (kind, body) = Html(page::sorry(status).into_string()).into_response().into_parts();
    parts.headers.extend(kind.headers);
    Response::from_parts(parts, body)
}

/// Adds what protects every answer.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.parse().expect("a header value"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, "nosniff".parse().expect("a header value"));
    // The page shows what its visitor alone may see: no cache keeps it, nor does the way back after a logout.
    headers.insert(CACHE_CONTROL, "no-store".parse().expect("a header value"));
    response
}
