//! What the sessions of pools with a release show, on its way to the control thread.

use super::handover::{Handed, Handover};
use crate::counters::Board;
use affinity::release::record::Sighting;
use control::counters::PoolCount;
use std::cell::RefCell;

/// A sighting with the slot of its pool.
pub(crate) type Seen = (u32, Sighting);

/// Sightings not yet reported.
#[derive(Debug)]
pub(crate) struct Sightings {
    waiting: RefCell<Vec<Seen>>,
    reports: Handover,
}

const BATCH: usize = 1_024;

impl Sightings {
    pub(super) fn new(reports: Handover) -> Self {
        Self { waiting: RefCell::default(), reports }
    }

    pub(crate) fn note(&self, board: &Board, pool: u32, sighting: Sighting) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push((pool, sighting));
        if waiting.len() >= BATCH {
            drop(waiting);
            self.flush(board);
        }
    }

    /// Hands over what waits. Where the control thread is behind, it is dropped and counted: the two cohorts alike.
    pub(super) fn flush(&self, board: &Board) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        if let Err(Handed::Sighted(mut dropped)) = self.reports.give(Handed::Sighted(std::mem::take(&mut *waiting))) {
            dropped.iter().for_each(|(pool, _)| board.count_pool(*pool, PoolCount::Uncompared));
            dropped.clear();
            *waiting = dropped;
        } else {
            waiting.reserve(BATCH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let (reports, taken) = Handover::new(1);
        let count = || match taken.recv() {
            Ok(Handed::Sighted(seen)) => seen.len(),
            other => panic!("sightings alone were handed over, and not {other:?}"),
        };
        let (sightings, board) = (Sightings::new(reports), Board::new());
        for key in 0..3 * BATCH as u64 {
            sightings.note(&board, 5, Sighting { key, ..Sighting::default() });
        }
        let dropped = board.pool(5).counts[PoolCount::Uncompared as usize].value();
        assert_eq!((count(), dropped), (BATCH, 2 * BATCH as u64));
        sightings.note(&board, 5, Sighting::default());
        sightings.flush(&board);
        assert_eq!(count(), 1, "and what comes later is taken again");
    }
}
