//! What workers do to each other through memory that they share, in every order that two or three threads can do it in, as loom
//! finds them: nobody is left waiting, and no limit is exceeded.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(dead_code, reason = "not all of what is looked at is used")]

#[path = "../src/worker/gates.rs"]
mod gates;
#[path = "../src/worker/mark.rs"]
mod mark;

mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

        macro_rules! sequential {
            ($($name:ident: $number:ty,)*) => { $(
                /// A number of which each look sees the last change, as `SeqCst` promises of looks at several of them. loom
                /// takes that for less, so that here a look is a change by nothing.
                #[derive(Debug, Default)]
                pub(crate) struct $name(loom::sync::atomic::$name);

                impl $name {
                    pub(crate) fn new(value: $number) -> Self {
                        Self(loom::sync::atomic::$name::new(value))
                    }

                    pub(crate) fn load(&self, order: Ordering) -> $number {
                        self.fetch_add(0, order)
                    }

                    pub(crate) fn fetch_add(&self, more: $number, order: Ordering) -> $number {
                        assert_eq!(order, Ordering::SeqCst, "no less is looked at here");
                        self.0.fetch_add(more, Ordering::AcqRel)
                    }

                    pub(crate) fn fetch_sub(&self, less: $number, order: Ordering) -> $number {
                        self.fetch_add(less.wrapping_neg(), order)
                    }

                    pub(crate) fn fetch_update(
                        &self,
                        set: Ordering,
                        get: Ordering,
                        mut update: impl FnMut($number) -> Option<$number>,
                    ) -> Result<$number, $number> {
                        let mut was = self.load(get);
                        while let Some(next) = update(was) {
                            match self.0.compare_exchange(was, next, set, Ordering::Acquire) {
                                Ok(was) => return Ok(was),
                                Err(now) => was = now,
                            }
                        }
                        Err(was)
                    }
                }
            )* };
        }

        sequential! { AtomicU32: u32, AtomicU64: u64, }
    }
}

mod counters {
    /// The cells of the first few slots, all of them there from the beginning.
    #[derive(Debug)]
    pub(crate) struct Chunks<T>(Vec<T>);

    impl<T: Default> Chunks<T> {
        pub(crate) fn new() -> Self {
            Self((0..2).map(|_| T::default()).collect())
        }

        pub(crate) fn at(&self, slot: u32) -> &T {
            &self.0[slot as usize]
        }
    }
}

/// What a gate tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    Room { ticket: u64, slot: u32 },
}

/// A mailbox that its worker can wait at.
#[derive(Debug)]
pub(crate) struct Mailbox {
    told: loom::sync::Mutex<Vec<u64>>,
    more: loom::sync::Condvar,
}

impl Mailbox {
    fn new() -> Arc<Self> {
        Arc::new(Self { told: loom::sync::Mutex::new(Vec::new()), more: loom::sync::Condvar::new() })
    }

    pub(crate) fn send(&self, Command::Room { ticket, .. }: Command) -> bool {
        self.told.lock().unwrap().push(ticket);
        self.more.notify_one();
        true
    }

    /// Waits until somebody says that it is this ticket's turn.
    fn turn(&self, ticket: u64) {
        let mut told = self.told.lock().unwrap();
        while !told.contains(&ticket) {
            told = self.more.wait(told).unwrap();
        }
        told.retain(|each| *each != ticket);
    }
}

use gates::{Gates, Queue};
use mark::Mark;
use std::sync::Arc;
use sync::atomic::{AtomicU32, Ordering};

const LIMIT: u32 = 1;

/// One request as a worker leads it past a gate: `pick/queue.rs` and `worker/room.rs` without what they wait with.
fn request(gates: &Gates, own: &Mailbox, worker: usize, inside: &AtomicU32) {
    let queue = Queue::Backend(0);
    if gates.is_full(0, LIMIT) || !gates.try_enter(0, LIMIT) {
        let ticket = gates.join(queue, worker, 8).unwrap();
        // Whoever left before may have left room, and whoever leaves now sees the ticket.
        match gates.try_enter(0, LIMIT) {
            true if gates.give_up(queue, ticket) => {}
            true => {
                // Its turn has come as well: that room is on its way, and passed on.
                own.turn(ticket.number);
                gates.leave(0, 0, LIMIT, || true);
            }
            false => own.turn(ticket.number),
        }
    }
    assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT, "more than may be inside");
    inside.fetch_sub(1, Ordering::SeqCst);
    gates.leave(0, 0, LIMIT, || true);
}

#[test]
fn a_gate_lets_in_as_many_as_may_and_forgets_nobody() {
    for workers in [2, 3] {
        let mut model = loom::model::Builder::new();
        // What more of them would find takes hours; faults of this kind need few.
        model.preemption_bound = Some(if workers == 2 { 4 } else { 2 });
        model.check(move || {
            let mailboxes: Vec<_> = (0..workers).map(|_| Mailbox::new()).collect();
            let gates = Arc::new(Gates::new(mailboxes.clone()));
            let inside = Arc::new(AtomicU32::new(0));
            let each = |worker: usize| {
                let (gates, own, inside) = (Arc::clone(&gates), Arc::clone(&mailboxes[worker]), Arc::clone(&inside));
                move || request(&gates, &own, worker, &inside)
            };
            let others: Vec<_> = (1..workers).map(|worker| loom::thread::spawn(each(worker))).collect();
            each(0)();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert!(gates.has_room(0, LIMIT) && gates.queued(Queue::Backend(0)) == 0, "all is as it was");
        });
    }
}

/// The socket that wakes a worker: a byte that is written is there until it is read.
struct Wakeup {
    bytes: loom::sync::Mutex<u32>,
    more: loom::sync::Condvar,
}

impl Wakeup {
    fn write(&self) {
        *self.bytes.lock().unwrap() += 1;
        self.more.notify_one();
    }

    fn read(&self) {
        let mut bytes = self.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.more.wait(bytes).unwrap();
        }
        *bytes = 0;
    }
}

/// The channel beside it, as weak as one can be: it promises no order but that of its own contents.
type Channel = loom::sync::atomic::AtomicU32;

#[test]
fn no_command_is_left_in_a_mailbox() {
    const SENDERS: u32 = 2;
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let shared = Arc::new((
            Mark::new(),
            Channel::new(0),
            Wakeup { bytes: loom::sync::Mutex::new(0), more: loom::sync::Condvar::new() },
        ));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    let (mark, channel, wakeup) = &*shared;
                    channel.fetch_add(1, Ordering::Relaxed);
                    if mark.raise() {
                        wakeup.write();
                    }
                })
            })
            .collect();
        let (mark, channel, wakeup) = &*shared;
        let mut taken = 0;
        while taken < SENDERS {
            // Where a command were left behind, nobody would write again: loom tells of a deadlock.
            wakeup.read();
            mark.lower();
            let there = channel.load(Ordering::Relaxed);
            taken = taken.max(there);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}
