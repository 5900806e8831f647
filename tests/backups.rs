//! Backups: they come when nobody else takes new sessions, and keep what they got.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use support::{Instance, Scripted, Setup, eventually, http::get};

const COOKIE: &str = "lb-affinity";

fn naming(name: &str) -> Scripted {
    Scripted::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).as_bytes())
}

/// Two backends `a` and `b`, and the backups `x` and `y`.
fn start(pool: &str) -> Instance {
    let [a, b, x, y] = ["a", "b", "x", "y"].map(naming);
    let setup = Setup::shop(&format!("{pool}\nhealth.check = \"off\"\n"), [("a", a.address()), ("b", b.address())]);
    let instance = setup.start();
    let added = instance.ctl(&["add", "shop", "x", &x.address().to_string(), "--backup"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(added.stdout.starts_with(&format!("x: {}, weight 1 backup, active", x.address())), "{added:?}");
    let body = json!({ "address": y.address().to_string(), "backup": true });
    write(&instance, "PUT", "y", body);
    instance
}

#[track_caller]
fn write(instance: &Instance, method: &str, rest: &str, body: Value) -> Value {
    let (status, answer) = instance.api(method, &format!("/v1/pools/shop/backends/{rest}"), Some(body));
    assert!(matches!(status, 200 | 201), "{status} {answer}");
    answer
}

/// Says how a backend is, and waits until the workers act on it.
#[track_caller]
fn say(instance: &Instance, name: &str, health: &str) {
    let answer = write(instance, "PUT", &format!("{name}/health"), json!({ "health": health }));
    let applied = || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        let dataplane = &status["dataplanes"][0];
        dataplane["applied_generation"].as_u64().filter(|applied| *applied >= answer["generation"].as_u64().unwrap())
    };
    eventually("the workers act on it", applied);
}

/// Who gets new sessions, of as many as make it certain that all that do are among them.
fn takers(instance: &Instance) -> Vec<String> {
    let web = instance.listener("web");
    let mut names: Vec<_> = (0..30).map(|_| get(&web, "/", &[]).text()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn backups_come_in_when_nobody_else_takes_sessions_and_keep_theirs() {
    let instance = start("");
    let web = instance.listener("web");
    assert_eq!(takers(&instance), ["a", "b"]);
    let first = get(&web, "/", &[]);
    let (home, cookie) = (first.text(), first.cookie(COOKIE).unwrap());
    say(&instance, "a", "down");
    assert_eq!(takers(&instance), ["b"]);
    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/b/maintenance", None);
    assert_eq!((status, &answer["applied"]), (200, &json!(true)));
    assert_eq!(takers(&instance), ["x", "y"]);
    let told = instance.explain(json!({ "path": "/" }));
    assert_eq!(told["candidates"], json!(["x", "y"]));
    assert!(told["why"].to_string().contains("only backups take new sessions"), "{told}");

    // The session moves to a backup, and stays there when its old home is back.
    let moved = get(&web, "/", &[("Cookie", &cookie)]);
    let (backup, cookie) = (moved.text(), moved.cookie(COOKIE).unwrap());
    assert!(["x", "y"].contains(&&*backup), "{home} {backup}");
    say(&instance, "a", "up");
    assert_eq!(takers(&instance), ["a"]);
    assert_eq!(get(&web, "/", &[("Cookie", &cookie)]).text(), backup);
    let told = instance.explain(json!({ "path": "/" }));
    assert_eq!(told["candidates"], json!(["a"]), "backups are no candidates while others are");

    // One that is a backup no more is as the others are.
    assert_eq!(instance.backend("shop", "x")["backup"], true);
    let patched = write(&instance, "PATCH", "x", json!({ "backup": false }));
    assert_eq!((&patched["backend"]["backup"], &patched["applied"]), (&json!(false), &json!(true)));
    assert_eq!(takers(&instance), ["a", "x"]);
    let patched = write(&instance, "PATCH", "y", json!({ "weight": 2 }));
    assert_eq!(patched["backend"]["backup"], true, "what is left out stays");
    let put = write(&instance, "PUT", "y", json!({ "address": patched["backend"]["address"] }));
    assert_eq!(put["backend"]["backup"], false, "a description without it is of no backup");
}

#[test]
fn a_refused_connection_reaches_a_backup_at_once_and_a_hash_is_home_again() {
    let instance = start("affinity.mode = \"source-ip\"");
    let web = instance.listener("web");
    let home = get(&web, "/", &[]).text();
    let other = if home == "a" { "b" } else { "a" };
    say(&instance, other, "down");
    // Nobody listens there, which no check has found yet.
    let address = instance.backend("shop", &home)["address"].clone();
    write(&instance, "PUT", &home, json!({ "address": "127.0.0.1:9" }));
    let away = get(&web, "/", &[]).text();
    assert!(["x", "y"].contains(&&*away), "{away}");
    write(&instance, "PUT", &home, json!({ "address": address }));
    say(&instance, &home, "up");
    assert_eq!(get(&web, "/", &[]).text(), home);
}

#[test]
fn a_preview_tells_what_the_backups_would_get() {
    let instance = start("");
    let question = json!({ "add": { "name": "z", "address": "127.0.0.1:9", "backup": true } });
    let (status, told) = instance.api("POST", "/v1/pools/shop/preview", Some(question));
    assert_eq!(status, 200, "{told}");
    let share = |name: &str| {
        let backends = told["backends"].as_array().unwrap();
        backends.iter().find(|each| each["name"] == name).unwrap()["new_share_after"].as_f64().unwrap()
    };
    assert_eq!(["a", "b", "x", "z"].map(share), [0.5, 0.5, 0.0, 0.0]);
}
