//! How a test takes a store's backend away and brings it back.

use std::sync::Arc;

use cloakroom_core::{Store, async_trait};

use crate::{fault_proxy::FaultProxy, switch::Switch};

/// Takes the backend of one case away and brings it back: what the cases of the group `status` break connections with.
///
/// It breaks the backend of the [`Env`](crate::Env) it was made for, and of no other: cases run in parallel. So a case
/// needs a backend that is its own: a server on a free port, or a proxy before a shared one, kept in the `Env` with
/// [`Env::shared`](crate::Env::shared) by whichever of `open` and `outage` is called first.
///
/// For a server, `begin` stops it and `end` starts it again at the same address:
///
/// ```
/// # use cloakroom_conformance::Outage;
/// # struct Server;
/// # impl Server { async fn stop(&self) {} async fn start(&self) {} async fn answers(&self) -> bool { true } }
/// #[cloakroom_core::async_trait]
/// impl Outage for Server {
///     async fn begin(&self) {
///         self.stop().await;                 // and wait for the process to end
///     }
///     async fn end(&self) {
///         self.start().await;
///         while !self.answers().await {}     // a connection of the test's own, not the store's
///     }
///     fn keeps_data(&self) -> bool {
///         false                              // this one has nothing on disk
///     }
/// }
/// ```
///
/// A panic in any of the methods fails the case: say in it what could not be done. Cases begin and end outages in
/// turn, at most fifty times each, and may be dropped between the two when they fail.
#[async_trait]
pub trait Outage: Send + Sync + 'static {
    /// Begins an outage. Returns when the backend no longer answers: what is called from now on fails.
    async fn begin(&self);

    /// Ends the outage. Returns when the backend can answer again, whether or not the store has noticed.
    async fn end(&self);

    /// Returns whether what was stored before an outage is there after it. If not, it must be absent, not damaged.
    fn keeps_data(&self) -> bool {
        true
    }
}

/// Disconnects and connects it.
#[async_trait]
impl<S: Store> Outage for Switch<S> {
    async fn begin(&self) {
        self.disconnect();
    }

    async fn end(&self) {
        self.connect();
    }
}

/// Refuses every connection and heals.
#[async_trait]
impl Outage for FaultProxy {
    async fn begin(&self) {
        self.refuse().await;
    }

    async fn end(&self) {
        self.heal().await;
    }
}

#[async_trait]
impl<O: Outage + ?Sized> Outage for Arc<O> {
    async fn begin(&self) {
        (**self).begin().await;
    }

    async fn end(&self) {
        (**self).end().await;
    }

    fn keeps_data(&self) -> bool {
        (**self).keeps_data()
    }
}
