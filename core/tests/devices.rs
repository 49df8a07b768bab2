//! The sessions of a user: listed, ended one by one or all at once, and unbound.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::time::Duration;

use cloakroom_conformance::{Plain, Reference};
use cloakroom_core::{Bytes, Engine, ErrorKind, Expiry, IndexedStore, Session, Store, Ttl, UserSession};
use support::{
    Clock,
    shape::{SHAPES, Stage},
    spy::{Act, Spy},
    visitor::Visitor,
};

struct House {
    spy: Spy,
    clock: Clock,
    engine: Engine,
}

impl House {
    fn new() -> Self {
        let (spy, clock) = (Spy::new(), Clock::new());
        let engine = Engine::builder(spy.clone())
            .expiry(Expiry::idle(Duration::from_secs(1000)))
            .clock(clock.reader())
            .build()
            .unwrap();
        Self { spy, clock, engine }
    }

    /// A visitor who has logged in with a device of this name.
    async fn login(&self, user: &str, device: &str) -> Visitor {
        let mut visitor = Visitor::new();
        let answer = visitor
            .visit(&self.engine, async |s| {
                s.insert("device", device)?;
                s.bind_user(user)
            })
            .await;
        answer.outcome.unwrap();
        self.clock.advance(Duration::from_secs(1));
        visitor
    }

    async fn user_of(&self, visitor: &Visitor) -> Option<String> {
        visitor.peek(&self.engine, async |s| Ok(s.user())).await.outcome.unwrap()
    }
}

fn devices(sessions: &[UserSession]) -> Vec<String> {
    sessions.iter().map(|one| one.get("device").unwrap().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_a_user_are_listed_the_latest_first_with_their_data_and_times() {
    let house = House::new();
    let began = house.clock.now();
    let (phone, _laptop) = (house.login("alice", "phone").await, house.login("alice", "laptop").await);
    house.login("bob", "tablet").await;
    let sessions = house.engine.sessions_of("alice").await.unwrap();
    assert_eq!(devices(&sessions), ["laptop", "phone"]);
    assert_eq!((sessions[1].created_at(), sessions[1].renewed_at()), (began, began));
    assert_eq!(sessions[1].expires_at(), began + Duration::from_secs(1000));
    assert_eq!(sessions[1].get::<u64>("device").unwrap_err().kind(), ErrorKind::Value);
    assert_eq!(house.engine.sessions_of("nobody").await.unwrap().len(), 0);

    // The same list from within a session, which finds itself in it.
    let (mine, listed) = phone
        .peek(&house.engine, async |s| Ok((s.fingerprint().unwrap(), s.user_sessions().await?)))
        .await
        .outcome
        .unwrap();
    assert_eq!(devices(&listed), ["laptop", "phone"]);
    assert_eq!(listed.iter().position(|one| one.fingerprint() == mine), Some(1));
    assert!(!format!("{listed:?}").contains("phone"));
}

#[tokio::test(start_paused = true)]
async fn one_session_of_the_list_can_be_ended_whatever_was_written_to_it_since() {
    let house = House::new();
    let (mut phone, laptop) = (house.login("alice", "phone").await, house.login("alice", "laptop").await);
    let sessions = house.engine.sessions_of("alice").await.unwrap();
    phone.visit(&house.engine, async |s| s.insert("since", 1)).await.outcome.unwrap();
    assert!(sessions[1].destroy().await.unwrap());
    assert_eq!((house.user_of(&phone).await, house.user_of(&laptop).await), (None, Some("alice".into())));
    assert!(!sessions[1].destroy().await.unwrap(), "it has ended already");
    assert_eq!(devices(&house.engine.sessions_of("alice").await.unwrap()), ["laptop"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_moved_is_ended_under_its_new_id_alone() {
    let house = House::new();
    let mut phone = house.login("alice", "phone").await;
    let before = house.engine.sessions_of("alice").await.unwrap();
    phone.visit(&house.engine, async |s| s.cycle_id().await.map(|_| ())).await.outcome.unwrap();
    assert!(!before[0].destroy().await.unwrap(), "the tombstone protects the new cookie");
    assert_eq!(house.user_of(&phone).await, Some("alice".into()));
    let after = house.engine.sessions_of("alice").await.unwrap();
    assert_eq!(after.len(), 1);
    assert!(after[0].destroy().await.unwrap());
    assert_eq!(house.user_of(&phone).await, None);
}

#[tokio::test(start_paused = true)]
async fn all_sessions_of_a_user_can_be_ended_without_one_of_theirs() {
    let house = House::new();
    let all = [house.login("alice", "a").await, house.login("alice", "b").await];
    let bob = house.login("bob", "c").await;
    assert_eq!(house.engine.destroy_user("alice").await.unwrap(), 2);
    for one in &all {
        assert_eq!(house.user_of(one).await, None);
    }
    assert_eq!(house.user_of(&bob).await, Some("bob".into()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_left_out_of_the_list_and_an_outage_is_an_error() {
    let house = House::new();
    let (phone, _laptop) = (house.login("alice", "phone").await, house.login("alice", "laptop").await);
    let listed = house.engine.sessions_of("alice").await.unwrap();
    house.spy.store().set(&phone.key(), Bytes::from_static(b"x"), Ttl::from_secs(9)).await.unwrap();
    assert_eq!(devices(&house.engine.sessions_of("alice").await.unwrap()), ["laptop"]);
    assert_eq!(listed[1].destroy().await.unwrap_err().kind(), ErrorKind::Corrupt);
    house.spy.on("get", 1, Act::Fail(ErrorKind::Unavailable));
    assert_eq!(house.engine.sessions_of("alice").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let plain = Engine::builder(Plain::new(Reference::new())).build().unwrap();
    assert_eq!(plain.sessions_of("alice").await.unwrap_err().kind(), ErrorKind::Unsupported);
    let outcome = Visitor::new().visit(&house.engine, async |s| s.user_sessions().await).await.outcome;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported, "a session of nobody");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_unbound_lives_on_and_is_nobodys() {
    let house = House::new();
    let mut phone = house.login("alice", "phone").await;
    let laptop = house.login("alice", "laptop").await;
    phone.visit(&house.engine, async |s| s.unbind_user()).await.outcome.unwrap();
    assert_eq!(house.user_of(&phone).await, None);
    assert_eq!(devices(&house.engine.sessions_of("alice").await.unwrap()), ["laptop"]);
    assert_eq!(house.spy.store().keys_of("alice").await.unwrap(), [laptop.key()]);
    assert_eq!(house.engine.destroy_user("alice").await.unwrap(), 1);
    let device: Option<String> = phone.peek(&house.engine, async |s| s.get("device")).await.outcome.unwrap();
    assert_eq!(device.as_deref(), Some("phone"), "it was no session of hers any more");
    // Bound again, it is again.
    phone.visit(&house.engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    assert_eq!(house.engine.destroy_user("alice").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn unbinding_goes_with_a_new_id_and_with_other_requests_writes() {
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    stage.visitor.visit(&engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    let mut rival = stage.visitor.clone();
    let answer = stage
        .visitor
        .visit(&engine, async |s| {
            s.unbind_user()?;
            rival.visit(&engine, async |s| s.insert("rival", 1)).await.outcome
        })
        .await;
    answer.outcome.unwrap();
    let seen = stage.visitor.peek(&engine, async |s| Ok((s.user(), s.contains("rival")))).await;
    assert_eq!(seen.outcome.unwrap(), (None, true));
    assert_eq!(stage.spy.store().keys_of("alice").await.unwrap(), []);

    stage.visitor.visit(&engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    let leave = async |s: &Session| {
        s.unbind_user()?;
        s.cycle_id().await.map(|_| ())
    };
    stage.visitor.visit(&engine, leave).await.outcome.unwrap();
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(stage.spy.store().keys_of("alice").await.unwrap(), []);
    assert_eq!(stage.seen(&stage.visitor).await.0, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_index_that_cannot_be_written_while_unbinding_leaves_nobody_bound_to_a_session_that_is_not_theirs()
{
    let mut stage = Stage::set(&SHAPES[0]).await;
    let engine = stage.engine.clone();
    stage.visitor.visit(&engine, async |s| s.bind_user("alice")).await.outcome.unwrap();
    stage.spy.on("bind", 1, Act::Fail(ErrorKind::Unavailable));
    stage.visitor.visit(&engine, async |s| s.unbind_user()).await.outcome.unwrap();
    // The entry is still there, but the record has the last word.
    assert_eq!(stage.spy.store().keys_of("alice").await.unwrap(), [stage.visitor.key()]);
    assert_eq!(engine.sessions_of("alice").await.unwrap().len(), 0);
}
