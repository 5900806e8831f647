use super::Worker;
use control::counters::BackendCount;

impl Worker {
    /// Adds to the busy time of the backends what this worker's requests at them have taken since the last tick: as many
    /// times `elapsed`, in milliseconds, as there are. Over time that is exact for requests of any length, it costs them
    /// nothing, and one that takes an hour counts while it does and not when it ends. A tunnel
    /// takes no time: most of them are idle for most of theirs.
    pub(super) fn count_busy(&self, elapsed: u64) {
        let board = self.board();
        let table = self.table.borrow();
        for pool in table.pools.iter().filter(|pool| board.pool(pool.slot).in_flight.value() > 0) {
            for backend in &pool.backends {
                let cells = board.backend(backend.slot);
                for (requests, time) in [
                    (cells.requests_in_flight(), BackendCount::Busy),
                    (cells.free_in_flight.value(), BackendCount::FreeBusy),
                ] {
                    if requests > 0 {
                        cells.counts[time as usize].add(u64::from(requests) * elapsed);
                    }
                }
            }
        }
    }
}
