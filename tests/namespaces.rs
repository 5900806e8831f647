//! Networks that lose, refuse and run out: the product in a network of its own, where a test may do what it likes to packets and
//! ports. Left out, and said so, where only root can make one.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Condvar, Mutex},
};
use support::{
    Instance, Scripted, Setup,
    backend::read_head,
    burden::Bystander,
    callers::{Callers, sum},
    eventually,
    http::get,
    namespace::{Own, apart, run},
    peers::Nginx,
};

/// A door that holds whoever comes to it until it is opened.
#[derive(Debug, Default)]
struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn wait(&self) {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// A backend that says its name, and at `/hold` only once the door is open.
fn holding(name: &'static str, door: &Arc<Door>) -> Scripted {
    let door = Arc::clone(door);
    Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /hold ") {
                door.wait();
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Its admin process is asked by a path, for which no port is taken.
fn shop(pool: &str, a: &Scripted, b: &Scripted) -> Instance {
    let pool = format!("health.check = \"off\"\n{pool}");
    let setup = Setup::shop(&pool, [("a", a.address()), ("b", b.address())]);
    let listen = format!("listen = \"unix:{}\"", setup.folder().path("admin.sock").display());
    setup.admin(&listen).start()
}

/// From here on there are eight ports for connections to each address; the clients that are to come are connected by then.
fn few_ports(address: &str) -> Vec<TcpStream> {
    let clients = (0..24).map(|_| TcpStream::connect(address).unwrap()).collect();
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61007").unwrap();
    clients
}

/// A count of one backend of the pool `shop`.
fn count(instance: &Instance, name: &str, backend: &str) -> u64 {
    instance.metric(&format!("steadfast_backend_{name}_total{{pool=\"shop\",backend=\"{backend}\"}}"))
}

#[test]
fn a_backend_towards_which_no_port_is_left_is_passed_over_and_is_not_down() {
    apart(Own::Network, || {
        let door = Arc::<Door>::default();
        let (a, b) = (holding("a", &door), holding("b", &door));
        let instance = shop("[pool.affinity]\nmode = \"none\"\n", &a, &b);
        let address = instance.listener("web");
        let mut clients = few_ports(&address);
        let mut ask = |path: &str| {
            let mut stream = clients.pop().unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        let rest = |mut stream: TcpStream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        // Eight are held at each, by all that there is.
        let held: Vec<_> = (0..16).map(|_| ask("/hold")).collect();
        let in_flight = |name: &str| instance.backend("shop", name)["requests_in_flight"].as_u64().unwrap();
        eventually("all ports are taken", || (in_flight("a") + in_flight("b") == 16).then_some(()));
        assert_eq!((in_flight("a"), in_flight("b")), (8, 8));
        let refused = rest(ask("/"));
        assert!(refused.starts_with("HTTP/1.1 50"), "{refused}");
        for name in ["a", "b"] {
            eventually(&format!("it is counted of {name}"), || {
                (count(&instance, "no_local_port", name) > 0).then_some(())
            });
            assert_eq!(count(&instance, "connect_failures", name), 0, "of {name}");
        }
        door.open();
        let answers: Vec<_> = held.into_iter().map(rest).collect();
        assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
        eventually("it serves again", || rest(ask("/")).starts_with("HTTP/1.1 200 ").then_some(()));
        for name in ["a", "b"] {
            assert_eq!(instance.backend("shop", name)["health"], "unknown", "nothing was held against {name}");
        }
        let log = instance.process.stderr();
        assert!(!log.contains("traffic fails at this backend"), "{log}");
    });
}

#[test]
fn where_one_way_has_no_port_left_the_other_is_taken() {
    apart(Own::Network, || {
        let door = Arc::<Door>::default();
        let (a, b) = (holding("a", &door), holding("b", &door));
        let instance = shop("", &a, &b);
        let address = instance.listener("web");
        let cookie = eventually("somebody is at a", || {
            let first = get(&address, "/", &[]);
            (first.text() == "a").then(|| first.cookie("lb-affinity").unwrap())
        });
        let mut clients = few_ports(&address);
        let mut ask = |path: &str| {
            let mut stream = clients.pop().unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream
        };
        // The session's own backend has no way left; its connection that is kept is taken too.
        let held: Vec<_> = (0..10).map(|_| ask("/hold")).collect();
        eventually("no port is left", || (count(&instance, "no_local_port", "a") > 0).then_some(()));
        let mut text = String::new();
        ask("/").read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with('b'), "{text}");
        door.open();
        for mut stream in held {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        }
        assert_eq!(count(&instance, "connect_failures", "a"), 0);
        assert!(!instance.process.stderr().contains("traffic fails at this backend"));
    });
}

/// Rules of nftables, which go with the network.
fn rules(lines: &[String]) {
    run(&["nft", "flush ruleset"]);
    run(&["nft", "add table ip faults"]);
    run(&["nft", "add chain ip faults out { type filter hook output priority 0 ; }"]);
    for line in lines {
        run(&["nft", &format!("add rule ip faults out {line}")]);
    }
}

#[test]
fn loss_and_resets_on_the_way_to_one_backend_are_its_own() {
    apart(Own::Network, || {
        let nginx = Nginx::start(&["a", "b"]);
        let port = |name: &str| {
            let (_, address) = nginx.backends.iter().find(|(each, _)| each == name).unwrap();
            address.rsplit(':').next().unwrap().to_owned()
        };
        let a = port("a");
        let instance = Setup::shop("health.check = \"off\"", nginx.backends.clone()).start();
        let web = instance.listener("web");
        let callers = Callers::start(&web, 8);
        assert!(callers.homes().iter().any(|home| home == "a") && callers.homes().iter().any(|home| home == "b"));
        for percent in [10, 30] {
            // Both ways: requests and acknowledgements of the one, answers of the other.
            rules(&[
                format!("tcp dport {a} numgen random mod 100 < {percent} drop"),
                format!("tcp sport {a} numgen random mod 100 < {percent} drop"),
            ]);
            callers.are_answered(200, |home| home == "b");
            callers.are_answered(3, |home| home == "a");
            let (of_it, of_others): (Vec<_>, Vec<_>) =
                callers.take().into_iter().partition(|seen| seen.began_at == "a");
            let (of_it, of_others) = (sum(&of_it), sum(&of_others));
            assert!(
                of_others.lost() == 0 && of_others.moved == 0 && of_others.served > 0,
                "{percent} %: {of_others:?}"
            );
            support::figure(format_args!(
                "{percent} % lost: {} served at a, {} at b meanwhile",
                of_it.served, of_others.served
            ));
            assert!(of_it.lost() == 0 && of_it.wrong.is_empty(), "TCP repeats what is lost: {of_it:?}");
        }
        // Nobody is let in any more: those of `a` go elsewhere, and are told of what was under way at most.
        rules(&[format!("tcp dport {a} reject with tcp reset")]);
        callers.all_are_answered(50);
        let (of_it, of_others): (Vec<_>, Vec<_>) = callers.take().into_iter().partition(|seen| seen.began_at == "a");
        let at_it = of_it.len() as u64;
        let (of_it, of_others) = (sum(&of_it), sum(&of_others));
        assert!(of_others.lost() == 0 && of_others.moved == 0, "{of_others:?}");
        assert!(of_it.lost() <= at_it && of_it.broken == 0 && of_it.moved == at_it, "{at_it} were there: {of_it:?}");
        rules(&[]);
        let bystander = Bystander::start(&web, "/");
        bystander.waits(20);
        bystander.end();
        assert_eq!(sum(&callers.end()).lost(), 0);
    });
}
