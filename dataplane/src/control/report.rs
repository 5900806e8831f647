//! What the workers have counted, summed.

use super::{hot::Hottest, ledger::Ledger, releases::Releases, slots::SlotBook};
use crate::{
    counters::{Board, Count},
    worker::{Gates, Queue},
};
use affinity::{
    sessions::Sessions,
    table::{PoolTable, Table},
    token::id_name,
    warming::warmth,
};
use ahash::AHashMap;
use control::{
    cost::{Moved, RouteStats},
    counters::{BackendCount, Dataplane, PoolCount, RouteCount, WorkerCount},
    latency::{Class, Latency},
    status::{Ages, BackendStats, Counts, KeyStats, PoolStats, Stats, WorkerStats},
    token_age::TokenAge,
};
use std::collections::BTreeMap;

/// Sums the workers' boards, and remembers what it has told of each backend, so that of thousands only those are told
/// that have changed.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    told: AHashMap<u32, Figures>,
    /// By pool slot: which table's pool, and what of the ledger.
    ledgers: AHashMap<u32, (u64, u64)>,
}

/// Where figures come from.
pub(super) struct Sources<'a> {
    pub(super) boards: &'a [Board],
    pub(super) gates: &'a Gates,
    pub(super) sessions: &'a Sessions,
    pub(super) ledger: &'a Ledger,
    pub(super) hottest: &'a Hottest,
    pub(super) releases: &'a Releases,
    pub(super) slots: &'a SlotBook,
    /// Unix seconds.
    pub(super) now: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Figures {
    /// A namesake that was added anew is told of even if nothing has changed: what was told before was forgotten with it.
    incarnation: u32,
    counts: [u64; BackendCount::COUNT],
    in_flight: u64,
    tunnels: u64,
    queued: u64,
    live_sessions: Option<u64>,
    warming: Option<u8>,
    session_ages: Option<Ages>,
}

impl Reporter {
    pub(super) fn report(&mut self, from: &Sources<'_>, table: &Table) -> Stats {
        let Sources { boards, gates, sessions, now, .. } = *from;
        let dataplane: [u64; Dataplane::COUNT] = sum(boards.iter().map(|board| &board.dataplane));
        let open = dataplane[Dataplane::Accepted as usize].saturating_sub(dataplane[Dataplane::Closed as usize]);
        let mut stats = Stats {
            dataplane: named(Dataplane::ALL.iter().map(|count| count.name()), &dataplane),
            keys: table.keys.iter().map(|key| (id_name(key.id), seen(boards, key.slot))).collect(),
            open_connections: open,
            workers: boards.iter().map(worker).collect(),
            ..Stats::default()
        };
        for pool in &table.pools {
            let counts: [u64; PoolCount::COUNT] = sum(boards.iter().map(|board| &board.pool(pool.slot).counts));
            let mut told = PoolStats {
                counts: named(PoolCount::ALL.iter().map(|count| count.name()), &counts),
                requests_queued: gates.queued(Queue::Pool(pool.slot)).into(),
                tunnels: boards.iter().map(|board| u64::from(board.pool(pool.slot).tunnels.value())).sum(),
                ledger: self.ledger(from, pool),
                hot: from.hottest.told(pool.slot),
                release: from.releases.stats(pool.slot),
                ages: by_age(boards.iter().map(|board| &board.pool(pool.slot).ages)),
                latency: latency(boards, pool.slot),
                ..PoolStats::default()
            };
            let has_sessions = pool.settings.affinity.has_sessions();
            for backend in &pool.backends {
                let cells = || boards.iter().map(|board| board.backend(backend.slot));
                let figures = Figures {
                    incarnation: backend.incarnation,
                    counts: sum(cells().map(|cells| &cells.counts)),
                    in_flight: cells().map(|cells| u64::from(cells.requests_in_flight())).sum(),
                    tunnels: cells().map(|cells| u64::from(cells.tunnels.value())).sum(),
                    queued: gates.queued(Queue::Backend(backend.slot)).into(),
                    live_sessions: has_sessions.then(|| sessions.live(backend.slot)),
                    warming: warmth(&pool.settings, backend, now).map(percent),
                    session_ages: sessions.ages(backend.slot),
                };
                if self.told.get(&backend.slot) != Some(&figures) {
                    told.backends.insert(backend.name.clone(), figures.to_stats());
                    self.told.insert(backend.slot, figures);
                }
            }
            stats.pools.insert(pool.name.clone(), told);
        }
        routes(from, table, &mut stats);
        stats
    }

    /// The ledger of a pool, where it is news. A pool that was removed and added anew is told of even if nothing has
    /// changed: what was told before was forgotten with it.
    fn ledger(&mut self, from: &Sources<'_>, pool: &PoolTable) -> Option<Vec<Moved>> {
        let now = (pool.generation(), from.ledger.version(pool.slot));
        let before = self.ledgers.insert(pool.slot, now);
        (before != Some(now)).then(|| from.ledger.told(pool.slot, from.slots)).filter(|told| !told.is_empty())
    }
}

fn worker(board: &Board) -> WorkerStats {
    let all = |what: Dataplane| board.dataplane[what as usize].value();
    let own = WorkerCount::ALL.iter().map(|count| match count {
        WorkerCount::Requests => all(Dataplane::Requests),
        WorkerCount::Cpu | WorkerCount::Late | WorkerCount::Ring | WorkerCount::Direct => {
            board.worker[*count as usize].value()
        }
    });
    WorkerStats {
        counts: named(WorkerCount::ALL.iter().map(|count| count.name()), &own.collect::<Vec<_>>()),
        connections: all(Dataplane::Accepted).saturating_sub(all(Dataplane::Closed)),
        idle_connections: board.idle_connections.value(),
    }
}

impl Figures {
    fn to_stats(&self) -> BackendStats {
        BackendStats {
            counts: named(BackendCount::ALL.iter().map(|count| count.name()), &self.counts),
            requests_in_flight: self.in_flight,
            tunnels: self.tunnels,
            requests_queued: self.queued,
            live_sessions: self.live_sessions,
            warming: self.warming,
            session_ages: self.session_ages,
        }
    }
}

/// Adds the counts of the table's routes to those of their pools.
fn routes(from: &Sources<'_>, table: &Table, stats: &mut Stats) {
    for (route, slot) in from.slots.routes(table) {
        let counts: [u64; RouteCount::COUNT] = sum(from.boards.iter().map(|board| board.route(slot)));
        let pool = stats.pools.get_mut(&route.pool).filter(|_| counts[RouteCount::Requests as usize] > 0);
        if let Some(pool) = pool {
            pool.routes.push(RouteStats {
                listener: route.listener.clone(),
                host: route.host.clone(),
                path: route.path.clone(),
                counts: named(RouteCount::ALL.iter().map(|count| count.name()), &counts),
            });
        }
    }
}

/// Of `u64::MAX`.
fn percent(share: u64) -> u8 {
    u8::try_from((u128::from(share) * 100) >> 64).unwrap_or(u8::MAX)
}

/// What was seen of the tokens of one key.
fn seen(boards: &[Board], slot: u32) -> KeyStats {
    let last_seen = boards.iter().map(|board| board.key(slot).last_seen()).max();
    KeyStats {
        ages: by_age(boards.iter().map(|board| &board.key(slot).ages)),
        last_seen: last_seen.filter(|seconds| *seconds > 0),
    }
}

/// How long the responses of a pool took, by the classes that there were.
fn latency(boards: &[Board], pool: u32) -> BTreeMap<String, Latency> {
    let of = |class: Class| {
        let cells = || boards.iter().map(|board| &board.pool(pool).latency[class as usize]);
        let buckets = sum(cells().map(|cells| &cells.buckets)).to_vec();
        Latency { buckets, sum: cells().map(|cells| cells.sum.value()).sum() }
    };
    let all = Class::ALL.iter().map(|class| (class.name().to_owned(), of(*class)));
    all.filter(|(_, latency)| latency.count() > 0).collect()
}

fn by_age<'a>(of: impl Iterator<Item = &'a [Count; TokenAge::COUNT]>) -> Counts {
    named(TokenAge::ALL.iter().map(|age| age.name()), &sum(of))
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
    use crate::worker::Move;
    use affinity::{
        choose::Cause,
        ledger::{Entry, Kind, Reason},
        table::{Dirty, Slots},
    };
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
        let (sessions, ledger) = (Sessions::new(0), Ledger::default());
        let (hottest, releases) = (Hottest::default(), Releases::default());
        let mut told = |snapshot: &Snapshot| {
            let table = Table::build(snapshot, None, &Dirty::All, &mut slots, 0);
            let from = Sources {
                boards: &boards,
                gates: &gates,
                sessions: &sessions,
                ledger: &ledger,
                hottest: &hottest,
                releases: &releases,
                slots: &slots,
                now: 0,
            };
            reporter.report(&from, &table).pools["shop"].backends.clone()
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

    #[test]
    fn the_ledger_is_told_when_it_changes_and_to_whoever_forgot_it() {
        let mut snapshot = Snapshot { generation: 1, ..Snapshot::default() };
        let put = Change::PutPool { name: "shop".to_owned(), pool: Box::default() };
        snapshot.apply(&put);
        let (mut slots, mut reporter, mut ledger) = (SlotBook::default(), Reporter::default(), Ledger::default());
        let (gates, sessions) = (Gates::new(Vec::new()), Sessions::new(0));
        let (hottest, releases) = (Hottest::default(), Releases::default());
        let a = slots.backend("shop", "a");
        let mut told = |snapshot: &Snapshot, ledger: &Ledger| {
            let table = Table::build(snapshot, None, &Dirty::All, &mut slots, 0);
            let from = Sources {
                boards: &[],
                gates: &gates,
                sessions: &sessions,
                ledger,
                hottest: &hottest,
                releases: &releases,
                slots: &slots,
                now: 0,
            };
            let told = reporter.report(&from, &table).pools["shop"].ledger.clone();
            told.map(|moves| moves.iter().map(|moved| (moved.from.clone(), moved.count)).collect::<Vec<_>>())
        };
        assert_eq!([told(&snapshot, &ledger), told(&snapshot, &ledger)], [None, None]);
        let entry = Entry { kind: Kind::Repinned, reason: Reason::Left(Cause::Removed) };
        ledger.add(Move { pool: 0, entry, from: Some(a), to: None }, 2);
        let known = Some(vec![(Some("a".to_owned()), 2)]);
        assert_eq!([told(&snapshot, &ledger), told(&snapshot, &ledger)], [known.clone(), None]);
        snapshot.apply(&Change::RemovePool { name: "shop".to_owned() });
        snapshot.apply(&put);
        snapshot.generation += 1;
        assert_eq!([told(&snapshot, &ledger), told(&snapshot, &ledger)], [known, None]);
    }
}
