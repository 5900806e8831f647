//! `steadfast demo`: the whole product in one command, and nothing left of it afterwards.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::{Pid, Signal, test_kill_process};
use std::net::{TcpListener, TcpStream};
use support::{Folder, Outcome, Running, eventually, http, send_signal, steadfast};

struct Demo {
    running: Running,
    folder: Folder,
    proxy: String,
    admin: String,
    /// Name, address and pid of each; the last one is not in the pool.
    backends: Vec<(String, String, u32)>,
}

impl Demo {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Self {
        let folder = Folder::new();
        let mut command = steadfast(["demo", "--port", "0", "--admin-port", "0"]);
        command.args(flags);
        command.env("TMPDIR", folder.root());
        let running = Running::start(command);
        let text = eventually("the demo tells what to do", || {
            let text = running.stdout();
            text.split("\n5. ").nth(1).is_some_and(|last| last.contains("ctl")).then_some(text)
        });
        let line = |name: &str| {
            let line =
                text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{text}"));
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let address = |name: &str| line(name).trim_start_matches("http://").to_owned();
        let backends = (1..=4).map(|number| {
            let name = format!("cart-{number}");
            let line = text.lines().find(|line| line.trim_start().starts_with(&name)).unwrap();
            let pid = line.split("pid ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            (name.clone(), address(&name), pid)
        });
        let backends = backends.collect();
        let (proxy, admin) = (address("proxy"), address("admin"));
        Self { running, folder, proxy, admin, backends }
    }

    /// One request of a browser that has these cookies.
    fn browse(&self, method: &str, path: &str, jar: &mut Vec<String>) -> (u16, String) {
        let response = http::request(&self.proxy, method, path, &[("Cookie", &jar.join("; "))], b"");
        for name in ["lb-affinity", "demo-session"] {
            if let Some(pair) = response.cookie(name) {
                jar.retain(|each| !each.starts_with(&format!("{name}=")));
                jar.push(pair);
            }
        }
        (response.status, response.text())
    }

    fn api(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let headers = [("Content-Type", "application/json")];
        let response = http::request(&self.admin, method, path, &headers, body.as_bytes());
        assert!(response.status < 300, "{} {}", response.status, response.text());
        serde_json::from_slice(&response.body).unwrap()
    }
}

#[test]
fn shared_carts_are_known_to_every_backend_and_others_to_one_alone() {
    for (flags, knowing) in [(&["--shared-carts"][..], 4), (&[], 1)] {
        let demo = Demo::start_with(flags);
        let mut jar = Vec::new();
        demo.browse("POST", "/login?user=ada", &mut jar);
        demo.browse("POST", "/cart?item=tea", &mut jar);
        let cookies = jar.join("; ");
        let cart = |address: &str| http::request(address, "GET", "/cart", &[("Cookie", &cookies)], b"");
        let carts: Vec<_> = demo.backends.iter().map(|(_, address, _)| cart(address)).collect();
        let known = carts.iter().filter(|cart| cart.status == 200 && cart.text().ends_with(": ada's cart: tea\n"));
        assert_eq!(known.count(), knowing, "{carts:?}");
        assert!(carts.iter().all(|cart| matches!(cart.status, 200 | 401)));
    }
}

fn runs(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap()).is_ok()
}

#[test]
fn shows_a_session_that_stays_is_lost_and_counted_and_a_backend_that_joins() {
    let demo = Demo::start();
    let mut jar = Vec::new();
    let (_, welcome) = demo.browse("POST", "/login?user=ada", &mut jar);
    let home = welcome.split(':').next().unwrap().to_owned();
    assert_eq!(demo.browse("POST", "/cart?item=tea", &mut jar), (200, format!("{home}: ada's cart: tea\n")));
    for _ in 0..20 {
        assert_eq!(demo.browse("GET", "/cart", &mut jar).1, format!("{home}: ada's cart: tea\n"));
    }
    let (_, address, pid) = demo.backends.iter().find(|(name, ..)| *name == home).unwrap();
    send_signal(*pid, Signal::KILL);
    // A signal is sent before its process has ended: until then the kernel still completes connections for it, and a
    // request on one of those may have been processed, so that it is answered with 502 and not repeated.
    eventually("the backend is gone", || TcpStream::connect(address).is_err().then_some(()));
    let (status, text) = demo.browse("GET", "/cart", &mut jar);
    assert_eq!(status, 401);
    assert!(text.ends_with(": no such session, please log in\n") && !text.starts_with(&home), "{text}");
    let path = format!("/v1/pools/shop/backends/{home}");
    eventually("the loss is counted", || (demo.api("GET", &path, "")["sessions_lost"] == 1).then_some(()));

    let (name, address, _) = &demo.backends[3];
    let answer =
        demo.api("PUT", &format!("/v1/pools/shop/backends/{name}"), &format!("{{\"address\": \"{address}\"}}"));
    assert_eq!(answer["applied"], true, "{answer}");
    eventually("the new backend is reached", || {
        demo.browse("GET", "/", &mut Vec::new()).1.starts_with(name.as_str()).then_some(())
    });
}

#[test]
fn ends_cleanly() {
    let mut demo = Demo::start();
    let pids: Vec<_> = demo.backends.iter().map(|(.., pid)| *pid).collect();
    assert!(pids.iter().all(|pid| runs(*pid)));
    demo.running.signal(Signal::INT);
    assert_eq!(demo.running.ended().code(), Some(0), "{}", demo.running.stderr());
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert_eq!(std::fs::read_dir(demo.folder.root()).unwrap().count(), 0);
}

#[test]
fn backends_end_with_a_demo_that_is_killed() {
    let mut demo = Demo::start();
    demo.running.signal(Signal::KILL);
    demo.running.ended();
    for (name, _, pid) in &demo.backends {
        eventually(&format!("{name} ends"), || (!runs(*pid)).then_some(()));
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, socket) in [
        (["demo", "--admin-port", "0", "--port", &port], "web"),
        (["demo", "--port", "0", "--admin-port", &port], "admin"),
    ] {
        let folder = Folder::new();
        let mut command = steadfast(arguments);
        command.env("TMPDIR", folder.root());
        let outcome = Outcome::of(command);
        assert_eq!(outcome.code, Some(1));
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(socket) && last.contains(&format!("127.0.0.1:{port}: Address already in use")), "{last}");
        assert_eq!(std::fs::read_dir(folder.root()).unwrap().count(), 0);
    }
}
