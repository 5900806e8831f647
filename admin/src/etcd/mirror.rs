//! What etcd holds below the prefix, as far as this node has heard, and what is desired by that. Pure.

use super::rows::{Key, Node, Value, parse, shown};
use crate::store::Sections;
use control::{
    check::MAX_BACKENDS,
    desired::{Change, Desired, Member, PoolState},
    spec::Listener,
};
use std::collections::{BTreeMap, BTreeSet};

/// A key with its value, as etcd tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) key: Vec<u8>,
    /// Absent where the key was deleted.
    pub(crate) value: Option<Vec<u8>>,
    /// The revision that wrote it.
    pub(crate) revision: u64,
}

#[derive(Debug)]
struct Row {
    revision: u64,
    /// The last good one; absent where there was none.
    value: Option<Value>,
    /// Why what is there now can't be used.
    refused: Option<String>,
}

/// All rows, at one revision.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(super) prefix: String,
    pub(super) revision: u64,
    /// Of etcd; another one means that its revisions say nothing.
    pub(super) cluster: String,
    /// No incarnation up to here is given out again, whatever etcd says.
    floor: u64,
    rows: BTreeMap<Key, Row>,
    /// Keys below the prefix that are none of ours, with why.
    strange: BTreeMap<String, String>,
}

/// What a batch of news is about.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(super) pools: BTreeSet<String>,
    pub(super) sections: bool,
    /// The prefix was emptied: what goes with that is not meant.
    pub(super) wiped: bool,
}

impl Mirror {
    /// Before anything was heard: `sections` as they were the last time. `floor` is the highest number that a life may have
    /// had.
    pub(crate) fn new(prefix: &str, sections: &Sections, floor: u64) -> Self {
        let rows = sections.iter().map(|(pool, section)| {
            let value = Some(Value::Section(Box::new(section.clone())));
            (Key::Section(pool.clone()), Row { revision: 0, value, refused: None })
        });
        Self { prefix: prefix.to_owned(), floor, rows: rows.collect(), ..Self::default() }
    }

    /// Whether anything was ever heard, or kept from before this process.
    pub(super) fn knows_any(&self) -> bool {
        self.revision > 0 || !self.rows.is_empty()
    }

    /// A number for lives that begin now: higher than that of any life that ended before, on every node the same.
    pub(crate) fn life(&self) -> u64 {
        self.floor.max(self.told_life())
    }

    /// The same, by what etcd holds alone.
    pub(super) fn told_life(&self) -> u64 {
        self.base() + self.revision
    }

    pub(super) fn base(&self) -> u64 {
        match self.rows.get(&Key::Base).and_then(|row| row.value.as_ref()) {
            Some(Value::Number(base)) => *base,
            Some(_) | None => 0,
        }
    }

    /// The revision that wrote a key; 0 where it isn't there.
    pub(super) fn revision_of(&self, key: &Key) -> u64 {
        self.rows.get(key).map_or(0, |row| row.revision)
    }

    /// Takes all rows over, in place of those that were there. `known` is what was desired before, whose values stay where
    /// those of etcd can't be used.
    pub(super) fn load(
        &mut self,
        told: &[Told],
        (revision, cluster): (u64, String),
        known: &Desired,
        here: &[Listener],
    ) {
        self.floor = self.life();
        self.rows.retain(|_, row| row.refused.is_some());
        let refused = std::mem::take(&mut self.rows);
        self.strange.clear();
        (self.revision, self.cluster) = (revision, cluster);
        for told in told {
            let key = Key::parse(&self.prefix, &String::from_utf8_lossy(&told.key)).ok();
            let before = key.as_ref().and_then(|key| refused.get(key)).and_then(|row| row.refused.as_deref());
            self.take(told, &mut Touched::default(), before, here, |key| known_value(known, key));
        }
    }

    /// Takes over what was put and deleted. Where the format goes nothing is taken over.
    pub(super) fn follow(&mut self, news: &[Told], here: &[Listener]) -> Touched {
        let mut touched = Touched::default();
        let format = Key::Format.path(&self.prefix);
        // Whoever puts it back at once has the rest put back as well.
        let last = news.iter().rfind(|told| told.key == format.as_bytes());
        if last.is_some_and(|told| told.value.is_none()) {
            return Touched { wiped: true, ..touched };
        }
        for told in news {
            self.revision = self.revision.max(told.revision);
            self.take(told, &mut touched, None, here, |_| None);
        }
        touched
    }

    fn take(
        &mut self,
        told: &Told,
        touched: &mut Touched,
        before: Option<&str>,
        here: &[Listener],
        known: impl FnOnce(&Key) -> Option<Value>,
    ) {
        let path = String::from_utf8_lossy(&told.key).into_owned();
        let key = match Key::parse(&self.prefix, &path) {
            Ok(key) => key,
            Err(why) => {
                match &told.value {
                    Some(_) if self.strange.insert(path.clone(), why.clone()).is_none() => {
                        tracing::warn!(key = %shown(&path), "etcd has a key that is not used: {why}");
                    }
                    Some(_) => {}
                    None => drop(self.strange.remove(&path)),
                }
                return;
            }
        };
        touched.pools.extend(key.pool().map(str::to_owned));
        touched.sections |= matches!(key, Key::Section(_));
        let Some(value) = &told.value else {
            self.rows.remove(&key);
            return;
        };
        let last = self.rows.remove(&key);
        let row = match parse(&key, value, here) {
            Ok(value) => {
                if before.is_some() || last.is_some_and(|row| row.refused.is_some()) {
                    tracing::info!(key = %path, "what etcd has there can be used again");
                }
                Row { revision: told.revision, value: Some(value), refused: None }
            }
            Err(why) => {
                if before.or(last.as_ref().and_then(|row| row.refused.as_deref())) != Some(why.as_str()) {
                    tracing::warn!(key = %path, "what etcd has there can't be used, so what was there before stays: {why}");
                }
                let value = last.and_then(|row| row.value).or_else(|| known(&key));
                Row { revision: told.revision, value, refused: Some(why) }
            }
        };
        self.rows.insert(key, row);
    }

    pub(super) fn sections(&self) -> Sections {
        let sections = self.rows.iter().filter_map(|(key, row)| match (key, &row.value) {
            (Key::Section(pool), Some(Value::Section(section))) => Some((pool.clone(), section.as_ref().clone())),
            _ => None,
        });
        sections.collect()
    }

    /// The nodes that have told where they are, or why what they told was never of use.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, Result<&Node, &str>)> {
        self.rows.iter().filter_map(|(key, row)| match (key, &row.value) {
            (Key::Node(name), Some(Value::Node(node))) => Some((name.as_str(), Ok(node))),
            (Key::Node(name), _) => Some((name.as_str(), Err(row.refused.as_deref().unwrap_or_default()))),
            _ => None,
        })
    }

    /// The names below `members/{pool}/`, whatever they hold.
    pub(super) fn member_names(&self, pool: &str) -> impl Iterator<Item = &str> {
        self.member_rows(pool).map(|(name, _)| name)
    }

    fn member_rows(&self, pool: &str) -> impl Iterator<Item = (&str, &Row)> {
        let first = Key::Member(pool.to_owned(), String::new());
        self.rows.range(first..).map_while(move |(key, row)| {
            if let Key::Member(of, name) = key { (of == pool).then_some((name.as_str(), row)) } else { None }
        })
    }

    /// A pool, where it is there.
    pub(super) fn pool(&self, name: &str) -> Option<PoolState> {
        let Some(Value::Pool(settings)) = &self.rows.get(&Key::Pool(name.to_owned()))?.value else { return None };
        let members = self.member_rows(name).filter_map(|(name, row)| match &row.value {
            Some(Value::Member(member)) => {
                let mut member = member.as_ref().clone();
                // Whose `discover` somebody took away is found no more: it is there until somebody removes it.
                let asked = |by: &str| settings.discover.iter().any(|discover| discover.name == by);
                member.found = member.found.filter(|found| asked(&found.by));
                Some((name.to_owned(), member))
            }
            _ => None,
        });
        Some(PoolState { settings: settings.as_ref().clone(), members: members.take(MAX_BACKENDS).collect() })
    }

    /// All that is desired by what etcd holds; listeners and keys are this node's own.
    pub(super) fn desired(&self) -> Desired {
        self.desired_of(&self.rows.keys().filter_map(Key::pool).map(str::to_owned).collect())
    }

    fn desired_of(&self, pools: &BTreeSet<String>) -> Desired {
        let mut desired = Desired::default();
        for name in pools {
            let Some(pool) = self.pool(name) else { continue };
            let release = self.rows.get(&Key::Release(name.clone())).and_then(|row| row.value.as_ref());
            if let Some(Value::Release(release)) = release {
                desired.releases.insert(name.clone(), release.as_ref().clone());
            }
            desired.pools.insert(name.clone(), pool);
        }
        desired
    }

    /// The changes that lead from `known` to what etcd holds of these pools.
    pub(super) fn changes(&self, known: &Desired, pools: &BTreeSet<String>) -> Vec<Change> {
        diff(known, &self.desired_of(pools), pools)
    }

    /// What somebody has to mend, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let refused = self.rows.iter().filter_map(|(key, row)| {
            let why = row.refused.as_ref()?;
            let stays = if row.value.is_some() { "what was there before stays" } else { "it counts as absent" };
            Some(format!("etcd has a value at `{}` that can't be used: {why}; {stays}", key.path(&self.prefix)))
        });
        let strange = self.strange.iter().map(|(path, why)| format!("etcd has a key `{}`: {why}", shown(path)));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for key in self.rows.keys() {
            if let Key::Member(pool, _) = key {
                *counts.entry(pool).or_default() += 1;
            }
        }
        let prefix = &self.prefix;
        let counts = counts.into_iter().filter_map(|(pool, count)| {
            if !self.rows.contains_key(&Key::Pool(pool.to_owned())) {
                return Some(format!(
                    "etcd has {count} backends below `{prefix}/members/{pool}/` and no pool `{prefix}/pools/{pool}`: write it, or delete them"
                ));
            }
            (count > MAX_BACKENDS).then(|| format!("pool `{pool}` has {count} backends in etcd: {MAX_BACKENDS} count"))
        });
        refused.chain(strange).chain(counts).collect()
    }
}

/// What is desired under a key.
fn known_value(known: &Desired, key: &Key) -> Option<Value> {
    match key {
        Key::Pool(pool) => Some(Value::Pool(Box::new(known.pools.get(pool)?.settings.clone()))),
        Key::Member(pool, name) => Some(Value::Member(Box::new(known.pools.get(pool)?.members.get(name)?.clone()))),
        Key::Release(pool) => Some(Value::Release(Box::new(known.releases.get(pool)?.clone()))),
        Key::Section(_) | Key::Format | Key::Base | Key::Claim | Key::Node(_) => None,
    }
}

/// The changes of these pools that lead from one state to another. What is alike is not touched: its life goes on.
pub(super) fn diff(known: &Desired, wanted: &Desired, pools: &BTreeSet<String>) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in pools {
        match (known.pools.get(name), wanted.pools.get(name)) {
            (None, None) => continue,
            (Some(_), None) => {
                changes.push(Change::RemovePool { name: name.clone() });
                continue;
            }
            (None, Some(pool)) => changes.push(Change::PutPool { name: name.clone(), pool: Box::new(pool.clone()) }),
            (Some(known), Some(wanted)) => {
                if known.settings != wanted.settings {
                    let settings = Box::new(wanted.settings.clone());
                    changes.push(Change::PutSettings { name: name.clone(), settings });
                }
                changes.extend(diff_members(name, &known.members, &wanted.members));
            }
        }
        match (known.releases.get(name), wanted.releases.get(name)) {
            (known, Some(wanted)) if known != Some(wanted) => {
                changes.push(Change::PutRelease { pool: name.clone(), release: Box::new(wanted.clone()) });
            }
            (Some(_), None) => changes.push(Change::RemoveRelease { pool: name.clone() }),
            _ => {}
        }
    }
    changes
}

type Members = BTreeMap<String, Member>;

fn diff_members<'m>(pool: &'m str, known: &'m Members, wanted: &'m Members) -> impl Iterator<Item = Change> + 'm {
    let gone = known.keys().filter(|name| !wanted.contains_key(*name));
    let gone = gone.map(move |name| Change::RemoveMember { pool: pool.to_owned(), name: name.clone() });
    let put = wanted.iter().filter(|(name, member)| known.get(*name) != Some(*member));
    let put = put.map(move |(name, member)| Change::PutMember {
        pool: pool.to_owned(),
        name: name.clone(),
        member: member.clone(),
    });
    gone.chain(put)
}
