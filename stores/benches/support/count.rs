//! Counts the allocations of a request. The program must have `dhat::Alloc` as its allocator and a profiler running.

use super::{Row, Visitor, apps::Peer, block_on};

/// Returns how many allocations one request makes once everything is warm: the median of many requests, since now
/// and then a table of the store grows.
pub(crate) fn allocations(peer: Peer, row: Row) -> u64 {
    block_on(async {
        let mut visitor = Visitor::new(peer, row).await;
        visitor.visits(50).await;
        let mut counts = Vec::with_capacity(101);
        for _ in 0..counts.capacity() {
            let before = dhat::HeapStats::get().total_blocks;
            drop(visitor.visit().await);
            counts.push(dhat::HeapStats::get().total_blocks - before);
        }
        counts.sort_unstable();
        counts[counts.len() / 2]
    })
}
