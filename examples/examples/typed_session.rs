//! Learn to read and write the session as a struct of your own, with `Data<T>`.

use axum::{Router, extract::Path, routing::get};
use cloakroom::{Data, MemoryStore, Result, SessionLayer};
use cloakroom_examples::{Failure, serve};
use serde::{Deserialize, Serialize};

/// Each field is one key of the session. A field that is not stored yet is as `Default` says.
#[derive(Default, Deserialize, Serialize)]
struct Visit {
    views: u64,
    theme: Theme,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Theme {
    #[default]
    Light,
    Dark,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve(app()?).await
}

/// The layer is the same as without `Data`.
pub(crate) fn app() -> Result<Router> {
    let sessions = SessionLayer::new(MemoryStore::new()).insecure().build()?;
    Ok(Router::new().route("/", get(view)).route("/theme/{theme}", get(choose)).layer(sessions))
}

/// `update` is for what depends on the value before: it runs again on what a parallel request stored.
async fn view(visit: Data<Visit>) -> Result<String> {
    visit.update(|visit| visit.views += 1)?;
    let now = visit.read();
    Ok(format!("{} views, {:?}", now.views, now.theme))
}

/// `write` is for plain assignment: the last one to write a field wins, and other fields are left alone.
async fn choose(visit: Data<Visit>, Path(theme): Path<Theme>) -> Result<String> {
    visit.write()?.theme = theme;
    Ok(format!("{:?} from now on", visit.read().theme))
}
