//! The suite over stores that keep the contract: the reference, plain, shared and wrapped.

use std::sync::Arc;

use cloakroom_conformance::{Counting, Env, Plain, Reference, Switch, conformance_tests};
use cloakroom_core::{Error, Store};

mod with_every_ability {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(env.shared(Reference::new)) },
        abilities: [atomic, indexed, admin],
    }
}

mod without_abilities {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(Plain::new(env.shared(Reference::new))) },
        abilities: [],
    }
}

mod behind_a_shared_pointer {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move {
            let store: Arc<dyn Store> = Arc::new(env.shared(Reference::new));
            Ok::<_, Error>(store)
        },
        abilities: [admin, atomic, indexed],
    }
}

mod counted {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(Counting::new(env.shared(Reference::new))) },
        abilities: [indexed, admin, atomic],
    }
}

mod behind_a_switch {
    use super::*;

    conformance_tests! {
        server: none,
        open: |env: Env| async move { Ok::<_, Error>(Switch::new(env.shared(Reference::new))) },
        abilities: [atomic, indexed, admin],
    }
}
