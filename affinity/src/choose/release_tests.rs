//! What a choice does with sessions that a release has let go.

use super::*;
use crate::{
    hash::mix64,
    marker::{Marker, Parts, Told, find, follow, marker, write},
    release::ReleaseTable,
    testing::{Seen, asked, pool},
};
use control::{
    release::Watch,
    spec::{Affinity, AffinityHeader, AppCookie, AppCookieStyle, HeaderStyle, Limits, Pool, Span},
};
use std::collections::{BTreeMap, BTreeSet};

const HOME: u16 = 0;
const PINNED: Pin = Pin::At { backend: HOME, incarnation: Some(1) };
const BALANCES: [Balance; 5] =
    [Balance::RoundRobin, Balance::LeastRequests, Balance::P2c, Balance::Random, Balance::Ring];

/// Four backends of which the first is home, with so many sessions in 10,000 released.
fn releasing(settings: Pool, share: u16) -> PoolTable {
    let release = ReleaseTable { id: 1, share, watch: Watch::default(), session_cookie: None };
    let mut pool = pool(settings, &[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    pool.release = Some(release);
    pool
}

fn by(affinity: Affinity) -> Pool {
    Pool { affinity, ..Pool::default() }
}

/// Where 40 requests of a session go, and what becomes of each.
fn goes(pool: &PoolTable, pin: Pin, key: u64, seen: &Seen) -> BTreeSet<(u16, &'static str)> {
    let mut turn = Turn::default();
    let name = |outcome| match outcome {
        Outcome::Released { .. } => "released",
        Outcome::Pinned => "pinned",
        Outcome::Repinned { .. } => "repinned",
        Outcome::Spilled { .. } => "spilled",
        Outcome::New | Outcome::Lost | Outcome::Free => "begins",
    };
    let went = (0..40).map(|n| choose(pool, &asked(pin, key, mix64(n)), &mut turn, seen));
    went.map(|went| went.map_or((u16::MAX, "refused"), |choice| (choice.backend, name(choice.outcome)))).collect()
}

fn all(outcome: &'static str) -> BTreeSet<(u16, &'static str)> {
    (0..4).map(|backend| (backend, outcome)).collect()
}

#[test]
fn a_released_session_is_balanced_by_every_policy_and_the_others_stay() {
    for balance in BALANCES {
        let pool = releasing(Pool { balance, ..Pool::default() }, 2_500);
        let (mut released, mut counts) = (0, BTreeMap::new());
        for key in (0..400).map(mix64) {
            let went = goes(&pool, PINNED, key, &Seen::default());
            if is_released(key, 2_500) {
                released += 1;
                assert_eq!(went, all("released"), "{balance:?}");
            } else {
                assert_eq!(went, [(HOME, "pinned")].into(), "{balance:?}");
            }
            *counts.entry(went.len()).or_insert(0) += 1;
        }
        assert!((60..140).contains(&released), "{released}");
        // One that begins is pinned as ever, whoever its key makes it.
        assert!(goes(&pool, Pin::Absent, 1, &Seen::default()).iter().all(|(_, outcome)| *outcome == "begins"));
    }
}

#[test]
fn a_hashed_session_is_released_by_its_key_too() {
    let mut pool = releasing(by(Affinity { mode: Mode::SourceIp, ..Affinity::default() }), 10_000);
    assert_eq!(goes(&pool, Pin::Hashed, 7, &Seen::default()), all("released"));
    let home = pool.ring.lookup(7).unwrap();
    pool.release = None;
    assert_eq!(goes(&pool, Pin::Hashed, 7, &Seen::default()), [(home, "pinned")].into());
}

#[test]
fn what_drains_is_down_or_forced_goes_by_its_own_rules() {
    let pinned: BTreeSet<_> = [(HOME, "pinned")].into();
    let pool = |change: &dyn Fn(&mut PoolTable)| {
        let mut pool = releasing(Pool::default(), 10_000);
        change(&mut pool);
        goes(&pool, PINNED, 7, &Seen::default())
    };
    assert_eq!(pool(&|pool| pool.backends[0].admin_state = AdminState::Draining), pinned);
    for away in [
        pool(&|pool| pool.backends[0].admin_state = AdminState::Maintenance),
        pool(&|pool| pool.backends[0].health = Health::Down),
    ] {
        assert!(away.len() == 1 && away.iter().all(|(_, outcome)| *outcome == "repinned"), "{away:?}");
    }
    let marked = Seen { marked: [HOME].into(), ..Seen::default() };
    let away = goes(&releasing(Pool::default(), 10_000), PINNED, 7, &marked);
    assert!(away.iter().all(|(_, outcome)| *outcome == "repinned"), "{away:?}");
    let table = releasing(Pool::default(), 10_000);
    let forced = Asked { force: true, ..asked(PINNED, 7, 7) };
    let choice = choose(&table, &forced, &mut Turn::default(), &Seen::default());
    assert_eq!(choice, Ok(Choice { backend: HOME, outcome: Outcome::Pinned }));
    let other_life = Pin::At { backend: HOME, incarnation: Some(2) };
    assert!(goes(&table, other_life, 7, &Seen::default()).iter().all(|(_, outcome)| *outcome == "begins"));
}

#[test]
fn it_goes_to_those_that_take_new_sessions_and_stays_where_nobody_does() {
    let mut pool = releasing(Pool::default(), 10_000);
    pool.backends[1].admin_state = AdminState::Draining;
    pool.backends[2].health = Health::Down;
    let two = [(0, "released"), (3, "released")].into();
    assert_eq!(goes(&pool, PINNED, 7, &Seen::default()), two);
    // One that has failed this very request is not chosen again, not even where it is home.
    let tried = Seen { tried: [HOME].into(), ..Seen::default() };
    assert_eq!(goes(&pool, PINNED, 7, &tried), [(3, "released")].into());
    pool.settings.affinity.on_down = OnDown::Fail;
    assert_eq!(goes(&pool, PINNED, 7, &tried), [(3, "released")].into());
    let limits = Limits { requests: 1, ..Limits::default() };
    let full = Seen { full: (0..4).collect(), ..Seen::default() };
    let limited = releasing(Pool { limits, ..Pool::default() }, 10_000);
    assert_eq!(goes(&limited, PINNED, 7, &full), [(HOME, "pinned")].into(), "as without a release: it stays");
}

#[test]
fn what_can_not_move_is_never_released() {
    let header = AffinityHeader { name: "Mcp-Session-Id".into(), style: HeaderStyle::Follow, ..Default::default() };
    let affinity = Affinity { mode: Mode::Header, header: Some(header), ..Affinity::default() };
    let pool = releasing(by(affinity), 10_000);
    assert_eq!(goes(&pool, PINNED, 7, &Seen::default()), [(HOME, "pinned")].into());
}

#[test]
fn the_pin_stays_and_is_renewed_in_time() {
    const NOW: u32 = 1_790_000_000;
    let mut affinity = Affinity::default();
    affinity.cookie.idle_timeout = Some(Span::from_secs(400));
    let pool = releasing(by(affinity), 10_000);
    let client = [192, 0, 2, 1].into();
    let begins = find(&pool, &Parts::with_cookies(&[], client), NOW, 7);
    let at_home = Choice { backend: HOME, outcome: Outcome::New };
    let Some(first) = marker(&pool, &begins, at_home, 7, NOW) else { panic!("a session begins with a marker") };
    let mut line = Vec::new();
    write(&pool, &first, &mut line);
    let cookie = line["Set-Cookie: ".len()..].split(|byte| *byte == b';').next().unwrap();
    let released = Choice { backend: 2, outcome: Outcome::Released { from: HOME } };
    for (later, renewed) in [(99, false), (100, true)] {
        let found = find(&pool, &Parts::with_cookies(&[cookie], client), NOW + later, 8);
        assert_eq!(found.pin, PINNED);
        let marker = marker(&pool, &found, released, 8, NOW + later);
        let Some(Marker::Sealed { token }) = marker else {
            assert!(!renewed && marker.is_none());
            continue;
        };
        let home = pool.keys.as_ref().unwrap().backend_ref(0, "a");
        assert!(renewed && token.backend_ref == home && token.session_key == 7, "home again when the release ends");
    }
}

#[test]
fn a_session_that_is_named_anew_is_where_that_was_done() {
    let app_cookie = Some(AppCookie { name: "sid".into(), style: AppCookieStyle::Follow, path_parameter: None });
    let pool = releasing(by(Affinity { mode: Mode::AppCookie, app_cookie, ..Affinity::default() }), 10_000);
    let found = find(&pool, &Parts::with_cookies(&[b"sid=1"], [192, 0, 2, 1].into()), 9, 7);
    let told = |backend, told| {
        let choice = Choice { backend, outcome: Outcome::Released { from: HOME } };
        follow(&pool, &found, choice, told, 7, 9).0
    };
    assert_eq!(told(2, Told::Nothing), Outcome::Released { from: HOME });
    assert_eq!(told(2, Told::Named), Outcome::Repinned { from: Some(HOME), cause: Cause::Released });
    assert_eq!(told(HOME, Told::Named), Outcome::Pinned);
}
