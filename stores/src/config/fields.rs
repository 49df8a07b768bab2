//! The fields that a configuration may have, and how each is read.

use std::time::Duration;

use cloakroom_core::{Error, Result};
use serde_json::Value;

/// A value that was read.
#[derive(Clone)]
pub(super) enum Setting {
    Text(String),
    Texts(Vec<String>),
    Flag(bool),
    Number(usize),
    Share(f64),
    Span(Duration),
}

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Number,
    Share,
    Span,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// One field.
pub(super) struct Field {
    pub(super) name: &'static str,
    kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// Every field there is. The documentation of `SessionConfig` has the same.
pub(super) const FIELDS: [Field; 25] = [
    field("url", Kind::Text),
    field("insecure", Kind::Flag),
    field("cookie.name", Kind::Text),
    field("cookie.path", Kind::Text),
    field("cookie.domain", Kind::Text),
    field("cookie.same_site", Kind::Word(&["strict", "lax", "none"])),
    field("cookie.http_only", Kind::Flag),
    field("cookie.secure", Kind::Flag),
    field("cookie.partitioned", Kind::Flag),
    field("cookie.priority", Kind::Word(&["low", "medium", "high"])),
    field("cookie.browser_session", Kind::Flag),
    field("keys", Kind::Texts),
    field("encrypt", Kind::Texts),
    field("expiry.idle", Kind::Span),
    field("expiry.absolute", Kind::Span),
    field("expiry.renew_below", Kind::Share),
    field("rolling", Kind::Flag),
    field("allow_empty", Kind::Flag),
    field("save_on_server_error", Kind::Flag),
    field("require_strict", Kind::Flag),
    field("operation_timeout", Kind::Span),
    field("reconnect_timeout", Kind::Span),
    field("max_waiters", Kind::Number),
    field("max_record", Kind::Number),
    field("on_outage", Kind::Word(&["fail", "anonymous"])),
];

impl Field {
    /// Returns what the field is called in the environment, after the prefix.
    pub(super) fn variable(&self) -> String {
        self.name.replace('.', "_").to_uppercase()
    }

    /// Reads a value of a file. No error quotes it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming the field.
    pub(super) fn read(&self, value: Value) -> Result<Setting> {
        match (self.kind, value) {
            (Kind::Flag, Value::Bool(flag)) => Ok(Setting::Flag(flag)),
            (Kind::Number, Value::Number(number)) => {
                let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
                number.map(Setting::Number).ok_or_else(|| self.bad())
            }
            (Kind::Share, Value::Number(number)) => {
                number.as_f64().map(Setting::Share).ok_or_else(|| self.bad())
            }
            (Kind::Texts, Value::Array(texts)) => {
                let text = |text| match text {
                    Value::String(text) => Ok(text),
                    _ => Err(self.bad()),
                };
                texts.into_iter().map(text).collect::<Result<_>>().map(Setting::Texts)
            }
            (Kind::Text | Kind::Word(_) | Kind::Span, Value::String(text)) => self.read_text(&text),
            _ => Err(self.bad()),
        }
    }

    /// Reads a value of the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming the field.
    pub(super) fn read_text(&self, text: &str) -> Result<Setting> {
        match self.kind {
            Kind::Text => Ok(Setting::Text(text.to_owned())),
            Kind::Texts => Ok(Setting::Texts(text.split(',').map(|text| text.trim().to_owned()).collect())),
            Kind::Flag => match text {
                "true" | "1" => Ok(Setting::Flag(true)),
                "false" | "0" => Ok(Setting::Flag(false)),
                _ => Err(self.bad()),
            },
            Kind::Number => text.parse().map(Setting::Number).map_err(|_| self.bad()),
            Kind::Share => text.parse().map(Setting::Share).map_err(|_| self.bad()),
            Kind::Span => crate::duration::parse(self.name, text).map(Setting::Span),
            Kind::Word(words) if words.contains(&text) => Ok(Setting::Text(text.to_owned())),
            Kind::Word(_) => Err(self.bad()),
        }
    }

    fn bad(&self) -> Error {
        let cure = match self.kind {
            Kind::Text => "must be a text".to_owned(),
            Kind::Texts => "must be a list of texts".to_owned(),
            Kind::Flag => "must be true or false".to_owned(),
            Kind::Number => "must be a whole number from 0".to_owned(),
            Kind::Share => "must be a number between 0 and 1".to_owned(),
            Kind::Span => "must be a whole number and a unit: 500ms, 2s, 30m, 12h or 7d".to_owned(),
            Kind::Word(words) => format!("must be one of {}", words.join(", ")),
        };
        Error::config(self.name, cure)
    }
}
