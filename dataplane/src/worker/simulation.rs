//! A worker without its loop: what it does, and when, the simulation says.

use super::{Start, Worker, begin};
use std::{io, io::Read, os::unix::net::UnixStream};

/// A worker and what wakes it.
pub(crate) struct Idle {
    pub(crate) worker: Worker,
    wakeup: UnixStream,
}

impl Idle {
    /// # Errors
    /// No socket can be had.
    pub(crate) fn new(start: Start) -> io::Result<Self> {
        let (worker, _, wakeup) = begin(start)?;
        wakeup.set_nonblocking(true)?;
        Ok(Self { worker, wakeup })
    }

    /// Wakes it: it acts on all that waits in its mailbox.
    pub(crate) fn wake(&self) {
        while matches!((&self.wakeup).read(&mut [0; 64]), Ok(1..)) {}
        self.worker.obey();
    }

    pub(crate) fn is_marked(&self, slot: u32) -> bool {
        self.worker.backends.is_marked(slot, self.worker.clock.millis())
    }

    /// The slots that it has marked down, of those in its table.
    pub(crate) fn marked(&self) -> Vec<u32> {
        let table = self.worker.table.borrow();
        let slots = table.pools.iter().flat_map(|pool| pool.backends.iter().map(|backend| backend.slot));
        slots.filter(|slot| self.is_marked(*slot)).collect()
    }

    /// What it does from time to time beside its exchanges.
    pub(crate) fn tick(&self) {
        self.worker.clock.tick();
        self.worker.hand_over();
    }
}
