//! The time that requests are at backends.

use crate::counters::{BackendCells, Board};
use control::counters::BackendCount;
use std::cell::RefCell;

/// The slots of the backends with requests of this worker under way, so that no sweep has to look at all others. One that
/// has none any more stays until the next sweep.
#[derive(Debug, Default)]
pub(crate) struct Busy(RefCell<Vec<u32>>);

impl Busy {
    /// A request of this worker is under way at this backend, or would be.
    pub(crate) fn note(&self, slot: u32, cells: &BackendCells) {
        if !cells.is_busy.get() {
            cells.is_busy.set(true);
            self.0.borrow_mut().push(slot);
        }
    }

    /// Adds to the busy time of the backends what this worker's requests at them have taken since the last sweep: as many
    /// times `elapsed`, in milliseconds, as there are. Over time that is exact for requests of any length, it costs them
    /// next to nothing, and one that takes an hour counts while it does and not when it ends. A tunnel takes no time: most of
    /// them are idle for most of theirs.
    pub(super) fn count(&self, board: &Board, elapsed: u64) {
        self.0.borrow_mut().retain(|slot| {
            let cells = board.backend(*slot);
            let both = [
                (cells.requests_in_flight(), BackendCount::Busy),
                (cells.free_in_flight.value(), BackendCount::FreeBusy),
            ];
            for (requests, time) in both.into_iter().filter(|(requests, _)| *requests > 0) {
                cells.counts[time as usize].add(u64::from(requests) * elapsed);
            }
            let stays = both.iter().any(|(requests, _)| *requests > 0);
            cells.is_busy.set(stays);
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_where_requests_are_and_nobody_else_is_looked_at() {
        let (busy, board) = (Busy::default(), Board::new());
        let begin = |slot, free| {
            board.backend(slot).in_flight.enter();
            board.backend(free).free_in_flight.enter();
            for slot in [slot, free] {
                busy.note(slot, board.backend(slot));
            }
        };
        let told = |slot| {
            let counts = &board.backend(slot).counts;
            [BackendCount::Busy, BackendCount::FreeBusy].map(|time| counts[time as usize].value())
        };
        begin(1, 2);
        begin(1, 1);
        assert_eq!(*busy.0.borrow(), [1, 2], "each once");
        busy.count(&board, 50);
        assert_eq!((told(1), told(2)), ([100, 50], [0, 50]));
        board.backend(1).in_flight.leave();
        board.backend(2).free_in_flight.leave();
        busy.count(&board, 7);
        assert_eq!((told(1), told(2), busy.0.borrow().as_slice()), ([107, 57], [0, 50], &[1][..]));
        board.backend(1).in_flight.leave();
        board.backend(1).free_in_flight.leave();
        // What begins before the sweep that would have taken it from the list is listed as before.
        begin(1, 3);
        busy.count(&board, 1);
        assert_eq!((told(1), told(3), busy.0.borrow().as_slice()), ([108, 57], [0, 1], &[1, 3][..]));
        board.backend(1).in_flight.leave();
        board.backend(3).free_in_flight.leave();
        busy.count(&board, 1_000);
        assert!(busy.0.borrow().is_empty());
        begin(3, 3);
        busy.count(&board, 1);
        assert_eq!((told(1), told(3)), ([108, 57], [1, 2]));
    }
}
