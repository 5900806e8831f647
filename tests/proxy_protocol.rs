//! The PROXY protocol on both sides, with curl, HAProxy and nginx.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
};
use support::{
    Folder, Instance, Outcome, Recorder, Running, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{connect_from, get},
    peers::Nginx,
    pki::Pki,
};

const OFF: &str = "[pool.health]\ncheck = \"off\"\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\xdc\x04\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n";

fn setup<A: std::fmt::Display>(
    listener: &str,
    pool: &str,
    backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
) -> Setup {
    Setup::listening(&format!("timeouts.head = \"1s\"\n{listener}"), pool, backends)
}

const FROM_HERE: &str = "proxy_protocol = [\"127.0.0.0/8\"]";

fn connect(instance: &Instance) -> TcpStream {
    connect_from([127, 0, 0, 1], &instance.listener("web"))
}

#[test]
fn a_proxy_tells_whose_its_connections_are() {
    let recorder = Recorder::start();
    let instance = setup(FROM_HERE, OFF, [("a", recorder.address())]).start();
    for (header, client) in
        [(V1, "192.0.2.1"), (V2, "192.0.2.1"), (LOCAL, "127.0.0.1"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")]
    {
        // All at once, and byte by byte.
        for piece in [usize::MAX, 1] {
            let wire = [header, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let mut stream = connect(&instance);
            wire.chunks(piece.min(wire.len())).for_each(|piece| stream.write_all(piece).unwrap());
            assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
            let seen = recorder.take();
            assert!(seen.contains(&format!("\r\nX-Forwarded-For: {client}\r\n")), "{seen}");
            assert!(!seen.contains("PROXY") && !seen.contains("QUIT"), "{seen}");
        }
    }
}

#[test]
fn curl_says_it_in_front_of_tls() {
    let (recorder, pki) = (Recorder::start(), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let listener = format!("{FROM_HERE}\ntls.certificate = [{}]", shop.toml());
    let instance = setup(&listener, OFF, [("a", recorder.address())]).start();
    let address = instance.listener("web");
    let ask = |more: &[&str]| support::pki::curl(&address, "shop.test", "/", &pki.ca(), more);
    assert_eq!(ask(&["--haproxy-protocol"]).stdout, "ok");
    assert!(recorder.take().contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"));
    assert_ne!(ask(&[]).code, Some(0));
    instance.counts("proxy_refused", 1);
}

#[test]
fn who_has_to_say_it_and_does_not_is_not_served_and_others_say_it_in_vain() {
    let recorder = Recorder::start();
    let instance = setup(FROM_HERE, OFF, [("a", recorder.address())]).start();
    for (number, bytes) in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY ", b"", &V2[..20], b"PROXY TCP4 x\r\n"]
        .into_iter()
        .enumerate()
    {
        let mut stream = connect(&instance);
        stream.write_all(bytes).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "{}", bytes.escape_ascii());
        instance.counts("proxy_refused", number as u64 + 1);
    }
    assert_eq!(recorder.take(), "");
    let instance = setup("proxy_protocol = [\"10.0.0.0/8\"]", OFF, [("a", recorder.address())]).start();
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 200);
    let mut stream = connect(&instance);
    stream.write_all(&[V1, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 400 "));
}

#[test]
fn haproxy_in_front_says_it_and_its_checks_pass() {
    let recorder = Recorder::start();
    let instance = setup(FROM_HERE, OFF, [("a", recorder.address())]).start();
    let folder = Folder::new();
    let (address, _haproxy): (String, Running) = eventually("HAProxy finds a free port", || {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        drop(held);
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nlisten front\n bind {address}\n \
             server a {} send-proxy-v2 check inter 100ms\n",
            instance.listener("web")
        );
        let file = folder.write("haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        let mut process = Running::start(command);
        let serves = eventually("HAProxy serves or gives up", || match process.has_ended() {
            true => Some(false),
            false => TcpStream::connect(&address).is_ok().then_some(true),
        });
        serves.then_some((address, process))
    });
    // From an address that is not HAProxy's own.
    let mut stream = connect_from([127, 0, 9, 9], &address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
    assert!(recorder.take().contains("\r\nX-Forwarded-For: 127.0.9.9\r\n"));
    eventually("some checks have passed", || {
        (instance.metric("steadfast_dataplane_connections_accepted_total") > 5).then_some(())
    });
    assert_eq!(instance.metric("steadfast_dataplane_proxy_refused_total"), 0);
}

/// What nginx is told, by a client from this address with these bytes in front of its request.
fn told(instance: &Instance, source: [u8; 4], front: &[u8]) -> String {
    let mut stream = connect_from(source, &instance.listener("web"));
    let own = stream.local_addr().unwrap().port().to_string();
    stream.write_all(&[front, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").find(|line| line.contains("told ")).unwrap_or(&answer).replace(&own, "OWN")
}

#[test]
fn backends_are_told_whose_each_connection_is() {
    let says = "told $proxy_protocol_addr $proxy_protocol_port at $proxy_protocol_server_addr";
    let nginx = Nginx::start_with(&["a"], " proxy_protocol", "", says);
    for version in ["v1", "v2"] {
        for (listener, mode) in [("", "cookie"), ("protocol = \"tcp\"", "source-ip")] {
            let pool = format!(
                "send_proxy = \"{version}\"\naffinity.mode = \"{mode}\"\n[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\nrise = 1\n"
            );
            let instance = setup(listener, &pool, nginx.backends.clone()).start();
            for source in [[127, 0, 0, 1], [127, 0, 5, 1], [127, 0, 5, 2]] {
                let expected = format!("told {} OWN at 127.0.0.1", Ipv4Addr::from(source));
                assert_eq!(told(&instance, source, b""), expected, "{version} {mode}");
            }
            eventually("checks pass", || (instance.backend("shop", "a")["health"] == "up").then_some(()));
        }
        // What a proxy in front has said is passed on.
        let pool = format!("send_proxy = \"{version}\"\n{OFF}");
        let instance = setup(FROM_HERE, &pool, nginx.backends.clone()).start();
        assert_eq!(told(&instance, [127, 0, 0, 1], V2), "told 192.0.2.1 56324 at 127.0.0.1");
    }
}

#[test]
fn a_connection_that_is_one_clients_is_not_used_for_another() {
    let says = "told $proxy_protocol_addr";
    let nginx = Nginx::start_with(&["a"], " proxy_protocol", "", says);
    let instance = setup("", &format!("send_proxy = \"v2\"\n{OFF}"), nginx.backends.clone()).start();
    (0..10).for_each(|_| assert_eq!(get(&instance.listener("web"), "/", &[]).text(), "told 127.0.0.1"));
    eventually("each has had its own", || {
        let counts = &instance.backend("shop", "a")["counts"];
        (counts["connects"] == 10 && counts["reused"] == 0).then_some(())
    });
}

#[test]
fn sessions_of_plain_tcp_are_those_of_the_clients_behind_the_proxy() {
    let naming = |name: &'static str| {
        (name, Scripted::start(move |mut stream| drop(stream.write_all(name.as_bytes()))).address())
    };
    let listener = format!("protocol = \"tcp\"\n{FROM_HERE}");
    let pool = format!("affinity.mode = \"source-ip\"\n{OFF}");
    let instance = setup(&listener, &pool, [naming("a"), naming("b"), naming("c")]).start();
    let home = |last: u8| {
        let mut stream = connect(&instance);
        stream.write_all(format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 1 2\r\n").as_bytes()).unwrap();
        let mut name = [0];
        stream.read_exact(&mut name).unwrap();
        name[0]
    };
    let homes: Vec<_> = (1..30).map(home).collect();
    assert!(b"abc".iter().all(|name| homes.contains(name)), "{homes:?}");
    assert_eq!((1..30).map(home).collect::<Vec<_>>(), homes);
    let explained = instance.explain(serde_json::json!({ "listener": "web", "client": "192.0.2.7" }));
    assert_eq!(explained["backend"].as_str().unwrap().as_bytes(), &homes[6..7]);
}

#[test]
fn a_version_that_is_none_is_refused() {
    let outcome: Outcome = {
        let folder = Folder::new();
        let text = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\npool = \"b\"\nproxy_protocol = true\n[[pool]]\nname = \"b\"\nsend_proxy = \"v3\"\n";
        let file = folder.write("steadfast.toml", text);
        Outcome::of(support::steadfast(["check", "--file-only", "--config", file.to_str().unwrap()]))
    };
    assert_eq!(outcome.code, Some(64));
    assert!(
        outcome.stderr.contains("listener[0].proxy_protocol: is the boolean `true`; write a list"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("pool[0].send_proxy: unknown value `v3`"), "{}", outcome.stderr);
}
