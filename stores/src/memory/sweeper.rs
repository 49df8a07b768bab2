//! The thread that takes expired entries out: when it starts, sleeps, wakes and stops.
//!
//! A thread and not a task: a store may be made before there is a runtime and may serve several. It starts with the
//! first entry, sleeps until something is due, and ends with the store, of which it holds only a weak reference. A
//! sleeping thread keeps no process alive.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use parking_lot::{Condvar, Mutex};

use super::inner::Inner;

/// The shortest sleep between two sweeps, in nanoseconds, so that a steady trickle of expiries is taken in handfuls.
const PAUSE: u64 = 50_000_000;

/// Wakes the sweeper, and knows when it wakes by itself.
pub(super) struct Alarm {
    /// Who has something due earlier than this must call [`nudge`](Self::nudge). Written by the sweeper *before* it
    /// looks at the shards for the last time, and read by others *after* they published what is due in a shard, all
    /// sequentially consistent: one of the two sees the other.
    wakes_at: AtomicU64,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    thread: Phase,
    nudged: bool,
    stopped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    NotStarted,
    Running,
    /// The system gave no thread. Writers then sweep a little with each write.
    Failed,
}

impl Alarm {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            wakes_at: AtomicU64::new(u64::MAX),
            state: Mutex::new(State { thread: Phase::NotStarted, nudged: false, stopped: false }),
            wake: Condvar::new(),
        })
    }

    /// Returns whether the sweeper would sleep past `due`.
    pub(super) fn sleeps_past(&self, due: u64) -> bool {
        due < self.wakes_at.load(SeqCst)
    }

    /// Wakes the sweeper, or starts it; `false` if the system has no thread for it.
    pub(super) fn nudge(self: &Arc<Self>, inner: &Weak<Inner>) -> bool {
        let mut state = self.state.lock();
        if state.thread == Phase::NotStarted {
            let (alarm, inner) = (self.clone(), inner.clone());
            let spawned =
                thread::Builder::new().name("cloakroom-sweep".to_owned()).spawn(move || run(&alarm, &inner));
            state.thread = if spawned.is_ok() {
                Phase::Running
            } else {
                self.wakes_at.store(0, SeqCst);
                Phase::Failed
            };
        }
        state.nudged = true;
        self.wake.notify_one();
        state.thread == Phase::Running
    }

    /// Behaves from now on as if the system had no thread to give.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.state.lock().thread = Phase::Failed;
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_one();
    }
}

fn run(alarm: &Alarm, inner: &Weak<Inner>) {
    loop {
        alarm.wakes_at.store(0, SeqCst);
        let wakes_at = {
            // Upgraded for one sweep only, so that the store goes when its last handle goes.
            let Some(inner) = inner.upgrade() else { return };
            if inner.sweep_all(|| Arc::strong_count(&inner) > 1) {
                continue;
            }
            let rested = inner.clock.now().saturating_add(PAUSE);
            let mut due = inner.next_due();
            loop {
                // Whatever comes up sooner than the pause ends waits for that, and needs no nudge.
                alarm.wakes_at.store(if due > rested { due } else { 0 }, SeqCst);
                let seen = inner.next_due();
                if seen >= due {
                    break;
                }
                due = seen;
            }
            inner.clock.instant(due.max(rested))
        };
        let mut state = alarm.state.lock();
        if !state.stopped && !state.nudged {
            match wakes_at {
                Some(at) => drop(alarm.wake.wait_until(&mut state, at)),
                None => alarm.wake.wait(&mut state),
            }
        }
        state.nudged = false;
        if state.stopped {
            return;
        }
    }
}
