//! Room at backends that have a limit of requests: counted over all workers, handed on to those that wait in the order in
//! which they came. Touched by pools with such a limit alone; its lock is taken only where somebody waits.

use super::{Command, Mailbox};
use crate::counters::Chunks;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 2;
    const POOL: u32 = 9;

    fn gates() -> (Gates, Vec<super::super::Inbox>) {
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| Mailbox::new().unwrap()).unzip();
        (Gates::new(mailboxes.into_iter().map(Arc::new).collect()), inboxes)
    }

    /// What a worker was told: tickets with the backends that have room for them.
    fn told(inbox: &super::super::Inbox) -> Vec<(u64, u32)> {
        let room = |command| if let Command::Room { ticket, slot } = command { Some((ticket, slot)) } else { None };
        inbox.commands.waiting().filter_map(room).collect()
    }

    #[test]
    fn room_is_counted_and_passed_on_in_the_order_of_coming() {
        let (gates, inboxes) = gates();
        assert!(gates.try_enter(1, LIMIT) && gates.try_enter(1, LIMIT) && !gates.try_enter(1, LIMIT));
        assert!(gates.is_full(1, LIMIT) && !gates.is_full(2, LIMIT));
        let join = |queue, worker| gates.join(queue, worker, 10).unwrap().number;
        let (first, second) = (join(Queue::Backend(1), 1), join(Queue::Pool(POOL), 0));
        let third = join(Queue::Backend(1), 0);
        gates.leave(1, POOL, LIMIT, || true);
        assert_eq!(told(&inboxes[1]), [(first, 1)]);
        assert!(!gates.has_room(1, LIMIT), "the room is the next one's already");
        gates.leave(1, POOL, LIMIT, || true);
        gates.leave(1, POOL, LIMIT, || true);
        assert_eq!(told(&inboxes[0]), [(second, 1), (third, 1)]);
        assert!(!gates.has_room(1, LIMIT));
        gates.leave(1, POOL, LIMIT, || true);
        assert!(gates.has_room(1, LIMIT) && !gates.is_full(1, LIMIT));
        assert!(inboxes.iter().all(|inbox| told(inbox).is_empty()));
    }

    #[test]
    fn a_backend_that_takes_nothing_new_serves_its_own_queue_alone() {
        let (gates, inboxes) = gates();
        assert!(gates.try_enter(1, 1));
        gates.join(Queue::Pool(POOL), 0, 10).unwrap();
        let own = gates.join(Queue::Backend(1), 0, 10).unwrap();
        gates.leave(1, POOL, 1, || false);
        gates.leave(1, POOL, 1, || false);
        assert_eq!(told(&inboxes[0]), [(own.number, 1)]);
        assert_eq!((gates.queued(Queue::Pool(POOL)), gates.queued(Queue::Backend(1))), (1, 0));
    }

    #[test]
    fn queues_are_bounded_and_places_can_be_given_up_once() {
        let (gates, _inboxes) = gates();
        let queue = Queue::Backend(1);
        let tickets: Vec<_> = (0..3).map(|_| gates.join(queue, 0, 3).unwrap()).collect();
        assert_eq!(gates.join(queue, 0, 3), None);
        assert!(gates.give_up(queue, tickets[1]) && !gates.give_up(queue, tickets[1]));
        assert_eq!(gates.queued(queue), 2);
        assert!(gates.join(queue, 0, 3).is_some());
    }

    #[test]
    fn room_beyond_the_limit_is_not_passed_on_before_it_is_within() {
        let (gates, inboxes) = gates();
        assert!(gates.try_enter(1, 1));
        gates.force(1);
        let waits = gates.join(Queue::Backend(1), 0, 10).unwrap();
        gates.leave(1, POOL, 1, || true);
        assert!(told(&inboxes[0]).is_empty());
        gates.leave(1, POOL, 1, || true);
        assert_eq!(told(&inboxes[0]), [(waits.number, 1)]);
    }

    #[test]
    fn room_for_a_worker_that_has_ended_goes_to_the_next() {
        let (gates, mut inboxes) = gates();
        assert!(gates.try_enter(1, 1));
        gates.join(Queue::Backend(1), 1, 10).unwrap();
        let next = gates.join(Queue::Backend(1), 0, 10).unwrap();
        inboxes.truncate(1);
        gates.leave(1, POOL, 1, || true);
        assert_eq!(told(&inboxes[0]), [(next.number, 1)]);
    }

    /// Threads that enter, wait and leave at random: never more inside than may be, and nobody waits for ever.
    #[test]
    fn many_threads_never_exceed_the_limit_and_all_come_in() {
        const THREADS: usize = 4;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| Mailbox::new().unwrap()).unzip();
        let gates = Gates::new(mailboxes.into_iter().map(Arc::new).collect());
        let inside = AtomicU32::new(0);
        let serve = || {
            assert!(inside.fetch_add(1, SeqCst) < LIMIT);
            inside.fetch_sub(1, SeqCst);
            gates.leave(1, POOL, LIMIT, || true);
        };
        std::thread::scope(|scope| {
            for (worker, inbox) in inboxes.iter().enumerate() {
                let (gates, serve) = (&gates, &serve);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        if !gates.is_full(1, LIMIT) && gates.try_enter(1, LIMIT) {
                            serve();
                            continue;
                        }
                        let ticket = gates.join(Queue::Backend(1), worker, 100).unwrap();
                        loop {
                            if told(inbox).iter().any(|(number, _)| *number == ticket.number) {
                                break serve();
                            }
                            if gates.try_enter(1, LIMIT) {
                                if !gates.give_up(Queue::Backend(1), ticket) {
                                    // Both came: one of them goes on to the next.
                                    while told(inbox).is_empty() {
                                        std::thread::yield_now();
                                    }
                                    gates.leave(1, POOL, LIMIT, || true);
                                }
                                break serve();
                            }
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_eq!((gates.queued(Queue::Backend(1)), gates.backends.at(1).inside.load(SeqCst)), (0, 0));
    }
}
