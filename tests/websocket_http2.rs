//! WebSockets over HTTP/2 (RFC 8441). Clients are those of [`websocket`](../websocket.rs), by way of the library h2.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::io::Write;
use support::{
    Scripted, Setup,
    backend::read_head,
    eventually, http2,
    websockets::{Bridge, Peer, Server, at, closed, counted, hold, tunnels},
};

/// No check talks to servers that are WebSockets' alone.
const SILENT: &str = "[pool.health]\ncheck = \"off\"\n";

#[test]
fn a_conversation_passes_as_it_is() {
    let server = Server::start("a");
    let instance = Setup::shop(SILENT, [("a", &server.address)]).start();
    let bridge = Bridge::start(&instance.listener("web"));
    let told = Peer::start(&["talk", &bridge.url]).ended();
    assert_eq!(told, [json!({"closed": 4002}), json!({"closed": 4001, "reason": "so it is"})]);
    eventually("the server has seen them end", || (server.peer.closes() == [4002, 1000, 4001]).then_some(()));
    counted(&instance, "a", "tunnels_opened", 3);
    let backend = tunnels(&instance, "a", 0);
    assert!(backend["counts"]["tunnel_bytes_from_backend"].as_u64().unwrap() > 64 << 20);
    assert_eq!(instance.metric("steadfast_dataplane_http2_broken_total"), 0);
}

#[test]
fn a_session_that_comes_back_reaches_its_backend() {
    let (a, b, c) = (Server::start("a"), Server::start("b"), Server::start("c"));
    let instance = Setup::shop(SILENT, [("a", &a.address), ("b", &b.address), ("c", &c.address)]).start();
    let bridge = Bridge::start(&instance.listener("web"));
    for _ in 0..3 {
        let told = Peer::start(&["stick", &bridge.url, "10"]).ended();
        assert_eq!(told[0]["names"], json!([told[0]["first"]]), "{told:?}");
    }
    eventually("they are counted", || (instance.pool_count("pinned") == 30).then_some(()));
}

#[test]
fn a_drain_tells_both_sides_and_a_death_breaks_the_streams() {
    let (a, mut b) = (Server::start("a"), Server::start("b"));
    let instance = Setup::shop(SILENT, [("a", &a.address), ("b", &b.address)]).start();
    let bridge = Bridge::start(&instance.listener("web"));
    let (client, open) = hold(&bridge.url, 20);
    let (at_a, at_b) = (at(&open, "a"), at(&open, "b"));
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({ "deadline": "1ms" }))).0, 200);
    closed(&client, 1001, at_a);
    eventually("the backend was told", || (a.peer.closes() == vec![1001; at_a]).then_some(()));
    counted(&instance, "a", "tunnels_drained", at_a);
    tunnels(&instance, "b", at_b);
    b.peer.0.signal(Signal::KILL);
    eventually("it is dead", || b.peer.0.has_ended().then_some(()));
    eventually("all are closed", || (client.closes().len() == at_a + at_b).then_some(()));
    assert_eq!(client.closes()[at_a..], vec![1006; at_b]);
    tunnels(&instance, "b", 0);
    counted(&instance, "b", "tunnels_closed_by_backend", at_b);
}

#[test]
fn a_client_that_dies_is_gone_at_its_backend_too() {
    let a = Server::start("a");
    let instance = Setup::shop(SILENT, [("a", &a.address)]).start();
    let bridge = Bridge::start(&instance.listener("web"));
    let (client, _) = hold(&bridge.url, 5);
    drop(bridge);
    eventually("its backend knows", || (a.peer.closes().len() == 5).then_some(()));
    tunnels(&instance, "a", 0);
    drop(client);
}

const CONNECT: &str = r#"
client = Client(sys.argv[1])
def connect(protocol="websocket", path="/", more=(), early=b""):
    pseudo = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
    stream = client.send([*pseudo, ("sec-websocket-version", "13"), *more], end=False)
    if early: client.push(stream, early, end=False)
    while client.streams[stream]["status"] is None and not client.over(stream): client.read()
    return client.streams[stream]["status"] or "reset %s" % client.streams[stream]["reset"]
"#;

#[test]
fn what_is_not_agreed_to_is_no_success() {
    let answers = |text: &'static str| {
        Scripted::start(move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                assert!(head.contains("\r\nsec-websocket-key: ") && head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
                drop(stream.write_all(text.as_bytes()));
            }
        })
    };
    let wrong = "HTTP/1.1 101 So\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong=\r\n\r\n";
    for (text, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502),
        ("HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhello", 403),
        (wrong, 502),
    ] {
        let backend = answers(text);
        let instance = Setup::shop(SILENT, [("a", backend.address())]).start();
        // What comes too early is no request.
        let said = http2::ask(
            &format!(
                "{CONNECT}\nsay(status=connect(early=b'GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'), other=connect())"
            ),
            &[&instance.listener("web")],
        );
        assert_eq!((&said["status"], &said["other"]), (&json!(expected), &json!(expected)), "{text}");
        instance.counts("requests", 2);
    }
    let plain = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let instance = Setup::shop(&format!("upgrades = []\n{SILENT}"), [("a", plain.address())]).start();
    let said = http2::ask(
        &format!(
            "{CONNECT}\nsay(none=connect(), other=connect('connect-udp'), upgrade=connect(more=[('upgrade', 'x')]), \
             path=connect(path='x'))"
        ),
        &[&instance.listener("web")],
    );
    // PROTOCOL_ERROR is 1.
    assert_eq!(said, json!({ "none": 502, "other": 501, "upgrade": "reset 1", "path": "reset 1" }));
}
