//! Holds each kind of request to its number of allocations on top of bare axum.
//!
//! One test, since the counts are those of the whole process. The rows and their budgets are in `benches/support`.

#[path = "../benches/support/mod.rs"]
mod support;

use support::{ROWS, SIGNED, apps::Peer, count::allocations};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[test]
fn no_request_allocates_more_than_its_budget() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut over_budget = Vec::new();
    for row in ROWS {
        let bare = allocations(Peer::Bare, row);
        for (peer, budget) in [(Peer::Cloakroom, row.allocations), (Peer::Signed, row.allocations + SIGNED)] {
            let over = allocations(peer, row) - bare;
            println!("{:<24} {:<18} {over:>3} <= {budget}", row.name, peer.name());
            if over > budget {
                over_budget.push(format!("{}, {}: {over} > {budget}", row.name, peer.name()));
            }
        }
    }
    assert!(over_budget.is_empty(), "{over_budget:#?}");
}
