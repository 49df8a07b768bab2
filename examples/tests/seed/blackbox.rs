//! The scenarios of `blackbox.mjs`, whose client is Node, against the server on a real port.

use std::{net::Ipv4Addr, process::Stdio};

use tokio::{net::TcpListener, process::Command};

use crate::seed_server;

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seed/blackbox.mjs");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_passes_for_a_client_in_node() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, seed_server::app().unwrap()).into_future());
    let node = Command::new("node")
        .arg(SCENARIOS)
        .env("BASE_URL", base)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("this test needs Node 20 or later: `apt-get install nodejs`, or see https://nodejs.org");
    let (said, wrong) = (String::from_utf8_lossy(&node.stdout), String::from_utf8_lossy(&node.stderr));
    assert_eq!(node.status.code(), Some(0), "{said}{wrong}");
    assert!(said.trim_end().ends_with(" rules kept, 0 broken"), "{said}{wrong}");
}
