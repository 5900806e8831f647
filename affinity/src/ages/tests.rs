use super::*;
use crate::hash::mix64;

const START: u64 = 1_790_000_000_000;

/// A number from 0 to 1 that follows from the seed.
fn uniform(seed: u64) -> f64 {
    ((mix64(seed) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Ages and ends of so many sessions of one length each, met at any moment of theirs.
fn met(lengths: impl Fn(u64) -> f64, count: u64) -> (Vec<u32>, Vec<f64>) {
    let (ages, mut ends): (Vec<_>, Vec<_>) = (0..count)
        .map(|n| {
            let (length, age) = (lengths(n), uniform(n ^ (1 << 40)));
            ((age * length) as u32, (1.0 - age) * length)
        })
        .unzip();
    ends.sort_by(f64::total_cmp);
    (ages, ends)
}

fn left(ends: &[f64], second: f64) -> u64 {
    (ends.len() - ends.partition_point(|end| *end <= second)) as u64
}

fn forecast(mut of: Vec<u32>) -> Forecast {
    let live = of.len() as u64;
    Forecast { ages: ages(&mut of).unwrap(), live, at: START, since: START }
}

#[test]
fn ages_are_told_of_enough_sessions_in_whatever_order() {
    let mut few: Vec<u32> = (1..20).collect();
    assert_eq!(ages(&mut few), None);
    let mut hundred: Vec<u32> = (1..=100).rev().collect();
    assert_eq!(ages(&mut hundred).unwrap().0, [10, 25, 50, 75, 90, 95, 98, 99, 100, 100]);
    let mut twenty: Vec<u32> = (1..=20).collect();
    assert_eq!(ages(&mut twenty).unwrap().0, [2, 5, 10, 15, 18, 19, 20, 20, 20, 20]);
}

/// Sessions of equal length, a mixture of short and very long ones, and ones that end by chance: at the begin and at half
/// time, until 95 and 99 % have ended is right within a fifth.
#[test]
fn lengths_of_any_kind_are_foretold() {
    let even = |_| 3_600.0;
    // Long sessions are met more often: nine of ten sessions are short, and half of those met are.
    let mixed = |n: u64| if uniform(n) < 0.5 { 120.0 } else { 1_080.0 };
    let by_chance = |n: u64| -600.0 * (uniform(n).ln() + uniform(n ^ (1 << 41)).ln());
    let kinds: [(&str, &dyn Fn(u64) -> f64); 3] = [("even", &even), ("mixed", &mixed), ("by chance", &by_chance)];
    for (kind, lengths) in kinds {
        let (of, ends) = met(lengths, 10_000);
        let foretold = forecast(of);
        for seconds in [0.0, ends[5_000].floor()] {
            for share in [0.05, 0.01] {
                let really = ends[(10_000.0 * (1.0 - share)) as usize] - seconds;
                let until = foretold.until(10_000.0 * share, left(&ends, seconds), START + (seconds * 1e3) as u64);
                let error = until.unwrap() / really - 1.0;
                assert!(error.abs() < 0.2, "{kind}, after {seconds} s, {share}: {until:?} and not {really}");
            }
        }
        let after = foretold.left_after(60.0, 10_000, START).unwrap();
        assert!((after / left(&ends, 60.0) as f64 - 1.0).abs() < 0.02, "{kind}: {after}");
    }
}

#[test]
fn what_is_seen_stretches_what_was_foretold() {
    // The site has just opened: nobody is old yet, and they stay for four times as long.
    let foretold = forecast((0..1_000).map(|n| n % 100).collect());
    let at = |second: u64, left: u64, target: f64| foretold.until(target, left, START + second * 1_000);
    assert_eq!(at(0, 1_000, 500.0).map(f64::round), Some(49.0), "nothing is known but the ages");
    let stretched = at(100, 750, 500.0).unwrap();
    assert!((90.0..=100.0).contains(&stretched), "{stretched}");
    assert_eq!(at(100, 500, 500.0), Some(0.0), "it is there");
    // All of them ought to be gone by now, and none is.
    assert_eq!(at(10_000, 1_000, 500.0), None);
    assert_eq!(foretold.left_after(10_000.0, 1_000, START), None);
    assert!(foretold.left_after(10.0, 1_000, START).unwrap() < 1_000.0);
}

/// As after a restart in mid-drain: by then all are as old as the drain at least.
#[test]
fn a_drain_that_was_under_way_is_foretold_from_then_on() {
    let (of, ends) = met(|n| -600.0 * (uniform(n).ln() + uniform(n ^ (1 << 41)).ln()), 20_000);
    let (now, all) = (600_u64, of.len());
    let still: Vec<u32> = (0..all as u64)
        .zip(&of)
        .filter_map(|(n, age)| {
            let length = -600.0 * (uniform(n).ln() + uniform(n ^ (1 << 41)).ln());
            (length - f64::from(*age) > now as f64).then_some(age + now as u32)
        })
        .collect();
    let live = still.len() as u64;
    let foretold = Forecast { at: START + now * 1_000, since: START, ..forecast(still) };
    let really = ends[all - (live / 20) as usize] - now as f64;
    let until = foretold.until(live as f64 / 20.0, live, START + now * 1_000).unwrap();
    assert!((until / really - 1.0).abs() < 0.1, "{until} and not {really}");
}

#[test]
fn nothing_breaks_at_the_edges() {
    for (live, age) in [(20, 0), (20, u32::MAX), (u64::MAX, 7)] {
        let ages = Ages([age; AGE_SHARES.len()]);
        let foretold = Forecast { ages, live, at: START, since: 0 };
        for (left, now) in [(0, 0), (1, START), (live, START), (u64::MAX, u64::MAX)] {
            for target in [0.0, 1.0, 1e19] {
                let until = foretold.until(target, left, now);
                assert!(until.is_none_or(|until| until.is_finite() && until >= 0.0), "{until:?}");
            }
            let after = foretold.left_after(0.0, left, now);
            assert!(after.is_none_or(|after| after.is_finite() && after >= 0.0), "{after:?}");
        }
    }
}
