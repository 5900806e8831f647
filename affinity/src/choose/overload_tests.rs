//! What a choice does where backends are full, or bear more than the pool's load bound.

use super::*;
use crate::testing::{Seen, asked, build, observe, pool, snapshot, step};
use control::{
    desired::Observed,
    spec::{Affinity, AffinityHeader, Balance, HeaderStyle, Limits, Pool},
};

const HOME: u16 = 0;

/// Four backends of weight 1, of which the first is home.
fn limited(on_overload: OnOverload) -> PoolTable {
    let affinity = Affinity { on_overload, ..Affinity::default() };
    let limits = Limits { requests: 10, ..Limits::default() };
    pool(Pool { affinity, limits, ..Pool::default() }, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)])
}

fn bounded(on_overload: OnOverload, bound: f64) -> PoolTable {
    let mut pool = limited(on_overload);
    pool.settings.limits.requests = 0;
    pool.settings.load_bound = Some(bound);
    pool
}

fn full(backends: impl IntoIterator<Item = u16>) -> Seen {
    Seen { full: backends.into_iter().collect(), ..Seen::default() }
}

fn loads(loads: [u32; 4]) -> Seen {
    Seen { in_flight: (0..).zip(loads).collect(), ..Seen::default() }
}

fn chosen(pool: &PoolTable, pin: Pin, key: u64, seen: &Seen) -> Result<Choice, Unserved> {
    choose(pool, &asked(pin, key, key), &mut Turn::default(), seen)
}

const PINNED: Pin = Pin::At { backend: HOME, incarnation: Some(1) };

#[test]
fn a_pinned_session_at_a_full_backend_does_as_it_is_told() {
    use OnOverload::{Queue, Spill, Stay};
    let pinned = Ok(Choice { backend: HOME, outcome: Outcome::Pinned });
    let waits = Err(Unserved::Full { home: Some(HOME) });
    for key in 0..100 {
        for on_overload in [Stay, Queue, Spill] {
            assert_eq!(chosen(&limited(on_overload), PINNED, key, &full([1, 2, 3])), pinned, "home has room");
        }
        assert_eq!(chosen(&limited(Stay), PINNED, key, &full([0])), pinned);
        assert_eq!(chosen(&limited(Queue), PINNED, key, &full([0])), waits);
        assert_eq!(chosen(&limited(Spill), PINNED, key, &full(0..4)), waits, "nobody has room");
        let Choice { backend, outcome } = chosen(&limited(Spill), PINNED, key, &full([0, 1])).unwrap();
        assert_eq!(outcome, Outcome::Spilled { from: HOME, cause: Cause::Overload });
        assert!([2, 3].contains(&backend));
    }
}

#[test]
fn what_has_no_home_goes_where_there_is_room_and_else_waits_for_any() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::P2c, Balance::Random, Balance::Ring] {
        for on_down in [OnDown::Repin, OnDown::Spill] {
            let mut pool = limited(OnOverload::Stay);
            (pool.settings.balance, pool.settings.affinity.on_down) = (balance, on_down);
            for key in 0..50 {
                for pin in [Pin::Absent, Pin::Gone] {
                    let choice = chosen(&pool, pin, key, &full([0, 1, 3])).unwrap();
                    assert_eq!(choice.backend, 2);
                    assert_eq!(chosen(&pool, pin, key, &full(0..4)), Err(Unserved::Full { home: None }));
                }
            }
            pool.backends[usize::from(HOME)].health = Health::Down;
            assert_eq!(chosen(&pool, PINNED, 7, &full(1..4)), Err(Unserved::Full { home: None }));
        }
    }
}

#[test]
fn a_full_backend_that_takes_nothing_new_is_nobody_to_wait_for() {
    let mut pool = limited(OnOverload::Queue);
    for backend in &mut pool.backends {
        backend.health = Health::Down;
    }
    assert_eq!(chosen(&pool, Pin::Absent, 1, &full(0..4)), Err(Unserved::NoBackend));
    pool.settings.health.fail_open = true;
    assert!(chosen(&pool, Pin::Absent, 1, &full(0..4)).is_ok(), "failing open knows no limit");
}

#[test]
fn the_bound_is_a_share_of_all_rounded_up_and_refuses_nobody() {
    // 8 in flight and one more: 1.25 × 9 / 4 is 2.8, so that each may have 3.
    let pool = bounded(OnOverload::Spill, 1.25);
    let pinned = Ok(Choice { backend: HOME, outcome: Outcome::Pinned });
    assert_eq!(chosen(&pool, PINNED, 1, &loads([2, 2, 2, 2])), pinned);
    let spilled = chosen(&pool, PINNED, 1, &loads([3, 2, 3, 0])).unwrap();
    assert_eq!(spilled.outcome, Outcome::Spilled { from: HOME, cause: Cause::Overload });
    assert!([1, 3].contains(&spilled.backend));
    for key in 0..200 {
        assert!([1, 3].contains(&chosen(&pool, Pin::Absent, key, &loads([3, 2, 3, 0])).unwrap().backend));
    }
    let lonely = Seen { tried: [1, 2, 3].into(), ..loads([9, 0, 0, 0]) };
    assert_eq!(chosen(&pool, PINNED, 1, &lonely), pinned, "nobody else can take it");
    assert_eq!(chosen(&pool, Pin::Absent, 1, &lonely).map(|choice| choice.backend), Ok(HOME));
    let stays = bounded(OnOverload::Stay, 1.25);
    assert_eq!(chosen(&stays, PINNED, 1, &loads([9, 0, 0, 0])), pinned);
}

#[test]
fn a_share_goes_by_weight_among_those_that_take_new_sessions() {
    let mut pool = bounded(OnOverload::Spill, 1.5);
    pool.backends[usize::from(HOME)].weight = 3;
    let is_pinned = |pool: &PoolTable, at_home| {
        chosen(pool, PINNED, 1, &loads([at_home, 0, 0, 0])).unwrap().outcome == Outcome::Pinned
    };
    // Half of all is home's share: 1.5 × 3 × 3 / 6 rounded up is 3, and so is 1.5 × 4 × 3 / 6.
    pool.usable_weight = 6;
    assert!(is_pinned(&pool, 2) && !is_pinned(&pool, 3));
    pool.usable_weight = 3;
    assert!(is_pinned(&pool, 3), "with nobody else, all of it is");
}

#[test]
fn those_that_overflow_take_the_same_second_place_everywhere() {
    let pool = bounded(OnOverload::Spill, 1.05);
    for key in 0..100 {
        let overflowing = || chosen(&pool, PINNED, key, &loads([90, 1, 1, 1])).unwrap().backend;
        assert_eq!(overflowing(), overflowing());
        let next = pool.ring.candidates(key).find(|backend| *backend != HOME).unwrap();
        assert_eq!(overflowing(), next);
    }
}

#[test]
fn a_session_that_can_not_move_waits_for_nobody_elses_room() {
    let mut pool = limited(OnOverload::Queue);
    pool.settings.affinity.mode = Mode::Header;
    pool.settings.affinity.header = Some(AffinityHeader {
        name: "Mcp-Session-Id".to_owned(),
        style: HeaderStyle::Follow,
        ..AffinityHeader::default()
    });
    assert_eq!(chosen(&pool, PINNED, 1, &full([0])), Err(Unserved::Full { home: Some(HOME) }));
    pool.backends[usize::from(HOME)].health = Health::Down;
    let ended = Err(Unserved::Ended(Ended::Left(Cause::Down)));
    assert_eq!(chosen(&pool, PINNED, 1, &full(0..4)), ended);
    assert_eq!(chosen(&pool, PINNED, 1, &full([])), ended);
}

#[test]
fn below_the_share_that_has_to_be_up_health_counts_no_more() {
    for (below, down, counts) in [(0.5, 2, true), (0.5, 3, false), (0.75, 2, false), (0.0, 3, true), (1.0, 1, false)] {
        let mut settings = Pool::default();
        (settings.health.fail_open, settings.health.fail_open_below) = (true, below);
        let mut state = snapshot(settings, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        for name in &["a", "b", "c"][..down] {
            step(&mut state, &observe(name, Observed { health: Health::Down, resolved: None }));
        }
        let table = build(&state, None);
        let pool = &table.pools[0];
        assert_eq!(pool.fails_open, !counts, "{below} {down}");
        let pinned = chosen(pool, PINNED, 1, &full([])).unwrap();
        assert_eq!(pinned.outcome == Outcome::Pinned, !counts, "a is down: {below} {down}");
        let at_a = (0..400).filter(|key| chosen(pool, Pin::Gone, *key, &full([])).unwrap().backend == HOME).count();
        assert_eq!(at_a > 0, !counts, "{below} {down}");
    }
}
