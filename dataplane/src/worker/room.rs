//! Requests of this worker that wait for room at a backend.

use super::{Queue, Worker, gates::Ticket};
use affinity::table::Backend;
use ahash::AHashMap;
use control::{desired::AdminState, spec::Limits, status::Health};
use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};

/// Who waits, by ticket number.
#[derive(Debug, Default)]
pub(super) struct Seats(RefCell<AHashMap<u64, Seat>>);

#[derive(Debug, Default)]
struct Seat {
    waker: Option<Waker>,
    /// The slot of the backend whose turn it is for this request.
    room_at: Option<u32>,
    /// What this request waits for may have changed.
    nudged: bool,
}

impl Seats {
    /// Has all that wait look again: there is another table.
    pub(super) fn nudge_all(&self) {
        for seat in self.0.borrow_mut().values_mut() {
            seat.nudged = true;
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Worker {
    /// Takes room to the request that waited for it, or passes it on where that has given up.
    pub(super) fn room_for(&self, ticket: u64, slot: u32) {
        let mut seats = self.seats.0.borrow_mut();
        if let Some(seat) = seats.get_mut(&ticket) {
            seat.room_at = Some(slot);
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
            return;
        }
        drop(seats);
        let of = self.table.borrow().pools.iter().find_map(|pool| {
            let is_there = pool.backends.iter().any(|backend| backend.slot == slot);
            is_there.then_some((pool.slot, pool.settings.limits))
        });
        match of {
            Some((pool, limits)) => drop(Room { worker: self, pool, slot, limit: limits.requests }),
            // Nobody waits for a backend that was removed; should it be added again, its room is all there.
            None => self.shared.gates.give_back(slot),
        }
    }
}

/// A place in a queue for room; left when it goes.
pub(crate) struct Place<'a> {
    worker: &'a Worker,
    queue: Queue,
    ticket: Ticket,
}

impl<'a> Place<'a> {
    /// At the end of the queue; `None` where as many wait there as the limits let.
    pub(crate) fn join(worker: &'a Worker, queue: Queue, limits: Limits) -> Option<Self> {
        let ticket = worker.shared.gates.join(queue, worker.id, limits.queue)?;
        worker.seats.0.borrow_mut().insert(ticket.number, Seat::default());
        Some(Self { worker, queue, ticket })
    }

    /// Whether this is a place in that queue.
    pub(crate) fn is_in(&self, queue: Queue) -> bool {
        self.queue == queue
    }

    /// Waits for its turn, which gives the slot of a backend that has room now, or for another table. To give up waiting
    /// loses nothing.
    pub(crate) async fn turn(&self) -> Option<u32> {
        poll_fn(|context| {
            let mut seats = self.worker.seats.0.borrow_mut();
            let Some(seat) = seats.get_mut(&self.ticket.number) else { return Poll::Ready(None) };
            if let Some(slot) = seat.room_at.take() {
                return Poll::Ready(Some(slot));
            }
            if std::mem::take(&mut seat.nudged) {
                return Poll::Ready(None);
            }
            seat.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let seat = self.worker.seats.0.borrow_mut().remove(&self.ticket.number);
        // Once its turn has come, the room is here and not taken up, or on its way and passed on when it arrives.
        if !self.worker.shared.gates.give_up(self.queue, self.ticket)
            && let Some(slot) = seat.and_then(|seat| seat.room_at)
        {
            self.worker.room_for(self.ticket.number, slot);
        }
    }
}

/// Room that a request has taken at a backend with a limit; given back, or passed on, when it goes.
pub(crate) struct Room<'a> {
    worker: &'a Worker,
    pool: u32,
    pub(crate) slot: u32,
    limit: u32,
}

impl<'a> Room<'a> {
    /// Takes up the room that came with a turn.
    pub(crate) fn granted(worker: &'a Worker, pool: u32, slot: u32, limit: u32) -> Self {
        Self { worker, pool, slot, limit }
    }

    /// `None` where there is none, unless it may go `beyond` the limit.
    pub(crate) fn take(worker: &'a Worker, pool: u32, slot: u32, limit: u32, beyond: bool) -> Option<Self> {
        let gates = &worker.shared.gates;
        if !gates.try_enter(slot, limit) {
            if !beyond {
                return None;
            }
            gates.force(slot);
        }
        Some(Self { worker, pool, slot, limit })
    }

    /// Whether those that wait for any backend could use this one: a backup only while nobody else takes any.
    fn takes_new(&self) -> bool {
        let (worker, table) = (self.worker, self.worker.table.borrow());
        let takes = |&Backend { admin_state, health, weight, slot, .. }: &Backend| {
            admin_state == AdminState::Active
                && weight > 0
                && health != Health::Down
                && !worker.backends.is_marked(slot, worker.clock.millis())
        };
        let Some(pool) = table.pools.iter().find(|pool| pool.slot == self.pool) else { return false };
        let backend = pool.backends.iter().find(|backend| backend.slot == self.slot);
        backend.is_some_and(|backend| {
            let others = || pool.backends.iter().any(|other| !other.backup && takes(other));
            takes(backend) && (!backend.backup || !others())
        })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let gates = &self.worker.shared.gates;
        gates.leave(self.slot, self.pool, self.limit, || self.takes_new());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gates, Handover, Mailbox, Shared, Start, begin};
    use crate::counters::Board;
    use std::sync::Arc;

    #[test]
    fn room_at_a_backend_that_was_removed_is_there_when_it_is_added_again() {
        const SLOT: u32 = 3;
        let (mailbox, inbox) = Mailbox::new().unwrap();
        let gates = Gates::new(vec![Arc::new(mailbox)]);
        let shared = Arc::new(Shared::new(vec![Board::new()], gates));
        let (events, _told) = crossbeam_channel::unbounded();
        let (handover, _taken) = Handover::new(1);
        let (sockets, give_back) = (Vec::new(), || {});
        let start = Start {
            id: 0,
            shared,
            inbox,
            events,
            handover,
            sockets,
            seed: 1,
            secret: [0; 16],
            recorder: Default::default(),
            buffer_size: 1_024,
            give_back,
        };
        let (worker, ..) = begin(start).unwrap();
        let gates = &worker.shared.gates;
        assert!(gates.try_enter(SLOT, 1) && !gates.has_room(SLOT, 1));
        // The request that it was for has gone, and so has the backend.
        worker.room_for(7, SLOT);
        assert!(gates.has_room(SLOT, 1));
    }
}
