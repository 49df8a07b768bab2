//! The ancestor's test server, on Cloakroom: twelve applications behind one port, and switches for their stores.
//!
//! This is a test bed and no lesson, so it is longer than the lessons are. The header `X-App` chooses the application;
//! each has a store of its own, with cookies and rows in the format of koa-generic-session. `/__ctl` works the
//! switches: see `control`. `PORT=3000 cargo run --example seed_server` starts it.

mod answer;
mod apps;
mod bench;
mod classic;
mod control;
mod extra;
mod forced;
mod header;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cloakroom::Result;
use cloakroom_examples::{Failure, serve};
use tower::ServiceExt;

use self::apps::{App, Apps};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

/// Makes all applications anew, each with an empty store.
pub(crate) fn app() -> Result<Router> {
    Ok(Router::new().fallback(dispatch).with_state(Arc::new(Apps::new()?)))
}

async fn dispatch(State(apps): State<Arc<Apps>>, request: Request) -> Response {
    let name = request.headers().get("x-app").map(|name| name.to_str().unwrap_or_default());
    let name = name.unwrap_or("main").to_owned();
    let Some(App { routes, bench }) = apps.named(&name) else {
        return (StatusCode::NOT_FOUND, "no such application").into_response();
    };
    if request.uri().path() == "/__ctl" {
        return control::operate(bench, request.uri()).await.into_response();
    }
    match forced::routes(&name, bench, &request) {
        Some(Ok(routes)) => call(routes, request).await,
        Some(Err(error)) => answer::error(&error),
        None => call(routes.clone(), forced::present(&name, request)).await,
    }
}

async fn call(routes: Router, request: Request) -> Response {
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
