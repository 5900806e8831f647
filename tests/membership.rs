//! Backends come, go and change while requests are served; from the moment that a write is answered, it holds everywhere.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{
    Instance, Setup, eventually,
    http::{Connection, get},
    peers::Nginx,
};

const COOKIE: &str = "lb-affinity";

/// New sessions over as many connections as reach every worker: how many each backend got.
fn new_sessions(address: &str, count: usize) -> BTreeMap<String, usize> {
    let mut homes = BTreeMap::new();
    for _ in 0..count {
        *homes.entry(get(address, "/", &[]).text()).or_default() += 1;
    }
    homes
}

#[track_caller]
fn write(instance: &Instance, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = instance.api(method, path, body);
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    assert_eq!(answer["applied"], json!(true), "{method} {path}: {answer}");
    answer
}

fn names(homes: &BTreeMap<String, usize>) -> BTreeSet<&str> {
    homes.keys().map(String::as_str).collect()
}

fn shop() -> (Nginx, Instance, String) {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    (nginx, instance, address)
}

#[test]
fn a_drained_backend_keeps_its_sessions_and_gets_no_new_one() {
    let (_nginx, instance, address) = shop();
    let pinned: Vec<_> =
        (0..12).map(|_| get(&address, "/", &[])).map(|first| (first.text(), first.cookie(COOKIE).unwrap())).collect();
    for round in 0..5 {
        write(&instance, "POST", "/v1/pools/shop/backends/a/drain", None);
        // Not one, on any worker, from the moment that the call has returned.
        assert_eq!(names(&new_sessions(&address, 40)), ["b", "c"].into(), "round {round}");
        for (home, cookie) in &pinned {
            let again = get(&address, "/", &[("Cookie", cookie)]);
            assert_eq!((&again.text(), again.cookie(COOKIE)), (home, None), "pinned sessions stay");
        }
        write(&instance, "POST", "/v1/pools/shop/backends/a/activate", None);
        assert_eq!(names(&new_sessions(&address, 40)), ["a", "b", "c"].into(), "round {round}");
    }
    write(&instance, "POST", "/v1/pools/shop/backends/a/drain", Some(json!({ "mode": "persist", "deadline": "1h" })));
    let live = pinned.iter().filter(|(home, _)| home == "a").count() as u64;
    let backend = eventually("the sessions left are told", || {
        let backend = instance.backend("shop", "a");
        (backend["live_sessions"].as_u64() >= Some(live)).then_some(backend)
    });
    assert_eq!(backend["admin_state"], "draining");
    assert_eq!(backend["drain_progress"]["mode"], "persist");
}

#[test]
fn a_drain_can_be_waited_for_until_nobody_is_left() {
    let nginx = Nginx::start(&["a", "b"]);
    let pool = "[pool.affinity.cookie]\nidle_timeout = \"2s\"\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).start();
    let address = instance.listener("web");
    new_sessions(&address, 6);
    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain?wait=empty&timeout=100ms", None);
    assert_eq!((status, &answer["empty"]), (200, &json!(false)), "{answer}");
    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain?wait=empty&timeout=30s", None);
    assert_eq!((status, &answer["empty"]), (200, &json!(true)), "{answer}");
    assert_eq!(instance.backend("shop", "a")["live_sessions"], json!(0));
}

#[test]
fn a_drain_ends_at_its_deadline_in_maintenance() {
    let (_nginx, instance, address) = shop();
    new_sessions(&address, 6);
    write(&instance, "POST", "/v1/pools/shop/backends/a/drain", Some(json!({ "deadline": "500ms" })));
    eventually("the deadline has passed", || {
        (instance.backend("shop", "a")["admin_state"] == "maintenance").then_some(())
    });
    assert_eq!(names(&new_sessions(&address, 12)), ["b", "c"].into());
}

#[test]
fn maintenance_takes_everything_away_at_once() {
    let (_nginx, instance, address) = shop();
    let first = get(&address, "/", &[]);
    let (home, cookie) = (first.text(), first.cookie(COOKIE).unwrap());
    write(&instance, "POST", &format!("/v1/pools/shop/backends/{home}/maintenance"), None);
    let moved = get(&address, "/", &[("Cookie", &cookie)]);
    assert_ne!(moved.text(), home);
    assert!(moved.cookie(COOKIE).is_some());
    assert!(!new_sessions(&address, 30).contains_key(&home));
}

#[test]
fn adding_and_removing_a_backend_moves_no_session_of_the_others() {
    let (nginx, instance, address) = shop();
    let pinned: Vec<_> =
        (0..30).map(|_| get(&address, "/", &[])).map(|first| (first.text(), first.cookie(COOKIE).unwrap())).collect();
    let another = Nginx::start(&["d"]);
    let body = json!({ "address": another.backends[0].1, "weight": 1 });
    let (status, answer) = instance.api("PUT", "/v1/pools/shop/backends/d", Some(body));
    assert_eq!((status, &answer["applied"]), (201, &json!(true)), "{answer}");
    assert_eq!(names(&new_sessions(&address, 40)), ["a", "b", "c", "d"].into());
    write(&instance, "DELETE", "/v1/pools/shop/backends/a", None);
    assert_eq!(names(&new_sessions(&address, 40)), ["b", "c", "d"].into());
    for (home, cookie) in &pinned {
        let now = get(&address, "/", &[("Cookie", cookie)]);
        match home.as_str() {
            "a" => assert!(now.text() != "a" && now.cookie(COOKIE).is_some()),
            _ => assert_eq!((&now.text(), now.cookie(COOKIE)), (home, None)),
        }
    }
    // The same name again is another life: what its old sessions had is gone, and that is counted.
    let body = json!({ "address": nginx.backends[0].1 });
    assert_eq!(instance.api("PUT", "/v1/pools/shop/backends/a", Some(body)).0, 201);
    let (_, cookie) = pinned.iter().find(|(home, _)| home == "a").unwrap();
    assert!(get(&address, "/", &[("Cookie", cookie)]).cookie(COOKIE).is_some(), "a new session");
    eventually("the loss is counted", || {
        let (_, metrics) = instance.api_text("GET", "/metrics");
        metrics.contains("steadfast_pool_lost_incarnation_total{pool=\"shop\"} 1").then_some(())
    });
}

#[test]
fn weights_hold_for_new_sessions_from_the_answer_on() {
    let (_nginx, instance, address) = shop();
    write(&instance, "PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 8 })));
    let mut connection = Connection::open(&address);
    let homes: Vec<_> = (0..40).map(|_| connection.request("GET", "/", &[], b"").text()).collect();
    assert_eq!(homes.iter().filter(|home| *home == "a").count(), 32, "{homes:?}");
    write(&instance, "PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 0 })));
    assert_eq!(names(&new_sessions(&address, 20)), ["b", "c"].into());
}

#[test]
fn with_all_backends_down_the_answer_is_503_unless_the_pool_fails_open() {
    for fail_open in [false, true] {
        let nginx = Nginx::start(&["a", "b"]);
        let pool = format!("[pool.health]\ncheck = \"off\"\nfail_open = {fail_open}\n");
        let instance = Setup::shop(&pool, nginx.backends.clone()).start();
        for name in ["a", "b"] {
            write(
                &instance,
                "PUT",
                &format!("/v1/pools/shop/backends/{name}/health"),
                Some(json!({ "health": "down" })),
            );
        }
        let answer = get(&instance.listener("web"), "/", &[]);
        assert_eq!(answer.status, if fail_open { 200 } else { 503 });
        assert_eq!(answer.header("Retry-After").is_some(), !fail_open);
    }
}

#[test]
fn health_counts_no_more_once_too_few_are_up() {
    let nginx = Nginx::start(&["a", "b"]);
    let pool = "[pool.health]\ncheck = \"off\"\nfail_open = true\nfail_open_below = 0.6\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).start();
    let health = |health: &str| {
        let path = "/v1/pools/shop/backends/a/health";
        write(&instance, "PUT", path, Some(json!({ "health": health })));
    };
    health("down");
    let address = instance.listener("web");
    assert_eq!(names(&new_sessions(&address, 20)), ["a", "b"].into(), "half of them is less than 0.6");
    let answer = instance.explain(json!({ "pool": "shop" }));
    assert!(answer["why"].to_string().contains("`fail_open_below`"), "{answer}");
}

#[test]
fn checks_find_a_dead_backend_and_find_it_again() {
    let mut servers: Vec<_> = ["a", "b"].map(|name| Nginx::start(&[name])).into();
    let pool = "[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\nrise = 2\nfall = 2\nexpect = \"200\"\n";
    let instance = Setup::shop(pool, servers.iter().map(|server| server.backends[0].clone())).start();
    let is = |health: &'static str| {
        eventually(&format!("a is {health}"), || (instance.backend("shop", "a")["health"] == health).then_some(()))
    };
    is("up");
    let address = servers[0].backends[0].1.clone();
    drop(servers.remove(0));
    is("down");
    assert_eq!(names(&new_sessions(&instance.listener("web"), 10)), ["b"].into());
    let again = support::Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    write(&instance, "PATCH", "/v1/pools/shop/backends/a", Some(json!({ "address": again.address().to_string() })));
    assert_ne!(again.address().to_string(), address);
    is("up");
    assert_eq!(names(&new_sessions(&instance.listener("web"), 10)), ["a", "b"].into());
}

#[test]
fn a_name_as_an_address_is_resolved() {
    let nginx = Nginx::start(&["a"]);
    let port = nginx.backends[0].1.rsplit(':').next().unwrap().to_owned();
    let instance = Setup::shop("", [("a", format!("localhost:{port}"))]).start();
    eventually("the name has resolved", || (get(&instance.listener("web"), "/", &[]).status == 200).then_some(()));
}
