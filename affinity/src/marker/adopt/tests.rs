use super::*;
use crate::{
    choose::{Cause, Choice, Outcome, choose},
    marker::{Marker, Parts, find, marker},
    testing::{Seen, pool},
    wheel::Turn,
};
use control::{
    desired::{AdminState, Drain, DrainMode},
    spec::{Adopt, Affinity, Cookie, Pool, TokenKind},
    status::Health,
};

const NOW: u32 = 1_790_000_000;
const FRESH: u64 = 0xF2E5;

fn adopting(from: AdoptFrom, cookie: &str) -> Adopt {
    Adopt { from: Some(from), cookie: cookie.to_owned(), ..Adopt::default() }
}

/// Backends `a`, `b` and `c` behind what was HAProxy, with one further cookie that can't be read.
fn shop(cookie: Cookie) -> PoolTable {
    let adopt = vec![adopting(AdoptFrom::Haproxy, "SERVERID"), adopting(AdoptFrom::Opaque, "AWSALB")];
    let settings = Pool { affinity: Affinity { cookie, adopt, ..Affinity::default() }, ..Pool::default() };
    pool(settings, &[("a", 1), ("b", 1), ("c", 1)])
}

fn find_in(pool: &PoolTable, cookies: &str, method: &str) -> Found {
    let cookies = [cookies.as_bytes()];
    let request = Parts { method, ..Parts::with_cookies(&cookies, "198.51.100.23".parse().unwrap()) };
    find(pool, &request, NOW, FRESH)
}

fn chosen(pool: &PoolTable, found: &Found) -> Choice {
    let asked = found.asked(found.pin, 1, NOW);
    choose(pool, &asked, &mut Turn::default(), &Seen::default()).unwrap()
}

fn at(backend: u16) -> Pin {
    Pin::At { backend, incarnation: None }
}

/// The cookie of ours that goes out, as the next request has it.
fn answered(pool: &PoolTable, found: &Found) -> (Choice, String) {
    let choice = chosen(pool, found);
    let marker = marker(pool, found, choice, FRESH, NOW).expect("an adopted session gets a token");
    let mut line = Vec::new();
    crate::marker::write(pool, &marker, &mut line);
    let line = String::from_utf8(line).unwrap();
    (choice, line.strip_prefix("Set-Cookie: ").unwrap().split(';').next().unwrap().to_owned())
}

#[test]
fn what_names_a_backend_is_a_pin_at_first_contact_alone() {
    let pool = shop(Cookie::default());
    let (_, ours) = answered(&pool, &find_in(&pool, "SERVERID=c", "GET"));
    for (cookies, pin, adopted, refused) in [
        ("SERVERID=b", at(1), Some(0), false),
        ("x=1; SERVERID=\"c|Zx9aQ\"", at(2), Some(0), false),
        ("SERVERID=; SERVERID=gone; SERVERID=b", at(1), Some(0), false),
        ("SERVERID=gone", Pin::Absent, None, true),
        ("SERVERID=", Pin::Absent, None, false),
        ("serverid=b", Pin::Absent, None, false),
        ("lb-affinity=cut; SERVERID=b", at(1), Some(0), true),
        ("AWSALB=x; SERVERID=b", at(1), Some(0), false),
        ("AWSALB=x", Pin::Absent, Some(1), false),
        ("SERVERID=gone; AWSALB=x", Pin::Absent, Some(1), true),
    ] {
        let found = find_in(&pool, cookies, "GET");
        assert_eq!((found.pin, found.adopted, found.refused.is_some()), (pin, adopted, refused), "{cookies}");
        assert_eq!(found.token, None);
        let is_placed = adopted == Some(1);
        let key = if is_placed { name_key(b"x") } else { FRESH };
        assert_eq!(found.together, is_placed);
        assert_eq!(found.key, key, "{cookies}");
    }
    let found = find_in(&pool, &format!("SERVERID=a; {ours}"), "GET");
    assert_eq!((found.pin, found.adopted), (Pin::At { backend: 2, incarnation: Some(1) }, None), "ours comes first");
}

#[test]
fn an_adopted_session_is_treated_as_any_and_gets_a_token_of_ours() {
    let plain = Cookie { token: TokenKind::Plain, ..Cookie::default() };
    for cookie in [Cookie::default(), plain] {
        let mut pool = shop(cookie);
        let found = find_in(&pool, "SERVERID=b", "GET");
        let (choice, ours) = answered(&pool, &found);
        assert_eq!(choice, Choice { backend: 1, outcome: Outcome::Pinned });
        assert!(matches!(find_in(&pool, &ours, "GET").pin, Pin::At { backend: 1, .. }));

        pool.backends[1].health = Health::Down;
        let (moved, ours) = answered(&pool, &found);
        assert_eq!(moved.outcome, Outcome::Repinned { from: Some(1), cause: Cause::Down });
        assert_eq!(chosen(&pool, &find_in(&pool, &ours, "GET")).backend, moved.backend);

        pool.backends[1].health = Health::Up;
        pool.backends[1].admin_state = AdminState::Draining;
        pool.backends[1].drain = Some(Drain { mode: DrainMode::Retire, ..Drain::default() });
        assert_eq!(answered(&pool, &found).0.outcome, Outcome::Pinned, "once, and not renewed from then on");

        pool.backends[1].admin_state = AdminState::Maintenance;
        pool.backends[1].drain = None;
        let cause = Cause::Maintenance;
        assert_eq!(answered(&pool, &found).0.outcome, Outcome::Repinned { from: Some(1), cause });
    }
}

#[test]
fn what_cannot_be_read_places_a_new_session_by_its_hash() {
    let pool = shop(Cookie::default());
    let (mut places, sessions) = (std::collections::BTreeSet::new(), 40);
    for session in 0..sessions {
        let found = find_in(&pool, &format!("AWSALB=s{session}"), "GET");
        let choice = chosen(&pool, &found);
        assert_eq!(choice.outcome, Outcome::New);
        assert_eq!(Some(choice.backend), pool.ring.lookup(found.key));
        let Some(Marker::Sealed { token }) = marker(&pool, &found, choice, FRESH, NOW) else { panic!("no token") };
        assert_eq!(token.session_key, FRESH);
        places.insert(choice.backend);
    }
    assert_eq!(places.len(), 3);
}

#[test]
fn where_no_marker_may_be_set_the_pin_holds_all_the_same() {
    let pool = shop(Cookie { postonly: true, ..Cookie::default() });
    let found = find_in(&pool, "SERVERID=b", "GET");
    assert_eq!((found.pin, found.may_mark), (at(1), false));
    assert_eq!(marker(&pool, &found, chosen(&pool, &found), FRESH, NOW), None);
    assert_eq!(find_in(&pool, "AWSALB=x", "GET").pin, Pin::Free);
    assert!(find_in(&pool, "SERVERID=b", "POST").may_mark);
}

#[test]
fn their_cookie_goes_only_where_that_is_wished() {
    for delete in [false, true] {
        let adopt = vec![Adopt { delete, ..adopting(AdoptFrom::Haproxy, "SERVERID") }];
        let affinity = Affinity { adopt, ..Affinity::default() };
        let pool = pool(Pool { affinity, ..Pool::default() }, &[("a", 1)]);
        let mut line = Vec::new();
        take_away(&pool, &find_in(&pool, "SERVERID=gone", "GET"), &mut line);
        assert!(line.is_empty());
        take_away(&pool, &find_in(&pool, "SERVERID=a", "GET"), &mut line);
        assert_eq!(!line.is_empty(), delete);
    }
}
