use crate::{
    http2::Upstream,
    io::Stream,
    worker::{Deadline, Worker},
};
use affinity::{balance::View, table::PoolTable};
use control::Endpoint;
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// What a worker keeps of backends from table to table, by their slots: idle connections and passive marks.
#[derive(Debug, Default)]
pub(crate) struct Backends(RefCell<Vec<Local>>);

#[derive(Debug, Default)]
struct Local {
    idle: VecDeque<Idle>,
    /// Connections that carry several requests at once.
    shared: Vec<Rc<Upstream>>,
    failures: u32,
    /// Milliseconds of the worker's clock; 0 for no mark.
    marked_until: u64,
}

/// A connection to a backend between two exchanges.
pub(crate) struct Connection {
    pub(crate) deadline: Deadline,
    pub(crate) stream: Stream,
    pub(crate) address: Endpoint,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: u64,
}

impl Backends {
    fn with<R>(&self, slot: u32, act: impl FnOnce(&mut Local) -> R) -> R {
        let mut all = self.0.borrow_mut();
        if all.len() <= slot as usize {
            all.resize_with(slot as usize + 1, Local::default);
        }
        act(&mut all[slot as usize])
    }

    /// The connection that was used last and is still good: the backend has neither closed it nor sent anything that
    /// nobody asked for, which would be taken for the answer to the next request.
    pub(crate) fn take(&self, slot: u32, address: &Endpoint, is_tls: bool) -> Option<Connection> {
        self.with(slot, |local| {
            while let Some(idle) = local.idle.pop_back() {
                let Idle { connection, .. } = idle;
                let is_so = connection.address == *address && connection.stream.is_tls() == is_tls;
                if is_so && connection.stream.is_quiet() {
                    return Some(connection);
                }
            }
            None
        })
    }

    pub(crate) fn keep(&self, slot: u32, connection: Connection, until: u64, limit: u32) {
        connection.deadline.clear();
        self.with(slot, |local| {
            if local.idle.len() < limit as usize {
                local.idle.push_back(Idle { connection, until });
            }
        });
    }

    /// The first shared connection of which that holds.
    pub(crate) fn shared(&self, slot: u32, holds: impl Fn(&Upstream) -> bool) -> Option<Rc<Upstream>> {
        self.with(slot, |local| local.shared.iter().find(|upstream| holds(upstream)).cloned())
    }

    pub(crate) fn share(&self, slot: u32, upstream: &Rc<Upstream>) {
        self.with(slot, |local| local.shared.push(Rc::clone(upstream)));
    }

    /// Forgets one that is closed.
    pub(crate) fn unshare(&self, slot: u32, upstream: &Rc<Upstream>) {
        self.with(slot, |local| local.shared.retain(|each| !Rc::ptr_eq(each, upstream)));
    }

    /// Closes what has been idle for too long. How many are left.
    pub(crate) fn sweep(&self, now: u64) -> usize {
        let mut kept = 0;
        for local in self.0.borrow_mut().iter_mut() {
            while local.idle.front().is_some_and(|idle| idle.until <= now) {
                local.idle.pop_front();
            }
            kept += local.idle.len();
        }
        kept
    }

    /// Closes the idle connections of the backends for which `holds` is false of slot and address, and has shared ones
    /// begin no more requests.
    pub(crate) fn retain(&self, holds: impl Fn(u32, &Endpoint) -> bool) {
        for (slot, local) in (0..).zip(self.0.borrow_mut().iter_mut()) {
            local.idle.retain(|idle| holds(slot, &idle.connection.address));
            local
                .shared
                .iter()
                .filter(|upstream| !holds(slot, upstream.address()))
                .for_each(|upstream| upstream.close());
        }
    }

    pub(crate) fn close_all(&self) {
        self.retain(|_, _| false);
    }

    /// Notes a failed connect or a reset. True when these have just become as many in a row as mark a backend down.
    pub(crate) fn failed(&self, slot: u32, limit: u32, until: u64) -> bool {
        self.with(slot, |local| {
            local.failures += 1;
            let reached = limit > 0 && local.failures >= limit;
            if reached {
                local.failures = 0;
                local.marked_until = until;
                local.idle.clear();
                local.shared.iter().for_each(|upstream| upstream.close());
            }
            reached
        })
    }

    pub(crate) fn succeeded(&self, slot: u32) {
        self.with(slot, |local| local.failures = 0);
    }

    pub(crate) fn unmark(&self, slot: u32) {
        self.with(slot, |local| (local.failures, local.marked_until) = (0, 0));
    }

    pub(super) fn is_marked(&self, slot: u32, now: u64) -> bool {
        self.0.borrow().get(slot as usize).is_some_and(|local| local.marked_until > now)
    }
}

/// What [`affinity::choose::choose`] asks a worker.
pub(crate) struct WorkerView<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) pool: &'a PoolTable,
    /// Slots where this request has failed.
    pub(crate) tried: &'a [u32],
    pub(crate) waits: Waits,
}

/// How far a request is that waits for room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    /// It has a place in a queue, so that others in it don't come first.
    pub(crate) in_line: bool,
    /// The slot of the backend that has room for it.
    pub(crate) room_at: Option<u32>,
}

impl WorkerView<'_> {
    fn slot(&self, backend: u16) -> u32 {
        self.pool.backends[usize::from(backend)].slot
    }
}

impl View for WorkerView<'_> {
    fn in_flight(&self, backend: u16) -> u32 {
        let slot = self.slot(backend);
        self.worker.shared.boards.iter().map(|board| board.backend(slot).in_flight.value()).sum()
    }

    fn pool_in_flight(&self) -> u32 {
        self.worker.shared.boards.iter().map(|board| board.pool(self.pool.slot).in_flight.value()).sum()
    }

    fn is_full(&self, backend: u16) -> bool {
        let (slot, gates, limit) = (self.slot(backend), &self.worker.shared.gates, self.pool.settings.limits.requests);
        match self.waits {
            Waits { room_at: Some(at), .. } if at == slot => false,
            Waits { in_line: true, .. } => !gates.has_room(slot, limit),
            Waits { in_line: false, .. } => gates.is_full(slot, limit),
        }
    }

    fn is_marked_down(&self, backend: u16) -> bool {
        self.worker.backends.is_marked(self.slot(backend), self.worker.clock.millis())
    }

    fn was_tried(&self, backend: u16) -> bool {
        !self.tried.is_empty() && self.tried.contains(&self.slot(backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_mark_a_backend_down_for_a_while() {
        let backends = Backends::default();
        let fail = || backends.failed(3, 3, 1_000);
        assert!(!fail() && !fail());
        backends.succeeded(3);
        assert!(!fail() && !fail() && !backends.is_marked(3, 0), "a success begins the row anew");
        assert!(fail());
        assert!(backends.is_marked(3, 999) && !backends.is_marked(3, 1_000));
        assert!(!backends.is_marked(2, 0) && !backends.is_marked(4, 0), "and no other");
        assert!(!fail(), "the next mark needs as many again");
        backends.unmark(3);
        assert!(!backends.is_marked(3, 0));
        assert!(!fail() && !fail(), "what was counted went with the mark");
    }

    #[test]
    fn a_limit_of_none_marks_nobody() {
        let backends = Backends::default();
        assert!((0..100).all(|_| !backends.failed(0, 0, 1_000)));
        assert!(!backends.is_marked(0, 0));
    }
}
