//! The server of a case, whatever starts it: where it is, and how to take it away.

use std::sync::Arc;

use cloakroom_core::async_trait;

use crate::{
    env::Env,
    failure::{Failure, Verdict},
    fault_proxy::FaultProxy,
    outage::Outage,
    report::ServerReport,
    subject::{Addresses, Subject},
};

/// Where servers come from.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    /// The kind of server, as people say it.
    fn name(&self) -> &'static str;

    /// One that no other case uses.
    async fn own(&self) -> Verdict<Arc<dyn Machine>>;

    /// The one that cases share.
    async fn shared(&self) -> Verdict<Arc<dyn Machine>>;
}

/// A server that runs.
#[async_trait]
pub(crate) trait Machine: Send + Sync + 'static {
    fn url(&self) -> &str;

    /// What it is, and how it was started.
    fn describe(&self) -> ServerReport;

    /// Whether what was stored is there when it starts again.
    fn keeps_data(&self) -> bool;

    /// Puts a proxy before it; an error if it has several addresses.
    async fn proxied(&self) -> Verdict<(FaultProxy, String)>;

    async fn stop(&self) -> Verdict;
    async fn start(&self) -> Verdict;
    async fn kill(&self) -> Verdict;
    async fn pause(&self) -> Verdict;
    async fn resume(&self) -> Verdict;
}

/// What a case does to the server, and so which one it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing: it is shared.
    Shared,
    /// It breaks connections: a proxy of its own before the shared server, unless the subject says how else.
    Cut,
    /// It looks at what goes over the wire: a proxy of its own before the shared server, or before one of its own that
    /// stands in for it.
    Wire,
    /// It stops, pauses or empties it: one of its own.
    Own,
}

/// Where one case works.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) env: Env,
    pub(crate) proxy: Option<FaultProxy>,
    pub(crate) machine: Option<Arc<dyn Machine>>,
}

impl Place {
    /// Prepares what a case of this stage needs.
    pub(crate) async fn prepare(subject: &Subject, stage: Stage) -> Verdict<Self> {
        let Some(source) = &subject.source else {
            return Ok(Self { env: Env::new(subject.url.as_str()), proxy: None, machine: None });
        };
        if stage == Stage::Wire && subject.has_stand_in() {
            return Self::behind_a_proxy(source.own().await?).await;
        }
        if stage != Stage::Own {
            let machine = source.shared().await?;
            if stage == Stage::Shared || stage == Stage::Cut && subject.has_outage_of_its_own() {
                return Ok(Self { env: Env::new(machine.url()), proxy: None, machine: Some(machine) });
            }
            if subject.addresses == Addresses::One {
                return Self::behind_a_proxy(machine).await;
            }
        }
        let machine = source.own().await?;
        Ok(Self { env: Env::new(machine.url()), proxy: None, machine: Some(machine) })
    }

    async fn behind_a_proxy(machine: Arc<dyn Machine>) -> Verdict<Self> {
        let (proxy, url) = machine.proxied().await?;
        Ok(Self { env: Env::new(url), proxy: Some(proxy), machine: Some(machine) })
    }

    /// How connections are broken here.
    pub(crate) fn outage(&self) -> Verdict<Box<dyn Outage>> {
        match (&self.proxy, &self.machine) {
            (Some(proxy), _) => Ok(Box::new(proxy.clone())),
            (None, Some(machine)) => Ok(Box::new(Plug(Arc::clone(machine)))),
            (None, None) => Err(Failure::new("a case about outages runs where one is given", "none is")),
        }
    }
}

/// Stops the server and starts it again.
struct Plug(Arc<dyn Machine>);

#[async_trait]
impl Outage for Plug {
    async fn begin(&self) {
        done(self.0.kill().await);
    }

    async fn end(&self) {
        done(self.0.start().await);
    }

    fn keeps_data(&self) -> bool {
        self.0.keeps_data()
    }
}

/// Fails the case of whoever began or ended an outage that could not be.
#[allow(clippy::panic)]
fn done(verdict: Verdict) {
    if let Err(failure) = verdict {
        panic!("{failure}");
    }
}
