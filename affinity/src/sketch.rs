//! How many sessions are live over several data planes and nodes, some of which came by two of them: bottom-k samples of
//! the session keys by their hash, which can be merged (Bar-Yossef, Jayram, Kumar, Sivakumar and Trevisan, "Counting
//! Distinct Elements in a Data Stream", RANDOM 2002; Beyer, Haas, Reinwald, Sismanis and Gemulla, "On Synopses for
//! Distinct-Value Estimation Under Multiset Operations", SIGMOD 2007).

use crate::hash::mix64;
use control::sketch::Sketch;
use std::collections::BTreeMap;

/// Sessions in a sketch at most. Up to here counts are exact; beyond it their standard error is `1 / sqrt(SIZE - 2)`, 1.6 %.
pub const SIZE: usize = 4_096;

/// The same on every node and in every release, or sessions are counted twice. Its high bits are the low ones of what
/// [`Sessions`](crate::sessions::Sessions) samples by, so that such a sample is all keys with a hash below a bound. A
/// bijection: whoever has it has the key, which is no secret.
pub const fn hash(key: u64) -> u64 {
    mix64(key).reverse_bits()
}

/// A session: its key or its hash, where it was seen last, and when, in Unix seconds.
pub type Seen<B> = (u64, B, u32);

/// Up to `size` of the sessions, given by their keys: those with the lowest hashes, by these and in their order, and the
/// bound below which all are there; `None` where that is all of them. Of the sessions there is one in `2^level`, see
/// [`Sessions::level`](crate::sessions::Sessions::level).
pub fn lowest<B: Copy>(
    sessions: impl Iterator<Item = Seen<B>>,
    level: u32,
    size: usize,
) -> (Option<u64>, Vec<Seen<B>>) {
    let mut sessions: Vec<_> = sessions.map(|(key, backend, at)| (hash(key), backend, at)).collect();
    let mut below = level.checked_sub(1).map(|level| (1 << 63) >> level.min(63));
    if sessions.len() > size {
        let (_, next, _) = sessions.select_nth_unstable_by_key(size, |(hash, ..)| *hash);
        below = Some(next.0);
        sessions.truncate(size);
    }
    sessions.sort_unstable_by_key(|(hash, ..)| *hash);
    (below, sessions)
}

/// Sketches of the same pool as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged<'s> {
    below: Option<u64>,
    /// When and where it was seen last, by its hash.
    sessions: BTreeMap<u64, (u32, &'s str)>,
}

impl<'s> Merged<'s> {
    /// Each session once, at the backend where it was seen last. All are known below the lowest of the bounds, so those
    /// above it are left out.
    pub fn of(sketches: impl Iterator<Item = &'s Sketch>) -> Self {
        let mut merged = Self::default();
        for Sketch { below, backends, sessions } in sketches {
            merged.below = [merged.below, *below].into_iter().flatten().min();
            for session in sessions {
                let Some(backend) = backends.get(session.1 as usize) else { continue };
                let last = merged.sessions.entry(session.0).or_default();
                *last = (*last).max((session.2, backend));
            }
        }
        if let Some(below) = merged.below {
            drop(merged.sessions.split_off(&below));
        }
        merged
    }

    /// How many there are in all; an estimate where not all are in the sketches.
    pub fn count(&self) -> u64 {
        self.estimate(self.sessions.len())
    }

    /// The same for each backend that has any.
    pub fn by_backend(&self) -> BTreeMap<&'s str, u64> {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for (_, backend) in self.sessions.values() {
            *counts.entry(*backend).or_default() += 1;
        }
        counts.into_iter().map(|(backend, count)| (backend, self.estimate(count))).collect()
    }

    /// Hashes are even from 0 to 2^64, so that as many are below the bound as its share of these.
    fn estimate(&self, count: usize) -> u64 {
        match self.below {
            Some(below) => {
                let (count, below) = (count as u128, u128::from(below.max(1)));
                u64::try_from(((count << 64) + below / 2) / below).unwrap_or(u64::MAX)
            }
            None => count as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::{Sessions, Touch};
    use control::sketch::Sketched;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BACKENDS: [&str; 3] = ["a", "b", "c"];

    fn sketch(sessions: &[Seen<u32>], size: usize) -> Sketch {
        let (below, sessions) = lowest(sessions.iter().copied(), 0, size);
        let sessions = sessions.into_iter().map(|(hash, backend, at)| Sketched(hash, backend, at)).collect();
        Sketch { below, backends: BACKENDS.map(str::to_owned).to_vec(), sessions }
    }

    fn distinct(nodes: &[Vec<Seen<u32>>]) -> BTreeMap<u64, (u32, u32)> {
        let mut all: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (key, backend, at) in nodes.iter().flatten() {
            let last = all.entry(*key).or_default();
            *last = (*last).max((*at, *backend));
        }
        all
    }

    /// What one node follows: a session is at one backend.
    fn node(keys: impl Strategy<Value = u64>, most: usize) -> impl Strategy<Value = Vec<Seen<u32>>> {
        prop::collection::btree_map(keys, (0..3u32, 1..50u32), 0..most)
            .prop_map(|seen| seen.into_iter().map(|(key, (backend, at))| (key, backend, at)).collect())
    }

    proptest! {
        #[test]
        fn overlapping_sets_that_fit_are_counted_exactly_where_they_were_seen_last(
            nodes in prop::collection::vec(node(0..60u64, 40), 1..5)
        ) {
            let sketches: Vec<_> = nodes.iter().map(|node| sketch(node, 64)).collect();
            let (merged, all) = (Merged::of(sketches.iter()), distinct(&nodes));
            prop_assert_eq!(merged.count(), all.len() as u64);
            for (index, name) in (0..).zip(BACKENDS) {
                let there = all.values().filter(|(_, backend)| *backend == index).count();
                prop_assert_eq!(merged.by_backend().get(name).copied().unwrap_or(0), there as u64);
            }
            prop_assert_eq!(&merged, &Merged::of(sketches.iter().rev()), "in any order");
            prop_assert_eq!(&merged, &Merged::of(sketches.iter().chain(&sketches)), "and however often");
        }

        #[test]
        fn what_does_not_fit_is_a_sample_of_all_and_of_nothing_else(
            nodes in prop::collection::vec(node(any::<u64>(), 60), 1..4)
        ) {
            let sketches: Vec<_> = nodes.iter().map(|node| sketch(node, 16)).collect();
            let (merged, all) = (Merged::of(sketches.iter()), distinct(&nodes));
            let known: BTreeSet<_> = merged.sessions.keys().copied().collect();
            let below = merged.below.unwrap_or(u64::MAX);
            let wanted: BTreeSet<_> = all.keys().map(|key| hash(*key)).filter(|hash| *hash < below).collect();
            prop_assert_eq!(known, wanted, "all below the bound");
        }
    }

    #[test]
    fn overlapping_crowds_are_known_within_their_error() {
        for seed in 0..8u64 {
            // 100,000 at each of three, of which 40,000 are at the next as well: 220,000 in all.
            let crowd = |from: u64| (from..from + 100_000).map(move |n| (mix64(n ^ (seed << 40)), (n % 2) as u32, 1));
            let sketches: Vec<_> =
                [0, 60_000, 120_000].map(|from| sketch(&crowd(from).collect::<Vec<_>>(), SIZE)).into();
            let merged = Merged::of(sketches.iter());
            // Five standard errors of 1.6 %.
            assert!(merged.count().abs_diff(220_000) < 17_200, "seed {seed}: {}", merged.count());
            for (backend, live) in merged.by_backend() {
                assert!(live.abs_diff(110_000) < 12_200, "seed {seed}: {backend} {live}");
            }
        }
    }

    /// A pool of which one node keeps a sample alone, beside a node that has all of its few.
    #[test]
    fn a_sample_of_the_sessions_is_a_sketch_with_its_bound() {
        let mut sessions = Sessions::new(0);
        for n in 0..600_000u64 {
            sessions.touch(Touch { key: mix64(n), pool: 3, backend: 0, at: 1, begun: None });
        }
        let level = sessions.level(3);
        assert!(level > 0);
        let (below, all) = lowest(sessions.of(3), level, usize::MAX);
        let bound = below.unwrap();
        assert_eq!(bound, 1 << (64 - level));
        assert!(all.iter().all(|(hash, ..)| *hash < bound), "the sample is what is below its level's bound");
        let named = |below, sessions: Vec<Seen<u32>>| Sketch {
            below,
            backends: vec!["a".to_owned()],
            sessions: sessions.into_iter().map(|(hash, backend, at)| Sketched(hash, backend, at)).collect(),
        };
        let few = lowest((599_000..601_000u64).map(|n| (mix64(n), 0, 1)), 0, SIZE);
        let sketches = [named(below, all), named(few.0, few.1)];
        let count = Merged::of(sketches.iter()).count();
        assert!(count.abs_diff(601_000) < 10_000, "{count}");
    }

    #[test]
    fn bounds_are_where_all_is_known() {
        let none: [Seen<u32>; 0] = [];
        assert_eq!(lowest(none.into_iter(), 0, 4), (None, vec![]));
        assert_eq!(lowest(none.into_iter(), 1, 4).0, Some(1 << 63));
        assert_eq!(lowest(none.into_iter(), 64, 4).0, Some(1));
        let all: Vec<Seen<u32>> = (0..5).map(|key| (key, 0, 1)).collect();
        let mut hashes: Vec<_> = all.iter().map(|(key, ..)| hash(*key)).collect();
        hashes.sort_unstable();
        assert_eq!(lowest(all.iter().copied(), 0, 5).0, None, "it fits");
        let (below, four) = lowest(all.iter().copied(), 0, 4);
        assert_eq!((below, four.last().map(|last| last.0)), (Some(hashes[4]), Some(hashes[3])));
    }

    #[test]
    fn what_names_no_backend_is_no_session() {
        let sketch = Sketch { below: None, backends: vec![], sessions: vec![Sketched(1, 0, 1)] };
        assert_eq!(Merged::of([sketch].iter()).count(), 0);
    }
}
