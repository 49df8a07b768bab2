//! What two of the cookie's attributes may say: `SameSite` and `Priority`.

/// Which requests from other sites carry the cookie (RFC 6265bis, section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// None of them, not even a click on a link.
    Strict,
    /// Only those that move the browser to this site with a safe method: a click on a link. The default.
    Lax,
    /// All of them. Needs `Secure`.
    ///
    /// # Risk
    /// Any site can make a browser send requests in its user's name (cross-site request forgery). Every route that
    /// changes anything then needs a defence of its own.
    None,
}

impl SameSite {
    /// Returns the attribute's value as it stands in the header.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// What a browser drops first when a site has too many cookies. Chromium alone looks at it, and it is in no standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Before all others.
    Low,
    /// What a cookie without the attribute has.
    Medium,
    /// After all others.
    High,
}

impl Priority {
    /// Returns the attribute's value as it stands in the header.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}
