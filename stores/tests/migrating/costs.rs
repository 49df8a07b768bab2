//! What calls through `Migrating` cost: as many of the two stores, together, as its documentation says.

use cloakroom::{AtomicStore, Key, Migrating, Store, Swapped, Ttl};
use cloakroom_conformance::{Counting, Operation, Reference};

const HOUR: Ttl = Ttl::from_secs(3600);

/// Where the session is before the call.
#[derive(Clone, Copy, Debug)]
enum Place {
    From,
    To,
    Neither,
}

type Pair = Migrating<Counting<Reference>, Counting<Reference>>;

/// A pair with a session of the value `old` in that place, and nothing counted yet.
async fn pair(place: Place, key: &Key) -> Pair {
    let (from, to) = (Counting::new(Reference::new()), Counting::new(Reference::new()));
    match place {
        Place::From => from.inner().set(key, "old".into(), HOUR).await.expect("it answers"),
        Place::To => to.inner().set(key, "old".into(), HOUR).await.expect("it answers"),
        Place::Neither => {}
    }
    Migrating::new(from, to).expect("both compare and swap")
}

async fn call(pair: &Pair, operation: Operation, key: &Key) -> bool {
    match operation {
        Operation::Get => pair.get(key).await.expect("it answers").is_some(),
        Operation::Set => pair.set(key, "new".into(), HOUR).await.is_ok(),
        Operation::Destroy => pair.destroy(key).await.expect("it answers"),
        Operation::Create => pair.create(key, "new".into(), HOUR).await.expect("it answers"),
        Operation::Replace => {
            pair.replace(key, b"old", "new".into(), HOUR).await.expect("it answers") == Swapped::Done
        }
        Operation::Remove => pair.remove(key, b"old").await.expect("it answers") == Swapped::Done,
        _ => pair.touch(key, HOUR).await.expect("it answers"),
    }
}

#[tokio::test]
async fn each_call_costs_what_the_documentation_says() {
    let key = Key::new("one").expect("it is well-formed");
    for (place, operation, does, cost) in [
        (Place::To, Operation::Get, true, 1),
        (Place::To, Operation::Replace, true, 1),
        (Place::To, Operation::Remove, true, 1),
        (Place::To, Operation::Touch, true, 2),
        (Place::To, Operation::Set, true, 2),
        (Place::To, Operation::Destroy, true, 2),
        (Place::From, Operation::Get, true, 2),
        (Place::From, Operation::Replace, true, 8),
        (Place::Neither, Operation::Get, false, 3),
        (Place::Neither, Operation::Create, true, 2),
        (Place::Neither, Operation::Set, true, 2),
    ] {
        let pair = pair(place, &key).await;
        assert_eq!(call(&pair, operation, &key).await, does, "{operation} of one in {place:?}");
        let (from, to) = (pair.from().counts(), pair.to().counts());
        assert_eq!(from.total() + to.total(), cost, "{operation} of one in {place:?}: {from} and {to}");
    }
}

#[tokio::test]
async fn a_session_that_has_moved_costs_one_call_and_leaves_the_old_store_alone() {
    let key = Key::new("one").expect("it is well-formed");
    let pair = pair(Place::From, &key).await;
    assert!(call(&pair, Operation::Replace, &key).await);
    pair.from().reset();
    pair.to().reset();
    assert!(call(&pair, Operation::Get, &key).await);
    assert_eq!((pair.from().counts().total(), pair.to().counts().total()), (0, 1));
}
