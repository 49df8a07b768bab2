//! The suite over stores whose connection breaks: behind a switch, wrapped, and with a backend that forgets.

use std::sync::Arc;

use cloakroom_conformance::{Counting, Env, Outage, Plain, Reference, Switch, conformance_tests};
use cloakroom_core::{AdminStore, Error, Store, async_trait};

fn switched(env: &Env) -> Switch<Reference> {
    env.shared(|| Switch::new(Reference::new()))
}

mod with_every_ability {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(switched(&env)) },
        abilities: [atomic, indexed, admin],
        outage: switched,
    }
}

mod without_abilities {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(Plain::new(switched(&env))) },
        abilities: [],
        longest_key: 255,
        outage: |env: &Env| switched(env),
    }
}

mod wrapped {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            let store: Arc<dyn Store> = Arc::new(Counting::new(switched(&env)));
            Ok::<_, Error>(store)
        },
        abilities: [atomic, indexed, admin],
        outage: |env: &Env| Arc::new(switched(env)),
    }
}

/// A backend with nothing on disk.
struct Restart(Switch<Reference>);

#[async_trait]
impl Outage for Restart {
    async fn begin(&self) {
        self.0.disconnect();
    }

    async fn end(&self) {
        self.0.inner().clear().await.expect("the reference never fails");
        self.0.connect();
    }

    fn keeps_data(&self) -> bool {
        false
    }
}

mod that_forgets {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(switched(&env)) },
        abilities: [atomic, indexed, admin],
        outage: |env: &Env| Restart(switched(env)),
    }
}
