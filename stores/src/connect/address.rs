//! An address taken apart: the scheme, the options that are ours, and the rest, which is the driver's.

use std::{fmt, time::Duration};

use cloakroom_core::{Error, Result};

/// The options of Cloakroom, in any store's address.
const OURS: [&str; 10] = [
    "max_bytes",
    "max_connections",
    "max_entries",
    "migrate",
    "prefix",
    "prepare",
    "schema",
    "sweep_every",
    "table",
    "timeout",
];

/// An address, without the options that were taken out of it. Holds a password, perhaps: it is never shown.
pub(super) struct Address {
    scheme: String,
    /// What is left for the driver: with the scheme, and without our options.
    rest: String,
    options: Vec<(&'static str, String)>,
}

impl Address {
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming an option that stands there twice.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme).to_owned();
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut options: Vec<(&'static str, String)> = Vec::new();
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let decoded = form_urlencoded::parse(pair.as_bytes()).next();
            let ours = decoded.and_then(|(name, value)| {
                OURS.into_iter().find(|ours| *ours == name).map(|ours| (ours, value.into_owned()))
            });
            match ours {
                Some((name, _)) if options.iter().any(|(known, _)| *known == name) => {
                    return Err(Error::config(name, "must stand in the address once"));
                }
                Some(option) => options.push(option),
                None => others.push(pair),
            }
        }
        let rest = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
        Ok(Self { scheme, rest, options })
    }

    pub(super) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Refuses the options of ours that are not among `known`, and those that the driver would pass over in silence or
    /// write to its log: what is not among `driver`, unless the driver refuses such itself.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming the first of ours, and `url` for another's.
    pub(super) fn refuse_others(&self, known: &[&str], driver: Option<&[&str]>, feature: &str) -> Result<()> {
        if let Some((name, _)) = self.options.iter().find(|(name, _)| !known.contains(name)) {
            let cure = format!("is no option of this store ({feature}); leave it out of the address");
            return Err(Error::config(name, cure));
        }
        let Some(driver) = driver else { return Ok(()) };
        let query = self.rest.split_once('?').map_or("", |(_, query)| query);
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !driver.iter().any(|known| name == *known) {
                // Its name is not shown: in an address whose password is not encoded it may be a part of that.
                let ours = known.join(", ");
                let cure = format!(
                    "has an option after `?` that neither Cloakroom ({ours}) nor the driver ({}) knows",
                    driver.join(", ")
                );
                return Err(Error::config("url", cure));
            }
        }
        Ok(())
    }
}

// Not used without a backend.
#[allow(dead_code)]
impl Address {
    /// Returns what the driver is to be given.
    pub(super) fn rest(&self) -> &str {
        &self.rest
    }

    /// Returns what the driver is to be given, under another scheme.
    pub(super) fn rest_as(&self, scheme: &str) -> String {
        format!("{scheme}{}", &self.rest[self.scheme.len()..])
    }

    pub(super) fn text(&self, name: &'static str) -> Option<&str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number<N: std::str::FromStr + Default + PartialOrd>(
        &self,
        name: &'static str,
    ) -> Result<Option<N>> {
        let bad = || Error::config(name, "must be a whole number from 1");
        let number = self.text(name).map(|text| text.parse::<N>().map_err(|_| bad())).transpose()?;
        match number {
            Some(number) if number <= N::default() => Err(bad()),
            number => Ok(number),
        }
    }

    /// Returns `true` unless the option is `false`.
    pub(super) fn unless_false(&self, name: &'static str) -> Result<bool> {
        match self.text(name) {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Error::config(name, "must be true or false")),
        }
    }

    pub(super) fn duration(&self, name: &'static str) -> Result<Option<Duration>> {
        self.text(name).map(|text| crate::duration::parse(name, text)).transpose()
    }

    /// Returns the parts of `scheme://user:password@host1,host2/path`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming `url` when there is no host.
    pub(super) fn parts(&self) -> Result<Parts<'_>> {
        let bad = || Error::config("url", "must have hosts after `://`, separated by commas");
        let after = self.rest.split_once("://").ok_or_else(bad)?.1;
        let (after, query) = match after.split_once('?') {
            Some((after, query)) => (after, Some(query)),
            None => (after, None),
        };
        let (authority, path) = after.split_once('/').unwrap_or((after, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(bad());
        }
        Ok(Parts { user, hosts, path, query })
    }
}

/// The parts of an address with several hosts.
#[allow(dead_code)]
pub(super) struct Parts<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) hosts: Vec<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url).expect("it can be taken apart")
    }

    #[test]
    fn our_options_are_taken_out_and_the_others_left_as_they_were() {
        let address =
            parsed("postgres://u:p%40@h/d?sslmode=require&table=s&prefix=a%20b&application_name=x%20y");
        assert_eq!(address.rest(), "postgres://u:p%40@h/d?sslmode=require&application_name=x%20y");
        assert_eq!((address.text("table"), address.text("prefix")), (Some("s"), Some("a b")));
        assert_eq!(address.text("schema"), None);
        assert_eq!(parsed("redis://h/0?prefix=p").rest(), "redis://h/0");
        assert_eq!(parsed("redis+cluster://h?x=1").rest_as("redis"), "redis://h?x=1");
    }

    #[test]
    fn the_parts_of_several_hosts_are_found() {
        let address = parsed("redis+sentinel://u:p@a,b:1,[::1]:2/mymaster/3?protocol=resp3&timeout=1s");
        let parts = address.parts().expect("it has hosts");
        assert_eq!(
            (parts.user, parts.path, parts.query),
            (Some("u:p"), "mymaster/3", Some("protocol=resp3"))
        );
        assert_eq!(parts.hosts, ["a", "b:1", "[::1]:2"]);
        for bad in ["redis+cluster:", "redis+cluster://", "redis+cluster://a,,b", "redis+cluster://u:p@"] {
            assert_eq!(parsed(bad).parts().err().expect("it has none").field(), Some("url"));
        }
    }

    #[test]
    fn values_that_cannot_be_used_are_refused_by_name() {
        let address = parsed("x:?max_entries=0&migrate=maybe&timeout=soon&max_bytes=-1");
        assert_eq!(address.number::<usize>("max_entries").expect_err("zero").field(), Some("max_entries"));
        assert_eq!(address.number::<usize>("max_bytes").expect_err("negative").field(), Some("max_bytes"));
        assert_eq!(address.unless_false("migrate").expect_err("a word").field(), Some("migrate"));
        assert_eq!(address.duration("timeout").expect_err("a word").field(), Some("timeout"));
        assert_eq!(Address::parse("x:?table=a&table=b").expect_err("twice").field(), Some("table"));
    }

    #[test]
    fn debug_shows_nothing_of_an_address() {
        assert!(!format!("{:?}", parsed("redis://u:canary@canary/?prefix=canary")).contains("canary"));
    }
}
