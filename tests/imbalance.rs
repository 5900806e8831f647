//! What the load that stickiness makes uneven takes of a pool's capacity, against free balancing of the same requests.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{
    io::Write,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};
use support::{
    Instance, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get},
    peers::Nginx,
};

const COOKIE: &str = "lb-affinity";

/// A backend that says its name, at `/hold` only once it is let go.
fn holding(name: &'static str, let_go: &Arc<(Mutex<bool>, Condvar)>) -> Scripted {
    let let_go = Arc::clone(let_go);
    Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /hold") {
                let held = let_go.0.lock().unwrap();
                drop(let_go.1.wait_while(held, |may_go| !*may_go).unwrap());
            }
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn report(instance: &Instance) -> Value {
    let (status, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
    assert_eq!(status, 200, "{report}");
    report
}

fn of(report: &Value, name: &str, figure: &str) -> u64 {
    let backends = report["backends"].as_array().unwrap();
    backends.iter().find(|backend| backend["name"] == name).unwrap()[figure].as_u64().unwrap()
}

fn sum(report: &Value, figure: &str) -> u64 {
    report["backends"].as_array().unwrap().iter().map(|backend| backend[figure].as_u64().unwrap()).sum()
}

#[test]
fn long_requests_of_one_session_make_one_backend_busy_where_free_balancing_would_have_shared_them() {
    let let_go = Arc::new((Mutex::new(false), Condvar::new()));
    let [a, b] = ["a", "b"].map(|name| holding(name, &let_go));
    let pool = "[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", a.address()), ("b", b.address())]).global("workers = 1").start();
    let address = instance.listener("web");
    let begun: Vec<_> = (0..2).map(|_| get(&address, "/", &[])).collect();
    let cookie = begun.iter().find(|response| response.text() == "a").unwrap().cookie(COOKIE).unwrap();
    let start = Instant::now();
    let held = [(); 2].map(|()| {
        let (address, cookie) = (address.clone(), cookie.clone());
        thread::spawn(move || Connection::open(&address).request("GET", "/hold", &[("Cookie", &cookie)], b"").text())
    });
    // Of requests that are still under way.
    eventually("both are known to keep it busy", || {
        (of(&report(&instance), "a", "busy_milliseconds") >= 2_000).then_some(())
    });
    *let_go.0.lock().unwrap() = true;
    let_go.1.notify_all();
    assert_eq!(held.map(|held| held.join().unwrap()), ["a", "a"]);
    // A tick that comes late counts for all of the time since the last one.
    let most = 2 * start.elapsed().as_millis() + 1_000;
    let told = report(&instance);
    let (busy, other) = (of(&told, "a", "busy_milliseconds"), of(&told, "b", "busy_milliseconds"));
    assert!((2_000..=most).contains(&busy.into()) && other <= busy / 10, "{busy} {other} of {most}");
    let figure = |value: &Value| value["max_over_mean"].as_f64().unwrap();
    let (actual, free) = (figure(&told["imbalance"]["busy_time"]), figure(&told["imbalance_if_free"]["busy_time"]));
    assert!(actual > 1.8 && (1.0..1.2).contains(&free), "{told}");
    let taken = told["capacity"]["busy_time"]["taken"].as_f64().unwrap();
    assert!((taken - (1.0 - free / actual)).abs() < 1e-9 && (0.35..=0.5).contains(&taken), "{told}");
    let (_, metrics) = instance.api_text("GET", "/metrics");
    let metric = "steadfast_backend_busy_seconds_total{pool=\"shop\",backend=\"a\"} ";
    let seconds: f64 = metrics.lines().find_map(|line| line.strip_prefix(metric)).unwrap().parse().unwrap();
    assert!((seconds * 1_000.0).round() as u64 >= busy, "{seconds} {busy}");
}

#[test]
fn the_free_choice_counts_the_same_requests_by_weight_whatever_the_sessions_do() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let pool = "balance = \"least-requests\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).global("workers = 1").start();
    let (status, _) = instance.api("PATCH", "/v1/pools/shop/backends/b", Some(json!({ "weight": 2 })));
    assert_eq!(status, 200);
    let mut client = Connection::open(&instance.listener("web"));
    let begun = client.request("GET", "/", &[], b"");
    let cookie = begun.cookie(COOKIE).unwrap();
    for _ in 0..199 {
        assert_eq!(client.request("GET", "/", &[("Cookie", &cookie)], b"").text(), begun.text());
    }
    let told = eventually("all are reported", || Some(report(&instance)).filter(|told| sum(told, "requests") == 200));
    let free = ["a", "b", "c"].map(|name| of(&told, name, "free_requests"));
    assert_eq!(free, [50, 100, 50]);
    assert_eq!(told["imbalance_if_free"]["requests"], json!({ "max_over_mean": 1.0, "gini": 0.0 }));
    let share = if begun.text() == "b" { 2.0 } else { 4.0 };
    let capacity = &told["capacity"]["requests"];
    assert_eq!(*capacity, json!({ "usable": 1.0 / share, "usable_if_free": 1.0, "taken": 1.0 - 1.0 / share }));
    let shown = instance.ctl(&["stickiness", "shop"]).stdout;
    let percent = format!("{:.1}%", (1.0 - 1.0 / share) * 100.0);
    assert!(shown.lines().any(|line| line.starts_with("requests ") && line.ends_with(&percent)), "{shown}");
}

#[test]
fn where_nothing_is_sticky_there_is_nothing_to_compare() {
    let nginx = Nginx::start(&["a", "b"]);
    let pool = "[pool.affinity]\nmode = \"none\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, nginx.backends.clone()).global("workers = 1").start();
    for _ in 0..4 {
        get(&instance.listener("web"), "/", &[]);
    }
    let told = eventually("all are reported", || Some(report(&instance)).filter(|told| sum(told, "requests") == 4));
    assert_eq!(told["imbalance"]["requests"], json!({ "max_over_mean": 1.0, "gini": 0.0 }));
    assert_eq!(told["imbalance_if_free"], json!({ "requests": null, "busy_time": null }));
    assert_eq!(told["capacity"], json!({ "requests": null, "busy_time": null }));
}
