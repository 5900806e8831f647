use super::*;
use crate::{
    choose::{Choice, Outcome, Pin, Unserved, choose},
    marker::{Found, Parts, find, marker},
    testing::{Seen, pool},
    wheel::Turn,
};
use control::{
    desired::AdminState,
    spec::{Affinity, Cookie, OnDown, Pool, TokenKind},
    status::Health,
};

fn rule(path: &str, method: &str, header: &str, value: &str) -> AffinityRule {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    AffinityRule { path: given(path), method: given(method), header: given(header), value: given(value) }
}

const REQUEST: Parts<'_> = Parts {
    cookies: &[b"lb-affinity=a"],
    headers: &[("X-Probe", "yes"), ("X-Probe", "no")],
    target: "/static/1?x",
    method: "GET",
    client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
};

#[test]
fn all_that_a_rule_has_must_be_so() {
    for (rule, holds) in [
        (rule("/static", "", "", ""), true),
        (rule("/static/", "", "", ""), true),
        (rule("/", "", "", ""), true),
        (rule("/stat", "", "", ""), false),
        (rule("/static/1/2", "", "", ""), false),
        (rule("", "GET", "", ""), true),
        (rule("", "HEAD", "", ""), false),
        (rule("", "", "x-probe", ""), true),
        (rule("", "", "x-probe", "no"), true),
        (rule("", "", "x-probe", "NO"), false),
        (rule("", "", "x-other", ""), false),
        (rule("/static", "GET", "x-probe", "yes"), true),
        (rule("/static", "POST", "x-probe", "yes"), false),
    ] {
        assert_eq!(matches(&rule, &REQUEST), holds, "{rule:?}");
    }
}

/// Backends `a` and `b`, with plain tokens.
fn shop(affinity: Affinity) -> PoolTable {
    let cookie = Cookie { token: TokenKind::Plain, ..affinity.cookie };
    pool(Pool { affinity: Affinity { cookie, ..affinity }, ..Pool::default() }, &[("a", 1), ("b", 1)])
}

fn chosen(pool: &PoolTable, found: &Found, seen: &Seen) -> Result<Choice, Unserved> {
    let asked = found.asked(found.pin, 1, 0);
    choose(pool, &asked, &mut Turn::default(), seen)
}

#[test]
fn what_is_ignored_has_no_pin_and_gets_none() {
    let pool = shop(Affinity { ignore: vec![rule("/static", "", "", "")], ..Affinity::default() });
    for cookies in [&[][..], REQUEST.cookies] {
        let found = find(&pool, &Parts { cookies, ..REQUEST }, 0, 1);
        assert_eq!((found.pin, found.key), (Pin::Free, 1));
        let choice = chosen(&pool, &found, &Seen::default()).unwrap();
        assert_eq!((choice.outcome, marker(&pool, &found, choice, 1, 0)), (Outcome::Free, None));
    }
    assert!(matches!(find(&pool, &Parts { target: "/", ..REQUEST }, 0, 1).pin, Pin::At { .. }));
}

#[test]
fn what_is_forced_goes_to_its_pin_though_that_is_down() {
    let forced = || vec![rule("", "", "x-probe", "yes")];
    for on_down in [OnDown::Repin, OnDown::Spill, OnDown::Fail] {
        let mut pool = shop(Affinity { force: forced(), on_down, ..Affinity::default() });
        let found = find(&pool, &REQUEST, 0, 1);
        let plain = find(&pool, &Parts { headers: &[], ..REQUEST }, 0, 1);
        let at_a = Ok(Choice { backend: 0, outcome: Outcome::Pinned });
        for (admin_state, health) in [(AdminState::Active, Health::Down), (AdminState::Maintenance, Health::Up)] {
            (pool.backends[0].admin_state, pool.backends[0].health) = (admin_state, health);
            assert_eq!(chosen(&pool, &found, &Seen::default()), at_a, "{on_down:?} {admin_state:?}");
            assert_ne!(chosen(&pool, &plain, &Seen::default()), at_a, "{on_down:?} {admin_state:?}");
        }
        let seen = Seen { tried: [0].into(), ..Seen::default() };
        assert_ne!(chosen(&pool, &found, &seen), at_a, "once it has failed the request, it goes on");
        pool.backends[0].address = None;
        assert_ne!(chosen(&pool, &found, &Seen::default()), at_a, "nobody knows where it is");
    }
}

#[test]
fn with_postonly_no_other_response_sets_a_cookie() {
    let pool = shop(Affinity { cookie: Cookie { postonly: true, ..Cookie::default() }, ..Affinity::default() });
    for (method, cookies, outcome, sets) in [
        ("GET", &[][..], Outcome::Free, false),
        ("POST", &[], Outcome::New, true),
        ("GET", REQUEST.cookies, Outcome::Pinned, false),
        ("POST", REQUEST.cookies, Outcome::Pinned, false),
    ] {
        let found = find(&pool, &Parts { method, cookies, ..REQUEST }, 0, 1);
        let choice = chosen(&pool, &found, &Seen::default()).unwrap();
        assert_eq!((choice.outcome, marker(&pool, &found, choice, 1, 0).is_some()), (outcome, sets), "{method}");
    }
    for (method, sets) in [("GET", false), ("POST", true)] {
        let found = find(&pool, &Parts { method, cookies: &[b"lb-affinity=gone"], ..REQUEST }, 0, 1);
        let choice = chosen(&pool, &found, &Seen::default()).unwrap();
        assert!(matches!(choice.outcome, Outcome::Repinned { .. }));
        assert_eq!(marker(&pool, &found, choice, 1, 0).is_some(), sets, "{method}");
    }
}
