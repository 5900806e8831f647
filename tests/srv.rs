//! Backends by SRV records, from a server of DNS that is not ours.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    net::{TcpListener, UdpSocket},
    process::Command,
};
use support::{Instance, Running, Scripted, Setup, eventually, http::get};

/// dnsmasq, which knows these records alone: target, port, priority, weight; and where targets are.
struct Dns {
    port: u16,
    running: Option<Running>,
}

type Record<'a> = (&'a str, u16, u16, u16);

impl Dns {
    fn new() -> Self {
        // One that is free both ways.
        let port = eventually("a port is free", || {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = udp.local_addr().unwrap().port();
            TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
        });
        Self { port, running: None }
    }

    fn tells(&mut self, records: &[Record<'_>], hosts: &[(&str, &str)]) {
        self.stops();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--listen-address=127.0.0.1", "--local=/test/", "--pid-file=", "--user=root"]);
        command.arg(format!("--port={}", self.port));
        for (target, port, priority, weight) in records {
            command.arg(format!("--srv-host=_http._tcp.shop.test,{target},{port},{priority},{weight}"));
        }
        for (name, address) in hosts {
            command.arg(format!("--host-record={name},{address}"));
        }
        self.running = Some(Running::start(command));
        eventually("dnsmasq listens", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn stops(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::TERM);
            running.ended();
        }
    }

    fn shop(&self) -> Setup {
        let pool = format!(
            "[pool.names]\ninterval = \"1s\"\nserver = \"127.0.0.1:{}\"\n\
             [[pool.discover]]\nname = \"app\"\nsrv = \"_http._tcp.shop.test\"\n[pool.health]\ncheck = \"off\"\n",
            self.port
        );
        Setup::shop(&pool, [("", ""); 0])
    }
}

/// Answers with its name.
fn backend(name: &str) -> (Scripted, u16) {
    let length = name.len();
    let backend = Scripted::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}").as_bytes());
    let port = backend.address().port();
    (backend, port)
}

/// Name, weight, whether it is a backup, and what is commanded of each.
fn members(instance: &Instance) -> Value {
    let (_, backends) = instance.api("GET", "/v1/pools/shop/backends", None);
    let told = |backend: &Value| json!([backend["name"], backend["weight"], backend["backup"], backend["admin_state"]]);
    backends.as_array().unwrap().iter().map(told).collect()
}

#[track_caller]
fn become_so(instance: &Instance, wanted: &Value) {
    eventually(&format!("the backends are {wanted}"), || (members(instance) == *wanted).then_some(()));
}

#[test]
fn records_say_where_backends_are_and_what_they_bear() {
    let ((_a, a), (_b, b)) = (backend("a"), backend("b"));
    let mut dns = Dns::new();
    let hosts = [("one.test", "127.0.0.1"), ("two.test", "127.0.0.1")];
    dns.tells(&[("one.test", a, 10, 7), ("two.test", b, 20, 3)], &hosts);
    let instance = dns.shop().start();
    let name = |port: u16| format!("app-127.0.0.1-{port}");
    let sorted = |mut rows: Vec<Value>| {
        rows.sort_by_key(|row| row[0].as_str().unwrap().to_owned());
        Value::from(rows)
    };
    become_so(&instance, &sorted(vec![json!([name(a), 7, false, "active"]), json!([name(b), 3, true, "active"])]));
    let web = instance.listener("web");
    let cookie = eventually("it is served", || get(&web, "/", &[]).cookie("lb-affinity"));
    let place = || get(&web, "/", &[("Cookie", &cookie)]).text();
    assert_eq!(place(), "a", "the other one is a backup");

    // Another weight, and who is a backup is one no more.
    dns.tells(&[("one.test", a, 10, 1), ("two.test", b, 10, 0)], &hosts);
    become_so(&instance, &sorted(vec![json!([name(a), 1, false, "active"]), json!([name(b), 1, false, "active"])]));

    // Nobody answers: that takes nothing away, and is told.
    dns.stops();
    let problem = eventually("that is told", || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        let problems = status["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
        problems.filter(|problem| problem.contains("_http._tcp.shop.test")).map(str::to_owned).next()
    });
    assert!(problem.contains("what it last led to stays"), "{problem}");
    assert_eq!((members(&instance).as_array().unwrap().len(), place()), (2, "a".to_owned()));

    // Who is in no record any more drains away, its sessions first.
    dns.tells(&[("two.test", b, 10, 0)], &hosts);
    become_so(&instance, &sorted(vec![json!([name(a), 1, false, "draining"]), json!([name(b), 1, false, "active"])]));
    assert_eq!(place(), "a");
}

#[test]
fn what_does_not_fit_into_a_packet_comes_over_tcp() {
    let mut dns = Dns::new();
    let names: Vec<_> =
        (0..60).map(|at| format!("a-backend-with-a-long-name-so-that-they-do-not-fit-{at}.test")).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), 8_080, 1, 0)).collect();
    let hosts: Vec<_> = (0..60).map(|at| format!("127.0.1.{}", at + 1)).collect();
    let hosts: Vec<_> = names.iter().zip(&hosts).map(|(name, host)| (name.as_str(), host.as_str())).collect();
    dns.tells(&records, &hosts);
    let instance = dns.shop().start();
    eventually("all are there", || (members(&instance).as_array().unwrap().len() == 60).then_some(()));
}

#[test]
fn a_service_that_is_not_there_is_told_as_such() {
    let mut dns = Dns::new();
    dns.tells(&[("other.test", 1, 1, 1)], &[]);
    let instance = dns.shop().start();
    let (status, answer) = instance.api(
        "PUT",
        "/v1/pools/none",
        Some(json!({
            "names": { "server": format!("127.0.0.1:{}", dns.port) },
            "discover": [{ "name": "app", "srv": "_https._tcp.shop.test" }],
        })),
    );
    assert_eq!(status, 201, "{answer}");
    let failing = |pool: &str| {
        let (_, view) = instance.api("GET", &format!("/v1/pools/{pool}"), None);
        view["discover"][0]["lookup_failing"]["reason"].as_str().map(str::to_owned)
    };
    assert_eq!(eventually("that is told", || failing("none")), "no such name");
    assert!(eventually("that too", || failing("shop")).starts_with("other.test: "));
    let (status, answer) = instance.api("PUT", "/v1/pools/none", Some(json!({ "names": { "server": "nowhere" } })));
    assert_eq!(status, 422, "{answer}");
}
