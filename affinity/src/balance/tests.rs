use super::*;
use crate::testing::{Seen, pool};
use control::spec::Pool;

/// Weights of `a`, `b`, `c` and so on.
fn balanced(balance: Balance, weights: &[u32]) -> PoolTable {
    let names: Vec<_> = ('a'..='z').map(String::from).collect();
    let members: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
    pool(Pool { balance, ..Pool::default() }, &members)
}

/// How often each is chosen in `rounds` requests that are over at once.
fn shares(pool: &PoolTable, rounds: u64, usable: impl Fn(u16) -> bool) -> Vec<u32> {
    let (mut counts, mut turn) = (vec![0; pool.backends.len()], Turn::default());
    for n in 0..rounds {
        let chosen = balance(pool, pool.primaries(), mix64(n), mix64(!n), &mut turn, &Seen::default(), &usable);
        counts[usize::from(chosen.unwrap())] += 1;
    }
    counts
}

const ALL: [Balance; 5] = [Balance::RoundRobin, Balance::LeastRequests, Balance::P2c, Balance::Random, Balance::Ring];

#[test]
fn every_policy_keeps_to_the_usable() {
    for policy in ALL {
        let pool = balanced(policy, &[1, 5, 2, 1]);
        let counts = shares(&pool, 500, |index| index != 1);
        assert!(counts[1] == 0 && counts[0] > 0 && counts[2] > 0 && counts[3] > 0, "{policy:?} {counts:?}");
        for only in 0..4 {
            let counts = shares(&pool, 50, |index| index == only);
            assert_eq!(counts[usize::from(only)], 50, "{policy:?}");
        }
        let nobody = balance(&pool, pool.primaries(), 1, 1, &mut Turn::default(), &Seen::default(), |_| false);
        assert_eq!(nobody, None, "{policy:?}");
    }
}

#[test]
fn without_load_every_policy_follows_the_weights_of_the_usable() {
    for policy in ALL {
        let pool = balanced(policy, &[1, 6, 0, 3, 90]);
        for (usable, of) in [(0..5, [10, 60, 0, 30, 900]), (0..4, [100, 600, 0, 300, 0])] {
            let has_weight = |index| usable.contains(&index) && index != 2;
            let counts = shares(&pool, 10_000, has_weight);
            let total: u32 = of.iter().sum();
            for (count, part) in counts.iter().zip(of) {
                let expected = 10_000.0 * f64::from(part) / f64::from(total);
                let deviation = (expected * (1.0 - expected / 10_000.0)).sqrt();
                assert!((f64::from(*count) - expected).abs() <= 5.0 * deviation, "{policy:?} {counts:?}");
            }
        }
    }
}

/// Drawing must not favour whoever stands behind a long row of those that can't be used.
#[test]
fn the_few_that_are_left_share_by_weight() {
    let mut weights = vec![1; 26];
    weights[1] = 3;
    for policy in ALL {
        let counts = shares(&balanced(policy, &weights), 10_000, |index| index < 2);
        assert!((2_280..=2_720).contains(&counts[0]), "{policy:?} {counts:?}");
    }
}

#[test]
fn load_counts_by_weight() {
    // In flight at `a` and `b`, whose weights are 1 and 3; `c` has more than it can bear.
    for (a, b, better) in [(0, 1, 0), (1, 0, 1), (1, 2, 1), (1, 4, 0), (5, 14, 1), (5, 16, 0)] {
        let seen = Seen { in_flight: [(0, a), (1, b), (2, 1_000)].into(), ..Seen::default() };
        for policy in [Balance::LeastRequests, Balance::P2c] {
            let pool = balanced(policy, &[1, 3, 1]);
            for n in 0..200 {
                let chosen = |usable: fn(u16) -> bool| {
                    balance(&pool, pool.primaries(), 1, mix64(n), &mut Turn::default(), &seen, usable).unwrap()
                };
                assert_eq!(chosen(|index| index < 2), better, "{policy:?} {a} {b}");
                assert_ne!(chosen(|_| true), 2, "{policy:?} {a} {b}");
                assert_eq!(chosen(|index| index == 2), 2, "who alone is usable is used, whatever its load");
            }
        }
    }
}

#[test]
fn equal_loads_do_not_all_fall_to_one() {
    for policy in [Balance::LeastRequests, Balance::P2c] {
        let counts = shares(&balanced(policy, &[1; 4]), 4_000, |_| true);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{policy:?} {counts:?}");
    }
}

/// Requests that stay: each is chosen with those before it in flight.
#[test]
fn requests_in_flight_settle_by_weight() {
    for (policy, slack) in [(Balance::LeastRequests, 2), (Balance::P2c, 8)] {
        let pool = balanced(policy, &[1, 2, 5]);
        let (mut seen, mut turn) = (Seen::default(), Turn::default());
        for n in 0..800 {
            let chosen = balance(&pool, pool.primaries(), 1, mix64(n), &mut turn, &seen, |_| true).unwrap();
            *seen.in_flight.entry(chosen).or_default() += 1;
        }
        for (index, expected) in [(0, 100), (1, 200), (2, 500)] {
            assert!(seen.in_flight[&index].abs_diff(expected) <= slack, "{policy:?} {:?}", seen.in_flight);
        }
    }
}

#[test]
fn the_ring_goes_by_the_key_alone() {
    let pool = balanced(Balance::Ring, &[1, 2, 3]);
    for key in (0..100).map(mix64) {
        let loaded = Seen { in_flight: [(0, 50), (1, 7)].into(), ..Seen::default() };
        let one = balance(&pool, pool.primaries(), key, 1, &mut Turn::default(), &loaded, |_| true);
        assert_eq!(one, balance(&pool, pool.primaries(), key, 99, &mut Turn(2), &Seen::default(), |_| true));
        assert_eq!(one, pool.ring.lookup(key));
    }
}

#[test]
fn a_turn_from_a_longer_wheel_is_no_harm() {
    let pool = balanced(Balance::RoundRobin, &[1, 1]);
    for at in [2, 3, u32::MAX] {
        let mut turn = Turn(at);
        let next = || balance(&pool, pool.primaries(), 1, 1, &mut turn, &Seen::default(), |_| true);
        assert_eq!(std::iter::repeat_with(next).take(3).collect::<Vec<_>>(), [Some(0), Some(1), Some(0)], "{at}");
    }
}
