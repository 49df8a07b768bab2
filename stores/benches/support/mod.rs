//! The same work for bare axum, for Cloakroom and for tower-sessions, and the budgets it is held to.
//!
//! Shared by the benchmarks and by `tests/allocations.rs`. Each of them uses a part.
#![allow(dead_code)]
// Whatever fails here is a mistake in the measurement, which had better end.
#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod apps;
pub(crate) mod count;
pub(crate) mod table;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderValue, Request, Response, Uri,
        header::{COOKIE, SET_COOKIE},
    },
};
use tokio::runtime::{Builder, Runtime};
use tower::Service;

use self::apps::Peer;

/// What a handler does to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The layer is there, and the handler does not ask for the session.
    None,
    /// Reads one value.
    Read,
    /// Reads one value and stores another in its place.
    Change,
    /// Makes a session and fills it, value by value.
    Create,
}

/// How much a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// 4 keys, about 100 bytes of JSON.
    Small,
    /// 20 keys, about 4 KiB of JSON.
    Large,
}

impl Size {
    pub(crate) const fn keys(self) -> usize {
        match self {
            Self::Small => 4,
            Self::Large => 20,
        }
    }

    /// The length of each value but the number's.
    pub(crate) const fn value_len(self) -> usize {
        match self {
            Self::Small => 20,
            Self::Large => 200,
        }
    }
}

/// One row of the table, and what it may cost on top of bare axum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) size: Size,
    pub(crate) allocations: u64,
    pub(crate) instructions: u64,
    /// Nanoseconds on top of bare axum, as a multiple of what tower-sessions takes on top of it.
    pub(crate) ratio: f64,
}

const fn row(name: &'static str, work: Work, size: Size, budget: (u64, u64, f64)) -> Row {
    let (allocations, instructions, ratio) = budget;
    Row { name, work, size, allocations, instructions, ratio }
}

/// The rows, each with its budgets: allocations, instructions, time against tower-sessions.
pub(crate) const ROWS: [Row; 7] = [
    row("none", Work::None, Size::Small, (9, 5_500, 0.42)),
    row("read, 100 B", Work::Read, Size::Small, (12, 12_500, 0.50)),
    row("read-modify-write, 100 B", Work::Change, Size::Small, (18, 17_000, 0.43)),
    row("create, 100 B", Work::Create, Size::Small, (30, 21_000, 0.60)),
    row("read, 4 KiB", Work::Read, Size::Large, (12, 33_000, 0.67)),
    row("read-modify-write, 4 KiB", Work::Change, Size::Large, (21, 61_000, 0.65)),
    row("create, 4 KiB", Work::Create, Size::Large, (110, 94_000, 0.82)),
];

/// How many allocations a signed cookie may add to each row.
pub(crate) const SIGNED: u64 = 2;

/// One application, and a visitor who comes again and again with the same session.
#[derive(Clone)]
pub(crate) struct Visitor {
    app: Router,
    row: Row,
    path: &'static str,
    cookie: HeaderValue,
}

impl Visitor {
    /// Builds the application anew, with a store that holds this visitor's session alone.
    pub(crate) async fn new(peer: Peer, row: Row) -> Self {
        Self::of(apps::app(peer, row.size), peer, row).await
    }

    /// Gives the visitor a session of their own in `app`.
    pub(crate) async fn of(app: Router, peer: Peer, row: Row) -> Self {
        let path = |work| match work {
            Work::None => "/none",
            Work::Read => "/read",
            Work::Change => "/change",
            Work::Create => "/create",
        };
        let mut visitor =
            Self { app, row, path: path(Work::Create), cookie: HeaderValue::from_static("theme=dark") };
        if peer != Peer::Bare {
            let answer = visitor.visit().await;
            let set = answer.headers()[SET_COOKIE].to_str().unwrap();
            let pair = set.split(';').next().unwrap_or_default();
            visitor.cookie = HeaderValue::try_from(format!("theme=dark; {pair}")).unwrap();
        } else {
            let line = format!("theme=dark; __Host-sid={}", "a".repeat(43));
            visitor.cookie = HeaderValue::try_from(line).unwrap();
        }
        // Who creates a session comes without one.
        if row.work == Work::Create {
            visitor.cookie = HeaderValue::from_static("theme=dark");
        }
        visitor.path = path(row.work);
        visitor
    }

    /// Sends one request and returns the response.
    pub(crate) async fn visit(&mut self) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static(self.path);
        request.headers_mut().insert(COOKIE, self.cookie.clone());
        let answer = self.app.call(request).await.unwrap_or_else(|never| match never {});
        assert!(answer.status().is_success(), "{}: {}", self.row.name, answer.status());
        answer
    }

    /// Sends so many requests, one after the other.
    pub(crate) async fn visits(&mut self, count: usize) {
        for _ in 0..count {
            drop(self.visit().await);
        }
    }
}

/// Makes a runtime that lives on the thread that uses it.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Runs a future to its end on this thread alone.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}
