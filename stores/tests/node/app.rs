//! The axum application of the tests, with the pages of `programs/pages.cjs`.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use cloakroom::{Error, Session, SessionLayer};
use serde_json::{Map, Value};
use tokio::{
    net::TcpListener,
    sync::{Barrier, oneshot},
};

type Arguments = Query<HashMap<String, String>>;
type Answer<T> = Result<T, Fault>;

/// An error whose text is the answer, so that a test that fails says why.
pub(crate) struct Fault(Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}

/// An application under way. It ends with this value.
pub(crate) struct App {
    site: String,
    held: Arc<Barrier>,
    stop: Option<oneshot::Sender<()>>,
}

impl App {
    /// Serves the pages behind `layer`.
    pub(crate) async fn start(layer: SessionLayer) -> Self {
        let held = Arc::new(Barrier::new(2));
        let routes = Router::new()
            .route("/login", get(login))
            .route("/get", get(async |session: Session| data(&session).map(Json)))
            .route("/add", get(add))
            .route("/late", get(late))
            .route("/put", get(put))
            .route("/drop", get(drop_one))
            .route(
                "/logout",
                get(async |session: Session| -> Answer<_> { Ok(session.destroy().await.map(|()| "out")?) }),
            )
            .route("/renew", get(renew))
            .with_state(Arc::clone(&held))
            .layer(layer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(
            axum::serve(listener, routes)
                .with_graceful_shutdown(async {
                    let _ = stopped.await;
                })
                .into_future(),
        );
        Self { site, held, stop: Some(stop) }
    }

    pub(crate) fn site(&self) -> &str {
        &self.site
    }

    /// Meets a request to `/late`: first when it has loaded its session, then to let it go on.
    pub(crate) async fn meet(&self) {
        self.held.wait().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

fn argument<'a>(arguments: &'a Arguments, name: &str) -> &'a str {
    arguments.0.get(name).map(String::as_str).unwrap_or_default()
}

fn data(session: &Session) -> Answer<Value> {
    let mut data = Map::new();
    for key in session.keys() {
        data.insert(key.clone(), session.get(&key)?.unwrap_or_default());
    }
    Ok(Value::Object(data))
}

async fn login(arguments: Arguments, session: Session) -> Answer<String> {
    let user = argument(&arguments, "user");
    session.insert("user", user)?;
    Ok(user.to_owned())
}

async fn add(arguments: Arguments, session: Session) -> Answer<String> {
    let n = session.update_now(argument(&arguments, "k"), |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

/// Loads the session, lets the test do something else meanwhile, and then counts.
async fn late(State(held): State<Arc<Barrier>>, arguments: Arguments, session: Session) -> Answer<String> {
    held.wait().await;
    held.wait().await;
    let n = session.update(argument(&arguments, "k"), |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(n.to_string())
}

async fn put(arguments: Arguments, session: Session) -> Answer<&'static str> {
    let value: Value = serde_json::from_str(argument(&arguments, "v")).unwrap();
    session.insert(argument(&arguments, "k"), value)?;
    Ok("ok")
}

async fn drop_one(arguments: Arguments, session: Session) -> Answer<&'static str> {
    session.remove(argument(&arguments, "k"))?;
    Ok("ok")
}

async fn renew(arguments: Arguments, session: Session) -> Answer<&'static str> {
    session.regenerate().await?;
    session.insert("user", argument(&arguments, "user"))?;
    Ok("new")
}
