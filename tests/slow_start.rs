//! Slow start: who has just begun to take new sessions gets few of them, and all that are its own.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use support::{Instance, Scripted, Setup, eventually, http::get};

const COOKIE: &str = "lb-affinity";

fn naming(name: &str) -> Scripted {
    Scripted::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).as_bytes())
}

/// Two backends `a` and `b` that would start for a year.
fn start(balance: &str) -> Instance {
    let [a, b] = ["a", "b"].map(naming);
    let pool = format!("slow_start = \"365d\"\nbalance = \"{balance}\"\nhealth.check = \"off\"\n");
    Setup::shop(&pool, [("a", a.address()), ("b", b.address())]).global("workers = 1").start()
}

/// Of 100 new sessions, those that begin at the backend.
fn begun(instance: &Instance, name: &str) -> usize {
    let web = instance.listener("web");
    (0..100).filter(|_| get(&web, "/", &[]).text() == name).count()
}

#[track_caller]
fn command(instance: &Instance, name: &str, command: &str) {
    let (status, answer) = instance.api("POST", &format!("/v1/pools/shop/backends/{name}/{command}"), None);
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
}

#[track_caller]
fn is_warming(instance: &Instance, name: &str, percent: Option<u8>) {
    eventually(&format!("the warmth of {name} is {percent:?}"), || {
        (instance.backend("shop", name)["warming"] == json!(percent)).then_some(())
    });
}

#[test]
fn one_that_is_back_gets_its_own_sessions_and_few_new_ones() {
    for balance in ["round-robin", "random", "p2c", "least-requests"] {
        let instance = start(balance);
        let web = instance.listener("web");
        let first = begun(&instance, "b");
        assert!((20..80).contains(&first), "{balance}: all are warm at the start: {first}");
        let cookies = || (0..100).map(|_| get(&web, "/", &[])).filter(|answer| answer.text() == "b");
        let pinned: Vec<_> = cookies().take(10).map(|answer| answer.cookie(COOKIE).unwrap()).collect();
        assert_eq!(pinned.len(), 10);
        is_warming(&instance, "b", None);

        command(&instance, "b", "maintenance");
        assert_eq!(begun(&instance, "b"), 0);
        command(&instance, "b", "activate");
        is_warming(&instance, "b", Some(0));
        // One of a hundred is what it gets; more than fifteen come once in a trillion.
        let few = begun(&instance, "b");
        assert!(few <= 15, "{balance}: {few}");
        for cookie in &pinned {
            assert_eq!(get(&web, "/", &[("Cookie", cookie)]).text(), "b", "its own come back at once");
        }
        assert!(instance.ctl(&["backends", "shop"]).stdout.contains("active, warming 0%"));

        command(&instance, "a", "maintenance");
        assert_eq!(begun(&instance, "b"), 100, "nobody is refused for a slow start");
    }
}

#[test]
fn one_that_is_found_up_is_added_or_begins_a_new_life_starts_slowly() {
    let instance = start("random");
    let say = |health: &str| {
        let path = "/v1/pools/shop/backends/b/health";
        assert_eq!(instance.api("PUT", path, Some(json!({ "health": health }))).0, 200);
        eventually("it is seen", || (instance.backend("shop", "b")["health"] == health).then_some(()));
    };
    say("down");
    eventually("it gets nothing", || (begun(&instance, "b") == 0).then_some(()));
    say("up");
    is_warming(&instance, "b", Some(0));
    assert!(begun(&instance, "b") <= 15);

    let added = naming("c");
    let body = json!({ "address": added.address().to_string() });
    let (status, answer) = instance.api("PUT", "/v1/pools/shop/backends/c", Some(body));
    assert_eq!((status, &answer["applied"]), (201, &json!(true)));
    assert!(begun(&instance, "c") <= 15);
    is_warming(&instance, "c", Some(0));

    is_warming(&instance, "a", None);
    command(&instance, "a", "reset");
    is_warming(&instance, "a", Some(0));

    // Without the setting all are warm.
    let (status, answer) = instance.api("PUT", "/v1/pools/shop", Some(json!({ "health": { "check": "off" } })));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)));
    is_warming(&instance, "a", None);
    assert!((30..=36).contains(&begun(&instance, "a")), "a third of all, in turn");
}
