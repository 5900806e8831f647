use std::collections::BTreeMap;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

/// Small enough to build hundreds of in a test.
type Small = SlotRing<10>;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("app-{i}")).collect()
}

fn equal(names: &[String]) -> Vec<(&str, u32)> {
    names.iter().map(|name| (name.as_str(), 1)).collect()
}

fn keys(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|i| mix64(i.wrapping_add(99)))
}

fn fingerprint(ring: &Ring) -> u64 {
    let bytes: Vec<u8> = ring.owners.iter().flat_map(|owner| owner.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// Frozen: a change of any value here moves sessions of every site at the next upgrade, and makes nodes of different
/// releases disagree on where a session belongs.
#[test]
fn placement_is_frozen() {
    let mixed = Ring::build(&[("alpha", 1), ("beta", 2), ("gamma", 3), ("none", 0), ("delta", 100), ("epsilon", 40)]);
    assert_eq!(fingerprint(&mixed), 0x202A_CE27_28DB_2FB6);
    let names = names(1000);
    let ring = Ring::build(&equal(&names));
    assert_eq!(fingerprint(&ring), 0xE3F7_93C2_8F36_264F);
    let owners: Vec<u16> = [0, 1, 2, u64::MAX].iter().map(|&key| ring.lookup(key).unwrap()).collect();
    assert_eq!(owners, [55, 137, 434, 264]);
    assert_eq!(ring.candidates(12_345).take(5).collect::<Vec<_>>(), [620, 748, 104, 791, 277]);
    assert_eq!([1, 2, 3].map(|key| ring.rendezvous(key, |_| true).unwrap()), [253, 264, 262]);
    assert_eq!([1, 2, 3, 4, 5, 6, 7, 8].map(|key| mixed.rendezvous(key, |_| true).unwrap()), [5, 5, 4, 4, 5, 4, 4, 4]);
}

#[test]
fn rounds_have_no_influence() {
    let names = names(300);
    let members: Vec<(&str, u32)> = names.iter().enumerate().map(|(i, name)| (name.as_str(), i as u32 % 7)).collect();
    for members in [&members[..], &members[..2], &members[..10]] {
        let whole = Small::build_in_rounds(members, claims::MOST_ARRIVALS);
        for arrivals in [1, 2, 3, 8, 13] {
            assert_eq!(Small::build_in_rounds(members, arrivals).owners, whole.owners);
        }
    }
    let ring = Ring::build(&members);
    assert!(ring.owners.iter().all(|&owner| owner != NOBODY));
    assert_eq!(Ring::build_in_rounds(&members, 9).owners, ring.owners);
}

/// Everybody with less than 5 standard deviations of a binomial distribution from his share.
fn assert_shares(counts: &BTreeMap<u16, u32>, weights: &[u32]) {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let drawn: f64 = counts.values().copied().map(f64::from).sum();
    for (owner, &weight) in weights.iter().enumerate() {
        let count = f64::from(counts.get(&(owner as u16)).copied().unwrap_or(0));
        let share = f64::from(weight) / total;
        let deviation = (drawn * share * (1.0 - share)).sqrt();
        assert!((count - drawn * share).abs() <= 5.0 * deviation, "{owner}: {count} of {drawn}, share {share}");
    }
}

fn count(owners: impl Iterator<Item = u16>) -> BTreeMap<u16, u32> {
    let mut counts = BTreeMap::new();
    owners.for_each(|owner| *counts.entry(owner).or_default() += 1);
    counts
}

const WEIGHTS: [&[u32]; 6] = [
    &[5],
    &[1, 2, 3, 10, 100, 0],
    &[1, 1000],
    &[1; 200],
    &[u32::MAX, u32::MAX - 1, u32::MAX / 2, u32::MAX / 3, 1],
    &[3_000_000_000, 3_100_000_000, 2_900_000_000, 100_000_000],
];

#[test]
fn shares_follow_weights() {
    let names = names(200);
    for weights in WEIGHTS {
        let members: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let ring = Ring::build(&members);
        assert_shares(&count(ring.owners.iter().copied()), weights);
        assert_shares(&count(keys(50_000).filter_map(|key| ring.rendezvous(key, |_| true))), weights);
    }
}

#[test]
fn keys_of_a_lost_backend_spread_over_the_rest() {
    let names = names(20);
    let all = Ring::build(&equal(&names));
    let rest = Ring::build(&equal(&names[..19]));
    let moved = || all.owners.iter().zip(&rest.owners).filter(|(before, _)| **before == 19).map(|(_, after)| *after);
    assert!(moved().count() > 10_000);
    assert_shares(&count(moved()), &[1; 19]);
    // So they do while it is still a member but not usable.
    let spilled = keys(200_000).filter(|&key| all.lookup(key) == Some(19));
    assert_shares(&count(spilled.filter_map(|key| all.first_usable(key, |owner| owner != 19))), &[1; 19]);
}

#[test]
fn candidates_are_distinct_and_begin_with_the_owner() {
    let names = names(500);
    for size in [1, 2, 10, 500] {
        let ring = Ring::build(&equal(&names[..size]));
        for key in keys(200) {
            let candidates: Vec<u16> = ring.candidates(key).collect();
            assert_eq!(candidates.first().copied(), ring.lookup(key));
            assert_eq!(count(candidates.iter().copied()).len(), candidates.len());
            assert!(
                candidates.len() <= ATTEMPTS as usize && candidates.len() > size.min(40) / 2,
                "{size}: {candidates:?}"
            );
            assert_eq!(ring.first_usable(key, |owner| owner == candidates[size / 20]), Some(candidates[size / 20]));
        }
    }
}

#[test]
fn the_only_usable_one_is_found() {
    let names = names(10_000);
    let mut members = equal(&names);
    members[77].1 = 0;
    let ring = Ring::build(&members);
    for (key, only) in keys(100).zip((0..10_000).step_by(100)) {
        assert_eq!(ring.first_usable(key, |owner| owner == only), Some(only));
        assert_eq!(ring.first_usable(key, |owner| owner == 77), None);
        assert_eq!(ring.first_usable(key, |_| false), None);
    }
}

#[test]
fn nobody_to_choose() {
    for members in [&[][..], &[("a", 0), ("b", 0)]] {
        let ring = Ring::build(members);
        for key in keys(20) {
            assert_eq!(ring.lookup(key), None);
            assert_eq!(ring.candidates(key).next(), None);
            assert_eq!(ring.first_usable(key, |_| true), None);
        }
    }
}

#[test]
fn as_many_as_can_be() {
    let names = names(MAX_MEMBERS + 1);
    let ring = Small::build(&equal(&names[..MAX_MEMBERS]));
    assert_eq!(ring.first_usable(1, |owner| owner == NOBODY - 1), Some(NOBODY - 1));
    assert!(std::panic::catch_unwind(|| Small::build(&equal(&names))).is_err());
}

#[test]
fn exponential_is_the_logarithm() {
    let mut last = u64::MAX;
    for hash in (0..=100_000).map(|i: u64| i.wrapping_mul(u64::MAX / 100_000)).filter(|&hash| hash > 0) {
        let drawn = exponential(hash);
        let exact = 64.0 - (hash as f64).log2();
        assert!((drawn as f64 / 4_294_967_296.0 - exact).abs() < 1.0 / 8192.0, "{hash:x}");
        assert!(drawn <= last, "{hash:x}");
        last = drawn;
    }
    assert_eq!(exponential(0), 64 << 32);
}

type Members = BTreeMap<u8, u32>;

/// What happens to one member: it is there with this weight, or not at all.
type Change = (u8, Option<u32>);

fn weights() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 6 => 1..10u32, 2 => 1..1000u32, 1 => any::<u32>()]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec((0..20u8, proptest::option::weighted(0.7, weights())), 1..6)
}

/// The owner of each slot, and of each of some keys among all members, by name: so that order plays no part.
struct Placement {
    ring: Small,
    list: Vec<u8>,
}

impl Placement {
    /// `shuffle` stands for one of the orders in which the members can be listed.
    fn of(members: &Members, shuffle: u64) -> Self {
        let mut list: Vec<u8> = members.keys().copied().collect();
        list.sort_by_key(|&member| mix64(shuffle ^ u64::from(member)));
        let names: Vec<String> = list.iter().map(|member| format!("member {member}")).collect();
        let listed: Vec<(&str, u32)> = names.iter().zip(&list).map(|(name, id)| (name.as_str(), members[id])).collect();
        Self { ring: Small::build(&listed), list }
    }

    fn name(&self, owner: u16) -> u8 {
        self.list[usize::from(owner)]
    }

    fn owners(&self) -> Vec<Option<u8>> {
        let slots = (0..1024).map(|slot| self.ring.owners.get(slot).copied());
        let best = keys(200).map(|key| self.ring.rendezvous(key, |_| true));
        slots.chain(best).map(|owner| owner.map(|owner| self.name(owner))).collect()
    }

    fn candidates(&self, key: u64) -> Vec<u8> {
        self.ring.candidates(key).map(|owner| self.name(owner)).collect()
    }
}

/// In the order of names.
fn listed(members: &Members) -> Vec<(String, u32)> {
    members.iter().map(|(member, &weight)| (format!("member {member}"), weight)).collect()
}

fn borrowed(members: &[(String, u32)]) -> Vec<(&str, u32)> {
    members.iter().map(|(name, weight)| (name.as_str(), *weight)).collect()
}

/// As many members as make a change contest few slots: one joins, another gains, loses, leaves and comes back.
#[test]
fn a_changed_ring_is_the_one_that_is_built() {
    let mut members: Vec<(String, u32)> = names(400).into_iter().map(|name| (name, 10)).collect();
    let mut ring = Ring::build(&borrowed(&members));
    let steps: [(usize, u32); 10] =
        [(7, 11), (7, 9), (399, 0), (399, 30), (0, 100), (0, 1), (200, 0), (201, 0), (202, 0), (202, 100)];
    for (member, weight) in steps {
        members[member].1 = weight;
        let (listed, before) = (borrowed(&members), ring.owners.clone());
        assert!(Claims::left_by(&ring, &in_order(&listed)).is_some(), "all slots are contested");
        ring = ring.changed(&listed);
        assert_ne!(ring.owners, before);
        assert_eq!(ring.owners, Ring::build(&listed).owners, "{member} has {weight}");
    }
    members.insert(0, ("first".to_owned(), 5));
    members.remove(300);
    ring = ring.changed(&borrowed(&members));
    assert_eq!(ring.owners, Ring::build(&borrowed(&members)).owners);
    // It goes on where nobody is left, and where all are others.
    for members in [vec![("a", 0)], vec![("b", 1), ("c", u32::MAX)], vec![("c", 1)], vec![]] {
        ring = ring.changed(&members);
        assert_eq!(ring.owners, Ring::build(&members).owners);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Keys move only to a member that joins or gains weight, and only from one that leaves or loses weight.
    #[test]
    fn least_movement(
        mut members in proptest::collection::btree_map(0..20u8, weights(), 0..20),
        changes in changes(), shuffle: u64,
    ) {
        let mut before = Placement::of(&members, 0).owners();
        for (step, (member, weight)) in (1..).zip(changes) {
            let old = members.get(&member).copied().unwrap_or(0);
            match weight {
                Some(weight) => members.insert(member, weight),
                None => members.remove(&member),
            };
            let after = Placement::of(&members, shuffle.wrapping_mul(step)).owners();
            for (from, to) in before.iter().zip(&after).filter(|(from, to)| from != to) {
                let gained = weight.unwrap_or(0) > old;
                prop_assert_eq!(if gained { to } else { from }, &Some(member));
            }
            before = after;
        }
    }

    /// However many changes a ring has come through, several at once or one by one.
    #[test]
    fn changes_leave_the_ring_that_is_built(
        mut members in proptest::collection::btree_map(0..20u8, weights(), 0..20),
        rounds in proptest::collection::vec(changes(), 1..20),
    ) {
        let mut ring = Small::build(&borrowed(&listed(&members)));
        for changes in rounds {
            for (member, weight) in changes {
                match weight {
                    Some(weight) => members.insert(member, weight),
                    None => members.remove(&member),
                };
            }
            let listed = listed(&members);
            let built = Small::build(&borrowed(&listed));
            ring = ring.changed(&borrowed(&listed));
            prop_assert_eq!(&ring.owners, &built.owners);
        }
    }

    /// When one leaves, the candidates before it stay as they were, and all do if it was none.
    #[test]
    fn candidates_keep_their_order(members in proptest::collection::btree_map(0..200u8, 1..10u32, 2..120), leaver: u64) {
        let mut left = members.clone();
        let leaver = *members.keys().nth(leaver as usize % members.len()).unwrap();
        left.remove(&leaver);
        let (all, rest) = (Placement::of(&members, 1), Placement::of(&left, 2));
        for key in keys(100) {
            let (before, after) = (all.candidates(key), rest.candidates(key));
            match before.iter().position(|&candidate| candidate == leaver) {
                None => prop_assert_eq!(before, after),
                Some(place) => prop_assert_eq!(&before[..place], &after[..place]),
            }
        }
    }
}
