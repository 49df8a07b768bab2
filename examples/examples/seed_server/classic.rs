//! The routes of the applications that the ancestor's own tests use: `main`, `defer`, `override` and `rolling`.

use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use cloakroom::{LazySession, Save, Session};
use serde_json::{Value, json};

use super::answer::Answer;

/// `main`: every behaviour but lazy loading.
pub(crate) fn main() -> Router {
    Router::new()
        .route("/favicon.ico", get(StatusCode::NOT_FOUND))
        .route("/session/rewrite", get(async |session: Session| rewrite(&session).map(Json)))
        .route("/session/notuse", get("not touch session"))
        .route("/session/get", get(async |session: Session| count(&session)))
        .route(
            "/session/get_error",
            get(async |session: Session| -> Answer {
                count(&session)?;
                Err("oops".into())
            }),
        )
        .route("/session/nothing", get(async |session: Session| shown(&session)))
        .route("/session/remove", get(async |session: Session| remove(&session).await))
        .route("/session/httponly", get(async |session: Session| http_only(&session)))
        .route("/session/id", get(async |session: Session| id(&session).await))
        .route("/session/regenerate", get(async |session: Session| regenerate(&session).await))
        .route(
            "/session/regenerateWithData",
            get(async |session: Session| regenerate_with_data(&session).await),
        )
        .fallback(async |session: Option<Session>| has(session.is_some()))
}

/// `defer`: the same, with the session loaded by the handler or not at all.
pub(crate) fn defer() -> Router {
    Router::new()
        .route("/favicon.ico", get(StatusCode::NOT_FOUND))
        .route(
            "/session/rewrite",
            get(async |lazy: LazySession| -> Answer<_> { Ok(Json(rewrite(&lazy.load().await?)?)) }),
        )
        .route("/session/notuse", get(async |lazy: LazySession| has(is_loaded(&lazy))))
        .route("/session/get", get(async |lazy: LazySession| -> Answer { count(&lazy.load().await?) }))
        .route(
            "/session/get_error",
            get(async |lazy: LazySession| -> Answer {
                count(&lazy.load().await?)?;
                Err("oops".into())
            }),
        )
        .route("/session/nothing", get(async |lazy: LazySession| -> Answer { shown(&lazy.load().await?) }))
        .route(
            "/session/remove",
            get(async |lazy: LazySession| -> Answer { remove(&lazy.load().await?).await }),
        )
        .route(
            "/session/httponly",
            get(async |lazy: LazySession| -> Answer { http_only(&lazy.load().await?) }),
        )
        .route(
            "/session/regenerate",
            get(async |lazy: LazySession| -> Answer { regenerate(&lazy.load().await?).await }),
        )
        .route(
            "/session/regenerateWithData",
            get(async |lazy: LazySession| regenerate_with_data(&lazy.load().await?).await),
        )
        .fallback(async |lazy: LazySession| has(lazy.in_scope()))
}

/// `override`: the save decision, taken by the handler.
pub(crate) fn overriding() -> Router {
    Router::new()
        .route(
            "/session/{action}",
            get(async |Path(action): Path<String>, session: Session| overridden(&action, "", &session).await),
        )
        .route(
            "/session/{action}/{save}",
            get(async |Path((action, save)): Path<(String, String)>, session: Session| {
                overridden(&action, &save, &session).await
            }),
        )
}

/// `rolling`.
pub(crate) fn rolling() -> Router {
    Router::new()
        .route("/session/get", get(async |session: Session| count(&session)))
        .route("/session/nothing", get(async |session: Session| shown(&session)))
        .route("/session/remove", get(async |session: Session| remove(&session).await))
}

const fn has(session: bool) -> &'static str {
    if session { "has session" } else { "no session" }
}

/// A lazy session tells by its `Debug` whether it has been loaded.
fn is_loaded(lazy: &LazySession) -> bool {
    format!("{lazy:?}") != "Session(not loaded)"
}

fn count(session: &Session) -> Answer {
    Ok(session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1)?.to_string())
}

fn shown(session: &Session) -> Answer {
    Ok(session.get::<u64>("count")?.map(|count| count.to_string()).unwrap_or_default())
}

async fn remove(session: &Session) -> Answer {
    session.destroy().await?;
    Ok("0".to_owned())
}

async fn id(session: &Session) -> Answer {
    Ok(session.ensure_id().await?.expose().to_owned())
}

/// The ancestor's `ctx.session = {foo: 'bar'}`.
fn rewrite(session: &Session) -> Answer<Value> {
    session.clear()?;
    session.insert("foo", "bar")?;
    Ok(super::extra::data(session)?)
}

fn http_only(session: &Session) -> Answer {
    let mut now = true;
    session.cookie(|options| {
        now = options == options.http_only(false);
        options.http_only(now)
    })?;
    Ok(format!("httpOnly: {now}"))
}

async fn regenerate(session: &Session) -> Answer {
    let id = session.regenerate().await?;
    session.insert("data", "foo")?;
    Ok(id.expose().to_owned())
}

async fn regenerate_with_data(session: &Session) -> Answer<Json<Value>> {
    session.insert("foo", "bar")?;
    session.regenerate().await?;
    session.insert("data", "foo")?;
    let kept: Option<String> = session.get("foo")?;
    Ok(Json(
        kept.map_or_else(|| json!({ "hasSession": true }), |kept| json!({ "foo": kept, "hasSession": true })),
    ))
}

async fn overridden(action: &str, save: &str, session: &Session) -> Answer {
    let (decision, shown) = match save {
        "force" => (Save::Always, "true"),
        "prevent" => (Save::Never, "false"),
        _ => (Save::IfChanged, "null"),
    };
    let count = match action {
        "read" if !session.contains("count") => session.update("count", |_: Option<u64>| 0)?,
        "read" => session.get("count")?.unwrap_or(0),
        "update" => session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1)?,
        // In the ancestor `sessionSave` is about removal as well; here who destroys has decided.
        _ => {
            if decision != Save::Never {
                session.destroy().await?;
            }
            return Ok(format!("0, {shown}"));
        }
    };
    session.set_save(decision);
    Ok(format!("{count}, {shown}"))
}
