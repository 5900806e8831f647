use super::*;
use crate::rest::explain::decide::NoSlots;
use affinity::{
    balance::Calm,
    choose::{Asked, Outcome, Pin, choose},
    hash::mix64,
    table::{Dirty, Table},
    wheel::Turn,
};
use control::{
    desired::{Change, PoolState, SEED_INCARNATION},
    release::{Percent, RampPlan, ReleaseState, Watch},
    spec::{AppCookie, AppCookieStyle, Backend, Cookie, Mode, Pool, Span, TokenKind},
};

const WISH: Wish = Wish { sessions_per_second: 50, idle_first: false, target: 1.1 };

/// Backends `a`, `b` and so on, by weights and sessions.
fn bearing(loads: &[(u32, u64)]) -> Vec<Bearer> {
    let bearer = |(name, (weight, sessions)): (char, &(u32, u64))| Bearer {
        name: name.to_string(),
        weight: *weight,
        sessions: *sessions,
    };
    ('a'..='z').zip(loads).map(bearer).collect()
}

#[test]
fn as_few_move_as_have_to_and_nobody_gives_more_than_it_has_too_many() {
    for (loads, target, expected) in [
        (&[(1, 100), (1, 100), (1, 0)][..], 1.1, vec![27, 27, 0]),
        (&[(1, 100), (1, 100), (1, 0)], 1.01, vec![33, 33, 0]),
        (&[(1, 100), (1, 100)], 1.1, vec![0, 0]),
        (&[(1, 110), (1, 90)], 1.1, vec![0, 0]),
        (&[(3, 150), (1, 150)], 1.1, vec![0, 68]),
        (&[(1, 4), (1, 0)], 1.1, vec![2, 0]),
        (&[(1, 2), (1, 1)], 1.1, vec![0, 0]),
        (&[(1, 4), (1, 2), (1, 2), (1, 2)], 1.1, vec![1, 0, 0, 0]),
        (&[(1, 3), (1, 3), (1, 2), (1, 2)], 1.1, vec![0, 0, 0, 0]),
        (&[(1, 0), (1, 0)], 1.1, vec![0, 0]),
        (&[(1, 9)], 1.1, vec![0]),
        (&[], 1.1, vec![]),
    ] {
        assert_eq!(surplus(&bearing(loads), target), expected, "{loads:?}");
    }
}

#[test]
fn a_round_takes_as_long_as_the_rate_says_and_ends_where_it_began() {
    let bearers = bearing(&[(1, 10_000), (1, 10_000), (1, 0), (1, 2_000)]);
    let found = round(&WISH, &bearers, 7).unwrap();
    // 3,950 have to, and twice the root of that.
    assert_eq!(found.from["a"], Share::new(0.4076).unwrap());
    assert_eq!(found.to, [("c".to_owned(), 5_500), ("d".to_owned(), 3_500)].into());
    assert_eq!((found.since, found.until - found.since), (7, 8_152_000 / 50));
    let fast = round(&Wish { sessions_per_second: 1_000_000, ..WISH }, &bearers, 7).unwrap();
    assert_eq!(fast.until - fast.since, LEAST_ROUND);
    assert_eq!(round(&WISH, &bearing(&[(1, 100), (1, 95)]), 7), None);
    // The lack of each is rounded up, or else nobody would take the one that is too many.
    let small = round(&WISH, &bearing(&[(1, 4), (1, 2), (1, 2), (1, 2)]), 7).unwrap();
    assert_eq!(small.to.len(), 3);
}

#[test]
fn pools_whose_sessions_can_not_move_are_refused() {
    let cookie = |cookie| Affinity { cookie, ..Affinity::default() };
    let app = |style| Affinity {
        mode: Mode::AppCookie,
        app_cookie: Some(AppCookie { name: "sid".into(), style, path_parameter: None }),
        ..Affinity::default()
    };
    let idle = Wish { idle_first: true, ..WISH };
    let timed = cookie(Cookie { idle_timeout: Some(Span::from_secs(9)), ..Cookie::default() });
    for (affinity, wish, holds) in [
        (Affinity::default(), WISH, true),
        (Affinity::default(), idle, false),
        (timed, idle, true),
        (cookie(Cookie { token: TokenKind::Plain, ..Cookie::default() }), WISH, false),
        (app(AppCookieStyle::Follow), WISH, true),
        (app(AppCookieStyle::Prefix), WISH, false),
        (app(AppCookieStyle::Suffix), WISH, false),
        (app(AppCookieStyle::Hash), WISH, false),
        (Affinity { mode: Mode::SourceIp, ..Affinity::default() }, WISH, false),
        (Affinity { mode: Mode::None, ..Affinity::default() }, WISH, false),
    ] {
        assert_eq!(why_not(&affinity, None, &wish).is_none(), holds, "{affinity:?}");
    }
}

#[test]
fn sessions_do_not_move_beside_released_ones() {
    let plan = RampPlan {
        steps: vec![Percent::new(10.0).unwrap()],
        hold: Span::from_secs(1),
        harm: 0.1,
        alpha: 0.01,
        watch: Watch::default(),
    };
    for (state, holds) in
        [(ReleaseState::Running, false), (ReleaseState::Finished, false), (ReleaseState::Stopped, true)]
    {
        let plan = plan.clone();
        let release =
            Release { id: 1, plan, state, step: 0, since: 0, step_since: 0, passed: Vec::new(), stopped: None };
        assert_eq!(why_not(&Affinity::default(), Some(&release), &WISH).is_none(), holds, "{state:?}");
    }
}

#[test]
fn what_moves_is_counted_from_its_begin_by_those_that_were_there() {
    let plane = |(pid, counted)| (PlaneId { pid, started: 1 }, counted);
    let mut watched = Watched::new(WISH, 0, 1, [(7, 60), (8, 40)].into_iter().map(plane));
    for (planes, moved, knows) in [
        (&[(7, 60), (8, 40)][..], 0, true),
        (&[(7, 80), (8, 50)], 30, true),
        // The other has lost its connection, and has said nothing yet when it is back.
        (&[(8, 51)], 31, true),
        (&[(7, 0), (8, 52)], 32, true),
        (&[(7, 81), (8, 52)], 33, true),
        (&[], 33, true),
        (&[(7, 81), (8, 53), (9, 5)], 34, false),
    ] {
        assert_eq!((watched.count(planes.iter().copied().map(plane)), watched.moved), (knows, moved), "{planes:?}");
    }
    let again = PlaneId { pid: 7, started: 2 };
    assert!(!watched.count([(again, 0)].into_iter()), "it has begun anew, as the same process");
}

/// Sessions of which each comes by every second, planned for as the admin process does and moved as the workers do. What
/// moved in each second, and who has how many in the end.
fn simulate(sessions: u64, wish: &Wish, seed: u64) -> (Vec<u64>, Vec<Bearer>) {
    let backend = |name: &str| Backend { name: name.to_owned(), address: "192.0.2.1:80".into(), ..Backend::default() };
    let pool = Pool { backends: ["a", "b", "c"].map(backend).into(), ..Pool::default() };
    let mut snapshot = Snapshot::default();
    snapshot.apply(&Change::PutPool { name: "shop".into(), pool: Box::new(PoolState::seed(pool, SEED_INCARNATION)) });
    let mut homes: Vec<u16> = (0..sessions).map(|key| u16::from(key % 2 == 1)).collect();
    let bearers = |homes: &[u16]| {
        let count = |index: u16| homes.iter().filter(|home| **home == index).count() as u64;
        bearing(&[(1, count(0)), (1, count(1)), (1, count(2))])
    };
    let (begin, mut moved) = (1_790_000_000_u32, Vec::new());
    let (mut until, mut table) = (0, Table::default());
    for now in begin..begin + 1_000 {
        let (bearers, millis) = (bearers(&homes), u64::from(now) * 1_000);
        let Some(next) = round(wish, &bearers, millis) else { break };
        if millis >= until {
            until = next.until;
            snapshot.apply(&Change::Rebalance { pool: "shop".into(), round: Some(next) });
            table = Table::build(&snapshot, Some(&table), &Dirty::All, &mut NoSlots, now);
        }
        let mut count = 0;
        for (key, home) in (0..).zip(&mut homes) {
            let pin = Pin::At { backend: *home, incarnation: None };
            let asked = Asked {
                pin,
                key: mix64(key ^ mix64(seed)),
                random: 0,
                now,
                force: false,
                together: false,
                idle: Some(0),
            };
            let choice = choose(&table.pools[0], &asked, &mut Turn::default(), &Calm::default()).unwrap();
            count += u64::from(choice.outcome != Outcome::Pinned);
            *home = choice.backend;
        }
        moved.push(count);
    }
    (moved, bearers(&homes))
}

#[test]
fn it_ends_at_the_target_within_the_rate_and_moves_no_more_than_it_has_to() {
    for sessions in [6_000, 600, 60, 4] {
        let (moved, bearers) = simulate(sessions, &WISH, 0);
        assert_eq!(left(&bearers, WISH.target), 0, "{sessions}: {bearers:?}");
        let even = max_over_mean(&bearers).unwrap();
        assert!(even <= 1.1 || sessions < 100, "{sessions}: {even}");
        // Five standard deviations above the rate in any second.
        assert!(moved.iter().all(|count| *count <= 50 + 36), "{sessions}: {moved:?}");
        let (all, least) =
            (moved.iter().sum::<u64>(), left(&bearing(&[(1, sessions / 2), (1, sessions / 2), (1, 0)]), 1.1));
        assert!(all <= least + 2 + least / 10, "{sessions}: {all} moved, and {least} had to");
    }
}

/// A round for exactly as many as are left moved none of the last ones too often: 48 s in the worst of 1,000 cases.
#[test]
fn the_last_few_do_not_take_round_after_round() {
    let fast = Wish { sessions_per_second: 1_000, ..WISH };
    let runs = (0..200).map(|seed| simulate(60, &fast, seed).0);
    let (seconds, mut moved): (Vec<_>, Vec<_>) = runs.map(|run| (run.len(), run.iter().sum::<u64>())).unzip();
    let worst = seconds.iter().max();
    assert!(worst < Some(&18), "{worst:?} seconds");
    // 16 have to move. Who moves is drawn, so that some more do: twice as many in one of a thousand cases.
    moved.sort_unstable();
    assert_eq!((moved[100], moved[198]), (18, 24), "the median, and all but one in a hundred");
}
