//! The configuration of the whole layer as text: from a file of any format that serde reads, or the environment.

mod fields;

use std::{collections::BTreeMap, env, fmt, sync::Arc};

use cloakroom_core::{
    Builder, CookieConfig, Engine, Error, Expiry, Keyring, OnOutage, Priority, Result, SameSite, Store,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use self::fields::{FIELDS, Setting};

/// Everything that can be configured without code, with every mistake named by its field.
///
/// | field | value | |
/// |---|---|---|
/// | `url` | text | the store, as [`connect`](crate::connect()) takes it |
/// | `insecure` | `true` | plain http, for development: [`Builder::insecure`] |
/// | `cookie.name`, `.path`, `.domain` | text | [`CookieConfig`] |
/// | `cookie.same_site` | `strict`, `lax`, `none` | [`CookieConfig::same_site`] |
/// | `cookie.http_only`, `.secure`, `.partitioned` | `true`, `false` | [`CookieConfig`] |
/// | `cookie.priority` | `low`, `medium`, `high` | [`CookieConfig::priority`] |
/// | `cookie.browser_session` | `true` | [`CookieConfig::browser_session`] |
/// | `keys` | texts | secrets that sign the cookie, newest first: [`Builder::keys`] |
/// | `encrypt` | texts | secrets that encrypt records, newest first; needs the feature `encrypt` |
/// | `expiry.idle`, `.absolute` | duration | [`Expiry`]; either or both |
/// | `expiry.renew_below` | 0 to 1 | [`Expiry::renew_below`] |
/// | `rolling`, `allow_empty`, `save_on_server_error` | `true`, `false` | [`Builder`] |
/// | `require_strict` | `true` | [`Builder::require_strict`] |
/// | `operation_timeout`, `reconnect_timeout` | duration | [`Builder`] |
/// | `max_waiters` | number | [`Builder::max_waiters`] |
/// | `max_record` | bytes | [`Builder::max_record`] |
/// | `on_outage` | `fail`, `anonymous` | [`Builder::on_outage`] |
///
/// A field that is left out has the default of the builder. Durations are a whole number and a unit: `500ms`, `2s`,
/// `30m`, `12h`, `7d`. What a field means together with others is checked by [`Builder::build`], by the same names.
///
/// ```
/// # #[cfg(all(feature = "memory", feature = "axum"))]
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use cloakroom::{SessionConfig, SessionLayer};
///
/// let config: SessionConfig = serde_json::from_str(
///     r#"{ "url": "memory:", "cookie": { "name": "__Host-shop" }, "expiry": { "idle": "30m" } }"#,
/// ).unwrap();
/// let layer = config.apply(SessionLayer::new(config.connect().await?))?.build()?;
/// # let _ = layer;
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// In TOML that is
///
/// ```toml
/// url = "memory:"
/// cookie.name = "__Host-shop"
/// expiry.idle = "30m"
/// ```
///
/// and in the environment, for [`from_env("SESSION")`](Self::from_env), `SESSION_URL=memory:`,
/// `SESSION_COOKIE_NAME=__Host-shop` and `SESSION_EXPIRY_IDLE=30m`.
///
/// `Debug` shows which fields are set, and no value: the address and the keys are secret. No error of its own quotes one
/// either.
///
/// # Risk
/// The parser of a format may quote the file in an error of its own: what the crate `toml` displays has the line it
/// stopped at, with the password or the key in it. Log its [`message`] alone, and keep the rest from logs that others
/// read; or put `url`, `keys` and `encrypt` into the environment, whose errors quote nothing.
///
/// [`message`]: https://docs.rs/toml/latest/toml/de/struct.Error.html#method.message
#[derive(Clone, Default)]
pub struct SessionConfig(BTreeMap<&'static str, Setting>);

impl SessionConfig {
    /// Reads the variables that begin with `prefix` and an underscore; then comes the field in upper case, with an
    /// underscore for each dot.
    ///
    /// Several texts are separated by commas: `SESSION_KEYS=new,old`. `SESSION_MANAGER` is passed over: desktops set it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the field whose value cannot be used; naming `environment`
    /// for a variable that begins so and is no field, or is not UTF-8.
    pub fn from_env(prefix: &str) -> Result<Self> {
        Self::from_variables(
            prefix,
            env::vars_os().filter_map(|(name, value)| {
                name.into_string().ok().map(|name| (name, value.into_string().ok()))
            }),
        )
    }

    fn from_variables(
        prefix: &str,
        variables: impl Iterator<Item = (String, Option<String>)>,
    ) -> Result<Self> {
        let mut settings = BTreeMap::new();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(prefix).and_then(|name| name.strip_prefix('_')) else {
                continue;
            };
            if variable == "SESSION_MANAGER" {
                continue;
            }
            let bad = |what: &str| Error::config("environment", format!("the variable {variable} {what}"));
            let field = FIELDS.iter().find(|field| field.variable() == name);
            let field = field.ok_or_else(|| bad("is none of the fields; see the table of SessionConfig"))?;
            let value = value.ok_or_else(|| bad("is not UTF-8"))?;
            settings.insert(field.name, field.read_text(&value)?);
        }
        Ok(Self(settings))
    }

    /// Reads what a file holds.
    fn from_map(map: Map<String, Value>) -> Result<Self> {
        let mut settings = BTreeMap::new();
        for (path, value) in flat(map) {
            let field = FIELDS.iter().find(|field| field.name == path).ok_or_else(|| {
                Error::config("config", format!("there is no field `{path}`; see the table of SessionConfig"))
            })?;
            settings.insert(field.name, field.read(value)?);
        }
        Ok(Self(settings))
    }

    /// Connects to the store that `url` names, with [`connect`](crate::connect()).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `url` when it is not set, and those of `connect`.
    pub async fn connect(&self) -> Result<Arc<dyn Store>> {
        let missing =
            || Error::config("url", "must be set to the address of the store, such as redis://localhost");
        crate::connect(self.text("url").ok_or_else(missing)?).await
    }

    /// Sets on `builder` whatever is configured, and leaves the rest as it is.
    ///
    /// The fields of `cookie` are one thing here, and those of `expiry` another: if one of them is configured, all of the
    /// builder's cookie, or all of its expiry, is replaced, by what is configured and the defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `encrypt` when it is set and the feature is off.
    pub fn apply<A: From<Engine>>(&self, mut builder: Builder<A>) -> Result<Builder<A>> {
        if self.0.keys().any(|name| name.starts_with("cookie.")) {
            builder = builder.cookie(self.cookie());
        }
        if self.flag("insecure") == Some(true) {
            builder = builder.insecure();
        }
        if let Some(keys) = self.texts("keys") {
            builder = builder.keys(Keyring::new(keys));
        }
        if let Some(keys) = self.texts("encrypt") {
            builder = encrypt(builder, keys)?;
        }
        if let Some(expiry) = self.expiry() {
            builder = builder.expiry(expiry);
        }
        if let Some(rolling) = self.flag("rolling") {
            builder = builder.rolling(rolling);
        }
        if let Some(allow) = self.flag("allow_empty") {
            builder = builder.allow_empty(allow);
        }
        if let Some(save) = self.flag("save_on_server_error") {
            builder = builder.save_on_server_error(save);
        }
        if self.flag("require_strict") == Some(true) {
            builder = builder.require_strict();
        }
        if let Some(Setting::Span(timeout)) = self.0.get("operation_timeout") {
            builder = builder.operation_timeout(*timeout);
        }
        if let Some(Setting::Span(timeout)) = self.0.get("reconnect_timeout") {
            builder = builder.reconnect_timeout(*timeout);
        }
        if let Some(Setting::Number(waiters)) = self.0.get("max_waiters") {
            builder = builder.max_waiters(*waiters);
        }
        if let Some(Setting::Number(bytes)) = self.0.get("max_record") {
            builder = builder.max_record(*bytes);
        }
        match self.text("on_outage") {
            Some("anonymous") => builder = builder.on_outage(OnOutage::Anonymous),
            Some(_) => builder = builder.on_outage(OnOutage::Fail),
            None => {}
        }
        Ok(builder)
    }

    fn cookie(&self) -> CookieConfig {
        let mut cookie = CookieConfig::new();
        if let Some(name) = self.text("cookie.name") {
            cookie = cookie.name(name);
        }
        if let Some(path) = self.text("cookie.path") {
            cookie = cookie.path(path);
        }
        if let Some(domain) = self.text("cookie.domain") {
            cookie = cookie.domain(domain);
        }
        match self.text("cookie.same_site") {
            Some("strict") => cookie = cookie.same_site(SameSite::Strict),
            Some("none") => cookie = cookie.same_site(SameSite::None),
            Some(_) => cookie = cookie.same_site(SameSite::Lax),
            None => {}
        }
        if let Some(http_only) = self.flag("cookie.http_only") {
            cookie = cookie.http_only(http_only);
        }
        if let Some(secure) = self.flag("cookie.secure") {
            cookie = cookie.secure(secure);
        }
        if let Some(partitioned) = self.flag("cookie.partitioned") {
            cookie = cookie.partitioned(partitioned);
        }
        match self.text("cookie.priority") {
            Some("low") => cookie = cookie.priority(Priority::Low),
            Some("high") => cookie = cookie.priority(Priority::High),
            Some(_) => cookie = cookie.priority(Priority::Medium),
            None => {}
        }
        if self.flag("cookie.browser_session") == Some(true) {
            cookie = cookie.browser_session();
        }
        cookie
    }

    /// Returns the expiry if any of its fields is set.
    fn expiry(&self) -> Option<Expiry> {
        let span = |name| match self.0.get(name) {
            Some(Setting::Span(span)) => Some(*span),
            _ => None,
        };
        let expiry = match (span("expiry.idle"), span("expiry.absolute")) {
            (Some(idle), Some(absolute)) => Some(Expiry::idle(idle).absolute(absolute)),
            (Some(idle), None) => Some(Expiry::idle(idle)),
            (None, Some(absolute)) => Some(Expiry::fixed(absolute)),
            (None, None) => None,
        };
        match self.0.get("expiry.renew_below") {
            Some(Setting::Share(share)) => Some(expiry.unwrap_or_default().renew_below(*share)),
            _ => expiry,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            Some(Setting::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Setting::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for SessionConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_map(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionConfig").field(&self.0.keys().collect::<Vec<_>>()).finish()
    }
}

#[cfg(feature = "encrypt")]
fn encrypt<A: From<Engine>>(builder: Builder<A>, keys: &[String]) -> Result<Builder<A>> {
    Ok(builder.encrypt(Keyring::new(keys)))
}

#[cfg(not(feature = "encrypt"))]
fn encrypt<A: From<Engine>>(_: Builder<A>, _: &[String]) -> Result<Builder<A>> {
    Err(Error::config("encrypt", "needs the feature `encrypt`: cloakroom = { features = [\"encrypt\"] }"))
}

/// Puts the names of a section before those in it, with a dot between.
fn flat(map: Map<String, Value>) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    for (name, value) in map {
        match value {
            Value::Object(section) => {
                fields.extend(
                    flat(section).into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)),
                );
            }
            value => fields.push((name, value)),
        }
    }
    fields
}

#[cfg(test)]
mod tests;
