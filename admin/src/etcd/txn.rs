//! From the changes of a plan to transactions of etcd. Pure.

use super::{
    mirror::Mirror,
    rows::{Key, to_text},
};
use crate::store::Sections;
use control::desired::{Change, Desired};
use std::collections::{BTreeMap, BTreeSet};

/// etcd takes 128 operations in a transaction unless it is told otherwise (`--max-txn-ops`), and as many comparisons.
pub(super) const MAX_OPS: usize = 100;
/// etcd takes 1.5 MiB in a request unless it is told otherwise (`--max-request-bytes`).
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What has to hold for a transaction to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compare {
    /// A key is as it was when this revision wrote it; 0 where it wasn't there.
    Unchanged(Key, u64),
    /// No member of the pool was written after this revision.
    NoneAfter(String, u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Put(Key, String),
    Delete(Key),
    /// All members of a pool.
    DeleteMembers(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Txn {
    pub(super) compares: Vec<Compare>,
    pub(super) ops: Vec<Op>,
}

/// What of a plan is written to etcd.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'p> {
    pub(super) changes: &'p [Change],
    pub(super) sections: Option<&'p Sections>,
    /// Pools of which the plan has looked at all members.
    pub(super) whole: &'p BTreeSet<String>,
}

/// Whether a change is written to etcd; the others are this node's own.
pub(super) const fn is_shared(change: &Change) -> bool {
    match change {
        Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } | Change::Rebalance { .. } => false,
        Change::PutPool { .. }
        | Change::RemovePool { .. }
        | Change::PutSettings { .. }
        | Change::PutMember { .. }
        | Change::RemoveMember { .. }
        | Change::PutRelease { .. }
        | Change::RemoveRelease { .. } => true,
    }
}

/// The transactions that carry out a plan made for `known`, one after the other; one alone up to the limits above. A pool
/// that is new comes with its last one, and one that goes goes with its first: half a pool is never seen.
pub(super) fn txns(mirror: &Mirror, known: &Desired, wanted: Wanted<'_>) -> Vec<Txn> {
    let ops = ops(mirror, known, wanted);
    let (mut txns, mut txn, mut bytes) = (Vec::new(), Txn::default(), 0);
    let mut guarded = BTreeSet::new();
    for op in ops {
        let size = op.size(&mirror.prefix);
        let compares = op.compares(mirror, wanted.whole, &guarded);
        let full = txn.ops.len() >= MAX_OPS || txn.compares.len() + compares.len() > MAX_OPS;
        if !txn.ops.is_empty() && (full || bytes + size > MAX_BYTES) {
            txns.push(std::mem::take(&mut txn));
            bytes = 0;
        }
        bytes += size;
        for compare in compares {
            if let Compare::NoneAfter(pool, _) = &compare {
                guarded.insert(pool.clone());
            }
            if !txn.compares.contains(&compare) {
                txn.compares.push(compare);
            }
        }
        txn.ops.push(op);
    }
    txns.extend((!txn.ops.is_empty()).then_some(txn));
    txns
}

impl Op {
    fn key(&self) -> Option<&Key> {
        match self {
            Self::Put(key, _) | Self::Delete(key) => Some(key),
            Self::DeleteMembers(_) => None,
        }
    }

    fn size(&self, prefix: &str) -> usize {
        const ABOUT: usize = 64;
        let value = if let Self::Put(_, value) = self { value.len() } else { 0 };
        value + self.key().map_or(0, |key| key.path(prefix).len()) + ABOUT
    }

    fn compares(&self, mirror: &Mirror, whole: &BTreeSet<String>, guarded: &BTreeSet<String>) -> Vec<Compare> {
        let unchanged = |key: Key| {
            let revision = mirror.revision_of(&key);
            Compare::Unchanged(key, revision)
        };
        let (own, pool) = match self {
            Self::Put(key, _) | Self::Delete(key) => (Some(key.clone()), key.pool()),
            Self::DeleteMembers(pool) => (None, Some(pool.as_str())),
        };
        let mut compares: Vec<_> = own.map(unchanged).into_iter().collect();
        // What is written of a pool was planned by its settings; a section is no part of it.
        if let Some(pool) = pool.filter(|_| !matches!(self.key(), Some(Key::Section(_)))) {
            compares.push(unchanged(Key::Pool(pool.to_owned())));
            if whole.contains(pool) && !guarded.contains(pool) {
                compares.push(Compare::NoneAfter(pool.to_owned(), mirror.revision));
            }
        }
        compares
    }
}

fn ops(mirror: &Mirror, known: &Desired, Wanted { changes, sections, .. }: Wanted<'_>) -> Vec<Op> {
    let (mut target, mut touched) = (Desired::default(), BTreeMap::<&str, Touched<'_>>::new());
    for change in changes {
        note(change, &mut touched);
    }
    for name in touched.keys() {
        target.pools.extend(known.pools.get_key_value(*name).map(|(name, pool)| (name.clone(), pool.clone())));
        target.releases.extend(known.releases.get_key_value(*name).map(|(name, each)| (name.clone(), each.clone())));
    }
    changes.iter().for_each(|change| target.apply(change));
    let mut ops = Vec::new();
    for (pool, touched) in touched {
        ops.extend(touched.ops(mirror, pool, &target));
    }
    if let Some(sections) = sections {
        let before = mirror.sections();
        let gone = before.keys().filter(|pool| !sections.contains_key(*pool));
        ops.extend(gone.map(|pool| Op::Delete(Key::Section(pool.clone()))));
        let others = sections.iter().filter(|(pool, section)| before.get(*pool) != Some(*section));
        ops.extend(others.map(|(pool, section)| Op::Put(Key::Section(pool.clone()), to_text(section))));
    }
    ops
}

/// What of a pool the changes are about.
#[derive(Debug, Default)]
struct Touched<'c> {
    whole: bool,
    settings: bool,
    members: BTreeSet<&'c str>,
    release: bool,
}

fn note<'c>(change: &'c Change, touched: &mut BTreeMap<&'c str, Touched<'c>>) {
    match change {
        Change::PutPool { name, .. } | Change::RemovePool { name } => {
            touched.entry(name).or_default().whole = true;
        }
        Change::PutSettings { name, .. } => touched.entry(name).or_default().settings = true,
        Change::PutMember { pool, name, .. } | Change::RemoveMember { pool, name } => {
            touched.entry(pool).or_default().members.insert(name);
        }
        Change::PutRelease { pool, .. } | Change::RemoveRelease { pool } => {
            touched.entry(pool).or_default().release = true;
        }
        Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } | Change::Rebalance { .. } => {}
    }
}

impl Touched<'_> {
    fn ops(&self, mirror: &Mirror, name: &str, target: &Desired) -> Vec<Op> {
        let there = |key: &Key| mirror.revision_of(key) > 0;
        let (settings, release) = (Key::Pool(name.to_owned()), Key::Release(name.to_owned()));
        let Some(pool) = target.pools.get(name) else {
            let gone = [settings, release].into_iter().filter(there).map(Op::Delete);
            let members = mirror.member_names(name).next().map(|_| Op::DeleteMembers(name.to_owned()));
            return gone.chain(members).collect();
        };
        let put = Op::Put(settings, to_text(&pool.settings));
        let (first, last) = match (self.whole, self.settings) {
            (true, _) => (None, Some(put)),
            (false, true) => (Some(put), None),
            (false, false) => (None, None),
        };
        let mut names: BTreeSet<_> = self.members.iter().map(|name| (*name).to_owned()).collect();
        if self.whole {
            // Those that are left of a namesake would be members of it.
            names.extend(mirror.member_names(name).map(str::to_owned).chain(pool.members.keys().cloned()));
        }
        let members = names.into_iter().filter_map(|member| {
            let key = Key::Member(name.to_owned(), member.clone());
            match pool.members.get(&member) {
                Some(member) => Some(Op::Put(key, to_text(member))),
                None => there(&key).then_some(Op::Delete(key)),
            }
        });
        let release = (self.release || self.whole).then_some(release).and_then(|key| match target.releases.get(name) {
            Some(release) => Some(Op::Put(key, to_text(release))),
            None => there(&key).then_some(Op::Delete(key)),
        });
        first.into_iter().chain(members).chain(release).chain(last).collect()
    }
}

/// Everything that is desired, for a prefix in which nothing is.
pub(super) fn everything(desired: &Desired, sections: &Sections) -> Vec<(Key, String)> {
    let pools = desired.pools.iter().flat_map(|(name, pool)| {
        let members = pool.members.iter();
        let members = members.map(move |(member, value)| (Key::Member(name.clone(), member.clone()), to_text(value)));
        members.chain([(Key::Pool(name.clone()), to_text(&pool.settings))])
    });
    let releases = desired.releases.iter().map(|(pool, release)| (Key::Release(pool.clone()), to_text(release)));
    let sections = sections.iter().map(|(pool, section)| (Key::Section(pool.clone()), to_text(section)));
    pools.chain(releases).chain(sections).collect()
}
