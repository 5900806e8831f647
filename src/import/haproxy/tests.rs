use super::super::{draft::Draft, report::Ledger, tests::sources};
use super::*;
use control::spec::{Adopt, AdoptFrom, AppCookieStyle, Balance, Check, Mode, ProxyVersion, SameSite, Secret, Span};

const DEFAULTS: &str = "defaults\nmode http\nfrontend f\nbind :80\ndefault_backend b\n";

fn import_of(text: &str) -> (Draft, String) {
    let mut ledger = Ledger::new(&sources(text));
    let draft = import(&mut ledger, BTreeMap::from([("SET".to_owned(), "10.0.0.9".to_owned())])).unwrap();
    (draft, ledger.report(true))
}

/// The pool of a backend with these lines, and what was told.
#[track_caller]
fn pool(lines: &str) -> (control::spec::Pool, String) {
    let (draft, told) = import_of(&format!("{DEFAULTS}backend b\n{lines}\n"));
    (draft.config.pools.into_iter().next().unwrap_or_else(|| panic!("{told}")), told)
}

const SERVERS: &str = "server a 10.0.0.1:80 cookie s1\nserver b 10.0.0.2:80 cookie b";

#[test]
fn a_cookie_is_adopted_with_the_values_of_its_servers() {
    let (pool, _) = pool(&format!("cookie SRV insert indirect nocache\n{SERVERS}"));
    let adopt = &pool.affinity.adopt[0];
    assert_eq!(
        (pool.affinity.mode, adopt.from, adopt.cookie.as_str()),
        (Mode::Cookie, Some(AdoptFrom::Haproxy), "SRV")
    );
    assert_eq!(adopt.values, [("s1".to_owned(), "a".to_owned())].into());
    assert!(!adopt.delete, "the way back is open");
}

#[test]
fn a_dynamic_cookie_is_adopted_with_its_key() {
    let (made, told) = pool("dynamic-cookie-key hush\ncookie SRV insert dynamic\nserver a 10.0.0.1:80");
    let Adopt { from, key, .. } = &made.affinity.adopt[0];
    assert_eq!((*from, key.clone()), (Some(AdoptFrom::HaproxyDynamic), Some(Secret("hush".to_owned()))));
    assert!(!told.contains("hush"), "{told}");
    let (made, told) = pool("cookie SRV insert dynamic\nserver a 10.0.0.1:80");
    assert_eq!(made.affinity.adopt[0].from, Some(AdoptFrom::Haproxy));
    assert!(told.contains("`dynamic`: not taken: "), "{told}");
}

#[test]
fn the_cookie_of_ours_is_as_that_was() {
    let line = "cookie S insert secure maxidle 30m maxlife 8h postonly domain a.test attr SameSite=None";
    let cookie = pool(&format!("{line}\n{SERVERS}")).0.affinity.cookie;
    assert_eq!((cookie.secure, cookie.postonly, cookie.same_site), (true, true, SameSite::None));
    assert_eq!((cookie.idle_timeout, cookie.lifetime), (Some(Span::from_secs(1_800)), Some(Span::from_secs(28_800))));
    assert_eq!(cookie.domain.as_deref(), Some("a.test"));
    let both = pool(&format!("cookie lb-affinity insert\n{SERVERS}")).0.affinity;
    assert_eq!((both.cookie.name.as_str(), both.adopt[0].cookie.as_str()), ("lb-affinity-2", "lb-affinity"));
}

#[test]
fn what_can_t_be_adopted_is_told() {
    let (made, told) = pool(&format!("cookie JSESSIONID prefix\n{SERVERS}"));
    assert_eq!(made.affinity.app_cookie.unwrap().style, AppCookieStyle::Prefix);
    assert!(told.contains("`prefix`: not taken: ") && told.contains("can't be adopted"), "{told}");
    let (made, told) = pool(&format!("appsession JSESSIONID len 52 timeout 3h\n{SERVERS}"));
    assert_eq!(made.affinity.app_cookie.unwrap().style, AppCookieStyle::Follow);
    assert!(told.contains(affinity::ANEW), "{told}");
}

#[test]
fn balance_is_a_policy_or_an_affinity() {
    for (line, balance, mode) in [
        ("balance roundrobin", Balance::RoundRobin, Mode::None),
        ("balance static-rr", Balance::RoundRobin, Mode::None),
        ("balance leastconn", Balance::LeastRequests, Mode::None),
        ("balance random", Balance::P2c, Mode::None),
        ("balance random(1)", Balance::Random, Mode::None),
        ("balance source", Balance::RoundRobin, Mode::SourceIp),
        ("balance hdr(X-User)", Balance::RoundRobin, Mode::Header),
        ("balance url_param user", Balance::RoundRobin, Mode::Query),
        ("balance hash req.cook(id)", Balance::RoundRobin, Mode::AppCookie),
        ("balance uri", Balance::RoundRobin, Mode::None),
        ("stick on src", Balance::RoundRobin, Mode::SourceIp),
        ("stick-table type string size 1m\nstick on req.cook(id)", Balance::RoundRobin, Mode::AppCookie),
    ] {
        let (pool, told) = pool(&format!("{line}\n{SERVERS}"));
        assert_eq!((pool.balance, pool.affinity.mode), (balance, mode), "{line}\n{told}");
    }
}

#[test]
fn options_of_servers_are_their_pool_s() {
    let line = "check inter 5s rise 3 fall 4 maxconn 10 slowstart 1m send-proxy-v2 ssl verify none weight 7";
    let (pool, _) =
        pool(&format!("default-server {line}\nserver a 10.0.0.1:80\nserver b \"${{SET}}:80\" weight 9 backup"));
    assert_eq!((pool.health.check, pool.health.interval, pool.health.rise), (Check::Tcp, Span::from_secs(5), 3));
    assert_eq!((pool.limits.requests, pool.slow_start), (10, Some(Span::from_secs(60))));
    assert_eq!((pool.send_proxy, pool.tls.unwrap().verify), (Some(ProxyVersion::V2), false));
    let seen: Vec<_> = pool.backends.iter().map(|each| (each.address.as_str(), each.weight, each.backup)).collect();
    assert_eq!(seen, [("10.0.0.1:80", 7, false), ("10.0.0.9:80", 9, true)]);
}

#[test]
fn what_differs_between_servers_is_told() {
    let (_, told) = pool("server a 10.0.0.1:80 check maxconn 5\nserver b 10.0.0.2:80 maxconn 6");
    for part in ["`maxconn`: not taken: all backends of a pool share", "`check`: not taken: all backends"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn checks_are_taken_with_host_and_status() {
    let lines = "option httpchk\nhttp-check send meth GET uri /ok hdr Host a.test\nhttp-check expect status 204";
    let health = pool(&format!("{lines}\nserver a 10.0.0.1:80 check")).0.health;
    assert_eq!((health.check, health.path.as_str(), health.host.as_deref()), (Check::Http, "/ok", Some("a.test")));
    assert_eq!((health.expect.to_string().as_str(), health.timeout), ("204", Span::from_secs(2)));
    let old = pool("option httpchk GET /up HTTP/1.1\\r\\nHost:\\ b.test\nserver a 10.0.0.1:80 check").0.health;
    assert_eq!((old.path.as_str(), old.host.as_deref()), ("/up", Some("b.test")));
    assert_eq!(pool("server a 10.0.0.1:80").0.health.check, Check::Off);
}

#[test]
fn defaults_hold_for_those_that_come_after_them() {
    let text = "defaults\nmode http\ntimeout server 1s\nbackend a\nserver s 10.0.0.1:80\ndefaults two\nmode http\n\
                timeout server 2s\nbackend b\nserver s 10.0.0.1:80\ndefaults three from two\ntimeout server 3s\n\
                backend c\nserver s 10.0.0.1:80\nbackend d from two\nserver s 10.0.0.1:80\n";
    let spans = import_of(text).0.config.pools.iter().map(|pool| pool.timeouts.response).collect::<Vec<_>>();
    assert_eq!(spans, [1, 2, 3, 2].map(Span::from_secs));
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    for (text, line) in [
        ("x y\n", Some(1)),
        ("global\n  log 'x\n", Some(2)),
        ("\nbackend\n", Some(2)),
        ("backend a from b\n", Some(1)),
        ("# nothing\n", None),
    ] {
        let mut ledger = Ledger::new(&sources(text));
        let error = import(&mut ledger, BTreeMap::new()).unwrap_err();
        assert_eq!(error.place.map(|place| place.line), line, "{text}: {error:?}");
    }
}

#[test]
fn a_variable_that_is_not_set_and_a_condition_are_told() {
    let (draft, told) =
        import_of("backend b\nserver a \"${UNSET}:80\"\nserver b \"${SET}:80\"\n.if x\nserver c 10.0.0.3:80\n.endif\n");
    assert_eq!(draft.config.pools[0].backends.len(), 1);
    assert!(told.contains("`UNSET` is not set here") && told.contains("which branch holds"), "{told}");
    assert!(told.ends_with("not taken 4 lines\n"), "{told}");
}
