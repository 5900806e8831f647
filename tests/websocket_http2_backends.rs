//! WebSockets to backends that are spoken to in HTTP/2 (RFC 8441), by Hypercorn.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use support::{
    Folder, Instance, Running, Setup, eventually,
    http::get,
    http2,
    peers::{Nginx, start_python},
    websockets::{Bridge, Peer, Raw, at, closed, counted, handshake, hold, tunnels},
};

const HTTP2: &str = "http2 = true\n[pool.health]\ncheck = \"off\"\n";

/// What asks for a WebSocket.
const WISH: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

struct Server {
    process: Running,
    address: String,
    _folder: Folder,
}

impl Server {
    fn start(name: &str) -> Self {
        let folder = Folder::new();
        let socket = folder.path("socket");
        let process = start_python(include_str!("support/asgi.py"), &[name, socket.to_str().unwrap()]);
        eventually("it listens", || UnixStream::connect(&socket).ok());
        Self { process, address: format!("unix:{}", socket.display()), _folder: folder }
    }

    fn told(&self, key: &str) -> Vec<Value> {
        let text = self.process.stdout();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let told = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        told.filter_map(|told| told.get(key).cloned()).collect()
    }
}

fn start(servers: &[(&str, &Server)]) -> Instance {
    Setup::shop(HTTP2, servers.iter().map(|(name, server)| (*name, &server.address))).start()
}

#[test]
fn a_conversation_passes_as_it_is_from_either_version() {
    let server = Server::start("a");
    let instance = start(&[("a", &server)]);
    let web = instance.listener("web");
    let bridge = Bridge::start(&web);
    for (times, url) in [format!("ws://{web}"), bridge.url.clone()].iter().enumerate() {
        let told = Peer::start(&["talk", url]).ended();
        assert_eq!(told, [json!({"closed": 4002}), json!({"closed": 4001, "reason": "so it is"})], "{url}");
        counted(&instance, "a", "tunnels_opened", 3 * (times + 1));
    }
    assert_eq!(server.told("version"), vec![json!("2"); 6]);
    // Beside them its connection serves requests.
    assert_eq!(get(&web, "/", &[]).text(), "a over 2");
    tunnels(&instance, "a", 0);
    let backend = instance.backend("shop", "a");
    assert!(backend["counts"]["tunnel_bytes_from_backend"].as_u64() > Some(128 << 20), "{backend}");
    assert!(backend["counts"]["reused"].as_u64() > Some(0), "they share connections: {backend}");
}

#[test]
fn sessions_stay_and_a_refusal_is_passed_on() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let instance = start(&[("a", &a), ("b", &b)]);
    let web = instance.listener("web");
    for _ in 0..4 {
        let told = Peer::start(&["stick", &format!("ws://{web}"), "5"]).ended();
        assert_eq!(told[0]["names"], json!([told[0]["first"]]), "{told:?}");
    }
    assert_eq!(get(&web, "/no", &WISH).status, 403);
    eventually("they are counted", || (instance.pool_count("pinned") == 20).then_some(()));
}

#[test]
fn a_drain_tells_both_sides_and_a_death_breaks_them() {
    let (a, mut b) = (Server::start("a"), Server::start("b"));
    let instance = start(&[("a", &a), ("b", &b)]);
    let (client, open) = hold(&format!("ws://{}", instance.listener("web")), 20);
    let (at_a, at_b) = (at(&open, "a"), at(&open, "b"));
    tunnels(&instance, "a", at_a);
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({ "deadline": "1ms" }))).0, 200);
    closed(&client, 1001, at_a);
    eventually("the backend was told", || (a.told("closed").len() == at_a).then_some(()));
    counted(&instance, "a", "tunnels_drained", at_a);
    tunnels(&instance, "b", at_b);
    b.process.signal(Signal::KILL);
    eventually("it is dead", || b.process.has_ended().then_some(()));
    eventually("all are closed", || (client.closes().len() == at_a + at_b).then_some(()));
    assert_eq!(client.closes()[at_a..], vec![1006; at_b]);
    tunnels(&instance, "b", 0);
    counted(&instance, "b", "tunnels_closed_by_backend", at_b);
}

#[test]
fn a_handshake_that_is_not_answered_ends_with_its_client() {
    let program = r#"
server = Server(lambda *_: None)
server.settings = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
say(address=server.address)
pause = threading.Event()
while not server.seen: pause.wait(0.01)
say(asked=dict((str(name), str(value)) for name, value in server.seen[0]["fields"]))
while server.seen[0]["reset"] is None: pause.wait(0.01)
say(reset=server.seen[0]["reset"])
"#;
    let backend = http2::start(program, &[]);
    let said = |line: usize| -> Value {
        let line = eventually("it says more", || backend.stdout().lines().nth(line).map(str::to_owned));
        serde_json::from_str(&line).unwrap()
    };
    let address = said(0)["address"].as_str().unwrap().to_owned();
    let instance = Setup::shop(HTTP2, [("a", address)]).start();
    let client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    assert_eq!(said(1)["asked"][":protocol"], "websocket", "{}", said(1));
    drop(client);
    // CANCEL is 8.
    assert_eq!(said(2)["reset"], 8);
}

#[test]
fn where_a_backend_takes_none_the_wish_is_passed_over() {
    let nginx = Nginx::start_with(&["a"], " http2", "", "");
    let instance = Setup::shop(HTTP2, nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let web = instance.listener("web");
    // It answers a plain GET.
    for fields in [&WISH[..], &[]] {
        let response = get(&web, "/", fields);
        assert_eq!((response.status, response.text()), (200, "a".to_owned()));
    }
}
