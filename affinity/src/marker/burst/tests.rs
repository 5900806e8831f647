use super::*;
use crate::{
    choose::{Asked, Choice, Outcome, Pin, choose},
    marker::{Found, Marker, Parts, Told, find, follow, marker},
    testing::{Seen, build, pool, snapshot},
    wheel::Turn,
};
use control::spec::{
    Affinity, AffinityRule, AppCookie, AppCookieStyle, Balance, Cookie, Key, Mode, Pool, Span, TokenKind,
};

const NOW: u32 = 1_790_000_000;
const AGENT: &str = "Mozilla/5.0 (X11)";

fn settings() -> Pool {
    let affinity = Affinity { coalesce: Some(Span::from_secs(10)), ..Affinity::default() };
    Pool { affinity, ..Pool::default() }
}

const MEMBERS: [(&str, u32); 4] = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];

fn first<'a>(headers: &'a [(&'a str, &'a str)], client: [u8; 4]) -> Parts<'a> {
    Parts { cookies: &[], headers, target: "/", method: "GET", client: client.into() }
}

fn key(pool: &PoolTable, agent: &str, client: [u8; 4], now: u32) -> u64 {
    fresh_key(pool, &first(&[("user-agent", agent)], client), now, 77)
}

/// What becomes of a request whose worker drew this number.
fn chosen(pool: &PoolTable, request: &Parts<'_>, now: u32, random: u64) -> (Found, Choice, u64) {
    let fresh = fresh_key(pool, request, now, random);
    let found = find(pool, request, now, fresh);
    let asked = found.asked(found.pin, random, now);
    let mut turn = Turn(u32::try_from(random % 4).unwrap());
    (found, choose(pool, &asked, &mut turn, &Seen::default()).unwrap(), fresh)
}

#[test]
fn a_key_is_of_one_client_and_one_window() {
    let pool = pool(settings(), &MEMBERS);
    let one = key(&pool, AGENT, [192, 0, 2, 1], NOW);
    assert_eq!(one, fresh_key(&pool, &first(&[("USER-AGENT", AGENT)], [192, 0, 2, 1]), NOW, 1), "whatever is drawn");
    assert_ne!(one, key(&pool, "curl/8", [192, 0, 2, 1], NOW));
    assert_ne!(one, key(&pool, AGENT, [192, 0, 2, 2], NOW));
    assert_ne!(one, key(&pool, AGENT, [192, 0, 2, 1], NOW + 10));
    assert_ne!(one, fresh_key(&pool, &first(&[], [192, 0, 2, 1]), NOW, 1));
    // Ten seconds have one key, and clients change to the next at different times.
    let changes = |client: u8| {
        let keys = (NOW..NOW + 40).map(|now| key(&pool, AGENT, [192, 0, 2, client], now)).collect::<Vec<_>>();
        keys.windows(2).map(|pair| pair[0] != pair[1]).collect::<Vec<_>>()
    };
    let count = |client| changes(client).into_iter().filter(|changes| *changes).count();
    assert!((0..50).all(|client| (3..=4).contains(&count(client))));
    assert!((1..50).any(|client| changes(client) != changes(0)));
    // Other keys, other pools and IPv6 in IPv4's clothes.
    let mut other = snapshot(settings(), &MEMBERS);
    other.desired.keys = vec![Key([2; 32])];
    assert_ne!(one, key(&build(&other, None).pools[0], AGENT, [192, 0, 2, 1], NOW));
    let mapped = Parts { client: "::ffff:192.0.2.1".parse().unwrap(), ..first(&[], [0; 4]) };
    assert_eq!(fresh_key(&pool, &mapped, NOW, 1), fresh_key(&pool, &first(&[], [192, 0, 2, 1]), NOW, 2));
    let off = crate::testing::pool(Pool::default(), &MEMBERS);
    assert_eq!(key(&off, AGENT, [192, 0, 2, 1], NOW), 77);
}

#[test]
fn first_requests_of_a_client_share_backend_and_session_and_clients_spread() {
    for (token, balance) in [
        (TokenKind::Sealed, Balance::RoundRobin),
        (TokenKind::Sealed, Balance::LeastRequests),
        (TokenKind::Plain, Balance::Random),
    ] {
        let mut settings = Pool { balance, ..settings() };
        settings.affinity.cookie = Cookie { token, ..Cookie::default() };
        let pool = pool(settings, &MEMBERS);
        let mut counts = [0u32; 4];
        for client in 0..200u8 {
            let headers = [("User-Agent", AGENT)];
            let request = first(&headers, [192, 0, 2, client]);
            let of = |random| {
                let (found, choice, fresh) = chosen(&pool, &request, NOW, mix64(random));
                assert_eq!((found.pin, choice.outcome, found.key), (Pin::Absent, Outcome::New, fresh));
                (choice, marker(&pool, &found, choice, fresh, NOW).unwrap())
            };
            let (choice, set) = of(0);
            assert!((1..10).all(|random| of(random) == (choice, set)), "the same cookie, too");
            counts[usize::from(choice.backend)] += 1;
        }
        assert!(counts.iter().all(|count| (25..80).contains(count)), "{counts:?}");
    }
}

#[test]
fn a_burst_stays_together_where_its_backend_fails_or_starts_slowly() {
    let mut pool = pool(Pool { slow_start: Some(Span::from_secs(1_000)), ..settings() }, &MEMBERS);
    pool.warms = true;
    for backend in &mut pool.backends[..2] {
        backend.warming_since = Some(NOW - 500);
    }
    for client in 0..100 {
        let request = first(&[], [192, 0, 2, client]);
        let backend = |random| chosen(&pool, &request, NOW, mix64(random)).1.backend;
        assert!((1..5).all(|random| backend(random) == backend(0)));
        let (found, choice, _) = chosen(&pool, &request, NOW, 1);
        let asked = crate::testing::asked(found.pin, found.key, 0);
        let seen = Seen { tried: [choice.backend].into(), ..Seen::default() };
        let again = |random| choose(&pool, &Asked { random, together: true, ..asked }, &mut Turn::default(), &seen);
        assert_eq!(again(1), again(2));
    }
}

#[test]
fn a_session_whose_state_is_gone_begins_anew_in_one_place() {
    let mut pool = pool(settings(), &MEMBERS);
    pool.backends[0].incarnation = 9;
    for key in 0..50 {
        let pin = Pin::At { backend: 0, incarnation: Some(1) };
        let asked = |random| Asked { together: true, ..crate::testing::asked(pin, mix64(key), random) };
        let lost = |random| choose(&pool, &asked(random), &mut Turn(random as u32), &Seen::default()).unwrap();
        assert_eq!((lost(1), lost(1).outcome), (lost(2), Outcome::Lost));
    }
}

#[test]
fn sessions_that_the_application_names_begin_together_and_what_has_no_affinity_does_not() {
    for style in [AppCookieStyle::Follow, AppCookieStyle::Prefix] {
        let mut settings = settings();
        settings.affinity.mode = Mode::AppCookie;
        settings.affinity.app_cookie = Some(AppCookie { name: "sid".into(), style, path_parameter: None });
        settings.affinity.ignore = vec![AffinityRule { path: Some("/static".into()), ..AffinityRule::default() }];
        let pool = pool(settings, &MEMBERS);
        let request = first(&[], [192, 0, 2, 1]);
        let told = |random| {
            let (found, choice, fresh) = chosen(&pool, &request, NOW, random);
            let (outcome, marker) = follow(&pool, &found, choice, Told::Named, fresh, NOW);
            assert!(matches!(marker, Some(Marker::Sealed { token }) if token.session_key == fresh));
            (choice, outcome, marker)
        };
        assert_eq!(told(1), told(2));
        let ignored = Parts { target: "/static/a.css", ..request };
        let backends: std::collections::BTreeSet<_> =
            (0..4).map(|random| chosen(&pool, &ignored, NOW, random).1.backend).collect();
        assert_eq!(backends.len(), 4, "in turn, as the workers' turns are");
    }
}
