//! The steps by which the secrets of two sides are rotated, one side at a time.

use crate::{app::App, browser::Browser, pair::logged_in, program::Program};

type Secrets = &'static [&'static str];

/// What Node has and what Rust has. From each step to the next one of them is started anew.
const STEPS: [(Secrets, Secrets); 9] = [
    (&["1st"], &["1st"]),
    (&["1st", "2nd"], &["1st"]),
    (&["1st", "2nd"], &["1st", "2nd"]),
    (&["2nd", "1st"], &["1st", "2nd"]),
    (&["2nd", "1st"], &["2nd", "1st", "3rd"]),
    (&["2nd", "1st", "3rd"], &["2nd", "1st", "3rd"]),
    (&["3rd", "2nd", "1st"], &["2nd", "1st", "3rd"]),
    (&["3rd", "2nd", "1st"], &["3rd", "2nd"]),
    (&["3rd", "2nd"], &["3rd"]),
];

/// Walks through the steps with a browser that logged in on either side, and reads and writes on both sides after each.
///
/// Then what the first secret signed opens nothing, nor what a secret signed that neither side ever had.
pub(crate) async fn nobody_is_logged_out(
    start_node: impl Fn(&[&str]) -> Program,
    start_rust: impl AsyncFn(&[&str]) -> App,
) {
    let (mut node, mut rust) = (None::<(Secrets, Program)>, None::<(Secrets, App)>);
    let (mut browsers, mut first) = (Vec::new(), Vec::new());
    let mut n = 0;
    for step @ (of_node, of_rust) in STEPS {
        if node.as_ref().is_none_or(|(had, _)| *had != of_node) {
            node = Some((of_node, start_node(of_node)));
        }
        if rust.as_ref().is_none_or(|(had, _)| *had != of_rust) {
            rust = Some((of_rust, start_rust(of_rust).await));
        }
        let (node, rust) = (node.as_ref().unwrap().1.site(), rust.as_ref().unwrap().1.site());
        if browsers.is_empty() {
            browsers = vec![logged_in(node).await, logged_in(rust).await];
            first = browsers.iter().map(Browser::copied).collect();
        }
        for site in [node, rust, node] {
            n += 1;
            for browser in &browsers {
                assert_eq!(browser.session(site).await["user"], "ada", "{step:?}");
                assert_eq!(browser.get(site, "/add?k=n").await, n.to_string(), "{step:?}");
            }
        }
    }
    let (node, rust) = (node.unwrap().1, rust.unwrap().1);
    for stranger in first.into_iter().chain([logged_in(start_node(&["another"]).site()).await]) {
        for site in [node.site(), rust.site()] {
            assert_eq!(stranger.copied().session(site).await, serde_json::json!({}));
        }
    }
}
