//! What this process has followed over time: sums over the last minutes, what became of keys, and how long backends live.
//! In memory alone: a restart begins anew.

pub(crate) mod keys;
pub(crate) mod lives;
#[cfg(test)]
mod tests;
pub(crate) mod windows;

use affinity::burn::Returning;
use control::{
    counters::{PoolCount, Tells},
    desired::{Change, Desired},
    latency::BUCKETS,
    status::{Counts, PoolStats, Stats},
    token_age::TokenAge,
};
use keys::Keys;
use lives::{Lived, Lives};
use std::collections::BTreeMap;
use windows::{Window, Windows};

/// Data planes that are remembered, so that one that comes back goes on where it was.
const MAX_PLANES: usize = 64;

/// A data plane over all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaneId {
    pub(crate) pid: u32,
    /// When it began to count, in Unix milliseconds.
    pub(crate) started: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Unix milliseconds.
    began: u64,
    planes: BTreeMap<PlaneId, Plane>,
    pools: BTreeMap<String, Windows>,
    lives: BTreeMap<String, Lives>,
    pub(crate) keys: Keys,
}

/// What a data plane had counted by its last report. A name stays known to it for its life, so it does here.
#[derive(Clone, Debug, Default)]
struct Plane {
    pools: BTreeMap<String, Vec<u64>>,
    keys: BTreeMap<String, Vec<u64>>,
    /// By the monotonic clock.
    heard: u64,
}

/// Sums of a pool over a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolSums {
    pub(crate) counts: Counts,
    /// Requests with a token that opens, by the age of their session.
    pub(crate) ages: [u64; TokenAge::COUNT],
}

/// A pool's past.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolHistory {
    /// In the order of [`Window::ALL`].
    pub(crate) sums: [PoolSums; Window::ALL.len()],
    /// For how many seconds this process has followed it.
    pub(crate) followed: u64,
    pub(crate) lived: Lived,
}

impl PoolHistory {
    pub(crate) fn sums(&self, window: Window) -> &PoolSums {
        &self.sums[window as usize]
    }

    pub(crate) fn returning(&self, window: Window) -> Returning {
        returning(&self.sums(window).counts)
    }
}

/// The counts that say this of markers, by their names.
pub(crate) fn told(counts: &Counts, tells: Tells) -> BTreeMap<String, u64> {
    let causes = PoolCount::ALL.iter().filter(|cause| cause.tells() == tells).map(|cause| cause.name());
    causes.map(|cause| (cause.to_owned(), counts.get(cause).copied().unwrap_or_default())).collect()
}

/// The requests that came with a marker that opened.
pub(crate) fn returning(counts: &Counts) -> Returning {
    let sum = |tells| told(counts, tells).values().sum::<u64>();
    let pinned = sum(Tells::Reached);
    Returning { requests: pinned + sum(Tells::Left), pinned }
}

impl History {
    /// `began` is in Unix milliseconds: what data planes that are older and served count up to their first report is from
    /// before.
    pub(crate) fn new(began: u64) -> Self {
        Self { began, planes: BTreeMap::new(), pools: BTreeMap::new(), lives: BTreeMap::new(), keys: Keys::default() }
    }

    /// Takes what has been counted since the last report of this data plane; all of it where that is the first one and the
    /// data plane is no older than this process, or `is_fresh`: it served nothing yet when it connected. `now` is by the
    /// monotonic clock.
    pub(crate) fn take(&mut self, id: PlaneId, is_fresh: bool, report: &Stats, desired: &Desired, now: u64) {
        let is_whole = self.planes.contains_key(&id) || is_fresh || id.started >= self.began;
        let plane = self.planes.entry(id).or_default();
        plane.heard = now;
        for (name, stats) in report.pools.iter().filter(|(name, _)| desired.pools.contains_key(*name)) {
            let more = more(&mut plane.pools, name, pool_row(stats), is_whole);
            if more.iter().any(|count| *count > 0) {
                let width = more.len();
                self.pools.entry(name.clone()).or_insert_with(|| Windows::new(width)).add(now, &more);
            }
        }
        for (name, stats) in &report.keys {
            let more = more(&mut plane.keys, name, age_row(&stats.ages).collect(), is_whole);
            self.keys.add(name, now, &more, stats.last_seen);
        }
        while self.planes.len() > MAX_PLANES {
            let oldest = self.planes.iter().min_by_key(|(_, plane)| plane.heard).map(|(id, _)| *id);
            oldest.map(|id| self.planes.remove(&id));
        }
    }

    /// Follows a change of the desired state.
    pub(crate) fn follow(&mut self, change: &Change, now: u64) {
        lives::follow(&mut self.lives, change, now);
        match change {
            Change::RemovePool { name } => drop(self.pools.remove(name)),
            Change::Keys { keys } => self.keys.follow(keys, now),
            Change::PutPool { .. }
            | Change::PutSettings { .. }
            | Change::PutMember { .. }
            | Change::RemoveMember { .. }
            | Change::Listeners { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => {}
        }
    }

    /// All that is known of a pool's past. The clock of `now` began with this process.
    pub(crate) fn of(&self, pool: &str, now: u64) -> PoolHistory {
        PoolHistory {
            sums: Window::ALL.map(|window| self.pool(pool, window, now)),
            followed: now / 1_000,
            lived: self.lives.get(pool).map(|lives| lives.told(now)).unwrap_or_default(),
        }
    }

    /// The responses of a pool in the minute before `now` by how long they took, of all classes; empty where there were none. Asked
    /// of every pool with every call, so nothing else is summed.
    pub(crate) fn latency(&self, pool: &str, now: u64) -> Vec<u64> {
        let windows = self.pools.get(pool);
        windows
            .map(|windows| windows.over_from(PoolCount::COUNT + TokenAge::COUNT, Window::Minute, now))
            .unwrap_or_default()
    }

    /// What was counted of a pool in the last minutes before `now`.
    fn pool(&self, name: &str, window: Window, now: u64) -> PoolSums {
        let Some(windows) = self.pools.get(name) else { return PoolSums::default() };
        let sums = windows.over(window, now);
        let (counts, ages) = sums.split_at(PoolCount::COUNT);
        PoolSums {
            counts: PoolCount::ALL.iter().zip(counts).map(|(what, sum)| (what.name().to_owned(), *sum)).collect(),
            ages: std::array::from_fn(|age| ages[age]),
        }
    }
}

/// What `row` has more than was known under this name. A row that is new counts whole only where all of the plane's does.
fn more(known: &mut BTreeMap<String, Vec<u64>>, name: &str, row: Vec<u64>, is_whole: bool) -> Vec<u64> {
    let before = known.get(name).cloned().unwrap_or_else(|| if is_whole { vec![0; row.len()] } else { row.clone() });
    let more = row.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)).collect();
    known.insert(name.to_owned(), row);
    more
}

fn pool_row(stats: &PoolStats) -> Vec<u64> {
    let counts = PoolCount::ALL.iter().map(|count| stats.counts.get(count.name()).copied().unwrap_or_default());
    counts.chain(age_row(&stats.ages)).chain(latency_row(stats)).collect()
}

/// Of all classes.
fn latency_row(stats: &PoolStats) -> impl Iterator<Item = u64> {
    (0..BUCKETS).map(|step| stats.latency.values().filter_map(|latency| latency.buckets.get(step)).sum())
}

fn age_row(ages: &Counts) -> impl Iterator<Item = u64> {
    TokenAge::ALL.iter().map(|age| ages.get(age.name()).copied().unwrap_or_default())
}
