//! Runs cases: one as a `#[test]` does, or all of them into a report.

use std::{any::Any, fmt, time::Duration};

use cloakroom_core::{Guarantee, Store};
use futures_util::{StreamExt, stream};
use tokio::{
    runtime::Builder,
    time::{Instant, timeout},
};
use tracing::instrument::WithSubscriber as _;

use crate::{
    cases::{self, Case, Trips},
    context::Cx,
    ear::Ear,
    env::Env,
    failure::{Failure, Verdict},
    machine::Stage,
    report::{CaseReport, Outcome, Report, ServerReport, Tested},
    subject::{Ability, Addresses, Subject},
};

/// Runs one case in a runtime of its own with two worker threads: the body of each test that
/// [`conformance_tests!`](crate::conformance_tests) writes.
///
/// `id` is the case's group and name as the report shows them: `base::an_absent_key_is_none`.
///
/// # Errors
/// The rule that the store breaks and what was seen, also for a case that panicked or did not end in time.
pub fn test(subject: &Subject, id: &str) -> Result<(), Failure> {
    let Some(case) = cases::find(id) else {
        return Err(Failure::new("a case is called by its id", format!("no case is called {id}")));
    };
    let ear = Ear::default();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    if case.listens() {
        ear.listen_in(&mut builder);
    }
    let runtime =
        builder.build().map_err(|error| Failure::new("the tests can start a runtime", error.to_string()))?;
    let verdict = runtime.block_on(judge(subject.clone(), case, ear));
    // Not dropped: a case that hangs without yielding would hang the drop as well.
    runtime.shutdown_timeout(Duration::from_secs(1));
    verdict
}

/// Runs every case that the declared abilities call for, on the runtime of the caller.
///
/// The short form of [`Subject::run`], for a store that needs no server.
pub async fn run<O, F, S, E>(open: O, abilities: impl IntoIterator<Item = Ability>) -> Report
where
    O: Fn(Env) -> F + Send + Sync + 'static,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: Store,
    E: fmt::Display,
{
    Subject::new(open, abilities).run().await
}

impl Subject {
    /// Runs every case that the declared abilities call for, on the runtime of the caller, and reports.
    ///
    /// A case that panics or does not end before the [`deadline`](Self::deadline) has failed. Time is tokio's: a
    /// runtime with a paused clock runs the cases without waiting.
    pub async fn run(&self) -> Report {
        let guarantee = match Cx::open(self.clone(), Stage::Shared, Ear::default()).await {
            Ok(cx) => Guarantee::of(cx.store()),
            // Every case fails for the same reason, and says so.
            Err(_) => Guarantee::LastWriterWins,
        };
        let (server, trips) = self.observe().await;
        let called_for = cases::all().filter(|case| case.is_called_for(self));
        let cases = stream::iter(called_for)
            .map(|case| async move {
                let start = Instant::now();
                let verdict = judge(self.clone(), case, Ear::default()).await;
                CaseReport {
                    group: case.group,
                    name: case.name,
                    outcome: verdict.map_or_else(Outcome::Failed, |()| Outcome::Passed),
                    duration: start.elapsed(),
                }
            })
            .buffered(self.parallel)
            .collect()
            .await;
        Report {
            store: self.name.clone(),
            guarantee,
            abilities: self.abilities.clone(),
            status: if self.has_outage() { Tested::Yes } else { Tested::No },
            server,
            round_trips: trips.done,
            refusals: trips.refused,
            cases,
        }
    }
}

impl Subject {
    /// Asks the server what it is, and counts round trips on a quiet wire.
    ///
    /// What cannot be reached or counted makes cases fail, which say why.
    async fn observe(&self) -> (Option<ServerReport>, Trips) {
        let Some(source) = &self.source else {
            return (None, Trips::default());
        };
        // Where a proxy can stand before the server itself, one handle is enough.
        let stage = match self.addresses {
            Addresses::One if !self.has_stand_in() => Stage::Wire,
            _ => Stage::Shared,
        };
        let opened = Cx::open(self.clone(), stage, Ear::default()).await;
        let described = opened.as_ref().ok().and_then(|cx| Some(cx.machine().ok()?.describe()));
        let server = described.unwrap_or_else(|| ServerReport {
            product: source.name().to_owned(),
            version: String::new(),
            way: NOT_REACHED.to_owned(),
        });
        let on_the_wire = match stage {
            Stage::Wire => opened.ok(),
            _ if self.has_wire() => Cx::open(self.clone(), Stage::Wire, Ear::default()).await.ok(),
            _ => None,
        };
        let trips = match on_the_wire {
            Some(cx) => count(&cx).await.unwrap_or_default(),
            None => Trips::default(),
        };
        (Some(server), trips)
    }
}

/// How a server was started that was not, or in which no store could be opened.
const NOT_REACHED: &str = "not reached";

async fn count(cx: &Cx) -> Verdict<Trips> {
    cases::measure(cx, &cx.proxy()?).await
}

/// Runs one case under its deadline, in a task so that a panic is a failure like any other.
async fn judge(subject: Subject, case: &'static Case, ear: Ear) -> Verdict {
    let deadline = subject.deadline * case.patience();
    let listener = case.listens().then(|| ear.clone());
    let run = async move { (case.run)(Cx::open(subject, case.stage, ear).await?).await };
    let mut task = match listener {
        Some(ear) => tokio::spawn(run.with_subscriber(ear)),
        None => tokio::spawn(run),
    };
    match timeout(deadline, &mut task).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Err(Failure::new(
            "a store never panics",
            match error.try_into_panic() {
                Ok(payload) => format!("panicked: {}", panic_message(&*payload)),
                Err(error) => error.to_string(),
            },
        )),
        Err(_) => {
            task.abort();
            Err(Failure::new(
                "a case ends before its deadline",
                format!("still running after {} s", deadline.as_secs()),
            ))
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
