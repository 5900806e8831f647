use super::{
    changes::{just_closed, new_lives},
    hot::Hottest,
    kept::{self, Mark},
    ledger::Ledger,
    releases::Releases,
    report::{Reporter, Sources},
    slots::SlotBook,
};
use crate::{
    tls::{self, News},
    worker::{Command, Mailbox, Parting, Shared},
};
use affinity::{
    sessions::Sessions,
    sketch::{SIZE, lowest},
    table::{Dirty, Table},
};
use ahash::AHashSet;
use control::{
    desired::{Change, Snapshot},
    sketch::{Sketch, Sketched},
    spec::Span,
    status::Stats,
};
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The workers as the control thread sees them, and what it has told them.
pub(super) struct Plane {
    workers: Vec<Seat>,
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// What differs between the snapshot and the tables that the workers have.
    dirty: Dirty,
    slots: SlotBook,
    reporter: Reporter,
    /// Why it ends, where it does.
    parting: Option<Parting>,
    /// What all workers were known to act on when it was last told.
    acknowledged: u64,
    /// Backends whose drain is over and was to close what is open, by slot, and the generation that says so.
    closing: Option<(u64, AHashSet<u32>)>,
    pub(super) sessions: Sessions,
    pub(super) releases: Releases,
    pub(super) ledger: Ledger,
    pub(super) hottest: Hottest,
    tls: tls::Store,
}

struct Seat {
    mailbox: Arc<Mailbox>,
    /// What the worker was given last; it shares its pools.
    table: Option<Table>,
    applied: u64,
    flushed: bool,
    ended: bool,
}

impl Plane {
    pub(super) fn new(workers: Vec<Arc<Mailbox>>, shared: Arc<Shared>) -> Self {
        let seat = |mailbox| Seat { mailbox, table: None, applied: 0, flushed: true, ended: false };
        Self {
            workers: workers.into_iter().map(seat).collect(),
            shared,
            snapshot: Snapshot::default(),
            dirty: Dirty::All,
            slots: SlotBook::default(),
            reporter: Reporter::default(),
            parting: None,
            acknowledged: 0,
            closing: None,
            sessions: Sessions::new(unix_seconds()),
            releases: Releases::default(),
            ledger: Ledger::default(),
            hottest: Hottest::default(),
            tls: tls::Store::default(),
        }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    pub(super) fn parting(&self) -> Option<Parting> {
        self.parting
    }

    /// Takes a whole snapshot. Where a name in an address led is kept until the admin process has looked it up: one that
    /// has just started has not yet, and its backends must not be lost meanwhile.
    pub(super) fn replace(&mut self, mut snapshot: Snapshot) {
        for (pool, state) in &snapshot.desired.pools {
            for (name, member) in &state.members {
                let known = self.snapshot.observed(pool, name).resolved;
                let before = self.snapshot.desired.pools.get(pool).and_then(|pool| pool.members.get(name));
                if known.is_some() && before.is_some_and(|before| before.address == member.address) {
                    let observed = snapshot.observed.entry(pool.clone()).or_default().entry(name.clone()).or_default();
                    observed.resolved = observed.resolved.or(known);
                }
            }
        }
        self.snapshot = snapshot;
        self.dirty = Dirty::All;
    }

    /// Applies a delta to the snapshot. True where it tells nothing but what was observed.
    ///
    /// # Errors
    /// The reason, where the delta does not lead on from what is there.
    pub(super) fn change(&mut self, base: u64, generation: u64, changes: &[Change]) -> Result<bool, String> {
        if base != self.snapshot.generation || generation <= base {
            return Err(format!(
                "a delta from {base} to {generation} does not lead on from {}",
                self.snapshot.generation
            ));
        }
        for change in changes {
            self.snapshot.apply(change);
            match change {
                Change::Keys { .. } => self.dirty = Dirty::All,
                Change::Listeners { .. } => {}
                Change::PutRelease { pool, .. } | Change::RemoveRelease { pool } => self.touch(pool),
                Change::PutPool { name, .. } | Change::RemovePool { name } | Change::PutSettings { name, .. } => {
                    self.touch(name)
                }
                Change::PutMember { pool, .. }
                | Change::RemoveMember { pool, .. }
                | Change::Observe { pool, .. }
                | Change::Rebalance { pool, .. } => self.touch(pool),
            }
        }
        self.snapshot.generation = generation;
        Ok(changes.iter().all(|change| matches!(change, Change::Observe { .. })))
    }

    fn touch(&mut self, pool: &str) {
        if let Dirty::Pools(pools) = &mut self.dirty {
            pools.insert(pool.to_owned());
        }
    }

    /// Builds a table for each worker and hands it over.
    ///
    /// # Errors
    /// The reason, where no table can be made of the snapshot; the workers then keep theirs.
    pub(super) fn publish(&mut self) -> Result<(), String> {
        // Before the table that knows the listener: nobody is served in clear text who should not be.
        let news = self.tls.follow(&self.snapshot.desired, u64::from(unix_seconds()));
        self.hand_out(news);
        let (mut first, mut ended, mut closed) = (None::<Table>, AHashSet::new(), AHashSet::new());
        for index in 0..self.workers.len() {
            let before = self.workers[index].table.as_ref();
            let table = match &first {
                Some(first) => first.copy(before),
                None => Table::build(&self.snapshot, before, &self.dirty, &mut self.slots, unix_seconds()),
            };
            if first.is_none() {
                ended = new_lives(before, &table, &self.sessions);
                closed = just_closed(before, &table);
            }
            if self.slots.is_full_for(&table) {
                return Err(
                    "more names of pools and backends than one data plane can tell apart; restart it".to_owned()
                );
            }
            first.get_or_insert_with(|| table.clone());
            let seat = &mut self.workers[index];
            seat.table = Some(table.clone());
            seat.mailbox.send(Command::Apply(Box::new(table)));
        }
        // What they have seen until they have this table comes later and counts: it is little, and gone with the idle time.
        if !ended.is_empty() {
            self.sessions.forget_at(&ended);
        }
        if let Some(table) = &first {
            self.releases.follow(&self.snapshot, table);
        }
        if !closed.is_empty() {
            let (at, closing) = self.closing.get_or_insert_default();
            *at = self.snapshot.generation;
            closing.extend(closed);
        }
        self.dirty = Dirty::Pools(BTreeSet::new());
        // After the mailboxes are filled: who sees the number finds the table.
        self.shared.latest.store(self.snapshot.generation, Ordering::Release);
        Ok(())
    }

    /// Follows the files of certificates.
    pub(super) fn look_at_certificates(&mut self) {
        let news = self.tls.look(u64::from(unix_seconds()));
        self.hand_out(news);
    }

    fn hand_out(&self, news: Vec<News>) {
        for each in news {
            for seat in &self.workers {
                seat.mailbox.send(Command::Tls(each.clone()));
            }
        }
    }

    /// Notes that a worker acts on a generation, and gives the one that all act on if that is news.
    pub(super) fn applied(&mut self, worker: usize, generation: u64) -> Option<u64> {
        self.workers[worker].applied = generation;
        let all = self.applied_by_all();
        let news = all > self.acknowledged;
        self.acknowledged = all;
        self.close_drained(all);
        news.then_some(all)
    }

    /// Has the workers close what is open at backends whose drain is over, once none of them sends there any more: room
    /// that is left by what one of them closes would be taken by a request of another that is about to be closed as well.
    fn close_drained(&mut self, applied: u64) {
        if let Some((_, slots)) = self.closing.take_if(|(generation, _)| *generation <= applied) {
            let slots: Arc<[u32]> = slots.into_iter().collect();
            for seat in self.workers.iter().filter(|seat| !seat.ended) {
                seat.mailbox.send(Command::Close(Arc::clone(&slots)));
            }
        }
    }

    pub(super) fn applied_by_all(&self) -> u64 {
        self.workers.iter().filter(|seat| !seat.ended).map(|seat| seat.applied).min().unwrap_or(0)
    }

    /// Has the workers hand over what they have not reported yet.
    pub(super) fn flush(&mut self) {
        for seat in self.workers.iter_mut().filter(|seat| !seat.ended) {
            seat.flushed = !seat.mailbox.send(Command::Flush);
        }
    }

    /// True when that was the last worker that a flush waited for.
    pub(super) fn flushed(&mut self, worker: usize) -> bool {
        self.workers[worker].flushed = true;
        self.workers.iter().all(|seat| seat.flushed || seat.ended)
    }

    pub(super) fn drain(&mut self, parting: Parting) {
        self.parting = Some(parting);
        for seat in &self.workers {
            seat.mailbox.send(Command::Drain(parting));
        }
    }

    /// Has the workers close their tunnels within so long.
    pub(super) fn stop_tunnels(&self, over: Span) {
        for seat in &self.workers {
            seat.mailbox.send(Command::StopTunnels(over));
        }
    }

    /// True when that was the last worker.
    pub(super) fn ended(&mut self, worker: usize) -> bool {
        self.workers[worker].ended = true;
        self.workers.iter().all(|seat| seat.ended)
    }

    pub(super) fn expire_sessions(&mut self) {
        let Some(table) = self.workers.first().and_then(|seat| seat.table.as_ref()) else { return };
        let now = unix_seconds();
        let pools = table.pools.iter();
        let idle: ahash::AHashMap<u32, u32> =
            pools.map(|pool| (pool.slot, pool.settings.affinity.cookie.live_for().as_secs_u32())).collect();
        self.sessions.expire(now, |pool| idle.get(&pool).copied());
    }

    /// Leaves the live sessions to the data plane that comes next.
    ///
    /// # Errors
    /// The file can't be written.
    pub(super) fn leave_sessions(&self, path: &Path) -> io::Result<Option<Mark>> {
        let table = self.workers.first().and_then(|seat| seat.table.as_ref());
        table.map(|table| kept::write(path, &self.sessions, table)).transpose()
    }

    /// Takes the live sessions that the one before has left, if it has; how many.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn take_sessions(&mut self, path: &Path) -> io::Result<Option<usize>> {
        let table = self.workers.first().and_then(|seat| seat.table.as_ref());
        table.map_or(Ok(None), |table| kept::take(path, &mut self.sessions, table))
    }

    /// Another data plane follows them from now on.
    pub(super) fn forget_sessions(&mut self) {
        self.sessions = Sessions::new(unix_seconds());
    }

    pub(super) fn gauge_sessions(&mut self) {
        self.sessions.gauge(unix_seconds());
    }

    /// A sketch of a pool's live sessions; empty where there is no such pool. This is work of some milliseconds where many
    /// are kept.
    pub(super) fn sketch(&self, pool: &str) -> Sketch {
        let table = self.workers.first().and_then(|seat| seat.table.as_ref());
        let Some(pool) = table.and_then(|table| table.pools.iter().find(|each| each.name == pool)) else {
            return Sketch::default();
        };
        let indices: ahash::AHashMap<u32, u32> =
            pool.backends.iter().zip(0..).map(|(backend, index)| (backend.slot, index)).collect();
        // Those that were seen last at one that is gone are nowhere.
        let there = self.sessions.of(pool.slot).filter_map(|(key, slot, at)| Some((key, *indices.get(&slot)?, at)));
        let (below, sessions) = lowest(there, self.sessions.level(pool.slot), SIZE);
        let sessions = sessions.into_iter().map(|(hash, backend, at)| Sketched(hash, backend, at)).collect();
        Sketch { below, backends: pool.backends.iter().map(|backend| backend.name.clone()).collect(), sessions }
    }

    /// Whoever has just connected knows nothing of what was told before: the next report will have all backends, and the
    /// generation that all act on is news again.
    pub(super) fn tell_anew(&mut self) {
        self.reporter = Reporter::default();
        self.acknowledged = 0;
    }

    /// The figures of this moment; `None` before there is a table.
    pub(super) fn report(&mut self) -> Option<Stats> {
        let table = self.workers.first().and_then(|seat| seat.table.as_ref())?;
        let sources = Sources {
            boards: &self.shared.boards,
            gates: &self.shared.gates,
            sessions: &self.sessions,
            ledger: &self.ledger,
            hottest: &self.hottest,
            releases: &self.releases,
            slots: &self.slots,
            now: unix_seconds(),
        };
        let mut stats = self.reporter.report(&sources, table);
        stats.generation = self.applied_by_all();
        stats.at = unix_millis();
        stats.tls = self.tls.stats();
        for (name, pool) in &mut stats.pools {
            pool.tls_refused = self.tls.refused(name);
        }
        Some(stats)
    }
}

fn unix_seconds() -> u32 {
    u32::try_from(unix_millis() / 1_000).unwrap_or(u32::MAX)
}

pub(super) fn unix_millis() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some((_, unix)) = crate::simulation::now() {
        return unix;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counters::Board, worker::Gates};

    #[test]
    fn where_a_name_led_outlives_an_admin_process_that_has_not_looked_it_up_yet() {
        use control::{
            desired::{Observed, PoolState, SEED_INCARNATION},
            spec::{Backend, Pool},
        };
        let snapshot = |address: &str, resolved: Option<&str>| {
            let backend = Backend { name: "a".into(), address: address.into(), ..Backend::default() };
            let pool = Pool { name: "shop".into(), backends: vec![backend], ..Pool::default() };
            let mut snapshot = Snapshot::default();
            let pool = Box::new(PoolState::seed(pool, SEED_INCARNATION));
            snapshot.apply(&Change::PutPool { name: "shop".into(), pool });
            let resolved = resolved.map(|resolved| resolved.parse().unwrap());
            let observed = Observed { resolved, ..Observed::default() };
            snapshot.apply(&Change::Observe { pool: "shop".into(), name: "a".into(), observed });
            snapshot
        };
        let shared = Shared::new(Vec::new(), Gates::new(Vec::new()));
        let mut plane = Plane::new(Vec::new(), Arc::new(shared));
        let resolved = |plane: &Plane| plane.snapshot.observed("shop", "a").resolved.map(|address| address.to_string());
        plane.replace(snapshot("app:80", Some("10.0.0.1:80")));
        plane.replace(snapshot("app:80", None));
        assert_eq!(resolved(&plane).as_deref(), Some("10.0.0.1:80"));
        plane.replace(snapshot("app:80", Some("10.0.0.2:80")));
        assert_eq!(resolved(&plane).as_deref(), Some("10.0.0.2:80"), "a newer answer counts");
        plane.replace(snapshot("other:80", None));
        assert_eq!(resolved(&plane), None, "another name is another backend");
    }

    #[test]
    fn whoever_connects_anew_is_told_again_what_all_workers_act_on() {
        let (mailboxes, _inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| Mailbox::new().unwrap()).unzip();
        let boards = vec![Board::new(), Board::new()];
        let shared = Shared::new(boards, Gates::new(Vec::new()));
        let mut plane = Plane::new(mailboxes.into_iter().map(Arc::new).collect(), Arc::new(shared));
        assert_eq!(plane.applied(0, 5), None, "the other one does not act on it yet");
        assert_eq!(plane.applied(1, 5), Some(5));
        assert_eq!(plane.applied(1, 5), None);
        plane.tell_anew();
        assert_eq!(plane.applied(0, 5), Some(5), "the same snapshot again, applied again");
    }

    /// Fixed: a worker that had the table first closed what was open, and the room that this left went to a request of
    /// another worker, which did not have it yet and sent it to the backend that was about to be closed.
    #[test]
    fn what_is_open_at_a_drained_backend_is_closed_once_no_worker_sends_there() {
        use control::{
            desired::{AdminState, Drain, DrainMode, Member, PoolState, SEED_INCARNATION, Then},
            spec::{Backend, Pool},
        };
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| Mailbox::new().unwrap()).unzip();
        let boards = vec![Board::new(), Board::new()];
        let shared = Shared::new(boards, Gates::new(Vec::new()));
        let mut plane = Plane::new(mailboxes.into_iter().map(Arc::new).collect(), Arc::new(shared));
        let backend = Backend { name: "a".into(), address: "127.0.0.1:1".into(), ..Backend::default() };
        let pool =
            PoolState::seed(Pool { name: "shop".into(), backends: vec![backend], ..Pool::default() }, SEED_INCARNATION);
        let mut member: Member = pool.members["a"].clone();
        let mut snapshot = Snapshot::default();
        snapshot.apply(&Change::PutPool { name: "shop".into(), pool: Box::new(pool) });
        snapshot.generation = 1;
        plane.replace(snapshot);
        plane.publish().unwrap();
        let told = |worker: usize| -> Vec<String> {
            let name = |command| {
                if let Command::Apply(table) = command {
                    format!("apply {}", table.generation)
                } else {
                    format!("{command:?}")
                }
            };
            inboxes[worker].commands.waiting().map(name).collect()
        };
        assert_eq!((told(0), told(1)), (vec!["apply 1".to_owned()], vec!["apply 1".to_owned()]));
        let then = Some(Then::Close);
        member.admin_state = AdminState::Maintenance;
        member.drain = Some(Drain { mode: DrainMode::Persist, since: 1, deadline: Some(2), share: None, then });
        plane.change(1, 2, &[Change::PutMember { pool: "shop".into(), name: "a".into(), member }]).unwrap();
        plane.publish().unwrap();
        assert_eq!((told(0), told(1)), (vec!["apply 2".to_owned()], vec!["apply 2".to_owned()]));
        plane.applied(0, 2);
        assert!(told(0).is_empty() && told(1).is_empty(), "the other one may still send there");
        plane.applied(1, 2);
        assert_eq!((told(0), told(1)), (vec!["Close([0])".to_owned()], vec!["Close([0])".to_owned()]));
        plane.applied(1, 2);
        assert!(told(0).is_empty(), "once");
    }
}
