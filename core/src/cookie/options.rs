//! Cookie options of one session, kept with it: they differ from the configured ones for this visitor alone.

use serde::{Deserialize, Serialize};

use super::{CookieConfig, SameSite, codec::Lifetime};

/// What one session's cookie does otherwise than configured: see [`Session::cookie`](crate::Session::cookie).
///
/// Name, path and domain cannot differ: the browser would keep two cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CookieOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) same_site: Option<SameSite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) browser_session: Option<bool>,
}

impl CookieOptions {
    /// Sets which requests from other sites carry the cookie.
    #[must_use]
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Sets whether scripts are kept from the cookie.
    ///
    /// # Risk
    /// With `false`, one script injected into a page can carry the session off.
    #[must_use]
    pub const fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = Some(http_only);
        self
    }

    /// Sets whether the cookie ends with the browser. The record keeps its ttl.
    #[must_use]
    pub const fn browser_session(mut self, ends: bool) -> Self {
        self.browser_session = Some(ends);
        self
    }

    /// Returns the configuration with these options in place of its own.
    pub(crate) fn over(&self, config: &CookieConfig) -> CookieConfig {
        let lifetime = match self.browser_session {
            Some(true) => Lifetime::BrowserSession,
            Some(false) => Lifetime::Ttl,
            None => config.lifetime,
        };
        CookieConfig {
            same_site: self.same_site.or(config.same_site),
            http_only: self.http_only.unwrap_or(config.http_only),
            lifetime,
            ..config.clone()
        }
    }
}
