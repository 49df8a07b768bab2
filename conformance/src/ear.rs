//! Hears what a store and its driver log while a case runs, at every level.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, Interest, set_default},
};

/// More than any store should have to say in one case, in bytes; what comes after it is not kept.
const ROOM: usize = 16 << 20;

/// A `tracing` subscriber that keeps everything as text: levels, targets, messages, fields, spans.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<String>>);

thread_local! {
    static LISTENING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

impl Ear {
    /// Returns what was said so far.
    pub(crate) fn heard(&self) -> String {
        self.0.lock().clone()
    }

    /// Lets the threads of a runtime listen as well, for what a driver says in tasks of its own.
    pub(crate) fn listen_in(&self, runtime: &mut Builder) {
        let ear = self.clone();
        runtime.on_thread_start(move || LISTENING.set(Some(set_default(ear.clone()))));
        runtime.on_thread_stop(|| drop(LISTENING.take()));
    }

    fn note(&self, write: impl FnOnce(&mut String)) {
        let mut text = self.0.lock();
        if text.len() < ROOM {
            write(&mut text);
            text.push('\n');
        }
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a `String` cannot fail.
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Ear {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Other cases run at the same time and have ears of their own: ask each time.
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(|text| {
            text.push_str(span.metadata().name());
            span.record(&mut Fields(text));
        });
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.note(|text| values.record(&mut Fields(text)));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.note(|text| {
            text.push_str(event.metadata().target());
            event.record(&mut Fields(text));
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
