//! The checks of the configuration: every mistake an error that names its field.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{Builder, Settings};
use crate::{
    backend::Backend,
    error::{Error, Result},
    event,
    gate::Gate,
    profile::{Shared, Terms},
    store::Guarantee,
    transport::Carrier,
};

impl<A> Builder<A> {
    /// Checks everything.
    pub(crate) fn settings(self) -> Result<Settings> {
        self.expiry.check()?;
        if self.operation_timeout.is_zero() {
            return Err(Error::config("operation_timeout", "must be longer than zero; try 2 seconds"));
        }
        if self.max_record < 1024 {
            return Err(Error::config("max_record", "must be at least 1024 bytes"));
        }
        self.check_profile()?;
        let format = self.profile.format();
        let ids = self.ids.unwrap_or_else(|| Ok(format.ids()))?;
        let cookie = self.cookie.unwrap_or_else(|| self.profile.default_cookie());
        let terms = Terms {
            cookie: if self.insecure { cookie.insecure() } else { cookie },
            ids: ids.shape(),
            keys: self.keys.as_ref(),
            #[cfg(feature = "encrypt")]
            encrypt: self.encrypt.as_ref(),
            limit: self.max_record,
            expiry: self.expiry,
            clock: Arc::clone(&self.clock),
        };
        let profile = format.wire(&terms)?;
        let backend = Backend::new(self.store, self.operation_timeout);
        let guarantee = if profile.in_cookie { Guarantee::LastWriterWins } else { backend.guarantee() };
        if guarantee == Guarantee::LastWriterWins {
            if self.require_strict {
                return Err(Error::config(
                    "require_strict",
                    "the store is no AtomicStore; use one that is, or accept lost updates by leaving this out",
                ));
            }
            event::last_writer_wins();
        }
        if self.transport.is_some() && self.keys.is_some() {
            return Err(Error::config(
                "keys",
                "sign cookies, and a transport of your own carries the id instead; leave them out",
            ));
        }
        let carrier = match self.transport {
            Some(transport) => Carrier::Custom { transport, shape: ids.shape() },
            None => format.carrier(&terms)?,
        };
        let old = self
            .origin
            .map(|origin| origin.open(&terms, format.shared(), &carrier, self.operation_timeout))
            .transpose()?;
        Ok(Settings {
            guarantee,
            gate: Gate::new(backend.store().status(), self.reconnect_timeout, self.max_waiters),
            on_outage: self.on_outage,
            backend,
            carrier,
            ids,
            hooks: self.hooks,
            expiry: self.expiry,
            rolling: self.rolling,
            allow_empty: self.allow_empty,
            save_on_server_error: self.save_on_server_error,
            clock: self.clock,
            profile,
            old,
            tasks: TaskTracker::new(),
        })
    }

    /// Holds the options together to what the profile has room for.
    fn check_profile(&self) -> Result<()> {
        let shared = self.profile.format().shared();
        if self.storeless != (shared == Shared::InTheCookie) {
            return Err(Error::config("profile", storeless(self.storeless)));
        }
        if shared == Shared::No {
            return Ok(());
        }
        if self.keys.is_some() {
            return Err(Error::config(
                "keys",
                "are given twice: this profile has keys of its own, leave these out",
            ));
        }
        #[cfg(feature = "encrypt")]
        if self.encrypt.is_some() {
            return Err(Error::config(
                "encrypt",
                "cannot go with this profile: the programs it shares its records with could not read them",
            ));
        }
        if self.expiry.has_absolute_end() {
            return Err(Error::config(
                "expiry.absolute",
                "cannot go with this profile: its records do not say when a session began; use an idle time alone",
            ));
        }
        if shared == Shared::InTheCookie && self.transport.is_some() {
            return Err(Error::config(
                "transport",
                "cannot go with this profile: its record is in the cookie",
            ));
        }
        Ok(())
    }
}

/// Says what is wrong with a store, or the lack of one.
pub(crate) const fn storeless(storeless: bool) -> &'static str {
    if storeless {
        "keeps sessions in a store: give the layer one instead of `NoStore`"
    } else {
        "keeps the session in the cookie itself: give the layer `NoStore` for a store"
    }
}
