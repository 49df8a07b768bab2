//! Sessions over two handles, as in two processes: nothing lost, and no logout undone.

use std::{env, time::Duration};

use cloakroom_core::{Engine, Error, ErrorKind, Session};
use futures_util::future::join_all;
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use crate::{
    cases::{
        model::{ALL, Walk},
        parallel::{all, two_handles},
    },
    context::{Cx, key},
    failure::{Failure, Verdict, check, check_eq},
    visitor::{self, Visitor},
};

/// Tasks that change one session at once, and how often each does.
const TASKS: usize = 64;
const CHANGES: usize = 4;

/// Steps of the long walk.
const STEPS: usize = 10_000;

/// Rounds of the race between a logout and a request, unless the environment says otherwise.
const INTERLEAVINGS: usize = 1_000;

/// The variable that says otherwise.
const VARIABLE: &str = "CLOAKROOM_INTERLEAVINGS";

/// Rounds that run at once.
const LANES: usize = 16;

/// Two processes' worth of engines onto the same data.
///
/// Their connections are there before the crowd comes: what it costs to open them while all the others work, in a build
/// that is not optimised, is no matter of these cases.
async fn two_engines(cx: &Cx) -> Verdict<[Engine; 2]> {
    let [one, two] = two_handles(cx).await?;
    for store in [&one, &two] {
        let key = key("nobody")?;
        for answer in join_all((0..LANES).map(|_| store.get(&key))).await {
            answer?;
        }
    }
    // The deadlines are the store's: a crowd that waits in turn is no outage.
    let patient = Duration::from_secs(10);
    let [one, two] =
        [one, two].map(|store| visitor::engine(store, |builder| builder.operation_timeout(patient)));
    Ok([one?, two?])
}

pub(crate) async fn a_session_that_two_processes_change_at_once_loses_nothing(cx: Cx) -> Verdict {
    let engines = two_engines(&cx).await?;
    let mut visitor = Visitor::default();
    visitor::count(&mut visitor, &engines[0]).await?;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (engine, mut visitor) = (engines[task % 2].clone(), visitor.clone());
        tasks.spawn(async move {
            let mut numbers = Vec::new();
            for change in 0..CHANGES {
                let write = |session: Session| async move {
                    session.insert(&format!("of-{task}"), change)?;
                    session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await
                };
                numbers.push(persist(&mut visitor, &engine, write).await?);
            }
            Verdict::Ok(numbers)
        });
    }
    let mut numbers: Vec<u64> = all(tasks).await?.into_iter().flatten().collect();
    numbers.sort_unstable();
    let last = (TASKS * CHANGES + 1) as u64;
    check!(
        numbers.iter().copied().eq(2..=last),
        "no number is given twice, and none is left out, whichever process counts",
        "{} numbers were given, the last {:?}, instead of 2 to {last}",
        numbers.len(),
        numbers.last()
    );
    let seen = visitor
        .visit(&engines[1], |session| async move {
            let last = |task| session.get::<usize>(&format!("of-{task}"));
            let kept = (0..TASKS).map(last).collect::<Result<Vec<_>, _>>()?;
            let kept = kept.into_iter().filter(|change| *change == Some(CHANGES - 1)).count();
            Ok((kept, session.get::<u64>("count")?))
        })
        .await?;
    let rule = "what each of many tasks wrote last is there, and every change was counted";
    check_eq!(seen, (TASKS, Some(last)), rule);
    Ok(())
}

/// Makes a request again while it loses against too many others.
async fn persist<T, F>(
    visitor: &mut Visitor,
    engine: &Engine,
    work: impl Fn(Session) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match visitor.visit(engine, &work).await {
            Err(error) if error.kind() == ErrorKind::Contention => yield_now().await,
            done => return done,
        }
    }
}

pub(crate) async fn a_logout_in_one_process_ends_what_the_other_has_under_way(cx: Cx) -> Verdict {
    let rounds = interleavings()?;
    let engines = two_engines(&cx).await?;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let engines = engines.clone();
        lanes.spawn(async move {
            for round in (lane..rounds).step_by(LANES) {
                interleave(&engines, round as u64).await?;
            }
            Verdict::Ok(())
        });
    }
    all(lanes).await.map(drop)
}

/// How many rounds of that race are run.
pub(crate) fn interleavings() -> Verdict<usize> {
    match env::var(VARIABLE) {
        Ok(text) => text.parse().map_err(|_| Failure::new(format!("{VARIABLE} is a number"), text)),
        Err(_) => Ok(INTERLEAVINGS),
    }
}

/// One visitor logs out in one process while a request of theirs is under way in the other.
async fn interleave([here, there]: &[Engine; 2], round: u64) -> Verdict {
    let mut dice = Dice::of(round);
    let mut visitor = Visitor::default();
    visitor.visit(here, |session| async move { session.insert("name", round) }).await?;
    let (mut leaving, mut busy) = (visitor.clone(), visitor.clone());
    let (early, late, writes) = (dice.next(), dice.next(), dice.next() % 4);
    let logout = async {
        stagger(early).await;
        leaving.visit(here, |session| async move { session.destroy().await }).await
    };
    let request = async {
        stagger(late).await;
        let work = |session: Session| async move {
            stagger(late / 7).await;
            match writes {
                0 => session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await.map(drop),
                1 => session.insert("marker", round),
                2 => session.get::<u64>("name").map(drop),
                _ => session.cycle_id().await.map(drop),
            }
        };
        busy.visit(there, work).await
    };
    let (left, worked) = tokio::join!(logout, request);
    for (who, answer) in [("the logout", &left), ("the request", &worked)] {
        let Err(error) = answer else { continue };
        check!(
            matches!(error.kind(), ErrorKind::Gone | ErrorKind::WritesRefused),
            "of a logout and a request at once each succeeds or is told that the session has ended or moved",
            "round {round}: {who} was told: {error}"
        );
    }
    // A request that comes after the logout may begin a new session, without the name. One that gave the session a new
    // id before is told to the logout, which then is no success.
    let mut witnesses = vec![visitor];
    if left.is_ok() {
        witnesses.push(busy);
    }
    for mut witness in witnesses {
        for engine in [there, here] {
            let name = witness.visit(engine, |session| async move { session.get::<u64>("name") }).await?;
            check!(
                name.is_none(),
                "after a logout the session stays dead, whatever was under way in another process",
                "round {round}: it is there again"
            );
        }
    }
    Ok(())
}

/// Gives way, or waits a moment.
async fn stagger(dice: u64) {
    match dice % 8 {
        0 => {}
        1..=5 => {
            for _ in 0..dice % 5 {
                yield_now().await;
            }
        }
        _ => sleep(Duration::from_micros(dice % 1_500)).await,
    }
}

/// Falls the same way for each round in every run, so that a failure can be seen again.
struct Dice(u64);

impl Dice {
    const fn of(round: u64) -> Self {
        Self(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

pub(crate) async fn ten_thousand_random_operations_agree_with_the_model(cx: Cx) -> Verdict {
    let walk = Walk::long(&cx, STEPS).await?;
    let can = |operation: &_| cx.can(*operation);
    let operations: Vec<_> = ALL.into_iter().filter(can).collect();
    walk.run(&operations).await
}
