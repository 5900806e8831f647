//! The exit ramp: backends with their state in memory stop it, backends that share theirs let it run to its end.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{io::Write, net::TcpStream};
use support::{
    Folder, Instance, Scripted, Setup, Shop,
    backend::read_head,
    eventually,
    http::{Connection, Response},
};

const RELEASE: &str = "/v1/pools/shop/release";

/// A user with a browser that keeps cookies.
struct User {
    /// The backend at which he has logged in.
    home: String,
    jar: Vec<String>,
}

impl User {
    fn keep(jar: &mut Vec<String>, response: &Response) {
        for name in ["lb-affinity", "demo-session"] {
            if let Some(pair) = response.cookie(name) {
                jar.retain(|each| !each.starts_with(&format!("{name}=")));
                jar.push(pair);
            }
        }
    }

    #[track_caller]
    fn log_in(address: &str, name: &str) -> Self {
        let response = Connection::open(address).request("POST", &format!("/login?user={name}"), &[], b"");
        assert_eq!(response.status, 200, "{}", response.text());
        let mut jar = Vec::new();
        Self::keep(&mut jar, &response);
        Self { home: response.text().split(':').next().unwrap().to_owned(), jar }
    }

    /// Looks at the cart so many times; the status and the backend of each answer.
    #[track_caller]
    fn look(&mut self, address: &str, times: usize) -> Vec<(u16, String)> {
        let mut connection = Connection::open(address);
        let mut look = |_| {
            let response = connection.request("GET", "/cart", &[("Cookie", &self.jar.join("; "))], b"");
            Self::keep(&mut self.jar, &response);
            (response.status, response.text().split(':').next().unwrap().to_owned())
        };
        (0..times).map(&mut look).collect()
    }
}

#[track_caller]
fn release(instance: &Instance) -> Value {
    let (status, release) = instance.api("GET", RELEASE, None);
    assert_eq!(status, 200, "{release}");
    release
}

#[track_caller]
fn begin(instance: &Instance, plan: Value) -> Value {
    let (status, answer) = instance.api("PUT", RELEASE, Some(plan));
    assert!(matches!(status, 200 | 201) && answer["applied"] == true, "{answer}");
    answer["release"].clone()
}

fn requests(release: &Value) -> u64 {
    ["released", "control"].iter().map(|cohort| release["requests"][*cohort].as_u64().unwrap()).sum()
}

/// The release once all that was sent is in its figures, or it has stopped by then.
#[track_caller]
fn compared(instance: &Instance, sent: u64) -> Value {
    eventually(&format!("{sent} requests are compared"), || {
        let release = release(instance);
        (requests(&release) >= sent || release["state"] == "stopped").then_some(release)
    })
}

#[test]
fn carts_in_memory_stop_it_within_a_few_hundred_requests_and_the_cohort_finds_them_again() {
    let shops = ["a", "b", "c"].map(Shop::start);
    let backends = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone()));
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", backends).start();
    let address = instance.listener("web");
    let begun = begin(&instance, json!({ "steps": [25, 50, 100], "hold": "1h" }));
    assert_eq!(
        (&begun["state"], &begun["percent"], &begun["verdict"]),
        (&json!("running"), &json!(25.0), &json!("not-enough-traffic"))
    );
    let (mut users, mut sent) = (Vec::new(), 0);
    let stopped = loop {
        assert!(sent < 800, "it has not stopped: {}", release(&instance));
        for _ in 0..10 {
            let mut user = User::log_in(&address, "ada");
            user.look(&address, 4);
            users.push(user);
            sent += 4;
        }
        let now = compared(&instance, sent);
        if now["state"] == "stopped" {
            break now;
        }
        // What is found is acted on a moment after it is shown.
        if now["verdict"] == "is-not" {
            break eventually("it stops", || Some(release(&instance)).filter(|it| it["state"] == "stopped"));
        }
    };
    println!("stopped after {sent} requests of {} sessions: {}", users.len(), stopped["stopped"]["reason"]);
    assert_eq!((&stopped["verdict"], &stopped["percent"]), (&json!("is-not"), &json!(0.0)));
    let finding = &stopped["stopped"]["finding"];
    assert_eq!((&finding["signal"], &finding["shown"]["control"]), (&json!("denied"), &json!(0)), "{stopped}");
    assert!(finding["p_value"].as_f64().unwrap() <= 0.01 && finding["shown"]["released"].as_u64().unwrap() >= 5);
    // The stop is shown a moment before the workers act on it; from then on all are where they were.
    let at_home = |user: &mut User| {
        let home = user.home.clone();
        user.look(&address, 2).iter().all(|seen| *seen == (200, home.clone()))
    };
    eventually("the workers act on the stop", || users.iter_mut().all(at_home).then_some(()));
    assert!(users.iter_mut().all(at_home));
    eventually("it is counted", || (instance.pool_count("released") > 0).then_some(()));
    assert_eq!(instance.metric("steadfast_pool_release_verdict{pool=\"shop\"}"), 2);
    assert_eq!(instance.metric("steadfast_pool_release_share{pool=\"shop\"}"), 0);
    let shown = instance.ctl(&["release", "shop"]);
    assert!(shown.stdout.contains("verdict: is not\n") && shown.stdout.contains("back on their pins"), "{shown:?}");

    let killed = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", killed);
    let after = eventually("the admin process is back with the reason", || {
        TcpStream::connect(instance.admin()).ok()?;
        let (status, release) = instance.api("GET", RELEASE, None);
        (status == 200).then_some(release)
    });
    assert_eq!((&after["stopped"], &after["verdict"]), (&stopped["stopped"], &stopped["verdict"]));
    assert_eq!(instance.api("DELETE", RELEASE, None).0, 200);
    assert_eq!((instance.api("GET", RELEASE, None).0, instance.api("DELETE", RELEASE, None).0), (404, 404));
}

#[test]
fn carts_that_are_shared_let_it_run_to_its_end_over_the_death_of_either_process() {
    let folder = Folder::new();
    let shops = ["a", "b", "c"].map(|name| Shop::sharing(name, &folder.path("carts")));
    let backends = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone()));
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", backends).start();
    let address = instance.listener("web");
    begin(&instance, json!({ "steps": [25, 50, 100], "hold": "10ms", "harm": 0.5 }));
    // Users come until the ramp has left this step.
    let until = |left: &dyn Fn(&Value) -> bool| {
        for count in 1.. {
            let now = release(&instance);
            assert_ne!(now["state"], "stopped", "{now}");
            if left(&now) {
                return now;
            }
            assert!(count < 1_000, "{count} users were not enough: {now}");
            let mut user = User::log_in(&address, "ada");
            assert!(user.look(&address, 4).iter().all(|(status, _)| *status == 200));
        }
        unreachable!("the count ends it")
    };
    let second = until(&|now| now["percent"] == 50.0);
    assert_eq!(
        (&second["step"], &second["verdict"], &second["passed"][0]["percent"]),
        (&json!(2), &json!("looks-stateless"), &json!(25.0))
    );
    let killed = instance.signal("dataplane", Signal::KILL);
    instance.replaced("dataplane", killed);
    let killed = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", killed);
    let after = eventually("the admin process is back", || {
        TcpStream::connect(instance.admin()).ok()?;
        let (status, release) = instance.api("GET", RELEASE, None);
        (status == 200 && instance.api("GET", "/readyz", None).0 == 200).then_some(release)
    });
    assert_eq!((&after["percent"], &after["verdict"]), (&json!(50.0), &json!("looks-stateless")));
    let end = until(&|now| now["state"] == "finished");
    assert_eq!((&end["percent"], &end["verdict"]), (&json!(100.0), &json!("looks-stateless")));
    assert_eq!(end["passed"].as_array().unwrap().len(), 2, "{end}");

    let mut ada = User::log_in(&address, "ada");
    // The step is shown a moment before the workers act on it.
    eventually("she is balanced freely", || {
        let seen: std::collections::BTreeSet<_> = ada.look(&address, 12).into_iter().collect();
        assert!(seen.iter().all(|(status, _)| *status == 200), "{seen:?}");
        (seen.len() > 1).then_some(())
    });
    let told = instance.explain(json!({ "cookie": ada.jar.join("; ") }));
    assert_eq!((&told["outcome"], &told["pinned_to"]), (&json!("released"), &json!(ada.home)), "{told}");
    assert_eq!(told["candidates"], json!(["a", "b", "c"]));
    assert_eq!(instance.ctl(&["release", "shop", "--wait"]).code, Some(0));
    let ended = instance.ctl(&["release", "shop", "--stop"]);
    assert!(ended.code == Some(0) && ended.stdout.contains("applied by 2 workers"), "{ended:?}");
    assert!(ada.look(&address, 12).iter().all(|seen| *seen == (200, ada.home.clone())));
}

/// A backend that serves those alone as it should whose cookie `home` names it.
fn particular(name: &'static str, elsewhere: &'static str) -> Scripted {
    Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let at_home = !head.contains("home=") || head.contains(&format!("home={name}"));
            let says = if at_home { "200 OK\r\nX-Cache: HIT" } else { elsewhere };
            let response = format!("HTTP/1.1 {says}\r\nContent-Length: 1\r\n\r\n{name}");
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn each_signal_stops_it_by_itself() {
    for (signal, elsewhere, watch) in [
        ("server-error", "500 No", json!({})),
        ("denied", "403 No", json!({})),
        ("login", "302 Found\r\nLocation: https://shop.example.com/login?next=x", json!({ "login_path": "/login" })),
        ("new-session", "200 OK\r\nSet-Cookie: sid=another; Path=/", json!({ "session_cookie": "sid" })),
        ("cache-miss", "200 OK\r\nX-Cache: MISS", json!({ "cache_header": "X-Cache" })),
    ] {
        let backends = [("a", particular("a", elsewhere)), ("b", particular("b", elsewhere))];
        let addresses = backends.iter().map(|(name, backend)| (*name, backend.address()));
        let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", addresses).start();
        let address = instance.listener("web");
        let mut plan = watch;
        plan["percent"] = json!(25);
        begin(&instance, plan);
        let mut sent = 0;
        let stopped = loop {
            assert!(sent < 2_000, "{signal}: {}", release(&instance));
            for _ in 0..20 {
                let first = Connection::open(&address).request("GET", "/", &[], b"");
                let (home, pin) = (first.text(), first.cookie("lb-affinity").unwrap());
                let cookies = format!("{pin}; home={home}; sid=old");
                let mut connection = Connection::open(&address);
                for _ in 0..4 {
                    connection.request("GET", "/", &[("Cookie", &cookies)], b"");
                    sent += 1;
                }
            }
            let now = compared(&instance, sent);
            if now["verdict"] == "is-not" {
                break eventually("it stops", || Some(release(&instance)).filter(|it| it["state"] == "stopped"));
            }
        };
        assert_eq!(stopped["stopped"]["finding"]["signal"], signal, "{stopped}");
    }
}

#[test]
fn what_is_released_goes_elsewhere_where_a_backend_fails_also_where_others_may_not() {
    let there = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    let backends = [("a", there.address().to_string()), ("b", "127.0.0.1:9".to_owned())];
    let pool = "affinity.on_down = \"fail\"\nhealth.check = \"off\"\nhealth.passive.failures = 0\nretry.budget = 1.0\n";
    let instance = Setup::shop(pool, backends).global("workers = 1").start();
    let address = instance.listener("web");
    let ask = |cookie: &str| Connection::open(&address).request("GET", "/", &[("Cookie", cookie)], b"");
    let first = ask("");
    assert_eq!(first.text(), "a", "a session that begins may go to another backend than to one that refuses it");
    let cookie = first.cookie("lb-affinity").unwrap();
    begin(&instance, json!({ "percent": 99.99 }));
    for _ in 0..10 {
        let answer = ask(&cookie);
        assert_eq!((answer.status, answer.cookie("lb-affinity")), (200, None));
    }
    let (status, _) = instance.api(
        "PUT",
        "/v1/pools/shop",
        Some(json!({ "affinity": { "cookie": { "token": "plain" } }, "health": { "check": "off" } })),
    );
    assert_eq!(status, 200);
    let stopped = eventually("it stops", || Some(release(&instance)).filter(|it| it["state"] == "stopped"));
    let reason = stopped["stopped"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("plain tokens have no session keys") && stopped["verdict"] == "not-enough-traffic",
        "{stopped}"
    );
    eventually("it is counted that the other one was tried", || (instance.pool_count("retries") > 2).then_some(()));
}
