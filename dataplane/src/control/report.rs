//! What the workers have counted, summed.

use crate::{
    counters::{Board, Count},
    worker::{Gates, Queue},
};
use affinity::{table::Table, token::id_name, warming::warmth};
use ahash::AHashMap;
use control::{
    counters::{BackendCount, Dataplane, PoolCount},
    spec::Affinity,
    status::{BackendStats, Counts, KeyStats, PoolStats, Stats},
    token_age::TokenAge,
};

/// Sums the workers' boards, and remembers what it has told of each backend, so that of thousands only those are told
/// that have changed.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    told: AHashMap<u32, Figures>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Figures {
    /// A namesake that was added anew is told of even if nothing has changed: what was told before was forgotten with it.
    incarnation: u32,
    counts: [u64; BackendCount::COUNT],
    in_flight: u64,
    queued: u64,
    live_sessions: Option<u64>,
    warming: Option<u8>,
}

impl Reporter {
    /// `now` is in Unix seconds. `live` tells the live sessions of a backend by its slot, for a pool of that affinity.
    pub(super) fn report(
        &mut self,
        boards: &[Board],
        gates: &Gates,
        table: &Table,
        now: u32,
        live: impl Fn(&Affinity, u32) -> Option<u64>,
    ) -> Stats {
        let dataplane: [u64; Dataplane::COUNT] = sum(boards.iter().map(|board| &board.dataplane));
        let open = dataplane[Dataplane::Accepted as usize].saturating_sub(dataplane[Dataplane::Closed as usize]);
        let mut stats = Stats {
            dataplane: named(Dataplane::ALL.iter().map(|count| count.name()), &dataplane),
            keys: table.keys.iter().map(|key| (id_name(key.id), seen(boards, key.slot))).collect(),
            open_connections: open,
            ..Stats::default()
        };
        for pool in &table.pools {
            let counts: [u64; PoolCount::COUNT] = sum(boards.iter().map(|board| &board.pool(pool.slot).counts));
            let mut told = PoolStats {
                counts: named(PoolCount::ALL.iter().map(|count| count.name()), &counts),
                requests_queued: gates.queued(Queue::Pool(pool.slot)).into(),
                ages: by_age(boards.iter().map(|board| &board.pool(pool.slot).ages)),
                ..PoolStats::default()
            };
            let affinity = &pool.settings.affinity;
            for backend in &pool.backends {
                let cells = || boards.iter().map(|board| board.backend(backend.slot));
                let figures = Figures {
                    incarnation: backend.incarnation,
                    counts: sum(cells().map(|cells| &cells.counts)),
                    in_flight: cells().map(|cells| u64::from(cells.in_flight.value())).sum(),
                    queued: gates.queued(Queue::Backend(backend.slot)).into(),
                    live_sessions: live(affinity, backend.slot),
                    warming: warmth(&pool.settings, backend, now).map(percent),
                };
                if self.told.get(&backend.slot) != Some(&figures) {
                    told.backends.insert(backend.name.clone(), figures.to_stats());
                    self.told.insert(backend.slot, figures);
                }
            }
            stats.pools.insert(pool.name.clone(), told);
        }
        stats
    }
}

impl Figures {
    fn to_stats(&self) -> BackendStats {
        BackendStats {
            counts: named(BackendCount::ALL.iter().map(|count| count.name()), &self.counts),
            requests_in_flight: self.in_flight,
            requests_queued: self.queued,
            live_sessions: self.live_sessions,
            warming: self.warming,
        }
    }
}

/// What was seen of the tokens of one key.
fn seen(boards: &[Board], slot: u32) -> KeyStats {
    let last_seen = boards.iter().map(|board| board.key(slot).last_seen()).max();
    KeyStats {
        ages: by_age(boards.iter().map(|board| &board.key(slot).ages)),
        last_seen: last_seen.filter(|seconds| *seconds > 0),
    }
}

fn by_age<'a>(of: impl Iterator<Item = &'a [Count; TokenAge::COUNT]>) -> Counts {
    named(TokenAge::ALL.iter().map(|age| age.name()), &sum(of))
}

/// Of `u64::MAX`.
fn percent(share: u64) -> u8 {
    u8::try_from((u128::from(share) * 100) >> 64).unwrap_or(u8::MAX)
}

fn sum<'a, const N: usize>(of: impl Iterator<Item = &'a [Count; N]>) -> [u64; N] {
    let mut total = [0u64; N];
    for counts in of {
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum = sum.wrapping_add(count.value());
        }
    }
    total
}

/// What is zero is left out.
fn named<'a>(names: impl Iterator<Item = &'a str>, counts: &[u64]) -> Counts {
    names.zip(counts).filter(|(_, count)| **count > 0).map(|(name, count)| (name.to_owned(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::slots::SlotBook;
    use affinity::table::Dirty;
    use control::{
        desired::{Change, Member, PoolState, Snapshot},
        spec::Backend,
    };

    #[test]
    fn only_what_changed_is_told_again_and_a_namesake_is_news() {
        let member = |incarnation| Member::new(&Backend::default(), incarnation);
        let pool = PoolState { members: [("a".to_owned(), member(1))].into(), ..PoolState::default() };
        let mut snapshot = Snapshot::default();
        snapshot.apply(&Change::PutPool { name: "shop".to_owned(), pool: Box::new(pool) });
        let (mut slots, mut reporter, boards) =
            (SlotBook::default(), Reporter::default(), [Board::new(), Board::new()]);
        let gates = Gates::new(Vec::new());
        let mut told = |snapshot: &Snapshot| {
            let table = Table::build(snapshot, None, &Dirty::All, &mut slots, 0);
            reporter.report(&boards, &gates, &table, 0, |_, _| None).pools["shop"].backends.clone()
        };
        assert_eq!(told(&snapshot)["a"].counts, Counts::new());
        assert!(told(&snapshot).is_empty());
        boards[1].count_backend(0, BackendCount::Requests);
        assert_eq!(told(&snapshot)["a"].counts["requests"], 1);
        let (pool, name) = ("shop".to_owned(), "a".to_owned());
        snapshot.apply(&Change::RemoveMember { pool: pool.clone(), name: name.clone() });
        snapshot.apply(&Change::PutMember { pool, name, member: member(2) });
        assert_eq!(told(&snapshot)["a"].counts["requests"], 1, "what counts up never runs backwards");
        assert!(told(&snapshot).is_empty());
    }
}
