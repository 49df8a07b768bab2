//! Counts the allocations of each kind of request on top of bare axum, beside tower-sessions.
//!
//! `cargo bench -p cloakroom --features axum --bench allocations`. The counts are exact. `tests/allocations.rs` holds
//! ours to their budgets with every run of the tests.
#![allow(clippy::unwrap_used, clippy::panic)] // A bench that cannot run says why and stops.

mod support;

use support::{
    ROWS, SIGNED, Work,
    apps::Peer,
    count::allocations,
    table::{head, line, verdict},
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const HEADINGS: [&str; 6] =
    ["request", "bare axum", "Cloakroom", "budget", "signed cookie", "tower-sessions"];

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    println!("Allocations a request; all but the first column on top of bare axum.\n");
    head(&HEADINGS);
    for row in ROWS {
        let bare = allocations(Peer::Bare, row);
        let over = |peer| allocations(peer, row) - bare;
        let (plain, signed) = (over(Peer::Cloakroom), over(Peer::Signed));
        let signed_fits = signed <= row.allocations + SIGNED;
        line(
            &HEADINGS,
            &[
                row.name.to_owned(),
                bare.to_string(),
                plain.to_string(),
                format!("<= {} {}", row.allocations, verdict(plain <= row.allocations)),
                format!("{signed} {}", verdict(signed_fits)),
                over(Peer::TowerSessions).to_string(),
            ],
        );
    }
    let strings = 2 * (support::Size::Large.keys() - 1);
    println!(
        "\nA signed cookie may add {SIGNED}. `{:?}` at 4 KiB includes {strings} strings of the handler's own.",
        Work::Create
    );
}
