//! Room at backends that have a limit of requests: counted over all workers, handed on to those that wait in the order in
//! which they came. Touched by pools with such a limit alone; its lock is taken only where somebody waits.

use super::{Command, Mailbox};
use crate::{
    counters::Chunks,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

/// Where requests wait: for a backend's room or for any of a pool, each by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Backend(u32),
    Pool(u32),
}

/// A place in a queue, known by its number, which only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    worker: usize,
    pub(crate) number: u64,
}

/// The gates of all backends, and the queues before them.
#[derive(Debug)]
pub(crate) struct Gates {
    backends: Chunks<Gate>,
    pools: Chunks<Waiting>,
    numbers: AtomicU64,
    mailboxes: Vec<Arc<Mailbox>>,
}

#[derive(Debug, Default)]
struct Gate {
    inside: AtomicU32,
    waiting: Waiting,
}

#[derive(Debug, Default)]
struct Waiting {
    /// As many as are in the queue, so that nobody takes the lock to find it empty.
    count: AtomicU32,
    queue: Mutex<VecDeque<Ticket>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Ticket>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gates {
    pub(crate) fn new(mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { backends: Chunks::new(), pools: Chunks::new(), numbers: AtomicU64::new(0), mailboxes }
    }

    /// Whether somebody who comes now finds no room, or others who were there before.
    pub(crate) fn is_full(&self, slot: u32, limit: u32) -> bool {
        let gate = self.backends.at(slot);
        gate.inside.load(SeqCst) >= limit || gate.waiting.count.load(SeqCst) > 0
    }

    pub(crate) fn has_room(&self, slot: u32, limit: u32) -> bool {
        self.backends.at(slot).inside.load(SeqCst) < limit
    }

    /// Takes room if there is some.
    pub(crate) fn try_enter(&self, slot: u32, limit: u32) -> bool {
        let more = |inside| (inside < limit).then_some(inside + 1);
        self.backends.at(slot).inside.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Takes room beyond the limit.
    pub(crate) fn force(&self, slot: u32) {
        self.backends.at(slot).inside.fetch_add(1, SeqCst);
    }

    /// Gives room back, and passes it on to nobody.
    pub(crate) fn give_back(&self, slot: u32) {
        self.backends.at(slot).inside.fetch_sub(1, SeqCst);
    }

    /// Gives room back, to whoever waits longest for it: for the backend, or, where it `takes_new`, for any of its pool.
    pub(crate) fn leave(&self, slot: u32, pool: u32, limit: u32, takes_new: impl Fn() -> bool) {
        self.give_back(slot);
        // Whoever joins a queue counts itself in and then looks for room once more, so that one of both sees the other.
        while self.somebody_waits(slot, pool, &takes_new) && self.try_enter(slot, limit) {
            match self.next(slot, pool, takes_new()) {
                Some(ticket) if self.grant(ticket, slot) => return,
                Some(_) | None => self.give_back(slot),
            }
        }
    }

    fn somebody_waits(&self, slot: u32, pool: u32, takes_new: impl Fn() -> bool) -> bool {
        self.backends.at(slot).waiting.count.load(SeqCst) > 0
            || (self.pools.at(pool).count.load(SeqCst) > 0 && takes_new())
    }

    /// Takes the older of the first of both queues out of its own.
    fn next(&self, slot: u32, pool: u32, takes_new: bool) -> Option<Ticket> {
        let (own, any) = (&self.backends.at(slot).waiting, self.pools.at(pool));
        // Everybody takes both locks in this order.
        let (mut for_this, mut for_any) = (own.lock(), any.lock());
        let number = |queue: &VecDeque<Ticket>| queue.front().map(|ticket| ticket.number);
        let (waiting, queue) = match (number(&for_this), number(&for_any).filter(|_| takes_new)) {
            (Some(this), Some(any)) if this < any => (own, &mut for_this),
            (Some(_), None) => (own, &mut for_this),
            (_, Some(_)) => (any, &mut for_any),
            (None, None) => return None,
        };
        waiting.count.fetch_sub(1, SeqCst);
        queue.pop_front()
    }

    /// False where its worker has ended.
    fn grant(&self, ticket: Ticket, slot: u32) -> bool {
        self.mailboxes[ticket.worker].send(Command::Room { ticket: ticket.number, slot })
    }

    /// A place at the end of a queue; `None` where as many as `most` wait there.
    pub(crate) fn join(&self, queue: Queue, worker: usize, most: u32) -> Option<Ticket> {
        let waiting = self.waiting(queue);
        let mut tickets = waiting.lock();
        if tickets.len() >= most as usize {
            return None;
        }
        let ticket = Ticket { worker, number: self.numbers.fetch_add(1, SeqCst) };
        tickets.push_back(ticket);
        waiting.count.fetch_add(1, SeqCst);
        Some(ticket)
    }

    /// Gives a place up. False where its turn has come meanwhile: the room that goes with it is on its way.
    pub(crate) fn give_up(&self, queue: Queue, ticket: Ticket) -> bool {
        let waiting = self.waiting(queue);
        let mut tickets = waiting.lock();
        // Numbers grow along the queue.
        let Ok(at) = tickets.binary_search_by_key(&ticket.number, |each| each.number) else { return false };
        tickets.remove(at);
        waiting.count.fetch_sub(1, SeqCst);
        true
    }

    fn waiting(&self, queue: Queue) -> &Waiting {
        match queue {
            Queue::Backend(slot) => &self.backends.at(slot).waiting,
            Queue::Pool(slot) => self.pools.at(slot),
        }
    }

    /// How many wait there.
    pub(crate) fn queued(&self, queue: Queue) -> u32 {
        self.waiting(queue).count.load(SeqCst)
    }
}
