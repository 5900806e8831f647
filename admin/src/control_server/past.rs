//! What data planes had counted that have gone: a counter that falls when an old one ends would be taken for one that begins
//! anew, and for traffic that never was.

use super::peers::add;
use crate::history::PlaneId;
use control::{
    cost::RouteStats,
    status::{PoolStats, Stats},
};
use std::{collections::VecDeque, sync::Arc};

/// So many are kept by themselves, for they may come back: only their connection was lost.
const RECENT: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Past {
    recent: VecDeque<(PlaneId, Arc<Stats>)>,
    /// All others, summed: of these, counters alone mean anything.
    older: Arc<Stats>,
}

impl Past {
    pub(super) fn leaves(&mut self, plane: PlaneId, stats: Arc<Stats>) {
        self.recent.push_back((plane, stats));
        if self.recent.len() > RECENT
            && let Some((_, stats)) = self.recent.pop_front()
        {
            sum(Arc::make_mut(&mut self.older), &stats);
        }
    }

    /// It is back, and has said itself what it has counted.
    pub(super) fn is_back(&mut self, plane: PlaneId) {
        self.recent.retain(|(gone, _)| *gone != plane);
    }

    pub(super) fn forget(&mut self, pool: &str, name: Option<&str>) {
        let recent = self.recent.iter_mut().map(|(_, stats)| stats);
        recent.chain([&mut self.older]).for_each(|stats| forget(stats, pool, name));
    }

    /// All of it.
    pub(crate) fn stats(&self) -> Vec<Arc<Stats>> {
        self.recent.iter().map(|(_, stats)| stats).chain([&self.older]).cloned().collect()
    }
}

/// Forgets the figures of a pool or a backend that is gone, so that they can't fall on a namesake.
pub(super) fn forget(stats: &mut Arc<Stats>, pool: &str, name: Option<&str>) {
    if !stats.pools.contains_key(pool) {
        return;
    }
    let stats = Arc::make_mut(stats);
    match name {
        None => drop(stats.pools.remove(pool)),
        Some(name) => {
            if let Some(pool) = stats.pools.get_mut(pool) {
                pool.backends.remove(name);
            }
        }
    }
}

/// Adds all counters.
fn sum(all: &mut Stats, more: &Stats) {
    add(&mut all.dataplane, &more.dataplane);
    for (number, worker) in more.workers.iter().enumerate() {
        if all.workers.len() <= number {
            all.workers.resize_with(number + 1, Default::default);
        }
        add(&mut all.workers[number].counts, &worker.counts);
    }
    for (key, told) in &more.keys {
        add(&mut all.keys.entry(key.clone()).or_default().ages, &told.ages);
    }
    for (name, pool) in &more.pools {
        sum_pool(all.pools.entry(name.clone()).or_default(), pool);
    }
}

fn sum_pool(all: &mut PoolStats, more: &PoolStats) {
    add(&mut all.counts, &more.counts);
    add(&mut all.ages, &more.ages);
    for (name, backend) in &more.backends {
        add(&mut all.backends.entry(name.clone()).or_default().counts, &backend.counts);
    }
    for (class, told) in &more.latency {
        let latency = all.latency.entry(class.clone()).or_default();
        latency.buckets.resize(latency.buckets.len().max(told.buckets.len()), 0);
        latency.buckets.iter_mut().zip(&told.buckets).for_each(|(sum, more)| *sum += more);
        latency.sum += told.sum;
    }
    for route in &more.routes {
        let same = |each: &&mut RouteStats| {
            (&each.listener, &each.host, &each.path) == (&route.listener, &route.host, &route.path)
        };
        match all.routes.iter_mut().find(same) {
            Some(known) => add(&mut known.counts, &route.counts),
            None => all.routes.push(route.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        latency::Latency,
        status::{BackendStats, Counts, KeyStats, WorkerStats},
    };

    fn counts(number: u64) -> Counts {
        [("requests".to_owned(), number)].into()
    }

    fn stats(number: u64) -> Arc<Stats> {
        let backend = BackendStats { counts: counts(number), requests_in_flight: 9, ..BackendStats::default() };
        let route = RouteStats { listener: "web".into(), host: None, path: None, counts: counts(number) };
        let pool = PoolStats {
            counts: counts(number),
            latency: [("2xx".to_owned(), Latency { buckets: vec![number, 1], sum: number })].into(),
            backends: [("a".to_owned(), backend)].into(),
            routes: vec![route],
            ..PoolStats::default()
        };
        Arc::new(Stats {
            dataplane: counts(number),
            workers: vec![WorkerStats { counts: counts(number), connections: 3, idle_connections: 4 }],
            keys: [("k".to_owned(), KeyStats { ages: counts(number), last_seen: None })].into(),
            pools: [("shop".to_owned(), pool)].into(),
            ..Stats::default()
        })
    }

    fn plane(pid: u32) -> PlaneId {
        PlaneId { pid, started: 1 }
    }

    #[test]
    fn what_they_had_counted_stays_however_many_have_gone() {
        let mut past = Past::default();
        (1..=10).for_each(|pid| past.leaves(plane(pid), stats(pid.into())));
        let total = |read: &dyn Fn(&Stats) -> u64| past.stats().iter().map(|stats| read(stats)).sum::<u64>();
        let pool = |stats: &Stats| stats.pools["shop"].clone();
        for read in [
            &(|stats: &Stats| stats.dataplane["requests"]) as &dyn Fn(&Stats) -> u64,
            &|stats| stats.workers[0].counts["requests"],
            &|stats| stats.keys["k"].ages["requests"],
            &|stats| pool(stats).counts["requests"],
            &|stats| pool(stats).backends["a"].counts["requests"],
            &|stats| pool(stats).latency["2xx"].sum,
            &|stats| pool(stats).latency["2xx"].buckets[0],
            &|stats| pool(stats).routes.iter().map(|route| route.counts["requests"]).sum(),
        ] {
            assert_eq!(total(read), 55);
        }
        assert_eq!(past.stats().len(), RECENT + 1);
    }

    #[test]
    fn one_that_is_back_counts_once_and_what_is_removed_is_forgotten() {
        let mut past = Past::default();
        past.leaves(plane(1), stats(1));
        past.leaves(plane(2), stats(2));
        past.is_back(plane(1));
        let requests =
            |past: &Past| past.stats().iter().filter_map(|stats| stats.dataplane.get("requests")).sum::<u64>();
        assert_eq!(requests(&past), 2);
        past.forget("shop", Some("a"));
        assert!(past.stats().iter().all(|stats| stats.pools.values().all(|pool| pool.backends.is_empty())));
        past.forget("shop", None);
        assert!(past.stats().iter().all(|stats| stats.pools.is_empty()));
        assert_eq!(requests(&past), 2);
    }
}
