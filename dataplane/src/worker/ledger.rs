//! Sessions that did not stay with their pin, until they are handed to the control thread.

use crate::worker::handover::{Handed, Handover};
use affinity::ledger::Entry;
use ahash::AHashMap;
use std::cell::RefCell;

/// One kind of move, by slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Move {
    pub(crate) pool: u32,
    pub(crate) entry: Entry,
    pub(crate) from: Option<u32>,
    pub(crate) to: Option<u32>,
}

impl Move {
    /// What stands for it where there is no room for another entry.
    pub(crate) fn other(self) -> Self {
        Self { entry: self.entry.other(), from: None, to: None, ..self }
    }
}

/// Different moves that are kept between two hand-overs; of more it is only known how many.
const MOST: usize = 4_096;

/// Touched by requests whose session moves, and by no other.
#[derive(Debug, Default)]
pub(crate) struct Ledger(RefCell<AHashMap<Move, u64>>);

impl Ledger {
    pub(crate) fn note(&self, moved: Move) {
        add(&mut self.0.borrow_mut(), moved, 1, MOST);
    }

    /// Where the control thread is behind, it stays until next time.
    pub(super) fn flush(&self, to: &Handover) {
        let mut waiting = self.0.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        let moves = waiting.iter().map(|(moved, count)| (*moved, *count)).collect();
        if to.give(Handed::Moved(moves)).is_ok() {
            waiting.clear();
        }
    }
}

/// Adds to one of at most `most` entries, or else to those that stand for all others.
pub(crate) fn add(entries: &mut AHashMap<Move, u64>, moved: Move, more: u64, most: usize) {
    let known = entries.len() < most || entries.contains_key(&moved);
    *entries.entry(if known { moved } else { moved.other() }).or_default() += more;
}

#[cfg(test)]
mod tests {
    use super::*;
    use affinity::{
        choose::Cause,
        ledger::{Kind, Reason},
    };

    #[test]
    fn what_is_too_much_to_keep_apart_is_counted_all_the_same() {
        let (to, taken) = Handover::new(1);
        let ledger = Ledger::default();
        let moved = |from| Move {
            pool: 0,
            entry: Entry { kind: Kind::Repinned, reason: Reason::Left(Cause::Down) },
            from: Some(from),
            to: Some(0),
        };
        for n in 0..3 * 5_000 {
            ledger.note(moved(n % 5_000));
        }
        assert!(ledger.0.borrow().len() <= MOST + 1);
        ledger.flush(&to);
        ledger.note(moved(1));
        ledger.flush(&to);
        let Handed::Moved(moves) = taken.recv().unwrap() else { panic!("moves alone were handed over") };
        assert_eq!(moves.iter().map(|(_, count)| count).sum::<u64>(), 15_000);
        let others: Vec<_> = moves.iter().filter(|(moved, _)| moved.entry.reason == Reason::Other).collect();
        assert_eq!(others, [&(moved(0).other(), 3 * (5_000 - MOST as u64))]);
        ledger.flush(&to);
        let Handed::Moved(moves) = taken.recv().unwrap() else { panic!("moves alone were handed over") };
        assert_eq!(moves, [(moved(1), 1)], "what could not be handed over was kept");
    }
}
