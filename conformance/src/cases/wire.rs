//! What goes over the wire to a server, and what a store makes of it when the wire breaks.

use std::{sync::Arc, time::Duration};

use cloakroom_core::{ErrorKind, Store};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    cases::{
        parallel::all,
        server::SLACK,
        status::{connect, wait_connected, wait_disconnected},
    },
    context::{BOUND, Cx, LONG, atomic, bytes, expect_value, key},
    failure::{Failure, Verdict, check, check_eq},
    visitor::{self, Visitor},
};

/// How long the engine of the case about stalls waits for one operation.
const DEADLINE: Duration = Duration::from_millis(500);

/// Clients of one store that all lose their connection.
const CLIENTS: usize = 200;

/// Connections that a store may try to open in a second, whatever the number of its clients.
const STORM: usize = 100;

pub(crate) async fn a_stalled_server_costs_a_request_no_more_than_the_deadline(cx: Cx) -> Verdict {
    let proxy = cx.proxy()?;
    let engine = visitor::engine(cx.handle(), |builder| {
        builder.operation_timeout(DEADLINE).reconnect_timeout(Duration::ZERO)
    })?;
    let mut visitor = Visitor::default();
    visitor::count(&mut visitor, &engine).await?;
    connect(cx.store()).await?;
    proxy.stall();
    let rule = "a stalled server costs a request no more than the operation's deadline";
    for _ in 0..3 {
        let start = Instant::now();
        let answer = timeout(BOUND, visitor::read(&mut visitor, &engine)).await;
        let took = start.elapsed();
        check!(took <= DEADLINE + SLACK, rule, "it took {} ms of {}", took.as_millis(), DEADLINE.as_millis());
        let kind = answer.ok().and_then(Result::err).map(|error| error.kind());
        check!(
            matches!(kind, Some(ErrorKind::Timeout | ErrorKind::Unavailable)),
            "a request that a stalled server does not answer fails as Timeout or Unavailable",
            "it was {kind:?}"
        );
    }
    proxy.heal().await;
    wait_connected(cx.store()).await?;
    let seen = visitor::read(&mut visitor, &engine).await?;
    check_eq!(seen, Some(1), "when a stalled server goes on, a request has its own answer");
    Ok(())
}

/// Which half of an exchange the wire loses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Request,
    Reply,
}

pub(crate) async fn a_lost_reply_applies_no_update_twice_and_hides_behind_no_success(cx: Cx) -> Verdict {
    let proxy = cx.proxy()?;
    // Commits wait for the connection to come back, and so can be settled.
    let engine = visitor::engine(cx.handle(), |builder| {
        builder.operation_timeout(Duration::from_secs(2)).reconnect_timeout(Duration::from_secs(10))
    })?;
    let mut visitor = Visitor::default();
    let mut count = visitor::count(&mut visitor, &engine).await?;
    let (mut lost, mut answered) = (0, 0);
    for round in 0..12 {
        let half = if round % 3 == 2 { Lost::Request } else { Lost::Reply };
        let marker = format!("the-marker-of-round-{round}");
        match half {
            Lost::Request => proxy.lose_request(marker.as_bytes()),
            Lost::Reply => proxy.lose_reply_to(marker.as_bytes()),
        }
        let number = visitor
            .visit(&engine, |session| async move {
                session.insert("marker", marker)?;
                session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await
            })
            .await;
        lost += u64::from(proxy.traffic().lost_replies + proxy.traffic().lost_requests > 0);
        proxy.heal().await;
        proxy.reset_traffic();
        wait_connected(cx.store()).await?;
        let seen = visitor::read(&mut visitor, &engine).await?.unwrap_or_default();
        let rule = "an update whose reply was lost is applied once, or not at all and then it is an error";
        match &number {
            Ok(number) => {
                answered += 1;
                check!(
                    *number == count + 1 && seen == count + 1,
                    rule,
                    "the number was {count}, the update answered {number}, and now it is {seen}"
                );
            }
            Err(error) => check!(
                seen == count || seen == count + 1,
                rule,
                "the number was {count}, the update was {:?}, and now it is {seen}",
                error.kind()
            ),
        }
        count = seen;
    }
    check!(
        lost >= 12,
        "a value goes over the wire as it is, so that the reply to its write can be lost",
        "of 12 exchanges {lost} were lost, and {answered} answered"
    );
    Ok(())
}

/// As above, without the engine, which would settle what the store gets wrong.
pub(crate) async fn a_write_whose_reply_was_lost_is_sent_once(cx: Cx) -> Verdict {
    let (proxy, store) = (cx.proxy()?, cx.store());
    let conditional = atomic(store)?;
    let (one, two) = (key("one")?, key("two")?);
    connect(store).await?;
    for round in 0..4 {
        let (old, new) = (format!("old-{round}"), format!("new-value-{round}"));
        store.set(&one, old.clone().into(), LONG).await?;
        proxy.lose_reply_to(new.as_bytes());
        let answer = conditional.replace(&one, old.as_bytes(), new.clone().into(), LONG).await;
        let rule = "a conditional write whose reply was lost is an error: the store neither sends it again nor guesses";
        check!(answer.is_err(), rule, "replace answered {answer:?}");
        check_eq!(proxy.traffic().lost_replies, 1, "the value of a write goes over the wire as it is");
        proxy.heal().await;
        wait_connected(store).await?;
        expect_value(store, &one, new.as_bytes(), "a request that reached the server was applied").await?;
        proxy.reset_traffic();
        let fresh = format!("created-value-{round}");
        proxy.lose_reply_to(fresh.as_bytes());
        let answer = conditional.create(&two, fresh.into(), LONG).await;
        check!(answer.is_err(), rule, "create answered {answer:?}");
        proxy.heal().await;
        wait_connected(store).await?;
        store.destroy(&two).await?;
        proxy.reset_traffic();
    }
    Ok(())
}

pub(crate) async fn two_hundred_clients_that_reconnect_make_no_storm(cx: Cx) -> Verdict {
    let proxy = cx.proxy()?;
    let one = key("one")?;
    cx.store().set(&one, bytes("value"), LONG).await?;
    connect(cx.store()).await?;
    proxy.reset_traffic();
    // Connections are accepted and reset, so that every attempt is seen.
    proxy.turn_away();
    wait_disconnected(cx.store()).await?;
    let end = Instant::now() + Duration::from_millis(1_500);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (store, one): (Arc<dyn Store>, _) = (cx.handle(), one.clone());
        clients.spawn(async move {
            while Instant::now() < end {
                let late = || Failure::new("an operation in an outage ends in bounded time", "get did not");
                let answer = timeout(BOUND + SLACK, store.get(&one)).await.map_err(|_| late())?;
                let rule = "an outage is an error, never an answer";
                check!(answer.is_err(), rule, "get answered in an outage");
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
    }
    all(clients).await?;
    proxy.heal().await;
    wait_connected(cx.store()).await?;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (store, one) = (cx.handle(), one.clone());
        clients.spawn(async move {
            let rule = "when a server is back, all who were waiting for it are served";
            expect_value(&*store, &one, b"value", rule).await
        });
    }
    all(clients).await?;
    let most = proxy.most_connections_within(Duration::from_secs(1));
    check!(
        most <= STORM,
        "a store that lost its server tries to connect at a bounded rate, however many wait for it",
        "it opened {most} connections within a second"
    );
    Ok(())
}
