use crate::{counters::InFlight, worker::Worker};

/// Counts a request in while it is at a backend, and where free balancing would have sent it.
pub(crate) struct UnderWay<'a> {
    load: [&'a InFlight; 2],
    /// Of that choice nothing is known but the time that its request takes.
    free: Option<&'a InFlight>,
}

impl<'a> UnderWay<'a> {
    pub(crate) fn enter(worker: &'a Worker, pool: u32, slot: u32, free: Option<u32>) -> Self {
        let board = worker.board();
        let at = |slot| {
            let cells = board.backend(slot);
            worker.busy.note(slot, cells);
            cells
        };
        let load = [&board.pool(pool).in_flight, &at(slot).in_flight];
        let free = free.map(|slot| &at(slot).free_in_flight);
        load.into_iter().chain(free).for_each(InFlight::enter);
        Self { load, free }
    }

    /// It has become a tunnel, which is load for as long as it is open, and takes no time.
    pub(crate) fn takes_no_time(&mut self) {
        self.free.take().into_iter().for_each(InFlight::leave);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.load.into_iter().chain(self.free).for_each(InFlight::leave);
    }
}
