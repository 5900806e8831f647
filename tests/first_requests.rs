//! `coalesce`: what a client sends side by side, before it has a cookie, begins one session.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::{Arc, Barrier},
    thread,
};
use support::{Instance, Scripted, Setup, eventually, http::Connection};

const COOKIE: &str = "lb-affinity";
const AT_ONCE: usize = 6;
const CLIENTS: usize = 20;

fn start(affinity: &str) -> Instance {
    let backends = ["a", "b", "c", "d"].map(|name| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nSet-Cookie: sid={name}\r\n\r\n{name}");
        (name, Scripted::answering(answer.as_bytes()).address())
    });
    let pool = format!("balance = \"round-robin\"\nhealth.check = \"off\"\n[pool.affinity]\n{affinity}\n");
    Setup::shop(&pool, backends).start()
}

/// Requests of one browser that leave at the same time, each on its own connection: by whom they were answered, and the
/// cookies `name` that they got.
fn burst(instance: &Instance, agent: &str, name: &str) -> (BTreeSet<String>, Vec<String>) {
    let together = Arc::new(Barrier::new(AT_ONCE));
    let requests: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (together, agent, web) = (Arc::clone(&together), agent.to_owned(), instance.listener("web"));
            thread::spawn(move || {
                let mut connection = Connection::open(&web);
                together.wait();
                connection.request("GET", "/", &[("User-Agent", &agent)], b"")
            })
        })
        .collect();
    let answers: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    (answers.iter().map(|each| each.text()).collect(), answers.iter().filter_map(|each| each.cookie(name)).collect())
}

fn session_key(instance: &Instance, cookie: &str) -> String {
    instance.explain(json!({ "cookie": cookie }))["session_key"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_browser_sends_side_by_side_begins_one_session() {
    let instance = start("coalesce = \"1m\"");
    let (mut parted, mut backends, mut keys) = (0, BTreeSet::new(), BTreeSet::new());
    for client in 0..CLIENTS {
        let (at, cookies) = burst(&instance, &format!("browser {client}"), COOKIE);
        assert_eq!(cookies.len(), AT_ONCE);
        // Those that were sealed in the same second are the same.
        let cookies: BTreeSet<_> = cookies.into_iter().collect();
        let of_one: BTreeSet<_> = cookies.iter().map(|cookie| session_key(&instance, cookie)).collect();
        assert_eq!(of_one.len(), at.len(), "one session is at one backend");
        parted += usize::from(at.len() > 1);
        backends.extend(at);
        keys.extend(of_one);
    }
    // Of 20 moments within a minute, two of those in which time is cut are met once in a million runs.
    assert!(parted <= 1, "{parted}");
    assert_eq!(backends.len(), 4, "clients spread");
    eventually("each is one live session", || {
        let (_, told) = instance.api("GET", "/v1/pools/shop/stickiness", None);
        (told["live_sessions"] == json!(keys.len())).then_some(())
    });
    let told = instance.explain(json!({ "client": "127.0.0.1", "headers": { "User-Agent": "browser 0" } }));
    assert!(backends.contains(told["backend"].as_str().unwrap()), "{told}");
    assert!(told["why"].to_string().contains("coalesce"), "{told}");
}

#[test]
fn sessions_that_the_application_names_begin_together_too() {
    let instance =
        start("coalesce = \"1m\"\nmode = \"app-cookie\"\napp_cookie = { name = \"sid\", style = \"follow\" }");
    let bursts = (0..CLIENTS).map(|client| burst(&instance, &format!("browser {client}"), COOKIE));
    let parted = bursts.filter(|(at, cookies)| {
        assert_eq!(cookies.len(), AT_ONCE);
        at.len() > 1
    });
    assert!(parted.count() <= 1);
}

#[test]
fn without_it_each_request_begins_a_session() {
    let instance = start("");
    let parted = (0..CLIENTS).filter(|client| burst(&instance, &format!("browser {client}"), COOKIE).0.len() > 1);
    assert!(parted.count() > CLIENTS / 2);
}
