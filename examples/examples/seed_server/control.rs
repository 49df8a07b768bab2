//! `/__ctl`: what the scenarios do to a store from outside, and what they look at. It goes around the session layer.
//!
//! | `op` | does |
//! |---|---|
//! | `connect`, `disconnect` | what the store says of its connection |
//! | `fail&method=get,set&msg=text` | lets these operations fail, with that message |
//! | `heal` | ends that |
//! | `clear` | drops every row |
//! | `put&key=k&value=text` | puts a row there, for a day |
//! | `dump` | answers `{rows: {key: {value, raw, ttl}}, log: [[operation, key]]}`, the log since the last dump |

use std::collections::HashMap;

use axum::{
    Json,
    extract::Query,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};

use super::{answer::Fault, bench::Bench};

pub(crate) async fn operate(bench: &Bench, uri: &Uri) -> Result<Response, Fault> {
    let Ok(Query(query)) = Query::<HashMap<String, String>>::try_from_uri(uri) else {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    };
    let argument = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    match argument("op") {
        "connect" => bench.connect(),
        "disconnect" => bench.disconnect(),
        "fail" => argument("method").split(',').for_each(|method| bench.fail(method, argument("msg"))),
        "heal" => bench.heal(),
        "clear" => bench.clear().await?,
        "put" => bench.put(argument("key"), argument("value")).await?,
        "dump" => return Ok(Json(bench.dump().await?).into_response()),
        _ => return Ok((StatusCode::BAD_REQUEST, "no such op").into_response()),
    }
    Ok("ok".into_response())
}
