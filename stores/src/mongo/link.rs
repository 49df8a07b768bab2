//! Whether the server can be reached: what operations answer, what the driver's monitoring sees, and a ping while it
//! cannot.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cloakroom_core::{Status, StatusSender, StatusStream};
use mongodb::{
    Database, ServerType,
    bson::doc,
    event::{EventHandler, sdam::SdamEvent},
    options::{ClientOptions, ReadPreference, SelectionCriteria},
};
use tokio::time::{Instant, sleep, timeout};

use super::classify::Tells;
use crate::backoff::Backoff;

/// How long the answer to a ping may take.
const PING: Duration = Duration::from_secs(5);

/// After how long without an answer somebody who gives up has reason to doubt that the server is there.
const DOUBT: Duration = Duration::from_millis(100);

/// How long a server in doubt may take to answer a ping.
const DOUBTED: Duration = Duration::from_millis(500);

/// How long an operation hopes for the return of a server that was lost.
const PATIENCE: Duration = Duration::from_millis(300);

/// The connection of a store, as it is told by all its clones.
///
/// Only an answer of the server makes it connected: the driver sees a server again a little before it hands out
/// connections to it.
pub(super) struct Link {
    status: StatusSender,
    probing: AtomicBool,
    doubting: AtomicBool,
    database: OnceLock<Database>,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        let link = Self {
            status: StatusSender::connecting(),
            probing: AtomicBool::new(false),
            doubting: AtomicBool::new(false),
            database: OnceLock::new(),
        };
        Arc::new(link)
    }

    /// Follows what the driver's monitoring of a client with these options sees.
    pub(super) fn follow(self: &Arc<Self>, options: &mut ClientOptions) {
        // The client holds the handler, and the link the client.
        let link = Arc::downgrade(self);
        options.sdam_event_handler = Some(EventHandler::callback(move |event| {
            if let (SdamEvent::TopologyDescriptionChanged(event), Some(link)) = (event, link.upgrade()) {
                let writable = |server: &ServerType| {
                    use ServerType::{LoadBalancer, Mongos, RsPrimary, Standalone};
                    matches!(server, LoadBalancer | Mongos | RsPrimary | Standalone)
                };
                let servers = event.new_description.servers();
                if !servers.values().any(|server| writable(&server.server_type())) {
                    link.lost();
                }
            }
        }));
    }

    /// Sets what is pinged.
    pub(super) fn probe(&self, database: Database) {
        // Set once, when the store is opened.
        let _ = self.database.set(database);
    }

    pub(super) fn status(&self) -> StatusStream {
        self.status.subscribe()
    }

    /// Returns once the server has been away for a moment.
    ///
    /// The driver waits much longer for another to come up. Whoever waits for the status instead knows why.
    pub(super) async fn gone(&self) {
        let mut status = self.status();
        loop {
            if matches!(status.current(), Status::Disconnected { .. }) {
                if timeout(PATIENCE, status.changed()).await.is_err() {
                    return;
                }
            } else {
                status.changed().await;
            }
        }
    }

    /// Notes that the server answered.
    pub(super) fn answered(&self) {
        if self.status.current() != Status::Connected {
            self.status.connected();
        }
    }

    /// Notes that an operation did not reach the server, and looks out for its return.
    pub(super) fn failed(self: &Arc<Self>) {
        self.status.disconnected();
        self.look_out();
    }

    /// Notes what an error says about the connection.
    pub(super) fn told(self: &Arc<Self>, tells: Tells) {
        match tells {
            Tells::Outage => self.failed(),
            Tells::Answer => self.answered(),
            Tells::Nothing => {}
        }
    }

    /// Notes that an operation was not answered in time. A server that has answered others is looked at before it counts
    /// as lost; one that never has is not there.
    pub(super) fn overdue(self: &Arc<Self>) {
        if self.status.current() == Status::Connected { self.doubt() } else { self.failed() }
    }

    /// Notes the beginning of an operation: a caller that gives up on it is heard.
    pub(super) fn begun(self: &Arc<Self>) -> Begun<'_> {
        Begun { link: self, since: Some(Instant::now()) }
    }

    /// Pings a server that an operation was given up on: one that hangs answers no ping either. One task at a time.
    fn doubt(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.status.current() != Status::Connected || self.doubting.swap(true, Ordering::SeqCst) {
            return;
        }
        let link = Arc::downgrade(self);
        runtime.spawn(async move {
            let answered = ping(&link, DOUBTED).await;
            if let Some(link) = link.upgrade() {
                link.doubting.store(false, Ordering::SeqCst);
                if answered == Some(false) {
                    link.lost();
                }
            }
        });
    }

    /// Notes that the driver sees no server that takes writes any more. Before the first connection that is no news.
    fn lost(self: &Arc<Self>) {
        if self.status.current() == Status::Connected {
            self.failed();
        }
    }

    /// Pings until the server answers, in a task that ends with the store. One task at a time.
    fn look_out(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::SeqCst) {
            return;
        }
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            let (since, mut backoff) = (Instant::now(), Backoff::default());
            while let Looked::InVain = look(&link).await {
                sleep(backoff.next(since.elapsed())).await;
            }
        });
    }

    /// Ends the task that pings; `false` if it has to go on, because the connection was lost again meanwhile.
    fn stop_looking(&self) -> bool {
        self.probing.store(false, Ordering::SeqCst);
        self.status.current() == Status::Connected || self.probing.swap(true, Ordering::SeqCst)
    }
}

/// An operation under way. Its caller's deadline may be shorter than the store's own, and then only the drop is seen.
pub(super) struct Begun<'a> {
    link: &'a Arc<Link>,
    since: Option<Instant>,
}

impl Begun<'_> {
    pub(super) fn ended(mut self) {
        self.since = None;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= DOUBT) {
            self.link.doubt();
        }
    }
}

enum Looked {
    InVain,
    /// It answered, or nobody is interested any more.
    Enough,
}

/// Tells whether the primary answers within `patience`; `None` if nobody is interested any more.
async fn ping(link: &Weak<Link>, patience: Duration) -> Option<bool> {
    let database = link.upgrade().and_then(|link| link.database.get().cloned())?;
    let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
    let ping = database.run_command(doc! { "ping": 1 }).selection_criteria(primary);
    Some(matches!(timeout(patience, ping.into_future()).await, Ok(Ok(_))))
}

async fn look(link: &Weak<Link>) -> Looked {
    // A server that hangs is no server; a new connection may do better.
    let Some(answered) = ping(link, PING).await else { return Looked::Enough };
    let Some(link) = link.upgrade() else { return Looked::Enough };
    if answered {
        link.status.connected();
    }
    // An operation may have been faster.
    let connected = link.status.current() == Status::Connected;
    if connected && link.stop_looking() { Looked::Enough } else { Looked::InVain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_operation_gives_up_a_moment_after_the_server_was_lost() {
        let link = Link::new();
        let soon = PATIENCE / 10;
        assert!(timeout(soon, link.gone()).await.is_err(), "nothing was lost yet");
        link.status.disconnected();
        assert!(timeout(soon, link.gone()).await.is_err(), "it may be back at once");
        assert!(timeout(10 * PATIENCE, link.gone()).await.is_ok());
    }

    #[tokio::test]
    async fn only_an_error_of_the_connection_loses_it() {
        let link = Link::new();
        for (tells, connected) in [
            (Tells::Nothing, false),
            (Tells::Answer, true),
            (Tells::Nothing, true),
            (Tells::Answer, true),
            (Tells::Outage, false),
            (Tells::Nothing, false),
        ] {
            link.told(tells);
            assert_eq!(link.status().current() == Status::Connected, connected, "{tells:?}");
        }
    }

    #[tokio::test]
    async fn an_operation_that_takes_too_long_loses_no_connection_that_worked() {
        let link = Link::new();
        link.overdue();
        assert!(matches!(link.status().current(), Status::Disconnected { .. }), "nothing ever answered");
        link.answered();
        link.overdue();
        assert_eq!(link.status().current(), Status::Connected, "others may be answered");
    }

    #[tokio::test]
    async fn before_the_first_connection_nothing_can_be_lost() {
        let link = Link::new();
        link.lost();
        assert_eq!(link.status().current(), Status::Connecting);
        link.answered();
        assert_eq!(link.status().current(), Status::Connected);
        link.lost();
        assert!(matches!(link.status().current(), Status::Disconnected { .. }));
    }
}
