//! Backends at Unix sockets.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::{
    io::Write,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    process::{self, Command},
};
use support::{Folder, Outcome, Running, Setup, backend::read_head, eventually, http::get, peers::Nginx};

/// nginx at a Unix socket, and that as an address.
fn nginx(folder: &Folder, name: &str) -> (Nginx, String) {
    let address = format!("unix:{}", folder.path(name).to_str().unwrap());
    (Nginx::start_with(&[name], "", &format!("listen {address};"), ""), address)
}

#[test]
fn sessions_stay_checks_are_made_and_a_death_is_noticed() {
    let folder = Folder::new();
    let ((mut a, at_a), (_b, at_b)) = (nginx(&folder, "a"), nginx(&folder, "b"));
    let pool = "[pool.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\n";
    let instance = Setup::shop(pool, [("a", &at_a), ("b", &at_b)]).start();
    let web = instance.listener("web");
    let cookie = eventually("a session begins at `a`", || {
        let response = get(&web, "/", &[]);
        response.cookie("lb-affinity").filter(|_| response.text() == "a")
    });
    for _ in 0..20 {
        assert_eq!(get(&web, "/", &[("Cookie", &cookie)]).text(), "a");
    }
    let backend = eventually("it is up, and connections are used again", || {
        let backend = instance.backend("shop", "a");
        (backend["health"] == "up" && backend["counts"]["reused"].as_u64() > Some(10)).then_some(backend)
    });
    assert_eq!((&backend["address"], &backend["resolved"]), (&json!(at_a), &json!(null)));
    assert!(instance.ctl(&["backends", "shop"]).stdout.contains(&at_a));

    a.process.signal(Signal::KILL);
    eventually("it is dead", || a.process.has_ended().then_some(()));
    // Its socket's file is still there, and refuses.
    assert_eq!(get(&web, "/", &[("Cookie", &cookie)]).text(), "b");
    eventually("it is down", || {
        let backend = instance.backend("shop", "a");
        (backend["health"] == "down" && backend["health_reason"] == "connection refused").then_some(())
    });
    std::fs::remove_file(folder.path("a")).unwrap();
    eventually("the reason is told", || {
        (instance.backend("shop", "a")["health_reason"] == "no such file or directory").then_some(())
    });
}

#[test]
fn redis_serves_through_a_tcp_listener() {
    let folder = Folder::new();
    let socket = folder.path("redis");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--unixsocket", socket.to_str().unwrap()]).current_dir(folder.root());
    let server = Running::start(command);
    eventually("redis serves", || server.stdout().contains("accept connections").then_some(()));
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"shop\"\n\
         [[pool]]\nname = \"shop\"\naffinity.mode = \"source-ip\"\n[[pool.backend]]\nname = \"a\"\naddress = \"unix:{}\"\n",
        socket.display()
    );
    let instance = Setup::new(&rest).start();
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &instance.port("web"), "-n", "2000", "-c", "20", "-d", "2000", "-t", "set,get", "--csv"]);
    let outcome = Outcome::of(benchmark);
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (Some(0), 3), "{}{}", outcome.stdout, outcome.stderr);
    eventually("they are counted", || {
        (instance.backend("shop", "a")["counts"]["tunnels_opened"].as_u64() >= Some(20)).then_some(())
    });
}

#[test]
fn one_in_the_abstract_namespace_is_added_while_it_runs() {
    let name = format!("steadfast-test-{}", process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                while read_head(&mut stream).is_some_and(|head| head.contains("\r\nHost: ")) {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz"));
                }
            });
        }
    });
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", [] as [(&str, &str); 0]).start();
    let put = |address: &str| instance.api("PUT", "/v1/pools/shop/backends/z", Some(json!({ "address": address })));
    for wrong in ["unix:", "unix:app", "unix:@", "unix:/a b"] {
        let (status, problem) = put(wrong);
        assert!(status == 422 && problem.to_string().contains("unix:/run/app.sock"), "{problem}");
    }
    let (status, answer) = put(&format!("unix:@{name}"));
    assert!(status < 300 && answer["applied"] == true, "{answer}");
    assert_eq!(get(&instance.listener("web"), "/", &[]).text(), "z");
}
