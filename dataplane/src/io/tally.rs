//! How bytes were moved, counted for each worker: it is a thread of its own.

use std::cell::Cell;

thread_local! {
    static TALLY: Cell<Tally> = const { Cell::new(Tally { ring: 0, direct: 0 }) };
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Reads, writes and waits that were left to the ring.
    pub(crate) ring: u64,
    /// Reads, writes and accepts that were tried at once.
    pub(crate) direct: u64,
}

/// One more goes to the ring.
pub(super) fn ring() {
    TALLY.with(|tally| tally.set(Tally { ring: tally.get().ring + 1, ..tally.get() }));
}

/// One more goes past it.
pub(super) fn direct() {
    TALLY.with(|tally| tally.set(Tally { direct: tally.get().direct + 1, ..tally.get() }));
}

/// What this thread has counted since it began.
pub(crate) fn tally() -> Tally {
    TALLY.with(Cell::get)
}
