//! The one server of a description that all cases of a process share, or all processes of a run.

use std::{collections::HashMap, env, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    failure::{Failure, Verdict},
    server::{
        Server,
        kind::Kind,
        probe::Product,
        running::{Inner, Running, Sharing},
        start,
    },
};

type Slot = Arc<OnceCell<Running>>;

/// Never emptied: what is in it ends with the process.
static SHARED: Mutex<Option<HashMap<String, Slot>>> = Mutex::new(None);

/// Returns the shared server, starting it for the first who asks.
pub(crate) async fn get(server: &Server) -> Verdict<Running> {
    let slot = Arc::clone(SHARED.lock().get_or_insert_default().entry(identity(server)).or_default());
    slot.get_or_try_init(|| find(server)).await.cloned()
}

/// What makes two descriptions the same server.
fn identity(server: &Server) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        server.kind,
        server.arguments,
        server.files,
        server.image,
        server.scheme,
        server.program,
        server.url,
        server.is_private
    )
}

async fn find(server: &Server) -> Verdict<Running> {
    if let Some(running) = handed_over(server)? {
        return Ok(running);
    }
    start::check_environment(server)?;
    if let Some(url) = start::from_environment(server) {
        let running = start::by_address(server, url, Sharing::Shared).await?;
        start::say(server.kind, &running);
        return Ok(running);
    }
    Ok(start::own(server).await?.into_shared())
}

/// The variable, and what to set it to, by which a child of this process finds `running`.
pub(crate) fn hand_over(kind: Kind, running: &Running) -> (String, String) {
    let value = json!({
        "url": running.url(),
        "way": running.way(),
        "product": running.product(),
        "version": running.version(),
    });
    (kind.shared_variable(), value.to_string())
}

fn handed_over(server: &Server) -> Verdict<Option<Running>> {
    let variable = server.kind.shared_variable();
    let Ok(value) = env::var(&variable) else {
        return Ok(None);
    };
    if !server.is_usual() {
        return Ok(None);
    }
    let broken = |seen: String| Failure::new(format!("{variable} is as `with_servers` writes it"), seen);
    let value: Value = serde_json::from_str(&value).map_err(|error| broken(error.to_string()))?;
    let field = |name: &str| value[name].as_str().map(ToOwned::to_owned);
    let (Some(url), Some(way), Some(name)) = (field("url"), field("way"), field("product")) else {
        return Err(broken("a field is missing".into()));
    };
    let product = Product { name, version: field("version").unwrap_or_default() };
    let (kind, nodes, sharing) = (server.kind, Vec::new(), Sharing::Shared);
    Ok(Some(Running::new(Inner { kind, url, way, product, nodes, sharing, is_durable: false })))
}
