//! Every interleaving of three calls that meet over one session, two of them stopped at every step: whatever they
//! answer and leave must be what some order of the three makes of a single store.

use std::collections::HashSet;

use cloakroom::{IndexedStore, Key, Migrating, Store, Swapped, Ttl};
use cloakroom_conformance::Reference;

use crate::{
    naive::{Naive, Way},
    steps::{Call, Steps},
};

const TTL: Ttl = Ttl::from_secs(3600);
const USER: &str = "ann";

/// What is called; the number tells the values that different calls write apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Get,
    Set,
    Destroy,
    Create,
    Replace,
    Remove,
    Touch,
    DestroyUser,
    KeysOf,
}

const ALL: [Op; 9] = [
    Op::Get,
    Op::Set,
    Op::Destroy,
    Op::Create,
    Op::Replace,
    Op::Remove,
    Op::Touch,
    Op::DestroyUser,
    Op::KeysOf,
];

fn key() -> Key {
    Key::new("a-key").expect("the key is valid")
}

/// Makes a call and returns its answer. Whether a call destroyed something is left out: of several at once more than
/// one may say so.
async fn call(store: &dyn Store, op: Op, number: usize) -> String {
    let (key, value) = (key(), format!("value {number}").into());
    let atomic = store.as_atomic().expect("it compares and swaps");
    let indexed = || store.as_indexed().expect("it has an index");
    let swapped = |swapped| match swapped {
        Swapped::Done => "done".to_owned(),
        Swapped::Gone => "gone".to_owned(),
        Swapped::Conflict(current) => format!("conflict with {}", String::from_utf8_lossy(&current)),
    };
    let answer = match op {
        Op::Get => {
            store.get(&key).await.map(|found| format!("{:?}", found.map(|it| String::from_utf8(it.into()))))
        }
        Op::Set => store.set(&key, value, TTL).await.map(|()| String::new()),
        Op::Destroy => store.destroy(&key).await.map(|_| String::new()),
        Op::Create => atomic.create(&key, value, TTL).await.map(|created| created.to_string()),
        Op::Replace => atomic.replace(&key, b"old", value, TTL).await.map(swapped),
        Op::Remove => atomic.remove(&key, b"old").await.map(swapped),
        Op::Touch => atomic.touch(&key, TTL).await.map(|touched| touched.to_string()),
        Op::DestroyUser => indexed().destroy_user(USER, None).await.map(|_| String::new()),
        Op::KeysOf => indexed().keys_of(USER).await.map(|keys| keys.len().to_string()),
    };
    answer.unwrap_or_else(|error| format!("error: {error}"))
}

/// What the calls answered, by number, and what is there afterwards.
type Seen = (Vec<Option<String>>, String);

/// Everything that some order of the calls makes of a single store. `cut`: a call that may or may not have happened.
///
/// A call that ends a session does so in one store after the other. If its key is created anew between the two, which
/// no random key ever is, the new one may end as well: as if the call had been made twice.
fn allowed(ops: &[Op], begin: Begin, cut: Option<usize>) -> HashSet<Seen> {
    let anew = ops.iter().any(|op| matches!(op, Op::Create | Op::Set));
    let ends = |number: &usize| anew && matches!(ops[*number], Op::Destroy | Op::DestroyUser | Op::Remove);
    let twice: Vec<usize> = (0..ops.len()).filter(ends).collect();
    let mut allowed = HashSet::new();
    for subset in 0..1_usize << twice.len() {
        let twice = twice.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
        let events: Vec<usize> = (0..ops.len()).chain(twice.map(|(_, number)| *number)).collect();
        for order in orders(events.len()) {
            for leave_out in [None, cut] {
                let store = Reference::new();
                if begin != Begin::Nowhere {
                    now(store.set(&key(), "old".into(), TTL)).expect("it is stored");
                }
                now(store.bind(&key(), USER, TTL)).expect("it is bound");
                let mut answers = vec![None; ops.len()];
                for number in order.iter().map(|event| events[*event]) {
                    if Some(number) != leave_out {
                        // Of a call that is made twice the second answer counts.
                        let answer = now(call(&store, ops[number], number));
                        answers[number] = (Some(number) != cut).then_some(answer);
                    }
                }
                allowed.insert((answers, now(call(&store, Op::Get, 0))));
            }
        }
    }
    allowed
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| insert(order, at))).collect()
}

fn now<T: Send>(future: impl Future<Output = T> + Send) -> T {
    Call::new(future).finish()
}

/// Where the session is when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Old,
    New,
    Nowhere,
}

/// The two stores, with the session in its place.
fn stores(begin: Begin) -> (Steps, Steps) {
    let (from, to) = (Steps::default(), Steps::default());
    let home = if begin == Begin::New { &to } else { &from };
    if begin != Begin::Nowhere {
        now(home.inner().set(&key(), "old".into(), TTL)).expect("it is stored");
    }
    now(home.inner().bind(&key(), USER, TTL)).expect("it is bound");
    (from, to)
}

/// What happens to the first call once the others have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It ends before the second.
    First,
    /// It ends after the second.
    Last,
    /// Its process dies.
    Never,
}

/// Runs three calls: the first stops after `i` steps, the second after `j`, the third runs whole, then the others end.
/// `None` if one of the first two ended before it was stopped.
fn meet(stores: [&dyn Store; 3], ops: [Op; 3], i: usize, j: usize, end: End) -> Option<Seen> {
    let mut calls = [0, 1, 2].map(|number| Some(Call::new(call(stores[number], ops[number], number))));
    let [first, second, _] = &mut calls;
    if first.as_mut()?.run(i) | second.as_mut()?.run(j) {
        return None;
    }
    let third = calls[2].take().map(Call::finish);
    let [first, second, _] = &mut calls;
    let (one, two) = match end {
        End::First => {
            let one = first.take().map(Call::finish);
            (one, second.take().map(Call::finish))
        }
        End::Last => {
            let two = second.take().map(Call::finish);
            (first.take().map(Call::finish), two)
        }
        End::Never => {
            drop(first.take());
            (None, second.take().map(Call::finish))
        }
    };
    Some((vec![one, two, third], now(call(stores[1], Op::Get, 0))))
}

/// Fails at the first interleaving that no order of the calls explains.
fn judge(make: &dyn Fn(Begin) -> [Box<dyn Store>; 3], begin: Begin, ops: [Op; 3]) -> Result<u64, String> {
    let whole = allowed(&ops, begin, None);
    let cut = allowed(&ops, begin, Some(0));
    let mut met = 0;
    for end in [End::First, End::Last, End::Never] {
        let allowed = if end == End::Never { &cut } else { &whole };
        for i in 1.. {
            let mut ended = true;
            for j in 1.. {
                let stores = make(begin);
                let Some(seen) = meet([&*stores[0], &*stores[1], &*stores[2]], ops, i, j, end) else { break };
                (met, ended) = (met + 1, false);
                if !allowed.contains(&seen) {
                    return Err(format!("{begin:?} {ops:?} stopped at {i} and {j}, {end:?}: {seen:?}"));
                }
            }
            if ended {
                break;
            }
        }
    }
    Ok(met)
}

fn moving(begin: Begin) -> [Box<dyn Store>; 3] {
    let (from, to) = stores(begin);
    let store = Migrating::new(from, to).expect("both compare and swap");
    [Box::new(store.clone()), Box::new(store.clone()), Box::new(store)]
}

/// The second instance leaves sessions in place.
fn mixed(begin: Begin) -> [Box<dyn Store>; 3] {
    let (from, to) = stores(begin);
    let store = Migrating::new(from, to).expect("both compare and swap");
    [Box::new(store.clone()), Box::new(store.clone().in_place()), Box::new(store)]
}

fn every_race_of(first: Op) {
    let mut met = 0;
    for begin in [Begin::Old, Begin::New, Begin::Nowhere] {
        for second in ALL {
            for third in ALL {
                let judged = judge(&moving, begin, [first, second, third]);
                met += judged.expect("some order explains it");
            }
        }
    }
    assert!(met > 1000, "only {met} interleavings");
}

#[test]
fn no_read_is_wrong_whatever_it_meets() {
    every_race_of(Op::Get);
}

#[test]
fn no_set_is_wrong_whatever_it_meets() {
    every_race_of(Op::Set);
}

#[test]
fn no_destroy_is_wrong_whatever_it_meets() {
    every_race_of(Op::Destroy);
}

#[test]
fn no_create_is_wrong_whatever_it_meets() {
    every_race_of(Op::Create);
}

#[test]
fn no_replace_is_wrong_whatever_it_meets() {
    every_race_of(Op::Replace);
}

#[test]
fn no_remove_is_wrong_whatever_it_meets() {
    every_race_of(Op::Remove);
}

#[test]
fn no_touch_is_wrong_whatever_it_meets() {
    every_race_of(Op::Touch);
}

#[test]
fn no_destroy_of_a_user_is_wrong_whatever_it_meets() {
    every_race_of(Op::DestroyUser);
}

#[test]
fn no_list_of_a_user_is_wrong_whatever_it_meets() {
    every_race_of(Op::KeysOf);
}

/// New keys are random, so that two instances never create or set one key at once.
#[test]
fn instances_that_leave_sessions_in_place_and_instances_that_move_them_get_along() {
    let live = [Op::Get, Op::Destroy, Op::Replace, Op::Remove, Op::Touch, Op::DestroyUser];
    for begin in [Begin::Old, Begin::New] {
        for first in live {
            for second in live {
                for third in live {
                    let judged = judge(&mixed, begin, [first, second, third]);
                    judged.expect("some order explains it");
                }
            }
        }
    }
}

#[test]
fn each_obvious_way_to_move_a_session_is_caught() {
    for (way, caught_by) in [
        (Way::RemoveThenCreate, [Op::Replace, Op::Get, Op::Get]),
        (Way::RemoveThenCreate, [Op::Replace, Op::Destroy, Op::Get]),
        (Way::CreateThenRemove, [Op::Replace, Op::Destroy, Op::Get]),
        (Way::DestroyNewBefore, [Op::Replace, Op::Destroy, Op::Get]),
    ] {
        let make = |begin| {
            let (from, to) = stores(begin);
            let store = Naive { from, to, way };
            [Box::new(store.clone()) as Box<dyn Store>, Box::new(store.clone()), Box::new(store)]
        };
        assert!(judge(&make, Begin::Old, caught_by).is_err(), "{way:?} {caught_by:?}");
    }
}
