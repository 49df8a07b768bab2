//! Kinds of requests that the fault tests put through everything a store can do wrong.

use std::time::Duration;

use cloakroom_core::{AdminStore, Engine, Expiry, Result, Session, Store};
use futures_util::{StreamExt, future::BoxFuture};

use super::{Clock, spy::Spy, visitor::Visitor};

/// A handler.
pub type Work = fn(Session) -> BoxFuture<'static, Result<()>>;

/// What a kind of request does to a session with `n` = 1 and `keep` = "x": afterwards `n` is 2 and `keep` is there.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    /// Begins with a stored session, half of whose time is over if `due`.
    pub stored: bool,
    pub due: bool,
    /// The id changes.
    pub moves: bool,
    /// Adds 1 to `n`.
    pub adds: bool,
    pub work: Work,
}

const REPLACE: Shape = Shape {
    name: "update",
    stored: true,
    due: false,
    moves: false,
    adds: true,
    work: |s| Box::pin(async move { add(&s) }),
};

/// Every shape but the logout, which leaves nothing behind.
pub const SHAPES: &[Shape] = &[
    REPLACE,
    Shape {
        name: "update and save",
        work: |s| {
            Box::pin(async move {
                add(&s)?;
                s.save().await
            })
        },
        ..REPLACE
    },
    Shape { name: "update_now", work: |s| Box::pin(add_now(s)), ..REPLACE },
    Shape { name: "read, due", due: true, adds: false, work: |_| Box::pin(async { Ok(()) }), ..REPLACE },
    Shape { name: "update, due", due: true, ..REPLACE },
    Shape {
        name: "bind and update",
        work: |s| {
            Box::pin(async move {
                s.bind_user("alice")?;
                add(&s)
            })
        },
        ..REPLACE
    },
    Shape {
        name: "cycle_id",
        moves: true,
        adds: false,
        work: |s| Box::pin(async move { s.cycle_id().await.map(|_| ()) }),
        ..REPLACE
    },
    Shape {
        name: "cycle_id and update",
        moves: true,
        work: |s| {
            Box::pin(async move {
                s.cycle_id().await?;
                add(&s)
            })
        },
        ..REPLACE
    },
    Shape {
        name: "login, saved",
        moves: true,
        work: |s| {
            Box::pin(async move {
                add(&s)?;
                s.cycle_id().await?;
                s.bind_user("alice")?;
                s.save().await
            })
        },
        ..REPLACE
    },
    Shape {
        name: "regenerate",
        moves: true,
        work: |s| {
            Box::pin(async move {
                let n: u64 = s.get("n")?.unwrap_or_default();
                s.regenerate().await?;
                s.insert("keep", "x")?;
                s.insert("n", n + 1)
            })
        },
        ..REPLACE
    },
    Shape {
        name: "create",
        stored: false,
        work: |s| {
            Box::pin(async move {
                s.insert("keep", "x")?;
                s.insert("n", 2)
            })
        },
        ..REPLACE
    },
    Shape {
        name: "create, bound and saved",
        stored: false,
        work: |s| {
            Box::pin(async move {
                s.insert("keep", "x")?;
                s.bind_user("alice")?;
                s.insert("n", 1)?;
                add_now(s).await
            })
        },
        ..REPLACE
    },
];

/// Adds 1 to `n` with a closure.
pub fn add(session: &Session) -> Result<()> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())
}

/// Adds 1 to `n` at once.
pub async fn add_now(session: Session) -> Result<()> {
    let value = session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    assert_eq!(session.get::<u64>("n")?, Some(value));
    Ok(())
}

/// A store, an engine over it, and a visitor ready for one shape of request.
#[derive(Clone)]
pub struct Stage {
    pub spy: Spy,
    pub engine: Engine,
    pub visitor: Visitor,
}

impl Stage {
    pub async fn set(shape: &Shape) -> Self {
        let (spy, clock) = (Spy::new(), Clock::new());
        let engine = Engine::builder(spy.clone())
            .expiry(Expiry::idle(Duration::from_secs(86_400)))
            .clock(clock.reader())
            .build()
            .unwrap();
        let mut visitor = Visitor::new();
        if shape.stored {
            let answer = visitor
                .visit(&engine, async |session| {
                    session.insert("keep", "x")?;
                    session.insert("n", 1)
                })
                .await;
            answer.outcome.unwrap();
            spy.take_calls();
        }
        if shape.due {
            clock.advance(Duration::from_secs(50_000));
        }
        Self { spy, engine, visitor }
    }

    /// What the visitor's cookie opens: `n` and `keep`.
    pub async fn seen(&self, visitor: &Visitor) -> (Option<u64>, Option<String>) {
        let answer = visitor.peek(&self.engine, async |s| Ok((s.get("n")?, s.get("keep")?))).await;
        answer.outcome.unwrap()
    }

    /// How many sessions are stored. A tombstone is none.
    pub async fn sessions(&self) -> usize {
        self.records().await.len()
    }

    /// The stored sessions.
    pub async fn records(&self) -> Vec<String> {
        let store = self.spy.store();
        let keys: Vec<_> = store.scan().collect().await;
        let mut records = Vec::new();
        for key in keys {
            if let Some(value) = store.get(&key.unwrap()).await.unwrap() {
                let text = String::from_utf8(value.to_vec()).unwrap();
                if !text.contains("\"moved\"") {
                    records.push(text);
                }
            }
        }
        records
    }
}
