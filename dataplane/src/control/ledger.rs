//! The ledger of all workers: who moved from where to where, and why.

use super::slots::SlotBook;
use crate::worker::{Move, add_move};
use ahash::AHashMap;
use control::cost::Moved;

/// Entries of a pool that are kept apart; of more it is only known how many of each kind.
const MOST: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By pool slot.
    pools: AHashMap<u32, Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    entries: AHashMap<Move, u64>,
    /// Changes with them.
    version: u64,
}

impl Ledger {
    pub(super) fn add(&mut self, moved: Move, count: u64) {
        let pool = self.pools.entry(moved.pool).or_default();
        pool.version += 1;
        add_move(&mut pool.entries, moved, count, MOST);
    }

    /// Another number than before where something has changed.
    pub(super) fn version(&self, pool: u32) -> u64 {
        self.pools.get(&pool).map_or(0, |pool| pool.version)
    }

    /// The entries of a pool by the names of its backends, in order.
    pub(super) fn told(&self, pool: u32, slots: &SlotBook) -> Vec<Moved> {
        let name = |slot: Option<u32>| slot.and_then(|slot| slots.backend_name(slot)).map(str::to_owned);
        let entries = self.pools.get(&pool).into_iter().flat_map(|pool| &pool.entries);
        let mut told: Vec<_> = entries
            .map(|(moved, count)| Moved {
                kind: moved.entry.kind.name().to_owned(),
                cause: moved.entry.reason.name().to_owned(),
                from: name(moved.from),
                to: name(moved.to),
                count: *count,
            })
            .collect();
        told.sort_unstable();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use affinity::{
        choose::Cause,
        ledger::{Entry, Kind, Reason},
        table::Slots,
    };

    fn moved(pool: u32, kind: Kind, from: Option<u32>, to: Option<u32>) -> Move {
        Move { pool, entry: Entry { kind, reason: Reason::Left(Cause::Down) }, from, to }
    }

    #[test]
    fn it_is_told_by_names_and_each_pool_for_itself() {
        let (mut slots, mut ledger) = (SlotBook::default(), Ledger::default());
        let [a, b] = ["a", "b"].map(|name| slots.backend("shop", name));
        for (from, to, count) in
            [(Some(b), Some(a), 2), (Some(a), Some(b), 1), (None, Some(b), 4), (Some(b), Some(a), 3)]
        {
            ledger.add(moved(0, Kind::Repinned, from, to), count);
        }
        ledger.add(moved(1, Kind::Spilled, Some(a), None), 9);
        let told: Vec<_> =
            ledger.told(0, &slots).into_iter().map(|moved| (moved.from, moved.to, moved.count)).collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told, [(None, name("b"), 4), (name("a"), name("b"), 1), (name("b"), name("a"), 5)]);
        let version = ledger.version(0);
        ledger.add(moved(1, Kind::Spilled, Some(a), None), 1);
        assert_eq!((ledger.version(0), ledger.told(1, &slots)[0].count), (version, 10));
        assert!(ledger.told(2, &slots).is_empty());
    }

    #[test]
    fn a_flood_of_entries_is_bounded_and_nothing_goes_uncounted() {
        let (slots, mut ledger) = (SlotBook::default(), Ledger::default());
        for n in 0..10_000 {
            let kind = if n % 2 == 0 { Kind::Repinned } else { Kind::Spilled };
            ledger.add(moved(0, kind, Some(n), Some(n + 1)), 1);
        }
        let told = ledger.told(0, &slots);
        assert_eq!((told.len(), told.iter().map(|moved| moved.count).sum::<u64>()), (MOST + 2, 10_000));
        let others = told.iter().filter(|moved| moved.cause == "other");
        assert_eq!(
            others.map(|moved| (&*moved.kind, moved.count)).collect::<Vec<_>>(),
            [("repinned", (10_000 - MOST as u64) / 2), ("spilled", (10_000 - MOST as u64) / 2)]
        );
    }
}
