//! The keys that come most often, in bounded memory: Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation
//! of Frequent and Top-k Elements in Data Streams", ICDT 2005).

use ahash::AHashMap;
use std::hash::Hash;

/// Counts with so many counters as it has room for. Of `n` keys that came, each that came more often than `n / room` times
/// has one, and no counter is more than that above the truth.
#[derive(Clone, Debug)]
pub struct Hot<K> {
    room: usize,
    /// The highest first.
    counters: Vec<Counter<K>>,
    /// Where the counter of a key stands.
    places: AHashMap<K, usize>,
    total: u64,
}

/// A key came `count` times at most, and at least `count - error` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter<K> {
    pub key: K,
    pub count: u64,
    pub error: u64,
}

impl<K: Copy + Eq + Hash> Hot<K> {
    /// With room for so many counters, and for one at least.
    pub fn new(room: usize) -> Self {
        Self { room: room.max(1), counters: Vec::new(), places: AHashMap::new(), total: 0 }
    }

    pub fn add(&mut self, key: K) {
        self.total += 1;
        let place = self.place_of(key);
        let count = self.counters[place].count;
        // The first of those that count as much goes up by one, and the order holds.
        let first = self.counters.partition_point(|counter| counter.count > count);
        self.counters.swap(place, first);
        self.counters[first].count += 1;
        for place in [place, first] {
            self.places.insert(self.counters[place].key, place);
        }
    }

    /// Where the counter of this key is, if need be in the place of the lowest, and with what that has counted.
    fn place_of(&mut self, key: K) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        if self.counters.len() < self.room {
            self.counters.push(Counter { key, count: 0, error: 0 });
        } else if let Some(lowest) = self.counters.last_mut() {
            self.places.remove(&lowest.key);
            *lowest = Counter { key, error: lowest.count, ..*lowest };
        }
        self.counters.len() - 1
    }

    /// How many came in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The highest first.
    pub fn counters(&self) -> &[Counter<K>] {
        &self.counters
    }
}

/// The same of late: of the span of time that is under way, and of the one before it.
#[derive(Clone, Debug)]
pub struct HotOfLate<K> {
    now: Hot<K>,
    before: Hot<K>,
}

impl<K: Copy + Ord + Hash> HotOfLate<K> {
    pub fn new(room: usize) -> Self {
        Self { now: Hot::new(room), before: Hot::new(room) }
    }

    pub fn add(&mut self, key: K) {
        self.now.add(key);
    }

    /// A new span of time begins.
    pub fn turn(&mut self) {
        let empty = Hot::new(self.now.room);
        self.before = std::mem::replace(&mut self.now, empty);
    }

    pub fn total(&self) -> u64 {
        self.now.total() + self.before.total()
    }

    /// Those that came most often, and how often at least; the highest first.
    pub fn top(&self, most: usize) -> Vec<(K, u64)> {
        let mut sums: AHashMap<K, u64> = AHashMap::new();
        for counter in self.now.counters().iter().chain(self.before.counters()) {
            *sums.entry(counter.key).or_default() += counter.count - counter.error;
        }
        let mut top: Vec<_> = sums.into_iter().filter(|(_, count)| *count > 0).collect();
        top.sort_unstable_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        top.truncate(most);
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Keys of which the low ones come more often.
    fn stream() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::vec((0..40u32, 0..40u32).prop_map(|(one, other)| one.min(other)), 0..600)
    }

    fn truth(stream: &[u32]) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        for key in stream {
            *counts.entry(*key).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn no_counter_is_further_from_the_truth_than_its_share_of_all(stream in stream(), room in 1..50usize) {
            let mut hot = Hot::new(room);
            stream.iter().for_each(|key| hot.add(*key));
            let (truth, most) = (truth(&stream), stream.len() as u64 / room as u64);
            prop_assert!(hot.counters().len() <= room && hot.total() == stream.len() as u64);
            prop_assert_eq!(hot.counters().iter().map(|counter| counter.count).sum::<u64>(), hot.total());
            prop_assert!(hot.counters().is_sorted_by_key(|counter| std::cmp::Reverse(counter.count)));
            for Counter { key, count, error } in hot.counters() {
                let came = truth[key];
                prop_assert!((count - error..=*count).contains(&came) && *error <= most, "{key}: {came} {count} {error}");
            }
            for (key, came) in &truth {
                let has_one = hot.counters().iter().any(|counter| counter.key == *key);
                prop_assert!(has_one || *came <= most, "{key} came {came} times of {}", hot.total());
            }
        }

        #[test]
        fn with_room_for_all_it_is_exact(stream in stream()) {
            let mut hot = Hot::new(40);
            stream.iter().for_each(|key| hot.add(*key));
            let counted: BTreeMap<_, _> = hot.counters().iter().map(|counter| (counter.key, counter.count)).collect();
            prop_assert_eq!(counted, truth(&stream));
        }

        #[test]
        fn of_late_is_never_above_the_truth(first in stream(), second in stream(), room in 1..50usize) {
            let mut hot = HotOfLate::new(room);
            first.iter().for_each(|key| hot.add(*key));
            hot.turn();
            second.iter().for_each(|key| hot.add(*key));
            let truth = truth(&[first.clone(), second.clone()].concat());
            let top = hot.top(10);
            prop_assert!(top.len() <= 10 && top.iter().all(|(key, count)| *count <= truth[key]));
            prop_assert_eq!(hot.total(), (first.len() + second.len()) as u64);
            for (key, came) in &truth {
                let missed = (first.len() / room + second.len() / room) as u64;
                let told = hot.top(usize::MAX).iter().find(|(told, _)| told == key).map_or(0, |(_, count)| *count);
                prop_assert!(told + missed >= *came, "{key} came {came} times and is told {told}");
            }
        }
    }

    #[test]
    fn what_was_hot_is_forgotten_two_spans_later() {
        let mut hot = HotOfLate::new(4);
        (0..10).for_each(|_| hot.add("a"));
        hot.turn();
        (0..3).for_each(|_| hot.add("b"));
        hot.add("a");
        assert_eq!((hot.top(10), hot.total()), (vec![("a", 11), ("b", 3)], 14));
        assert_eq!(hot.top(1), [("a", 11)]);
        hot.turn();
        assert_eq!(hot.top(10), [("b", 3), ("a", 1)]);
        hot.turn();
        assert_eq!((hot.top(10), hot.total()), (Vec::new(), 0));
    }
}
