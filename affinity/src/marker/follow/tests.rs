use super::*;
use crate::{
    choose::{Cause, Ended, Unserved, choose},
    marker::{
        Parts, find,
        tests::{FRESH, NOW, sealed, token},
        told_by_cookie, write,
    },
    testing::{Seen, asked, build, pool, put, remove, snapshot, step},
    token::SEALED_LEN,
    wheel::Turn,
};
use control::{
    desired::{AdminState, SEED_INCARNATION},
    spec::{Affinity, AffinityHeader, AppCookie, AppCookieStyle, HeaderStyle, Mode, OnDown, Pool},
    status::Health,
};

/// Where `a` is among the backends.
const A: u16 = 0;

fn app_cookie(style: AppCookieStyle) -> Pool {
    let app_cookie = Some(AppCookie { name: "sid".into(), style, path_parameter: None });
    Pool { affinity: Affinity { mode: Mode::AppCookie, app_cookie, ..Affinity::default() }, ..Pool::default() }
}

fn header() -> Pool {
    let header = AffinityHeader { name: "Mcp-Session-Id".into(), style: HeaderStyle::Follow, ..Default::default() };
    Pool { affinity: Affinity { mode: Mode::Header, header: Some(header), ..Affinity::default() }, ..Pool::default() }
}

fn shop(settings: Pool) -> PoolTable {
    pool(settings, &[("a", 1), ("b", 1)])
}

fn by_cookie(pool: &PoolTable, cookie: &str) -> Found {
    find(pool, &Parts::with_cookies(&[cookie.as_bytes()], [192, 0, 2, 1].into()), NOW, FRESH)
}

fn by_header(pool: &PoolTable, value: &str) -> Found {
    let headers = [("mcp-session-id", value)];
    find(pool, &Parts { headers: &headers, ..Parts::with_cookies(&[], [192, 0, 2, 1].into()) }, NOW, FRESH)
}

fn chosen(pool: &PoolTable, found: &Found) -> Result<Choice, Unserved> {
    choose(pool, &asked(found.pin, found.key, 5), &mut Turn::default(), &Seen::default())
}

const AT_A: Pin = Pin::At { backend: A, incarnation: Some(SEED_INCARNATION) };

#[test]
fn a_token_beside_counts_while_the_application_cookie_is_there() {
    let pool = shop(app_cookie(AppCookieStyle::Follow));
    let own = format!("lb-affinity={}", sealed(&pool, &token(&pool, "a")));
    for (cookie, pin, refused) in [
        (format!("sid=1; {own}"), AT_A, false),
        (format!("{own}; sid=1"), AT_A, false),
        (own.clone(), Pin::Free, false),
        (format!("sid=; {own}"), Pin::Free, false),
        ("sid=1".to_owned(), Pin::Free, false),
        ("sid=1; lb-affinity=cut".to_owned(), Pin::Free, true),
        (String::new(), Pin::Free, false),
    ] {
        let found = by_cookie(&pool, &cookie);
        assert_eq!((found.pin, found.refused.is_some()), (pin, refused), "{cookie}");
    }
}

#[test]
fn a_token_in_front_is_the_pin() {
    let (cookie, header) = (shop(app_cookie(AppCookieStyle::Prefix)), shop(header()));
    let text = sealed(&cookie, &token(&cookie, "a"));
    let forged = format!("{}AAAA", &text[..SEALED_LEN - 4]);
    for (value, in_cookie, in_header, refused) in [
        (format!("{text}~abc"), AT_A, AT_A, (false, false)),
        (format!("{text}~"), AT_A, AT_A, (false, false)),
        (format!("{forged}~abc"), Pin::Free, Pin::Unreadable, (true, true)),
        ("abc".to_owned(), Pin::Free, Pin::Unreadable, (false, true)),
        (text.clone(), Pin::Free, Pin::Unreadable, (false, true)),
        (String::new(), Pin::Free, Pin::Free, (false, false)),
    ] {
        let found = by_cookie(&cookie, &format!("x=1; sid={value}"));
        assert_eq!((found.pin, found.refused.is_some()), (in_cookie, refused.0), "{value}");
        let found = by_header(&header, &value);
        assert_eq!((found.pin, found.refused.is_some()), (in_header, refused.1), "{value}");
    }
    let two = by_cookie(&cookie, &format!("sid=abc; sid={text}~abc"));
    assert_eq!(two.pin, AT_A, "the first that opens wins");
}

/// What is set, as one word.
fn set(pool: &PoolTable, found: &Found, outcome: Outcome, told: Told) -> (Outcome, String) {
    let (outcome, marker) = follow(pool, found, Choice { backend: A, outcome }, told, FRESH, NOW);
    let word = match marker {
        None => "nothing".to_owned(),
        Some(Marker::Deleted) => "deleted".to_owned(),
        Some(Marker::Plain { .. }) => "plain".to_owned(),
        Some(Marker::Sealed { token: set }) => {
            assert_eq!(set.backend_ref, token(pool, "a").backend_ref);
            let key = if set.session_key == FRESH { "new" } else { "old" };
            let issued = if set.issued_at == NOW { "now" } else { "then" };
            format!("{key} since {issued}{}", if set.last_seen == NOW { "" } else { ", as it was" })
        }
    };
    (outcome, word)
}

#[test]
fn what_the_response_says_decides() {
    use Told::{Deleted, Named, Nothing};
    let moved = Outcome::Repinned { from: Some(1), cause: Cause::Down };
    let spilled = Outcome::Spilled { from: 1, cause: Cause::Down };
    // Outcome of the choice, what the response says, and then: outcome, and what is set beside, in a cookie, in a header.
    let (new, renewed) = ("new since now", "old since then");
    for (outcome, told, then, beside, cookie, in_header) in [
        (Outcome::Free, Nothing, Outcome::Free, "nothing", "nothing", "nothing"),
        (Outcome::Free, Named, Outcome::New, new, new, new),
        (Outcome::Free, Deleted, Outcome::Free, "nothing", "nothing", "nothing"),
        (Outcome::Pinned, Nothing, Outcome::Pinned, "nothing", "nothing", "nothing"),
        (Outcome::Pinned, Named, Outcome::Pinned, renewed, renewed, "old since then, as it was"),
        (Outcome::Pinned, Deleted, Outcome::Pinned, "deleted", "nothing", "nothing"),
        (moved, Nothing, moved, renewed, "nothing", "nothing"),
        (moved, Named, moved, renewed, renewed, "old since then, as it was"),
        (moved, Deleted, moved, "deleted", "nothing", "nothing"),
        (spilled, Nothing, spilled, "nothing", "nothing", "nothing"),
        (spilled, Named, moved, renewed, renewed, "old since then, as it was"),
        (Outcome::Lost, Nothing, Outcome::Lost, new, "nothing", "nothing"),
        (Outcome::Lost, Named, Outcome::Lost, new, new, new),
    ] {
        for (settings, expected) in [
            (app_cookie(AppCookieStyle::Follow), beside),
            (app_cookie(AppCookieStyle::Prefix), cookie),
            (header(), in_header),
        ] {
            let pool = shop(settings);
            let text = sealed(&pool, &token(&pool, "a"));
            let found = match (pool.settings.affinity.follows(), outcome) {
                (_, Outcome::Free) => by_cookie(&pool, ""),
                (Some(Follows::Beside), _) => by_cookie(&pool, &format!("sid=1; lb-affinity={text}")),
                (Some(Follows::Cookie), _) => by_cookie(&pool, &format!("sid={text}~1")),
                (_, _) => by_header(&pool, &format!("{text}~1")),
            };
            let expected = (then, expected.to_owned());
            assert_eq!(
                set(&pool, &found, outcome, told),
                expected,
                "{outcome:?} {told:?} {:?}",
                pool.settings.affinity
            );
        }
    }
}

#[test]
fn our_cookie_goes_with_the_application_cookie() {
    let pool = shop(app_cookie(AppCookieStyle::Follow));
    let told = told_by_cookie(b"sid=; Max-Age=0", b"sid", NOW).unwrap();
    let found = by_cookie(&pool, &format!("sid=1; lb-affinity={}", sealed(&pool, &token(&pool, "a"))));
    let choice = Choice { backend: A, outcome: Outcome::Pinned };
    let mut line = Vec::new();
    write(&pool, &follow(&pool, &found, choice, told, FRESH, NOW).1.unwrap(), &mut line);
    let line = String::from_utf8(line).unwrap();
    assert_eq!(line, "Set-Cookie: lb-affinity=; Max-Age=0; Path=/; SameSite=Lax; HttpOnly\r\n");
}

#[test]
fn a_session_in_a_header_is_where_it_began_or_has_ended() {
    let mut state = snapshot(header(), &[("a", 1), ("b", 1)]);
    let pool = build(&state, None).pools[0].clone();
    let value = format!("{}~1", sealed(&pool, &token(&pool, "a")));
    let at_a = Ok(Choice { backend: A, outcome: Outcome::Pinned });
    assert_eq!(chosen(&pool, &by_header(&pool, &value)), at_a);
    assert_eq!(chosen(&pool, &by_header(&pool, "1")), Err(Unserved::Ended(Ended::Unreadable)));
    assert_eq!(chosen(&pool, &by_header(&pool, "")).unwrap().outcome, Outcome::Free);
    step(&mut state, &remove("a"));
    let without = build(&state, None).pools[0].clone();
    let removed = Err(Unserved::Ended(Ended::Left(Cause::Removed)));
    assert_eq!(chosen(&without, &by_header(&without, &value)), removed);
    step(&mut state, &put("a", 1));
    let mut again = shop(header());
    again.backends[usize::from(A)].incarnation += 1;
    assert_eq!(chosen(&again, &by_header(&again, &value)), Err(Unserved::Ended(Ended::Incarnation)));
    for (admin_state, health, on_down, expected) in [
        (AdminState::Draining, Health::Up, OnDown::Repin, at_a),
        (AdminState::Active, Health::Unknown, OnDown::Repin, at_a),
        (AdminState::Active, Health::Down, OnDown::Repin, Err(Unserved::Ended(Ended::Left(Cause::Down)))),
        (AdminState::Active, Health::Down, OnDown::Fail, Err(Unserved::PinnedDown(Cause::Down))),
        (AdminState::Maintenance, Health::Up, OnDown::Repin, Err(Unserved::Ended(Ended::Left(Cause::Maintenance)))),
    ] {
        let mut pool = shop(header());
        pool.settings.affinity.on_down = on_down;
        let backend = &mut pool.backends[usize::from(A)];
        (backend.admin_state, backend.health) = (admin_state, health);
        assert_eq!(chosen(&pool, &by_header(&pool, &value)), expected, "{admin_state:?} {health:?} {on_down:?}");
    }
}
