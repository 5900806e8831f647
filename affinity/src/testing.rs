//! Pools for the tests of this crate, and what a worker would know beyond them.

use crate::{
    balance::View,
    choose::{Asked, Pin},
    hash::name_hash,
    table::{Dirty, PoolTable, RouteName, Slots, Table},
};
use control::{
    desired::{Change, Member, Observed, PoolState, SEED_INCARNATION, Snapshot},
    spec::{Backend, Key, Pool},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// One pool of the name `shop` with these settings and weights, and one key.
pub(crate) fn snapshot(settings: Pool, members: &[(&str, u32)]) -> Snapshot {
    let mut snapshot = Snapshot { generation: 1, ..Snapshot::default() };
    snapshot.desired.keys = vec![Key([1; 32])];
    snapshot.desired.pools.insert("shop".to_owned(), PoolState::seed(settings, SEED_INCARNATION));
    for (name, weight) in members {
        snapshot.apply(&put(name, *weight));
    }
    snapshot
}

/// What is asked at no time in particular.
pub(crate) fn asked(pin: Pin, key: u64, random: u64) -> Asked {
    Asked { pin, key, random, now: 0, force: false, together: false, idle: None }
}

pub(crate) fn put(name: &str, weight: u32) -> Change {
    Change::PutMember { pool: "shop".to_owned(), name: name.to_owned(), member: member(weight) }
}

pub(crate) fn put_backup(name: &str) -> Change {
    let member = Member { backup: true, ..member(1) };
    Change::PutMember { pool: "shop".to_owned(), name: name.to_owned(), member }
}

pub(crate) fn remove(name: &str) -> Change {
    Change::RemoveMember { pool: "shop".to_owned(), name: name.to_owned() }
}

pub(crate) fn observe(name: &str, observed: Observed) -> Change {
    Change::Observe { pool: "shop".to_owned(), name: name.to_owned(), observed }
}

pub(crate) fn member(weight: u32) -> Member {
    Member::new(&Backend { address: "192.0.2.1:80".to_owned(), weight, ..Backend::default() }, SEED_INCARNATION)
}

/// The next generation, after a change.
pub(crate) fn step(snapshot: &mut Snapshot, change: &Change) {
    snapshot.apply(change);
    snapshot.generation += 1;
}

/// The table, with all pools dirty.
pub(crate) fn build(snapshot: &Snapshot, before: Option<&Table>) -> Table {
    Table::build(snapshot, before, &Dirty::All, &mut SlotsByName, 0)
}

/// The pool of [`snapshot`], for tests that go on to change its backends. Pools of equal members share a ring, which is
/// all that takes long to build.
pub(crate) fn pool(settings: Pool, members: &[(&str, u32)]) -> PoolTable {
    static BUILT: Mutex<BTreeMap<Vec<(String, u32)>, Table>> = Mutex::new(BTreeMap::new());
    let known = members.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    let mut built = BUILT.lock().expect("no test fails while it holds this");
    let before = built.entry(known).or_insert_with(|| build(&snapshot(Pool::default(), members), None));
    let pool = build(&snapshot(settings, members), Some(before)).pools.pop();
    pool.and_then(Arc::into_inner).expect("there is one pool, which nobody else has")
}

/// Slots that follow from the names alone.
pub(crate) struct SlotsByName;

impl Slots for SlotsByName {
    fn pool(&mut self, pool: &str) -> u32 {
        name_hash(pool) as u32
    }

    fn backend(&mut self, pool: &str, backend: &str) -> u32 {
        name_hash(format!("{pool}/{backend}")) as u32
    }

    fn route(&mut self, _: &RouteName<'_>) -> Option<u32> {
        None
    }

    fn key(&mut self, id: u16) -> u32 {
        id.into()
    }
}

/// What a worker knows beyond its table, by index.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) in_flight: BTreeMap<u16, u32>,
    pub(crate) full: BTreeSet<u16>,
    pub(crate) marked: BTreeSet<u16>,
    pub(crate) tried: BTreeSet<u16>,
}

impl View for Seen {
    fn in_flight(&self, backend: u16) -> u32 {
        self.in_flight.get(&backend).copied().unwrap_or(0)
    }

    fn pool_in_flight(&self) -> u32 {
        self.in_flight.values().sum()
    }

    fn is_full(&self, backend: u16) -> bool {
        self.full.contains(&backend)
    }

    fn is_marked_down(&self, backend: u16) -> bool {
        self.marked.contains(&backend)
    }

    fn was_tried(&self, backend: u16) -> bool {
        self.tried.contains(&backend)
    }
}
