//! The routes of the applications that show one option each.

use std::{collections::HashMap, time::Duration};

use axum::{Json, Router, extract::Query, routing::get};
use cloakroom::{Result, Save, Session, SessionId};
use serde_json::{Map, Value, json};

use super::answer::Answer;

type Arguments = Query<HashMap<String, String>>;

/// `plain`, `empty`, `browser`, `lax`, `ttlfn`, `handled`, `slowstore` and `header`.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/get", get(show))
        .route("/inc", get(async |session: Session| increment(&session).map(|n| n.to_string())))
        .route("/set", get(set))
        .route("/slowset", get(slow_set))
        .route("/remove", get(async |session: Session| -> Answer<_> { Ok(session.destroy().await?) }))
        .route("/replace", get(replace))
        .route("/maxage", get(max_age))
        .route("/regenerate", get(regenerate))
        .route("/save", get(save))
        .route("/force", get(async |session: Session| session.set_save(Save::Always)))
        .route("/prevent", get(prevent))
        .route("/unset-write", get(unset_write))
        .fallback("none")
}

/// Returns the data of a session.
pub(crate) fn data(session: &Session) -> Result<Value> {
    let pairs =
        session.keys().into_iter().map(|key| Ok((key.clone(), session.get(&key)?.unwrap_or_default())));
    pairs.collect::<Result<Map<String, Value>>>().map(Value::Object)
}

async fn show(session: Session) -> Answer<Json<Value>> {
    // A session that may not be written has no id to show.
    let id = if session.writable().is_ok() { Some(session.ensure_id().await?) } else { None };
    let id = id.as_ref().map(SessionId::expose);
    Ok(Json(json!({ "id": id, "session": data(&session)? })))
}

fn increment(session: &Session) -> Answer<u64> {
    Ok(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?)
}

async fn set(Query(arguments): Arguments, session: Session) -> Answer<()> {
    put(&arguments, &session)
}

/// Has loaded the session before it sleeps: every application but `defer` loads it before its handler runs.
async fn slow_set(Query(arguments): Arguments, session: Session) -> Answer<()> {
    let ms = arguments.get("ms").and_then(|ms| ms.parse().ok()).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(ms)).await;
    put(&arguments, &session)
}

fn put(arguments: &HashMap<String, String>, session: &Session) -> Answer<()> {
    match (arguments.get("k"), arguments.get("v")) {
        (Some(key), Some(value)) => Ok(session.insert(key, value)?),
        _ => Err("k and v are missing".into()),
    }
}

async fn replace(session: Session) -> Answer<()> {
    session.clear()?;
    Ok(session.insert("replaced", true)?)
}

/// The ancestor's `ctx.session.cookie.maxAge = ..`.
async fn max_age(Query(arguments): Arguments, session: Session) -> Answer<()> {
    match arguments.get("v").map(String::as_str) {
        Some("null") => session.cookie(|options| options.browser_session(true))?,
        Some(ms) => session.set_ttl(Duration::from_millis(ms.parse().map_err(|_| "v is no number")?))?,
        None => return Err("v is missing".into()),
    }
    Ok(())
}

async fn regenerate(Query(arguments): Arguments, session: Session) -> Answer {
    let n: Option<u64> = session.get("n")?;
    let id = session.regenerate().await?;
    if arguments.contains_key("same") {
        session.insert("n", n)?;
    } else if !arguments.contains_key("empty") {
        session.insert("fresh", 1)?;
    }
    Ok(id.expose().to_owned())
}

async fn save(session: Session) -> Answer<Json<Value>> {
    increment(&session)?;
    let before = session.ensure_id().await?;
    session.save().await?;
    let after = session.ensure_id().await?;
    Ok(Json(json!({ "before": before.expose(), "after": after.expose() })))
}

async fn prevent(session: Session) -> Answer<()> {
    session.insert("n", 99)?;
    session.set_save(Save::Never);
    Ok(())
}

/// The ancestor's `ctx.session = null`, and then a new one.
async fn unset_write(session: Session) -> Answer<()> {
    session.destroy().await?;
    Ok(session.insert("again", true)?)
}
