//! Who sends most of a pool's requests, by a sample of them.

use crate::worker::Sample;
use affinity::hot::HotOfLate;
use ahash::AHashMap;
use control::cost::{Hot, HotKey};
use std::{hash::Hash, net::IpAddr};

/// Counters for the sessions of a pool, and for the addresses: a share is known to 1 in 128, in some 40 KB for a pool.
const ROOM: usize = 128;
/// How many are told of each.
const TOLD: usize = 10;

/// By pool slot.
#[derive(Debug, Default)]
pub(super) struct Hottest(AHashMap<u32, Pool>);

#[derive(Debug)]
struct Pool {
    sessions: HotOfLate<u64>,
    addresses: HotOfLate<IpAddr>,
}

impl Hottest {
    pub(super) fn add(&mut self, sample: Sample) {
        let new = || Pool { sessions: HotOfLate::new(ROOM), addresses: HotOfLate::new(ROOM) };
        let pool = self.0.entry(sample.pool).or_insert_with(new);
        if let Some(key) = sample.session {
            pool.sessions.add(key);
        }
        pool.addresses.add(sample.address);
    }

    /// Another minute begins: what came before the last one is forgotten.
    pub(super) fn turn(&mut self) {
        for pool in self.0.values_mut() {
            pool.sessions.turn();
            pool.addresses.turn();
        }
        self.0.retain(|_, pool| pool.addresses.total() > 0);
    }

    /// `None` where nothing was sampled of late.
    pub(super) fn told(&self, pool: u32) -> Option<Hot> {
        let pool = self.0.get(&pool)?;
        Some(Hot {
            samples: pool.addresses.total(),
            sessions: top(&pool.sessions, |key| format!("{key:016x}")),
            addresses: top(&pool.addresses, |address| address.to_string()),
        })
    }
}

fn top<K: Copy + Ord + Hash>(hot: &HotOfLate<K>, text: impl Fn(K) -> String) -> Vec<HotKey> {
    hot.top(TOLD).into_iter().map(|(key, samples)| HotKey { key: text(key), samples }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_told_apart_and_forgotten_when_they_fall_silent() {
        let mut hottest = Hottest::default();
        let sample = |pool, session, last| Sample { pool, session, address: [192, 0, 2, last].into() };
        for n in 0..30 {
            hottest.add(sample(1, (n % 3 > 0).then_some(7), n % 2));
        }
        hottest.add(sample(2, Some(8), 9));
        let told = hottest.told(1).unwrap();
        let key = |key: &str, samples| HotKey { key: key.to_owned(), samples };
        assert_eq!((told.samples, &told.sessions[..]), (30, &[key("0000000000000007", 20)][..]));
        assert_eq!(told.addresses, [key("192.0.2.0", 15), key("192.0.2.1", 15)]);
        assert_eq!(hottest.told(2).map(|told| told.samples), Some(1));
        hottest.turn();
        assert!(hottest.told(1).is_some());
        hottest.turn();
        assert!(hottest.told(1).is_none() && hottest.0.is_empty());
    }
}
