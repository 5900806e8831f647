use super::*;
use crate::{
    marker::{Parts, find, marker},
    testing::pool,
};
use control::spec::{Affinity, AffinityHeader, AffinityQuery, AppCookie, AppCookieStyle, Mode, Pool};

const FRESH: u64 = 0xF2E5;

/// Backends `a`, `b.c` and `c`.
fn shop(affinity: Affinity) -> PoolTable {
    pool(Pool { affinity, ..Pool::default() }, &[("a", 1), ("b.c", 1), ("c", 1)])
}

fn app_cookie(style: AppCookieStyle) -> Affinity {
    let cookie = AppCookie { name: "JSESSIONID".into(), style, path_parameter: Some("jsessionid".into()) };
    Affinity { mode: Mode::AppCookie, app_cookie: Some(cookie), ..Affinity::default() }
}

fn found(pool: &PoolTable, cookies: &[&str], headers: &[(&str, &str)], target: &str) -> Found {
    let cookies: Vec<_> = cookies.iter().map(|field| field.as_bytes()).collect();
    find(pool, &Parts { cookies: &cookies, headers, target, method: "GET", client: [192, 0, 2, 1].into() }, 0, FRESH)
}

fn pin_of(found: Found) -> (Pin, u64) {
    assert_eq!((found.token, found.refused), (None, None));
    (found.pin, found.key)
}

/// Frozen: another value here moves every hashed session.
#[test]
fn the_key_of_a_name_is_the_same_in_every_release() {
    assert_eq!(name_key(b"ada"), 0x7A08_3A80_0019_073F);
    assert_eq!(name_key(b""), mix64(0x2D06_8005_38D3_94C2));
}

#[test]
fn the_hash_of_the_first_name_is_the_session_key() {
    let query =
        Affinity { mode: Mode::Query, query: Some(AffinityQuery { name: "user".into() }), ..Affinity::default() };
    let header = Affinity {
        mode: Mode::Header,
        header: Some(AffinityHeader { name: "X-User".into(), ..AffinityHeader::default() }),
        ..Affinity::default()
    };
    let (cookie, header, query) = (shop(app_cookie(AppCookieStyle::Hash)), shop(header), shop(query));
    /// Pool, cookies, headers, target, and the name that is found.
    type Case<'a> = (&'a PoolTable, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str, Option<&'a str>);
    let cases: [Case<'_>; 23] = [
        (&cookie, &["x=1; JSESSIONID=ada; JSESSIONID=bob"], &[], "/", Some("ada")),
        (&cookie, &["JSESSIONID=", "JSESSIONID=\"ada\""], &[], "/", Some("ada")),
        (&cookie, &["JSESSIONID=ada"], &[], "/;jsessionid=bob", Some("ada")),
        (&cookie, &["jsessionid=ada"], &[], "/", None),
        (&cookie, &[], &[], "/cart;jsessionid=ada", Some("ada")),
        (&cookie, &[], &[], "/cart;v=1;jsessionid=ada;x=2/item?jsessionid=bob", Some("ada")),
        (&cookie, &[], &[], "/jsessionid=ada", None),
        (&cookie, &[], &[], "/cart;jsessionid=", None),
        (&cookie, &[], &[], "/cart;JSESSIONID=ada;jsessionids=ada;jsessionid", None),
        (&cookie, &[], &[], "/cart?a;jsessionid=ada", None),
        (&header, &[], &[("x-user", "ada"), ("X-User", "bob")], "/", Some("ada")),
        (&header, &[], &[("X-User", "")], "/", None),
        (&header, &["X-User=ada"], &[("X-Users", "ada")], "/?X-User=ada", None),
        (&query, &[], &[], "/?user=ada", Some("ada")),
        (&query, &[], &[], "/?a=1&user=ada&user=bob", Some("ada")),
        (&query, &[], &[], "/?user=a%64a", Some("a%64a")),
        (&query, &[], &[], "/?user=ada=1?", Some("ada=1?")),
        (&query, &[], &[], "/?User=ada&xuser=ada", None),
        (&query, &[], &[], "/?user", None),
        (&query, &[], &[], "/?user=", None),
        (&query, &[], &[], "/?", None),
        (&query, &[], &[], "/", None),
        (&query, &[], &[], "/user=ada", None),
    ];
    for (pool, cookies, headers, target, name) in cases {
        let expected = name.map_or((Pin::Free, FRESH), |name| (Pin::Hashed, name_key(name.as_bytes())));
        assert_eq!(pin_of(found(pool, cookies, headers, target)), expected, "{cookies:?} {headers:?} {target}");
    }
}

#[test]
fn the_end_of_a_name_is_its_backend() {
    let pool = shop(app_cookie(AppCookieStyle::Suffix));
    let at = |name: &str, session: &str| {
        (Pin::At { backend: pool.by_name(name.as_bytes()).unwrap(), incarnation: None }, name_key(session.as_bytes()))
    };
    let cases: [(&[&str], &str, (Pin, u64)); 11] = [
        (&["JSESSIONID=1F.a"], "/", at("a", "1F")),
        (&["JSESSIONID=1F.b.c"], "/", at("b.c", "1F")),
        (&["JSESSIONID=1F.x.c"], "/", at("c", "1F.x")),
        (&["JSESSIONID=1F.gone; JSESSIONID=2A.a"], "/", at("a", "2A")),
        (&[], "/cart;jsessionid=1F.a?x", at("a", "1F")),
        (&["JSESSIONID=1F.gone"], "/;jsessionid=2A.a", at("a", "2A")),
        (&["JSESSIONID=1F.gone"], "/", (Pin::Gone, name_key(b"1F"))),
        (&["JSESSIONID=1F"], "/", (Pin::Free, FRESH)),
        (&["JSESSIONID=1F."], "/", (Pin::Free, FRESH)),
        (&["JSESSIONID=1F./"], "/", (Pin::Free, FRESH)),
        (&[], "/", (Pin::Free, FRESH)),
    ];
    for (cookies, target, expected) in cases {
        assert_eq!(pin_of(found(&pool, cookies, &[], target)), expected, "{cookies:?} {target}");
    }
}

#[test]
fn nothing_is_set_whatever_becomes_of_the_session() {
    use crate::choose::{Cause, Choice, Outcome};
    for style in [AppCookieStyle::Hash, AppCookieStyle::Suffix] {
        let pool = shop(app_cookie(style));
        for outcome in [
            Outcome::Free,
            Outcome::Pinned,
            Outcome::Spilled { from: 1, cause: Cause::Down },
            Outcome::Repinned { from: Some(1), cause: Cause::Down },
        ] {
            let found = found(&pool, &["JSESSIONID=1F.b.c"], &[], "/");
            assert_eq!(marker(&pool, &found, Choice { backend: 0, outcome }, FRESH, 9), None);
        }
    }
}
