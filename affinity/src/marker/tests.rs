use super::*;
use crate::{
    choose::{Cause, choose},
    testing::{Seen, asked, build, pool, put, remove, snapshot, step},
    token::{MasterKey, PoolKeys},
    wheel::Turn,
};
use control::spec::{Cookie, SameSite};
use control::{
    desired::{AdminState, Drain, DrainMode, SEED_INCARNATION},
    spec::{Affinity, Key, Pool},
};

pub(super) const NOW: u32 = 1_790_000_000;
pub(super) const FRESH: u64 = 0xF2E5;
const CLIENT: &str = "198.51.100.23";

fn settings(mode: Mode, cookie: Cookie) -> Pool {
    Pool { affinity: Affinity { mode, cookie, ..Affinity::default() }, ..Pool::default() }
}

/// Backends `a` and `b`.
fn shop(cookie: Cookie) -> PoolTable {
    pool(settings(Mode::Cookie, cookie), &[("a", 1), ("b", 1)])
}

fn plain() -> Cookie {
    Cookie { token: TokenKind::Plain, ..Cookie::default() }
}

fn absent() -> Found {
    Found { may_mark: true, ..Found::free(FRESH) }
}

fn find_in(pool: &PoolTable, cookies: &[&str]) -> Found {
    let cookies: Vec<_> = cookies.iter().map(|field| field.as_bytes()).collect();
    find(pool, &Parts::with_cookies(&cookies, CLIENT.parse().unwrap()), NOW, FRESH)
}

pub(super) fn token(pool: &PoolTable, backend: &str) -> Token {
    Token {
        backend_ref: pool.keys.as_ref().unwrap().backend_ref(0, backend),
        incarnation: SEED_INCARNATION,
        session_key: 7,
        issued_at: NOW - 600,
        last_seen: NOW - 60,
    }
}

pub(super) fn sealed(pool: &PoolTable, token: &Token) -> String {
    let mut text = [0; SEALED_LEN];
    pool.keys.as_ref().unwrap().seal(token, &mut text);
    String::from_utf8(text.to_vec()).unwrap()
}

fn at(backend: u16) -> Pin {
    Pin::At { backend, incarnation: Some(SEED_INCARNATION) }
}

#[test]
fn the_first_cookie_that_opens_wins() {
    let pool = shop(Cookie { lifetime: Some(Span::from_secs(3_600)), ..Cookie::default() });
    let [a, b, gone] = ["a", "b", "gone"].map(|name| format!("lb-affinity={}", sealed(&pool, &token(&pool, name))));
    let over = format!("lb-affinity={}", sealed(&pool, &Token { issued_at: NOW - 3_600, ..token(&pool, "a") }));
    let life = format!("lb-affinity={}", sealed(&pool, &Token { incarnation: 9, ..token(&pool, "a") }));
    let quoted = format!("x=1; lb-affinity=\"{}\"; y=2", sealed(&pool, &token(&pool, "b")));
    let two = format!("lb-affinity=cut; {b}; {a}");
    let other_names = format!("x{a}; LB-AFFINITY={}; lb-affinity2=x", sealed(&pool, &token(&pool, "a")));
    let short = Some(NoPin::Refused(Refused::Short));
    let cases: [(&[&str], Pin, Option<NoPin>); 13] = [
        (&[], Pin::Absent, None),
        (&["", "x=1; y=2"], Pin::Absent, None),
        (&[&other_names], Pin::Absent, None),
        (&[&a], at(0), None),
        (&[&quoted], at(1), None),
        (&[&two], at(1), None),
        (&["x=1", "lb-affinity=cut", &over, &b, &a], at(1), None),
        (&[&gone], Pin::Gone, None),
        (&[&gone, &a], Pin::Gone, None),
        (&[&life], Pin::At { backend: 0, incarnation: Some(9) }, None),
        (&["lb-affinity="], Pin::Absent, short),
        (&["lb-affinity=cut", &over], Pin::Absent, Some(NoPin::Expired(Expiry::Lifetime))),
        (&[&over, "lb-affinity=cut"], Pin::Absent, short),
    ];
    for (cookies, pin, refused) in cases {
        let found = find_in(&pool, cookies);
        assert_eq!((found.pin, found.refused), (pin, refused), "{cookies:?}");
        assert_eq!(found.key, if pin == Pin::Absent { FRESH } else { 7 }, "{cookies:?}");
        assert_eq!(found.token.is_some(), pin != Pin::Absent, "{cookies:?}");
    }
}

#[test]
fn what_does_not_open_counts_as_none() {
    let pool = shop(Cookie::default());
    let good = sealed(&pool, &token(&pool, "a"));
    let mut other = snapshot(settings(Mode::Cookie, Cookie::default()), &[("a", 1)]);
    other.desired.keys = vec![Key([2; 32])];
    let other = build(&other, None);
    let forged = good.chars().rev().collect::<String>();
    let changed: String =
        good.char_indices().map(|(at, c)| if at == 30 { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    let cases = [
        (good[1..].to_owned(), Refused::Short),
        (format!("{good}{good}"), Refused::Long),
        (format!("{}!", &good[1..]), Refused::Malformed),
        (forged, Refused::Malformed),
        (sealed(&other.pools[0], &token(&pool, "a")), Refused::UnknownKey),
        (changed, Refused::BadMac),
        (sealed(&pool, &Token { last_seen: NOW + 301, ..token(&pool, "a") }), Refused::Future),
        (sealed(&pool, &Token { issued_at: NOW + 301, ..token(&pool, "a") }), Refused::Future),
    ];
    for (value, refused) in cases {
        let found = find_in(&pool, &[&format!("lb-affinity={value}")]);
        let expected = Found { pin: Pin::Absent, refused: Some(NoPin::Refused(refused)), ..absent() };
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn sessions_end_by_lifetime_and_by_silence() {
    use Expiry::{Idle, Lifetime};
    let seconds = |seconds| Some(Span::from_secs(seconds));
    // The token began 600 seconds ago and was last seen 60 seconds ago.
    for (lifetime, idle_timeout, expiry) in [
        (None, None, None),
        (seconds(601), seconds(61), None),
        (seconds(600), seconds(61), Some(Lifetime)),
        (seconds(601), seconds(60), Some(Idle)),
        (None, seconds(60), Some(Idle)),
        (seconds(600), None, Some(Lifetime)),
        (seconds(10), seconds(10), Some(Lifetime)),
    ] {
        let pool = shop(Cookie { lifetime, idle_timeout, ..Cookie::default() });
        let found = find_in(&pool, &[&format!("lb-affinity={}", sealed(&pool, &token(&pool, "a")))]);
        assert_eq!(found.refused, expiry.map(NoPin::Expired), "{lifetime:?} {idle_timeout:?}");
        assert_eq!(found.pin, if expiry.is_some() { Pin::Absent } else { at(0) }, "{lifetime:?} {idle_timeout:?}");
    }
}

#[test]
fn plain_pins_are_names() {
    let pool = shop(plain());
    assert!(pool.keys.is_none(), "nothing is sealed");
    let pinned = |backend| Pin::At { backend, incarnation: None };
    let cases: [(&[&str], Pin); 9] = [
        (&[], Pin::Absent),
        (&["x=1; lb-affinity=b"], pinned(1)),
        (&["lb-affinity=\"a\""], pinned(0)),
        (&["lb-affinity=gone; lb-affinity=b", "lb-affinity=a"], pinned(1)),
        (&["lb-affinity=gone"], Pin::Gone),
        (&["lb-affinity=gone; lb-affinity="], Pin::Gone),
        // No backend can be called that: it is not ours, and so it can't have been removed either.
        (&["lb-affinity="], Pin::Absent),
        (&["lb-affinity=a/b; lb-affinity=.."], Pin::Absent),
        (&["lb-affinity=\u{fc}"], Pin::Absent),
    ];
    for (cookies, pin) in cases {
        let key = address_key(CLIENT.parse().unwrap(), SourceIp::default());
        assert_eq!(find_in(&pool, cookies), Found { pin, key, ..absent() }, "{cookies:?}");
    }
}

#[test]
fn other_modes_read_no_cookie_and_set_none() {
    let address: IpAddr = CLIENT.parse().unwrap();
    let cases =
        [(Mode::None, Pin::Absent, FRESH), (Mode::SourceIp, Pin::Hashed, address_key(address, SourceIp::default()))];
    for (mode, pin, key) in cases {
        for cookie in [plain(), Cookie::default()] {
            let pool = pool(settings(mode, cookie), &[("a", 1)]);
            assert!(pool.cookie.is_none() && pool.keys.is_none());
            let found = find_in(&pool, &["lb-affinity=a"]);
            assert_eq!(found, Found { pin, key, ..absent() });
            let choice =
                choose(&pool, &asked(found.pin, found.key, 1), &mut Turn::default(), &Seen::default()).unwrap();
            assert_eq!(marker(&pool, &found, choice, FRESH, NOW), None);
            let choice = Choice { backend: 0, outcome: Outcome::New };
            assert_eq!(marker(&pool, &found, choice, FRESH, NOW), None);
        }
    }
}

/// What is set, for a request that came with the token of `a`.
fn answer(pool: &PoolTable, came: &Token, choice: Choice) -> Option<Token> {
    let found = find_in(pool, &[&format!("lb-affinity={}", sealed(pool, came))]);
    match marker(pool, &found, choice, FRESH, NOW)? {
        Marker::Sealed { token } => Some(token),
        Marker::Plain { .. } | Marker::Deleted => panic!("the pool seals"),
    }
}

#[test]
fn a_session_keeps_its_key_and_age_until_it_is_lost() {
    let pool = shop(Cookie { idle_timeout: Some(Span::from_secs(100)), ..Cookie::default() });
    let [came, other] = ["a", "b"].map(|name| token(&pool, name));
    let begins = Token { session_key: FRESH, issued_at: NOW, last_seen: NOW, ..other };
    let moved = Token { last_seen: NOW, ..other };
    let seen = Token { last_seen: NOW, ..came };
    for (outcome, backend, expected) in [
        (Outcome::New, 1, Some(begins)),
        (Outcome::Lost, 1, Some(begins)),
        (Outcome::Repinned { from: Some(0), cause: Cause::Down }, 1, Some(moved)),
        (Outcome::Repinned { from: None, cause: Cause::Removed }, 1, Some(moved)),
        (Outcome::Pinned, 0, Some(seen)),
        // The pin stays, and so does the session, for as long as its requests spill.
        (Outcome::Spilled { from: 0, cause: Cause::Down }, 1, Some(seen)),
        (Outcome::Free, 1, None),
    ] {
        assert_eq!(answer(&pool, &came, Choice { backend, outcome }), expected, "{outcome:?}");
    }
    // Seen a moment ago, it is renewed only if the pin changes.
    let came = Token { last_seen: NOW - 24, ..came };
    for (outcome, backend, set) in [
        (Outcome::Pinned, 0, false),
        (Outcome::Spilled { from: 0, cause: Cause::Down }, 1, false),
        (Outcome::Repinned { from: Some(0), cause: Cause::Retry }, 1, true),
    ] {
        assert_eq!(answer(&pool, &came, Choice { backend, outcome }).is_some(), set, "{outcome:?}");
    }
    // Without a token there is none to go on from.
    let found = find_in(&pool, &[]);
    for outcome in [Outcome::Pinned, Outcome::Spilled { from: 0, cause: Cause::Down }, Outcome::Free] {
        assert_eq!(marker(&pool, &found, Choice { backend: 1, outcome }, FRESH, NOW), None, "{outcome:?}");
    }
    let new = Choice { backend: 1, outcome: Outcome::New };
    assert_eq!(marker(&pool, &found, new, FRESH, NOW), Some(Marker::Sealed { token: begins }));
}

#[test]
fn plain_markers_are_set_when_the_pin_is_new_or_changed() {
    let pool = shop(Cookie { max_age: Some(Span::from_secs(4)), ..plain() });
    let found = find_in(&pool, &["lb-affinity=a"]);
    for (outcome, set) in [
        (Outcome::New, true),
        (Outcome::Repinned { from: Some(0), cause: Cause::Maintenance }, true),
        (Outcome::Pinned, false),
        (Outcome::Spilled { from: 0, cause: Cause::Down }, false),
    ] {
        let marker = marker(&pool, &found, Choice { backend: 1, outcome }, FRESH, NOW);
        assert_eq!(marker, set.then_some(Marker::Plain { backend: 1 }), "{outcome:?}");
    }
}

#[test]
fn a_token_is_renewed_after_a_quarter_of_what_ends_it() {
    let seconds = |seconds: u64| Some(Span::from_secs(seconds));
    // Seen 60 seconds ago.
    for (idle_timeout, max_age, lifetime, due) in [
        (None, None, None, false),
        (None, None, seconds(601), false),
        (seconds(240), None, None, true),
        (seconds(244), None, None, false),
        (None, seconds(240), None, true),
        (None, seconds(244), None, false),
        (seconds(10_000), seconds(240), None, true),
        (seconds(240), seconds(10_000), None, true),
        (seconds(10_000), seconds(10_000), None, false),
        (None, seconds(1), None, true),
    ] {
        let pool = shop(Cookie { idle_timeout, max_age, lifetime, ..Cookie::default() });
        let choice = Choice { backend: 0, outcome: Outcome::Pinned };
        let set = answer(&pool, &token(&pool, "a"), choice);
        assert_eq!(set.is_some(), due, "{idle_timeout:?} {max_age:?} {lifetime:?}");
        let just_seen = Token { last_seen: NOW, ..token(&pool, "a") };
        assert_eq!(answer(&pool, &just_seen, choice), None);
    }
}

#[test]
fn a_token_of_an_older_key_is_renewed_with_the_first() {
    let mut state = snapshot(settings(Mode::Cookie, Cookie::default()), &[("a", 1), ("b", 1)]);
    let before = build(&state, None);
    let came = token(&before.pools[0], "b");
    let text = sealed(&before.pools[0], &came);
    state.desired.keys.insert(0, Key([2; 32]));
    state.generation += 1;
    let rotated = build(&state, Some(&before));
    let pool = &rotated.pools[0];

    let found = find_in(pool, &[&format!("lb-affinity={text}")]);
    assert_eq!(found.pin, at(1));
    for choice in [
        Choice { backend: 1, outcome: Outcome::Pinned },
        Choice { backend: 0, outcome: Outcome::Spilled { from: 1, cause: Cause::Down } },
    ] {
        let renewed = Token { last_seen: NOW, ..token(pool, "b") };
        assert_ne!(renewed.backend_ref, came.backend_ref);
        assert_eq!(marker(pool, &found, choice, FRESH, NOW), Some(Marker::Sealed { token: renewed }));
        let found = find_in(pool, &[&format!("lb-affinity={}", sealed(pool, &renewed))]);
        assert_eq!((found.pin, found.key), (at(1), came.session_key));
        assert_eq!(marker(pool, &found, choice, FRESH, NOW), None, "it is of the first key now");
    }
}

/// The line for a session of `b` that began 600 seconds ago.
fn line(cookie: Cookie) -> String {
    let pool = shop(cookie);
    let mut line = Vec::new();
    let marker = match &pool.keys {
        Some(_) => Marker::Sealed { token: Token { last_seen: NOW, ..token(&pool, "b") } },
        None => Marker::Plain { backend: 1 },
    };
    write(&pool, &marker, &mut line);
    let line = String::from_utf8(line).unwrap();
    if let Marker::Sealed { token } = &marker { line.replace(&sealed(&pool, token), "TOKEN") } else { line }
}

#[test]
fn set_cookie_has_what_is_configured() {
    let seconds = |seconds: u64| Some(Span::from_secs(seconds));
    let cookie = Cookie { same_site: SameSite::Unset, http_only: false, ..Cookie::default() };
    let cases = [
        (Cookie::default(), "lb-affinity=TOKEN; Path=/; SameSite=Lax; HttpOnly"),
        (cookie.clone(), "lb-affinity=TOKEN; Path=/"),
        (Cookie { token: TokenKind::Plain, ..cookie.clone() }, "lb-affinity=b; Path=/"),
        (Cookie { name: "__Host-x".into(), secure: true, ..cookie.clone() }, "__Host-x=TOKEN; Path=/; Secure"),
        (Cookie { path: "/shop".into(), ..cookie.clone() }, "lb-affinity=TOKEN; Path=/shop"),
        (
            Cookie { domain: Some("example.com".into()), ..cookie.clone() },
            "lb-affinity=TOKEN; Path=/; Domain=example.com",
        ),
        (Cookie { same_site: SameSite::Strict, ..cookie.clone() }, "lb-affinity=TOKEN; Path=/; SameSite=Strict"),
        (
            Cookie { same_site: SameSite::None, secure: true, partitioned: true, ..cookie.clone() },
            "lb-affinity=TOKEN; Path=/; SameSite=None; Secure; Partitioned",
        ),
        (Cookie { max_age: seconds(90), ..cookie.clone() }, "lb-affinity=TOKEN; Max-Age=90; Path=/"),
        (
            Cookie { max_age: seconds(90), token: TokenKind::Plain, ..cookie.clone() },
            "lb-affinity=b; Max-Age=90; Path=/",
        ),
        // Of a lifetime of 650 seconds, 50 are left; a lifetime alone leaves the cookie to the browser's session.
        (
            Cookie { max_age: seconds(90), lifetime: seconds(650), ..cookie.clone() },
            "lb-affinity=TOKEN; Max-Age=50; Path=/",
        ),
        (
            Cookie { max_age: seconds(90), lifetime: seconds(690), ..cookie.clone() },
            "lb-affinity=TOKEN; Max-Age=90; Path=/",
        ),
        (Cookie { lifetime: seconds(650), ..cookie }, "lb-affinity=TOKEN; Path=/"),
    ];
    for (cookie, expected) in cases {
        assert_eq!(line(cookie), format!("Set-Cookie: {expected}\r\n"));
    }
    let (sealing, keyless) = (shop(Cookie::default()), shop(plain()));
    let mut nothing = Vec::new();
    let marker = Marker::Sealed { token: token(&sealing, "a") };
    write(&keyless, &marker, &mut nothing);
    assert!(nothing.is_empty(), "no cookie rather than an empty one");
}

#[test]
fn addresses_are_cut_to_their_prefix() {
    let prefixes = |ipv4_prefix, ipv6_prefix| SourceIp { ipv4_prefix, ipv6_prefix };
    let exact = SourceIp::default();
    for (one, other, prefix, equal) in [
        ("192.0.2.1", "192.0.2.1", exact, true),
        ("192.0.2.1", "192.0.2.2", exact, false),
        ("192.0.2.1", "192.0.2.254", prefixes(24, 64), true),
        ("192.0.2.1", "192.0.3.1", prefixes(24, 64), false),
        ("192.0.2.128", "192.0.2.127", prefixes(25, 64), false),
        ("192.0.2.1", "203.0.113.9", prefixes(0, 64), true),
        ("192.0.2.1", "::ffff:192.0.2.1", exact, true),
        ("192.0.2.1", "::ffff:192.0.2.200", prefixes(24, 64), true),
        ("::ffff:192.0.2.1", "::ffff:203.0.113.9", exact, false),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", exact, true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", exact, false),
        ("2001:db8:0:1::1", "2001:db8:0:1::2", prefixes(32, 128), false),
        ("2001:db8::1", "2001:dead::1", prefixes(32, 0), true),
        ("2001:db8::1", "2001:dead::1", prefixes(32, 16), true),
        // No two families share a key, not even with nothing left of the address.
        ("0.0.0.0", "::", prefixes(0, 0), false),
    ] {
        let [one_key, other_key] = [one, other].map(|address| address_key(address.parse().unwrap(), prefix));
        assert_eq!(one_key == other_key, equal, "{one} {other} {prefix:?}");
    }
}

/// Frozen: another key moves every session of this mode at an upgrade.
#[test]
fn address_keys_are_frozen() {
    let v6 = [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    for (address, bytes, frozen) in [
        ("192.0.2.1", &[192, 0, 2, 1][..], 2_927_826_041_120_023_879),
        ("2001:db8:0:1::1", &v6, 9_093_749_549_610_196_709),
    ] {
        let key = address_key(address.parse().unwrap(), SourceIp::default());
        assert_eq!([key, mix64(name_hash(bytes))], [frozen; 2], "{address}");
    }
}

#[test]
fn a_retiring_backend_renews_no_token() {
    let mut pool = shop(Cookie { idle_timeout: Some(Span::from_secs(100)), ..Cookie::default() });
    let came = token(&pool, "a");
    let (pinned, spilled) = (Outcome::Pinned, Outcome::Spilled { from: 0, cause: Cause::Down });
    for (admin_state, mode, renewed) in [
        (AdminState::Active, DrainMode::Retire, true),
        (AdminState::Draining, DrainMode::Persist, true),
        (AdminState::Draining, DrainMode::Migrate, true),
        (AdminState::Draining, DrainMode::Retire, false),
    ] {
        pool.backends[0].admin_state = admin_state;
        pool.backends[0].drain = Some(Drain { mode, ..Drain::default() });
        for (outcome, backend) in [(pinned, 0), (spilled, 1)] {
            let set = answer(&pool, &came, Choice { backend, outcome });
            assert_eq!(set.is_some(), renewed, "{admin_state:?} {mode:?} {outcome:?}");
        }
    }
    // Whoever leaves it gets a token all the same.
    let moved = Choice { backend: 1, outcome: Outcome::Repinned { from: Some(0), cause: Cause::Down } };
    assert!(answer(&pool, &came, moved).is_some());
}

/// Sessions by cookie through a life of their pool: whoever comes, goes or changes weight, the others' stay.
#[test]
fn membership_moves_no_session_of_the_others() {
    let mut state = snapshot(settings(Mode::Cookie, Cookie::default()), &[("b", 1), ("d", 2), ("f", 3)]);
    let mut table = build(&state, None);
    let homes = ["b", "d", "f"];
    let sessions: Vec<_> = (0..60)
        .map(|n| (homes[n % 3], Token { session_key: mix64(n as u64), ..token(&table.pools[0], homes[n % 3]) }))
        .collect();
    for change in
        [put("a", 9), put("c", 1), put("b", 50), put("d", 0), remove("a"), put("e", 1), remove("f"), put("f", 3)]
    {
        step(&mut state, &change);
        table = build(&state, Some(&table));
        let pool = &table.pools[0];
        for (home, session) in &sessions {
            let found = find_in(pool, &[&format!("lb-affinity={}", sealed(pool, session))]);
            let choice = choose(pool, &asked(found.pin, found.key, 5), &mut Turn::default(), &Seen::default()).unwrap();
            let name = &pool.backends[usize::from(choice.backend)].name;
            if pool.by_name(home.as_bytes()).is_some() {
                assert_eq!((choice.outcome, name.as_str()), (Outcome::Pinned, *home), "{change:?}");
                assert_eq!(marker(pool, &found, choice, FRESH, NOW), None);
            } else {
                assert_eq!(choice.outcome, Outcome::Repinned { from: None, cause: Cause::Removed }, "{change:?}");
            }
        }
    }
}

#[test]
fn another_pool_is_asked_about_a_few_cookies_and_not_about_a_head_full_of_them() {
    let (ours, mut other) = (shop(Cookie::default()), shop(Cookie::default()));
    other.slot = ours.slot.wrapping_add(1);
    other.keys = PoolKeys::new("other", &[MasterKey::new([1; 32])]);
    let theirs = format!("lb-affinity={}", sealed(&other, &token(&other, "a")));
    let asked = |forged: usize| {
        let cookies = format!("{}{theirs}", "lb-affinity=forged; ".repeat(forged));
        let request = [cookies.as_bytes()];
        let request = Parts::with_cookies(&request, CLIENT.parse().unwrap());
        is_of_another(&ours, [&ours, &other].into_iter(), &request, NOW)
    };
    assert_eq!([0, ASKED_ABOUT - 1, ASKED_ABOUT].map(asked), [true, true, false]);
}
