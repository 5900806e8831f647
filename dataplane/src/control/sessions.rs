//! Live sessions: distinct session keys seen within the idle time, for each backend.

use ahash::AHashMap;
use std::collections::hash_map::Entry;

/// A session was seen at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) key: u64,
    pub(crate) pool: u32,
    pub(crate) backend: u32,
    /// Unix seconds.
    pub(crate) at: u32,
}

/// Sessions are kept one by one up to this many; beyond it, a sample of the keys by their hash stands for all (Wegman's
/// adaptive sampling, Flajolet 1990), whose standard error at this size is under 0.3 %.
const MAX_KEPT: usize = 1 << 18;

/// The sessions of all pools.
#[derive(Debug)]
pub(crate) struct Sessions {
    seen: AHashMap<(u32, u64), Seen>,
    /// How many are kept, by backend slot.
    kept: Vec<u64>,
    /// Only keys whose hash ends in so many zero bits are kept.
    level: u32,
    max_kept: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    backend: u32,
    at: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { seen: AHashMap::new(), kept: Vec::new(), level: 0, max_kept: MAX_KEPT }
    }
}

impl Sessions {
    pub(crate) fn touch(&mut self, touch: Touch) {
        if !is_sampled(touch.key, self.level) {
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
            Entry::Vacant(entry) => drop(entry.insert(now)),
        }
        self.remember(touch.backend);
        while self.seen.len() > self.max_kept {
            self.level += 1;
            let level = self.level;
            self.retain(|key, _, _| is_sampled(key, level));
        }
    }

    /// Forgets the sessions that were last seen before `oldest` says for their pool, in Unix seconds.
    pub(crate) fn expire(&mut self, oldest: impl Fn(u32) -> u32) {
        self.retain(|_, pool, seen| seen.at >= oldest(pool));
        if self.seen.is_empty() {
            self.level = 0;
        }
    }

    /// An estimate once there are more sessions than are kept one by one; exact until then.
    pub(crate) fn live(&self, backend: u32) -> u64 {
        self.kept.get(backend as usize).map_or(0, |kept| kept << self.level)
    }

    fn retain(&mut self, holds: impl Fn(u64, u32, &Seen) -> bool) {
        let kept = &mut self.kept;
        self.seen.retain(|(pool, key), seen| {
            let stays = holds(*key, *pool, seen);
            if !stays && let Some(count) = kept.get_mut(seen.backend as usize) {
                *count -= 1;
            }
            stays
        });
    }

    fn remember(&mut self, backend: u32) {
        if self.kept.len() <= backend as usize {
            self.kept.resize(backend as usize + 1, 0);
        }
        self.kept[backend as usize] += 1;
    }

    fn forget(&mut self, backend: u32) {
        if let Some(count) = self.kept.get_mut(backend as usize) {
            *count -= 1;
        }
    }
}

fn is_sampled(key: u64, level: u32) -> bool {
    affinity::hash::mix64(key).trailing_zeros() >= level
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
        sessions.touch(Touch { pool: 1, ..touch(1, 1, 1) });
        assert_eq!(sessions.live(1), 2);
    }

    #[test]
    fn many_sessions_are_estimated_in_bounded_memory() {
        let mut sessions = Sessions { max_kept: 4_096, ..Sessions::default() };
        for key in 0..200_000u64 {
            sessions.touch(touch(affinity::hash::mix64(key), (key % 2) as u32, 1));
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
}
