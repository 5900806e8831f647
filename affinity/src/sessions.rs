//! Live sessions: distinct session keys seen within the idle time, for each backend.

use crate::hash::mix64;
use ahash::AHashMap;
use std::collections::hash_map::Entry;

/// A session was seen at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    pub key: u64,
    pub pool: u32,
    pub backend: u32,
    /// Unix seconds.
    pub at: u32,
}

/// Sessions are kept one by one up to this many over all pools, some 13 MB; beyond it, a sample of the keys by their hash
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
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    backend: u32,
    at: u32,
}

/// How the sessions of a pool are kept.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    kept: usize,
    /// Only keys whose hash ends in so many zero bits are kept.
    level: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    pool: u32,
    sessions: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { seen: AHashMap::new(), pools: AHashMap::new(), backends: Vec::new(), max_kept: MAX_KEPT }
    }
}

impl Sessions {
    pub fn touch(&mut self, touch: Touch) {
        let pool = self.pools.entry(touch.pool).or_default();
        if !is_sampled(touch.key, pool.level) {
            return;
        }
        let now = Seen { backend: touch.backend, at: touch.at };
        match self.seen.entry((touch.pool, touch.key)) {
            Entry::Occupied(mut entry) => {
                let before = entry.insert(Seen { at: touch.at.max(entry.get().at), ..now });
                if before.backend == touch.backend {
                    return;
                }
                self.forget(before.backend);
            }
            Entry::Vacant(entry) => {
                entry.insert(now);
                pool.kept += 1;
            }
        }
        self.remember(touch.pool, touch.backend);
        while self.seen.len() > self.max_kept && self.thin() {}
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

    /// Forgets the sessions that were last seen before `oldest` says for their pool, in Unix seconds.
    pub fn expire(&mut self, oldest: impl Fn(u32) -> u32) {
        self.retain(|_, pool, seen| seen.at >= oldest(pool));
        self.pools.retain(|_, pool| pool.kept > 0);
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
        Touch { key, pool: 0, backend, at }
    }

    #[test]
    fn counts_distinct_sessions_where_they_are_now() {
        let mut sessions = Sessions::default();
        for at in 0..3 {
            for key in 0..100 {
                sessions.touch(touch(key, 1, at));
            }
        }
        assert_eq!(sessions.live(1), 100);
        sessions.touch(touch(7, 2, 3));
        assert_eq!((sessions.live(1), sessions.live(2)), (99, 1));
        sessions.expire(|_| 3);
        assert_eq!((sessions.live(1), sessions.live(2)), (0, 1));
    }

    #[test]
    fn a_late_report_does_not_make_a_session_older() {
        let mut sessions = Sessions::default();
        sessions.touch(touch(1, 1, 10));
        sessions.touch(touch(1, 1, 5));
        sessions.expire(|_| 10);
        assert_eq!(sessions.live(1), 1);
    }

    #[test]
    fn equal_keys_of_two_pools_are_two_sessions() {
        let mut sessions = Sessions::default();
        sessions.touch(touch(1, 1, 1));
        sessions.touch(Touch { pool: 1, ..touch(1, 2, 1) });
        assert_eq!((sessions.live(1), sessions.live(2)), (1, 1));
    }

    #[test]
    fn many_sessions_are_estimated_in_bounded_memory() {
        let mut sessions = Sessions { max_kept: 4_096, ..Sessions::default() };
        for key in 0..200_000u64 {
            sessions.touch(touch(mix64(key), (key % 2) as u32, 1));
        }
        assert!(sessions.seen.len() <= 4_096);
        for backend in [0, 1] {
            let live = sessions.live(backend);
            // Five standard errors of a sample of at least 1,024 per backend.
            assert!((84_000..116_000).contains(&live), "{live}");
        }
        sessions.expire(|_| 2);
        sessions.touch(touch(1, 0, 2));
        assert_eq!(sessions.live(0), 1, "exact again once all are gone");
    }
    #[test]
    fn a_million_sessions_are_known_within_two_in_a_hundred_and_a_few_beside_them_exactly() {
        for seed in 0..3 {
            let mut sessions = Sessions::default();
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
