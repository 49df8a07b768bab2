//! Redis Cluster: a link to each master, and a map of who owns what that is renewed when it proves wrong.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use cloakroom_core::{Error, ErrorKind, Result, StatusSender};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::{Client, Cmd, RedisError, Value};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    classify::{STORE, has_code, timed_out},
    link::{Failure, Link, Report, Timeouts},
    sentinel::{Target, at},
    server::Server,
    slots::{Address, SlotMap, slot},
};
use crate::backoff::jittered;

/// Between two tries of a command that was not carried out.
const PAUSE: Duration = Duration::from_millis(40);

/// How many redirections are followed at once: two nodes may each call the other one the owner for a while.
const HASTY: u32 = 4;

/// A try must have a fourth of a command's time left. With less it could hardly be answered, and would end as a write of
/// which nobody knows what became of it.
const LEAST: u32 = 4;

/// Between two renewals of the map.
const RENEWAL: Duration = Duration::from_millis(100);

/// A cluster.
///
/// The driver has a client for clusters, but it sends a command again when the connection broke after it was sent,
/// which applies a write twice; and the option that turns this off turns redirections off as well.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    renewer: JoinHandle<()>,
}

struct Shared {
    /// Who is asked at first, and when nobody else answers.
    seeds: Vec<Address>,
    /// How to connect to a node, but for its address.
    like: Client,
    timeouts: Timeouts,
    nodes: RwLock<HashMap<Address, Arc<Link>>>,
    map: RwLock<SlotMap>,
    /// The map is wrong.
    stale: Notify,
    tally: Arc<Tally>,
}

/// Counts the nodes that can be reached: the cluster counts as connected while there is one.
///
/// The death of one master concerns the sessions it held until its replica takes over. It is no reason to stop those
/// of the other masters.
struct Tally {
    up: Mutex<usize>,
    status: Arc<StatusSender>,
}

impl Report for Tally {
    fn up(&self) {
        *self.up.lock() += 1;
        self.status.connected();
    }

    fn down(&self, was_up: bool) {
        let mut up = self.up.lock();
        *up -= usize::from(was_up);
        if *up == 0 {
            self.status.disconnected();
        }
    }
}

impl Cluster {
    /// Learns who owns what, from the first seed that answers.
    pub(super) async fn open(
        seeds: Vec<Address>,
        like: Client,
        timeouts: Timeouts,
        status: Arc<StatusSender>,
    ) -> Result<(Self, Arc<Server>)> {
        let tally = Arc::new(Tally { up: Mutex::new(0), status });
        let (nodes, map, stale) = (RwLock::default(), RwLock::default(), Notify::new());
        let shared = Arc::new(Shared { seeds, like, timeouts, nodes, map, stale, tally });
        let server = shared.first_server().await?;
        shared.renew().await?;
        let renewer = tokio::spawn(keep_map(Arc::clone(&shared)));
        Ok((Self { shared, renewer }, server))
    }

    /// Sends a command to the node that owns the key of this name.
    ///
    /// It is sent again only if it was not carried out: the node was not connected, or said that it is the wrong one
    /// or not able to. All tries together take no longer than one reply may.
    pub(super) async fn send(&self, name: &[u8], command: &Cmd) -> Result<Value, Failure> {
        let time = Time::from_now(self.shared.timeouts.response);
        let slot = slot(name);
        let (mut asking, mut redirections) = (None, 0);
        loop {
            let sent = match (asking.take(), self.shared.owner(slot)) {
                (Some(address), _) => self.shared.send(&address, command, Asking::Yes, time).await,
                (None, Some(address)) => self.shared.send(&address, command, Asking::No, time).await,
                (None, None) => Err(Failure::NotSent(unserved())),
            };
            let failure = match sent {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let late = Instant::now() >= time.last_try;
            match &failure {
                Failure::Sent(error) if !late && error.redirect_node().is_some() => {
                    match self.shared.redirected(slot, error) {
                        Some(Redirected::Moved) => {}
                        Some(Redirected::Ask(address)) => asking = Some(address),
                        None => return Err(failure),
                    }
                    redirections += 1;
                    if redirections > HASTY {
                        sleep(jittered(PAUSE)).await;
                    }
                }
                Failure::NotSent(error) if !late && error.is_retryable() => self.shared.pause().await,
                Failure::Sent(error) if !late && was_refused(error) => self.shared.pause().await,
                _ => {
                    self.shared.stale.notify_one();
                    return Err(failure);
                }
            }
            // The wait may have lasted too long, and a node that is connected is sent to at once.
            if Instant::now() >= time.last_try {
                return Err(failure);
            }
        }
    }

    /// Returns a link to each master.
    pub(super) fn masters(&self) -> Result<Vec<Arc<Link>>> {
        let masters = self.shared.map.read().masters().to_vec();
        masters.iter().map(|address| self.shared.link(address)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.renewer.abort();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("masters", &self.shared.map.read().masters().len()).finish()
    }
}

enum Redirected {
    Moved,
    Ask(Address),
}

/// Whether a node is told that it is only about to own the key.
#[derive(Clone, Copy)]
enum Asking {
    Yes,
    No,
}

/// How long a command may take, however often it is tried.
#[derive(Clone, Copy)]
struct Time {
    /// After this nothing is sent any more.
    last_try: Instant,
    /// After this nobody waits for the reply any more.
    end: Instant,
}

impl Time {
    fn from_now(all: Duration) -> Self {
        let now = Instant::now();
        Self { last_try: now + (all - all / LEAST), end: now + all }
    }
}

impl Shared {
    fn owner(&self, slot: u16) -> Option<Address> {
        self.map.read().owner(slot).cloned()
    }

    /// Returns the link to a node, which is opened if there is none yet.
    fn link(&self, address: &Address) -> Result<Arc<Link>> {
        if let Some(link) = self.nodes.read().get(address) {
            return Ok(Arc::clone(link));
        }
        let client = at(&self.like, address.host.clone(), address.port)?;
        let mut nodes = self.nodes.write();
        let link = nodes.entry(address.clone()).or_insert_with(|| {
            let report = Arc::clone(&self.tally);
            Arc::new(Link::open(Target::Node(client), self.timeouts, report))
        });
        Ok(Arc::clone(link))
    }

    /// Sends a command to one node once, as long as there is time.
    async fn send(
        &self,
        address: &Address,
        command: &Cmd,
        asking: Asking,
        time: Time,
    ) -> Result<Value, Failure> {
        let link = self.link(address)?;
        if link.connection().is_none() {
            // Whoever is the first to need a node waits for its connection. Below nobody does: a link is new but once.
            timeout_at(time.last_try, link.server()).await.map_err(|_| unserved())??;
        }
        let reply = match asking {
            Asking::Yes => timeout_at(time.end, link.send_asking(command)).await,
            Asking::No => timeout_at(time.end, link.send(command.clone())).await,
        };
        reply.unwrap_or_else(|_| Err(Failure::Sent(timed_out())))
    }

    /// Follows a redirection, if it can be read.
    fn redirected(&self, slot: u16, error: &RedisError) -> Option<Redirected> {
        let asked = self.owner(slot).map(|owner| owner.host).unwrap_or_default();
        let (address, _) = error.redirect_node()?;
        let address = Address::parse(address, &asked)?;
        if has_code(error, "ASK") {
            return Some(Redirected::Ask(address));
        }
        self.map.write().moved(slot, address);
        self.stale.notify_one();
        Some(Redirected::Moved)
    }

    /// Has the map renewed, and waits a little.
    async fn pause(&self) {
        self.stale.notify_one();
        sleep(jittered(PAUSE)).await;
    }

    /// Waits until one seed has answered, or all have failed.
    async fn first_server(&self) -> Result<Arc<Server>> {
        let links: Vec<_> = self.seeds.iter().map(|seed| self.link(seed)).collect::<Result<_>>()?;
        let mut answers: FuturesUnordered<_> = links.iter().map(|link| link.server()).collect();
        let mut last = unserved();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the nodes, all at once, who owns what, and believes the first that knows.
    async fn renew(&self) -> Result<()> {
        let seeds = self.seeds.iter().map(|seed| Ok((seed.host.clone(), self.link(seed)?)));
        let mut links = seeds.collect::<Result<Vec<_>>>()?;
        links
            .extend(self.nodes.read().iter().map(|(address, link)| (address.host.clone(), Arc::clone(link))));
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let mut answers: FuturesUnordered<_> = links
            .iter()
            .map(async |(host, link)| {
                let reply = link.send(command.clone()).await?;
                SlotMap::read(reply, host)
            })
            .collect();
        let mut last = unserved();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(map) if !map.masters().is_empty() => {
                    self.adopt(map);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Goes by a new map, and lets go of the nodes that own nothing any more.
    fn adopt(&self, map: SlotMap) {
        let gone: Vec<_> = {
            let mut nodes = self.nodes.write();
            let of_use = |address: &Address| map.masters().contains(address) || self.seeds.contains(address);
            nodes.extract_if(|address, _| !of_use(address)).collect()
        };
        for master in map.masters() {
            // Opened before anybody waits for it.
            let _ = self.link(master);
        }
        *self.map.write() = map;
        drop(gone);
    }
}

/// Renews the map when it proves wrong.
async fn keep_map(shared: Arc<Shared>) {
    loop {
        shared.stale.notified().await;
        // Whatever the answer is, the next command that goes astray asks again.
        let _ = timeout(shared.timeouts.connect, shared.renew()).await;
        sleep(jittered(RENEWAL)).await;
    }
}

/// Whether a node said that it did not carry a command out, and that it or another one soon may.
fn was_refused(error: &RedisError) -> bool {
    ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"].iter().any(|code| has_code(error, code))
}

fn unserved() -> Error {
    Error::new(ErrorKind::Unavailable).store(STORE).hint("no node of the cluster serves this key for now")
}
