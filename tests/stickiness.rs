//! A session stays with the backend that holds its state, for as long as that backend can be used.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use support::{
    Setup, eventually,
    http::{Connection, get},
    peers::{Nginx, python},
};

const COOKIE: &str = "lb-affinity";

/// Who answers, and the cookie that comes with it.
#[track_caller]
fn visit(address: &str, cookie: Option<&str>) -> (String, Option<String>) {
    let headers: Vec<_> = cookie.map(|cookie| ("Cookie", cookie)).into_iter().collect();
    let response = get(address, "/", &headers);
    assert_eq!(response.status, 200, "{}", response.text());
    (response.text(), response.cookie(COOKIE))
}

/// As many sessions, each with the backend that it was pinned to and its cookie.
fn sessions(address: &str, count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|_| {
            let (backend, cookie) = visit(address, None);
            (backend, cookie.expect("a first answer pins"))
        })
        .collect()
}

#[test]
fn a_thousand_requests_over_fifty_connections_stay_on_their_backend() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (home, cookie) = visit(&address, None);
    let cookie = cookie.unwrap();
    let mut connections: Vec<_> = (0..50).map(|_| Connection::open(&address)).collect();
    for round in 0..20 {
        for connection in &mut connections {
            let response = connection.request("GET", "/", &[("Cookie", &cookie)], b"");
            assert_eq!((response.status, response.text()), (200, home.clone()), "round {round}");
            assert_eq!(response.cookie(COOKIE), None, "a pin that holds is not set again");
        }
    }
    let used: BTreeSet<_> = sessions(&address, 12).into_iter().map(|(backend, _)| backend).collect();
    assert_eq!(used.len(), 3, "sessions without a pin are spread");
}

#[test]
fn only_the_sessions_of_a_dead_backend_move_and_they_are_counted() {
    let mut servers: Vec<_> = ["a", "b", "c"].map(|name| Nginx::start(&[name])).into();
    let passive = "[pool.health]\ninterval = \"100ms\"\nfall = 1\n[pool.health.passive]\nfailures = 1\n";
    let instance = Setup::shop(passive, servers.iter().map(|server| server.backends[0].clone())).start();
    let address = instance.listener("web");
    let pinned = sessions(&address, 30);
    servers.remove(0);
    let mut moved = BTreeMap::new();
    for (before, cookie) in &pinned {
        let (now, fresh) = visit(&address, Some(cookie));
        if before == "a" {
            let fresh = fresh.expect("a session that moved gets a new cookie");
            assert_eq!(visit(&address, Some(&fresh)), (now.clone(), None), "and stays where that says");
            *moved.entry(now).or_insert(0u64) += 1;
        } else {
            assert_eq!((&now, fresh), (before, None), "a session of a living backend does not move");
        }
    }
    let lost = pinned.iter().filter(|(home, _)| home == "a").count() as u64;
    assert_eq!(moved.values().sum::<u64>(), lost);
    eventually("the losses are counted", || {
        let backend = instance.backend("shop", "a");
        (backend["sessions_lost"].as_u64() == Some(lost)).then_some(())
    });
    let repinned = ["repinned_down", "repinned_retry"].map(|name| instance.pool_count(name)).iter().sum::<u64>();
    assert_eq!(repinned, lost);
}

#[test]
fn what_does_not_open_counts_as_no_cookie_and_is_counted_by_cause() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (home, cookie) = visit(&address, None);
    let cookie = cookie.unwrap();
    let (name, token) = cookie.split_once('=').unwrap();
    let mut forged = token.to_owned();
    let last = if forged.ends_with('0') { '4' } else { '0' };
    forged.replace_range(40..41, if &forged[40..41] == "A" { "B" } else { "A" });
    for (wrong, cause) in [
        (format!("{name}={forged}"), "token_bad_mac"),
        (format!("{name}={}", &token[1..]), "token_malformed"),
        (format!("{name}={token}{last}"), "token_malformed"),
        (format!("{name}="), "token_malformed"),
    ] {
        let before = instance.pool_count(cause);
        assert!(visit(&address, Some(&wrong)).1.is_some(), "{cause}: a new pin");
        eventually(&format!("{cause} is counted"), || (instance.pool_count(cause) > before).then_some(()));
    }
    let several = format!("{name}={forged}; other=1; {name}=\"{token}\"");
    assert_eq!(visit(&address, Some(&several)), (home, None), "the first that opens wins");
}

#[test]
fn the_affinity_cookie_is_kept_from_the_backend_and_the_others_are_not() {
    let recorder = support::Recorder::start();
    let instance = Setup::shop("", [("a", recorder.address())]).start();
    let address = instance.listener("web");
    let cookie = get(&address, "/", &[]).cookie(COOKIE).unwrap();
    recorder.take();
    get(&address, "/", &[("Cookie", &format!("cart=1; {cookie}; lang=de"))]);
    let seen = recorder.take();
    assert!(seen.contains("Cookie: cart=1; lang=de\r\n"), "{seen}");
    get(&address, "/", &[("Cookie", &cookie)]);
    assert!(!recorder.take().contains("ookie:"));
}

#[test]
fn a_cookie_has_the_attributes_that_are_configured() {
    let nginx = Nginx::start(&["a"]);
    let affinity = "[pool.affinity.cookie]\nname = \"__Host-pin\"\nsecure = true\nsame_site = \"none\"\n\
        partitioned = true\nmax_age = \"1h\"\nhttp_only = false\n";
    let instance = Setup::shop(affinity, nginx.backends.clone()).start();
    let response = get(&instance.listener("web"), "/", &[]);
    let set = response.header("Set-Cookie").unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-pin=") && pair.len() <= "__Host-pin=".len() + 64, "{set}");
    let attributes: BTreeSet<_> = attributes.split("; ").collect();
    assert_eq!(attributes, ["Max-Age=3600", "Path=/", "SameSite=None", "Secure", "Partitioned"].into());
    assert_eq!(response.header("Cache-Control"), Some("private"));
}

#[test]
fn plain_tokens_name_the_backend() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("[pool.affinity.cookie]\ntoken = \"plain\"\n", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (home, cookie) = visit(&address, None);
    assert_eq!(cookie, Some(format!("lb-affinity={home}")));
    for name in ["a", "b"] {
        assert_eq!(visit(&address, Some(&format!("lb-affinity={name}"))), (name.to_owned(), None));
    }
    let (home, cookie) = visit(&address, Some("lb-affinity=gone"));
    assert_eq!(cookie, Some(format!("lb-affinity={home}")), "one that is gone is re-pinned");
}

#[test]
fn by_source_address_each_client_has_one_backend_and_no_cookie() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let setup = "[pool.affinity]\nmode = \"source-ip\"\n";
    let instance = Setup::shop(setup, nginx.backends.clone()).start();
    let address = instance.listener("web");
    let first = visit(&address, None);
    assert_eq!(first.1, None);
    for _ in 0..20 {
        assert_eq!(visit(&address, None), first);
    }
    let homes: BTreeSet<_> = (2..40).map(|n| visit_from(&format!("127.0.0.{n}"), &address)).collect();
    assert_eq!(homes.len(), 3, "many addresses, all backends");
}

#[test]
fn a_request_that_hashes_to_a_backend_that_is_down_loses_no_session_for_each_time() {
    let nginx = Nginx::start(&["a", "b"]);
    let setup = "[pool.affinity]\nmode = \"source-ip\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(setup, nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (home, _) = visit(&address, None);
    let health = |health: &str| {
        let path = format!("/v1/pools/shop/backends/{home}/health");
        assert_eq!(instance.api("PUT", &path, Some(json!({ "health": health }))).0, 200);
    };
    health("down");
    for _ in 0..5 {
        assert_ne!(visit(&address, None).0, home);
    }
    health("up");
    assert_eq!(visit(&address, None).0, home, "nothing was bound elsewhere");
    eventually("the requests away from home are counted", || (instance.pool_count("spilled") == 5).then_some(()));
    assert_eq!(instance.backend("shop", &home)["sessions_lost"], json!(0));
}

fn visit_from(source: &str, address: &str) -> String {
    let url = format!("http://{address}/");
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "--interface", source, &url]);
    support::Outcome::of(command).stdout
}

#[test]
fn on_down_decides_where_a_session_goes() {
    for (on_down, status, returns) in [("repin", 200, false), ("spill", 200, true), ("fail", 503, true)] {
        let nginx = Nginx::start(&["a", "b"]);
        let pool = format!("[pool.affinity]\non_down = \"{on_down}\"\n[pool.health]\ncheck = \"off\"\n");
        let instance = Setup::shop(&pool, nginx.backends.clone()).start();
        let address = instance.listener("web");
        let (home, cookie) = visit(&address, None);
        let cookie = cookie.unwrap();
        let health = |health: &str| {
            let path = format!("/v1/pools/shop/backends/{home}/health");
            let (status, answer) = instance.api("PUT", &path, Some(json!({ "health": health })));
            assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
        };
        health("down");
        let away = get(&address, "/", &[("Cookie", &cookie)]);
        assert_eq!(away.status, status, "{on_down}");
        assert_eq!(away.cookie(COOKIE).is_some(), on_down == "repin", "{on_down}");
        assert_eq!(away.header("Retry-After").is_some(), status == 503);
        let kept = away.cookie(COOKIE).unwrap_or_else(|| cookie.clone());
        health("up");
        assert_eq!(visit(&address, Some(&kept)).0 == home, returns, "{on_down}");
    }
}

#[test]
fn a_session_ends_when_it_was_idle_too_long() {
    let nginx = Nginx::start(&["a"]);
    let instance = Setup::shop("[pool.affinity.cookie]\nidle_timeout = \"1s\"\n", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let cookie = visit(&address, None).1.unwrap();
    eventually("the session has expired", || {
        visit(&address, Some(&cookie));
        (instance.pool_count("expired_idle") > 0).then_some(())
    });
}

#[test]
fn a_real_client_keeps_its_session_in_a_cookie_jar() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let program = "import sys, requests\n\
        url = sys.argv[1]\n\
        with requests.Session() as session:\n\
        \x20   homes = {session.get(url).text for _ in range(50)}\n\
        again = requests.Session()\n\
        again.cookies.update(session.cookies)\n\
        homes |= {again.get(url).text for _ in range(50)}\n\
        print(len(homes), len({requests.get(url).text for _ in range(30)}))\n";
    let outcome = python(program, &[&format!("http://{}/", instance.listener("web"))]);
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "1 3"), "{}", outcome.stderr);
}

#[test]
fn explain_tells_what_the_data_plane_does() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    for (home, cookie) in sessions(&address, 5) {
        let answer = instance.explain(json!({ "pool": "shop", "cookie": cookie }));
        assert_eq!(answer["backend"], home, "{answer}");
    }
}
