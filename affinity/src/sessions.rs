//! Live sessions: distinct session keys seen within the idle time, for each backend.

use crate::{ages::ages, hash::mix64};
use ahash::{AHashMap, AHashSet};
use control::status::Ages;
use std::{collections::hash_map::Entry, num::NonZeroU32};

/// A session was seen at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    pub key: u64,
    pub pool: u32,
    pub backend: u32,
    /// Unix seconds.
    pub at: u32,
    /// When the session began, in Unix seconds; absent where its marker does not say.
    pub begun: Option<NonZeroU32>,
}

/// Sessions are kept one by one up to this many over all pools, some 17 MB; beyond it, a sample of the keys by their hash
/// stands for all in the pool that has most of them (Wegman's adaptive sampling, Flajolet 1990). A pool that is sampled
/// alone is known by half of this at least: a standard error under 0.3 %. Pools with few sessions stay exact.
const MAX_KEPT: usize = 1 << 18;

/// The sessions of all pools, each with the backend that it was seen at last.
#[derive(Debug)]
pub struct Sessions {
    seen: AHashMap<(u32, u64), Seen>,
    /// By pool slot.
    pools: AHashMap<u32, Sampled>,
    /// By backend slot.
    backends: Vec<Kept>,
    max_kept: usize,
    /// Since when they are followed, in Unix seconds.
    since: u32,
    /// By backend slot, as of the last [`Self::gauge`].
    ages: AHashMap<u32, Ages>,
}

/// A session as one who followed it tells another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub key: u64,
    /// When it was seen last, in Unix seconds.
    pub at: u32,
    /// Since when it has been live, without a silence of the idle time; absent where that is not known.
    pub live_since: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    backend: u32,
    at: u32,
    /// Since when it has been live, without a silence of the idle time; absent where that is not known.
    live_since: Option<NonZeroU32>,
}

/// How the sessions of a pool are kept.
#[derive(Clone, Copy, Debug)]
struct Sampled {
    kept: usize,
    /// Only keys whose hash ends in so many zero bits are kept.
    level: u32,
    /// How long a silence ends a session, in seconds.
    idle: u32,
}

impl Default for Sampled {
    fn default() -> Self {
        Self { kept: 0, level: 0, idle: u32::MAX }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    pool: u32,
    sessions: u64,
}

impl Sessions {
    /// Followed from now on; `now` is in Unix seconds.
    pub fn new(now: u32) -> Self {
        Self {
            seen: AHashMap::new(),
            pools: AHashMap::new(),
            backends: Vec::new(),
            max_kept: MAX_KEPT,
            since: now,
            ages: AHashMap::new(),
        }
    }

    pub fn touch(&mut self, touch: Touch) {
        let pool = self.pools.entry(touch.pool).or_default();
        if !is_sampled(touch.key, pool.level) {
            return;
        }
        let now = Seen { backend: touch.backend, at: touch.at, live_since: None };
        match self.seen.entry((touch.pool, touch.key)) {
            Entry::Occupied(mut entry) => {
                let Seen { at, live_since, .. } = *entry.get();
                // What another worker saw before the session moved may be reported after that.
                if touch.at < at {
                    return;
                }
                let before = entry.insert(Seen { live_since, ..now });
                if before.backend == touch.backend {
                    return;
                }
                self.forget(before.backend);
            }
            Entry::Vacant(entry) => {
                // Whoever was followed for the idle time and comes now was silent for that long. Before, it may have been
                // there all the time.
                let is_known = touch.at.saturating_sub(self.since) > pool.idle;
                let live_since = if is_known { NonZeroU32::new(touch.at) } else { touch.begun };
                entry.insert(Seen { live_since, ..now });
                pool.kept += 1;
            }
        }
        self.remember(touch.pool, touch.backend);
        while self.seen.len() > self.max_kept && self.thin() {}
    }

    /// All that are kept, with their backends.
    pub fn all(&self) -> impl Iterator<Item = (u32, Known)> {
        let known = |((_, key), seen): (&(u32, u64), &Seen)| {
            (seen.backend, Known { key: *key, at: seen.at, live_since: seen.live_since })
        };
        self.seen.iter().map(known)
    }

    /// Those of a pool that are kept: key, backend, and when it was seen last, in Unix seconds.
    pub fn of(&self, pool: u32) -> impl Iterator<Item = (u64, u32, u32)> {
        let of = self.seen.iter().filter(move |((slot, _), _)| *slot == pool);
        of.map(|((_, key), seen)| (*key, seen.backend, seen.at))
    }

    /// How thin the sample of a pool is: only one in 2^level of its keys is kept.
    pub fn level(&self, pool: u32) -> u32 {
        self.pools.get(&pool).map_or(0, |pool| pool.level)
    }

    /// Since when they are followed, in Unix seconds.
    pub fn since(&self) -> u32 {
        self.since
    }

    /// Whoever was taken over was followed since then, by another.
    pub fn followed_since(&mut self, since: u32) {
        self.since = self.since.min(since);
    }

    /// Takes sessions at a backend over from another who has followed them, by a sample of that level. Where a session has been seen
    /// here by now, that is newer, but for since when it is live.
    pub fn take_over(&mut self, pool: u32, level: u32, backend: u32, known: impl Iterator<Item = Known>) {
        let sampled = self.pools.entry(pool).or_default();
        if sampled.level < level {
            sampled.level = level;
            self.retain(|key, of, _| of != pool || is_sampled(key, level));
        }
        for Known { key, at, live_since } in known {
            if !is_sampled(key, self.level(pool)) {
                continue;
            }
            match self.seen.entry((pool, key)) {
                Entry::Occupied(mut entry) if entry.get().at >= at => entry.get_mut().live_since = live_since,
                Entry::Occupied(mut entry) => {
                    let before = entry.insert(Seen { backend, at, live_since });
                    self.forget(before.backend);
                    self.remember(pool, backend);
                }
                Entry::Vacant(entry) => {
                    entry.insert(Seen { backend, at, live_since });
                    self.pools.entry(pool).or_default().kept += 1;
                    self.remember(pool, backend);
                }
            }
            while self.seen.len() > self.max_kept && self.thin() {}
        }
    }

    /// Halves the sample of the pool that has most; false where there is none.
    fn thin(&mut self) -> bool {
        let Some((thinned, pool)) = self.pools.iter_mut().max_by_key(|(slot, pool)| (pool.kept, **slot)) else {
            return false;
        };
        pool.level += 1;
        let (thinned, level) = (*thinned, pool.level);
        self.retain(|key, pool, _| pool != thinned || is_sampled(key, level));
        true
    }

    /// Forgets the sessions that were silent for as long as `idle` says for their pool, in seconds, and those of pools of
    /// which it says nothing. `now` is in Unix seconds.
    pub fn expire(&mut self, now: u32, idle: impl Fn(u32) -> Option<u32>) {
        self.retain(|_, pool, seen| idle(pool).is_some_and(|idle| seen.at >= now.saturating_sub(idle)));
        self.pools.retain(|slot, pool| {
            let idle = idle(*slot);
            pool.idle = idle.unwrap_or(pool.idle);
            pool.level = if pool.kept == 0 { 0 } else { pool.level };
            idle.is_some()
        });
    }

    /// Forgets the sessions that were seen last at these backends.
    pub fn forget_at(&mut self, backends: &AHashSet<u32>) {
        self.retain(|_, _, seen| !backends.contains(&seen.backend));
    }

    /// Looks how long the sessions of each backend have been live. This is work of some milliseconds where many are kept.
    pub fn gauge(&mut self, now: u32) {
        let mut of: AHashMap<u32, (Vec<u32>, usize)> = AHashMap::new();
        for seen in self.seen.values() {
            let (ages, unknown) = of.entry(seen.backend).or_default();
            match seen.live_since {
                Some(since) => ages.push(now.saturating_sub(since.get())),
                None => *unknown += 1,
            }
        }
        // Those of whom it is not known are the oldest: without them, the ages would say too little.
        let told = of.into_iter().filter(|(_, (ages, unknown))| unknown * 200 <= ages.len());
        self.ages = told.filter_map(|(backend, (mut of, _))| Some((backend, ages(&mut of)?))).collect();
    }

    /// As of the last [`Self::gauge`]; `None` where a backend has few sessions, or where it is not known since when they
    /// have been live.
    pub fn ages(&self, backend: u32) -> Option<Ages> {
        self.ages.get(&backend).copied()
    }

    /// An estimate once there are more sessions than are kept one by one; exact until then.
    pub fn live(&self, backend: u32) -> u64 {
        let Some(kept) = self.backends.get(backend as usize) else { return 0 };
        kept.sessions << self.pools.get(&kept.pool).map_or(0, |pool| pool.level)
    }

    fn retain(&mut self, holds: impl Fn(u64, u32, &Seen) -> bool) {
        let Self { seen, pools, backends, .. } = self;
        seen.retain(|(pool, key), seen| {
            let stays = holds(*key, *pool, seen);
            if !stays {
                if let Some(kept) = backends.get_mut(seen.backend as usize) {
                    kept.sessions -= 1;
                }
                if let Some(pool) = pools.get_mut(pool) {
                    pool.kept -= 1;
                }
            }
            stays
        });
    }

    fn remember(&mut self, pool: u32, backend: u32) {
        if self.backends.len() <= backend as usize {
            self.backends.resize(backend as usize + 1, Kept::default());
        }
        let kept = &mut self.backends[backend as usize];
        *kept = Kept { pool, sessions: kept.sessions + 1 };
    }

    fn forget(&mut self, backend: u32) {
        if let Some(kept) = self.backends.get_mut(backend as usize) {
            kept.sessions -= 1;
        }
    }
}

fn is_sampled(key: u64, level: u32) -> bool {
    mix64(key).trailing_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(key: u64, backend: u32, at: u32) -> Touch {
        Touch { key, pool: 0, backend, at, begun: None }
    }

    #[test]
    fn counts_distinct_sessions_where_they_are_now() {
        let mut sessions = Sessions::new(0);
        for at in 0..3 {
            for key in 0..100 {
                sessions.touch(touch(key, 1, at));
            }
        }
        assert_eq!(sessions.live(1), 100);
        sessions.touch(touch(7, 2, 3));
        assert_eq!((sessions.live(1), sessions.live(2)), (99, 1));
        sessions.expire(3, |_| Some(0));
        assert_eq!((sessions.live(1), sessions.live(2)), (0, 1));
    }

    #[test]
    fn sessions_of_a_backend_can_be_forgotten_and_no_others() {
        let mut sessions = Sessions::new(0);
        for key in 0..30 {
            sessions.touch(touch(key, (key % 3) as u32, 1));
        }
        sessions.forget_at(&[0, 2, 9].into_iter().collect());
        assert_eq!([0, 1, 2].map(|backend| sessions.live(backend)), [0, 10, 0]);
        sessions.touch(touch(0, 0, 2));
        sessions.touch(touch(1, 0, 2));
        assert_eq!([0, 1, 2].map(|backend| sessions.live(backend)), [2, 9, 0]);
    }

    #[test]
    fn a_late_report_does_not_make_a_session_older() {
        let mut sessions = Sessions::new(0);
        sessions.touch(touch(1, 1, 10));
        sessions.touch(touch(1, 2, 5));
        assert_eq!((sessions.live(1), sessions.live(2)), (1, 0), "and does not take it back to where it was");
        sessions.expire(10, |_| Some(0));
        assert_eq!(sessions.live(1), 1);
    }

    #[test]
    fn equal_keys_of_two_pools_are_two_sessions() {
        let mut sessions = Sessions::new(0);
        sessions.touch(touch(1, 1, 1));
        sessions.touch(Touch { pool: 1, ..touch(1, 2, 1) });
        assert_eq!((sessions.live(1), sessions.live(2)), (1, 1));
    }

    #[test]
    fn what_is_taken_over_is_followed_as_if_it_had_been_seen_here() {
        let begun = NonZeroU32::new;
        let (mut before, mut next) = (Sessions::new(100), Sessions::new(900));
        for key in 0..60 {
            before.touch(Touch { begun: begun(50), ..touch(key, (key % 2) as u32, 800 + key as u32) });
        }
        // Two of them come to the next one before that: one stays where it was, one has moved.
        next.touch(touch(10, 0, 901));
        next.touch(touch(12, 1, 901));
        let all: Vec<_> = before.all().collect();
        for backend in [0, 1] {
            let of = all.iter().filter(|(at, _)| *at == backend).map(|(_, known)| *known);
            next.take_over(0, before.level(0), backend, of);
        }
        next.followed_since(before.since());
        assert_eq!([0, 1].map(|backend| next.live(backend)), [29, 31]);
        next.gauge(1_000);
        assert_eq!(next.ages(0).map(|ages| ages.0[0]), Some(950), "also of those that were seen here first");
        next.expire(1_000, |_| Some(150));
        assert_eq!([0, 1].map(|backend| next.live(backend)), [5 + 1, 5 + 1], "50 to 59, and the two");
    }

    #[test]
    fn a_thinner_sample_that_is_taken_over_thins_what_is_there() {
        let mut before = Sessions { max_kept: 1_024, ..Sessions::new(0) };
        let mut next = Sessions { max_kept: 1_024, ..Sessions::new(0) };
        for key in 0..20_000 {
            before.touch(touch(mix64(key), 1, 1));
        }
        for key in 0..900 {
            next.touch(touch(mix64(key), 1, 2));
        }
        next.take_over(0, before.level(0), 1, before.all().map(|(_, known)| known).collect::<Vec<_>>().into_iter());
        assert_eq!((next.live(1), next.level(0)), (before.live(1), before.level(0)));
    }

    #[test]
    fn many_sessions_are_estimated_in_bounded_memory() {
        let mut sessions = Sessions { max_kept: 4_096, ..Sessions::new(0) };
        for key in 0..200_000u64 {
            sessions.touch(touch(mix64(key), (key % 2) as u32, 1));
        }
        assert!(sessions.seen.len() <= 4_096);
        for backend in [0, 1] {
            let live = sessions.live(backend);
            // Five standard errors of a sample of at least 1,024 per backend.
            assert!((84_000..116_000).contains(&live), "{live}");
        }
        sessions.expire(2, |_| Some(0));
        sessions.touch(touch(1, 0, 2));
        assert_eq!(sessions.live(0), 1, "exact again once all are gone");
    }

    #[test]
    fn a_session_is_as_old_as_it_has_been_live_without_a_silence() {
        let begun = NonZeroU32::new;
        let mut sessions = Sessions::new(10_000);
        let gauged = |sessions: &mut Sessions, now| {
            sessions.gauge(now);
            sessions.ages(1).map(|ages| (ages.0[0], ages.0[ages.0.len() - 1]))
        };
        // At first their tokens alone can say since when they have been there.
        for key in 0..30 {
            sessions.touch(Touch { begun: begun(9_000 + key as u32), ..touch(key, 1, 10_001) });
        }
        assert_eq!(gauged(&mut sessions, 10_029), Some((1_002, 1_029)));
        sessions.expire(10_029, |_| Some(600));
        // Another backend's session that comes over is as old as before.
        sessions.touch(Touch { begun: begun(9_999), ..touch(7, 2, 10_030) });
        sessions.touch(touch(7, 1, 10_031));
        assert_eq!(gauged(&mut sessions, 10_031), Some((1_004, 1_031)));
        // By then all have been silent for longer than the idle time: their tokens are older than their visits.
        sessions.expire(10_700, |_| Some(600));
        for key in 0..30 {
            sessions.touch(Touch { begun: begun(9_000), ..touch(key, 1, 10_700 + key as u32) });
        }
        assert_eq!(gauged(&mut sessions, 10_750), Some((23, 50)));
        sessions.expire(20_000, |_| Some(600));
        assert_eq!(gauged(&mut sessions, 20_000), None);
        sessions.expire(20_000, |_| None);
        assert!(sessions.pools.is_empty(), "a pool that is gone is forgotten");
    }

    #[test]
    fn ages_are_told_where_they_are_known_of_all_but_a_few() {
        let mut sessions = Sessions::new(10_000);
        let mut told = |unknown: u64| {
            for key in 0..unknown {
                sessions.touch(touch(key, 1, 10_001));
            }
            for key in unknown..1_000 {
                sessions.touch(Touch { begun: NonZeroU32::new(9_000), ..touch(key, 1, 10_001) });
            }
            sessions.gauge(10_002);
            let told = sessions.ages(1).is_some();
            sessions.expire(20_000, |_| Some(10));
            sessions.pools.clear();
            told
        };
        assert_eq!([0, 4, 5, 1_000].map(&mut told), [true, true, false, false]);
    }

    #[test]
    fn a_million_sessions_are_known_within_two_in_a_hundred_and_a_few_beside_them_exactly() {
        for seed in 0..3 {
            let mut sessions = Sessions::new(0);
            for n in 0..1_000_000u64 {
                sessions.touch(touch(mix64(n ^ (seed << 40)), (n % 4) as u32, 1));
                if n % 1_001 == 0 {
                    sessions.touch(Touch { pool: 1, ..touch(n, 4, 1) });
                }
            }
            assert!(sessions.seen.len() <= MAX_KEPT);
            let live: Vec<_> = (0..4).map(|backend| sessions.live(backend)).collect();
            let all = live.iter().sum::<u64>();
            assert!(all.abs_diff(1_000_000) <= 20_000, "seed {seed}: {all}");
            assert!(live.iter().all(|live| live.abs_diff(250_000) <= 5_000), "seed {seed}: {live:?}");
            assert_eq!(sessions.live(4), 1_000, "a small pool is exact beside a large one");
        }
    }
}
