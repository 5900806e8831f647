//! WebSockets with both roles played by the Python package `websockets`, and by Node's `ws` where node is.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{path::Path, process::Command};
use support::{
    Instance, PATIENCE, Running, Setup, eventually,
    http::get,
    websockets::{Peer, Server, at, closed, counted, hold, tunnels},
};

/// A pool of servers that are WebSockets' alone, so that nothing checks them.
fn start(pool: &str, servers: &[(&str, &Server)]) -> Instance {
    setup(pool, servers).start()
}

fn setup(pool: &str, servers: &[(&str, &Server)]) -> Setup {
    let pool = format!("{pool}\n[pool.health]\ncheck = \"off\"\n");
    Setup::shop(&pool, servers.iter().map(|(name, server)| (name, &server.address)))
}

fn url(instance: &Instance) -> String {
    format!("ws://{}", instance.listener("web"))
}

#[track_caller]
fn drain(instance: &Instance, body: &Value) {
    let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(body.clone()));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
}

#[test]
fn a_conversation_passes_as_it_is() {
    let server = Server::start("a");
    let instance = start("", &[("a", &server)]);
    let mut client = Peer::start(&["talk", &url(&instance)]);
    let told = client.ended();
    assert_eq!(told, [json!({"closed": 4002}), json!({"closed": 4001, "reason": "so it is"})]);
    eventually("the server has seen them end", || (server.peer.closes() == [4002, 1000, 4001]).then_some(()));
    counted(&instance, "a", "tunnels_opened", 3);
    let backend = tunnels(&instance, "a", 0);
    assert!(backend["counts"]["tunnel_bytes_from_backend"].as_u64().unwrap() > 64 << 20);
}

#[test]
fn a_session_that_comes_back_reaches_its_backend() {
    let (a, b, c) = (Server::start("a"), Server::start("b"), Server::start("c"));
    let instance = start("", &[("a", &a), ("b", &b), ("c", &c)]);
    for _ in 0..4 {
        let told = Peer::start(&["stick", &url(&instance), "10"]).ended();
        assert_eq!(told[0]["names"], json!([told[0]["first"]]), "{told:?}");
    }
    eventually("they are counted", || (instance.pool_count("pinned") == 40).then_some(()));
}

#[test]
fn a_drain_waits_for_tunnels_whose_sessions_live_as_long_as_they() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let setup = setup("[pool.affinity.cookie]\nidle_timeout = \"1s\"\n", &[("a", &a), ("b", &b)]);
    let instance = setup.global("workers = 1").start();
    let (client, open) = hold(&url(&instance), 2);
    assert_eq!((at(&open, "a"), at(&open, "b")), (1, 1));
    drain(&instance, &json!({}));
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain?wait=empty&timeout=4s", Some(json!({})));
    assert_eq!(answer["empty"], false, "{answer}");
    let progress = &answer["backend"]["drain_progress"];
    let left = ["live_sessions", "tunnels", "requests_in_flight", "empty"].map(|key| &progress[key]);
    assert_eq!(left, [&json!(1), &json!(1), &json!(0), &json!(false)], "after four times its idle timeout");
    let waits = instance.ctl(&["drain", "shop", "a", "--wait", "--timeout", "1s"]);
    assert!(waits.stdout.contains("1 session, 1 tunnel and 0 requests left"), "{waits:?}");
    let table = instance.ctl(&["backends", "shop"]).stdout;
    assert!(table.lines().next().unwrap().contains("TUNNELS"), "{table}");
    drop(client);
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain?wait=empty&timeout=30s", Some(json!({})));
    assert_eq!(answer["empty"], true, "{answer}");
}

#[test]
fn at_the_deadline_both_sides_are_told_one_after_the_other() {
    for then in [json!(null), json!("close"), json!("remove")] {
        let (a, b) = (Server::start("a"), Server::start("b"));
        let instance = start("[pool.affinity]\nmode = \"cookie\"\n", &[("a", &a), ("b", &b)]);
        let (client, open) = hold(&url(&instance), 80);
        let (at_a, at_b) = (at(&open, "a"), at(&open, "b"));
        let mut body = json!({ "deadline": "1s" });
        if !then.is_null() {
            body["then"] = then.clone();
        }
        drain(&instance, &body);
        closed(&client, 1001, at_a);
        eventually("the backend was told", || (a.peer.closes() == vec![1001; at_a]).then_some(()));
        let at: Vec<_> = client.told().iter().filter_map(|told| told["at"].as_f64()).collect();
        let spread = at.last().unwrap() - at.first().unwrap();
        assert!((2.0..15.0).contains(&spread), "{then}: over {spread} s");
        let largest = at.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        assert!(largest < 3.0, "{then}: evenly, and not {at:?}");
        if then != "remove" {
            counted(&instance, "a", "tunnels_drained", at_a);
        }
        tunnels(&instance, "b", at_b);
        assert_eq!(b.peer.closes(), [0; 0]);
    }
}

#[test]
fn a_drain_that_leaves_what_is_left_leaves_tunnels() {
    let a = Server::start("a");
    let instance = start("", &[("a", &a)]);
    let (client, _) = hold(&url(&instance), 1);
    drain(&instance, &json!({ "deadline": "100ms", "then": "leave" }));
    drain(&instance, &json!({ "deadline": "1ms", "then": "leave" }));
    // Longer than all would have been closed within.
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain?wait=empty&timeout=7s", Some(json!({})));
    assert_eq!((&answer["empty"], client.closes()), (&json!(false), vec![]), "{answer}");
}

#[test]
fn maintenance_and_removal_close_tunnels_unless_they_are_taken_back() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let instance = start("", &[("a", &a), ("b", &b)]);
    let (client, open) = hold(&url(&instance), 40);
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None).0, 200);
    closed(&client, 1001, at(&open, "a"));
    counted(&instance, "a", "tunnels_drained", at(&open, "a"));
    assert_eq!(instance.api("DELETE", "/v1/pools/shop/backends/b", None).0, 200);
    closed(&client, 1001, 40);
    eventually("none is left", || (instance.metric("steadfast_pool_tunnels{pool=\"shop\"}") == 0).then_some(()));

    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/activate", None).0, 200);
    let (client, _) = hold(&url(&instance), 40);
    for state in ["maintenance", "activate"] {
        assert_eq!(instance.api("POST", &format!("/v1/pools/shop/backends/a/{state}"), None).0, 200);
    }
    eventually("those whose turn had come are closed", || {
        let backend = instance.backend("shop", "a");
        (backend["tunnels"].as_u64().unwrap() + client.closes().len() as u64 == 40).then_some(())
    });
    assert!(client.closes().len() < 40, "none was taken back");
}

#[test]
fn a_backend_that_is_down_keeps_its_tunnels_and_one_that_dies_closes_them_at_once() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let instance = start("", &[("a", &a), ("b", &b)]);
    let (client, open) = hold(&url(&instance), 20);
    let put = |health: &str| {
        let body = Some(json!({ "health": health }));
        assert_eq!(instance.api("PUT", "/v1/pools/shop/backends/a/health", body).0, 200);
    };
    put("down");
    // New ones go elsewhere by now.
    let cookie = open["cookie"].as_str().unwrap();
    eventually("it is down", || {
        let answer = instance.explain(json!({ "pool": "shop", "cookie": cookie }));
        (answer["backend"] != "a").then_some(())
    });
    let (at_a, at_b) = (at(&open, "a"), at(&open, "b"));
    tunnels(&instance, "a", at_a);
    put("up");
    a.peer.0.signal(Signal::KILL);
    eventually("it is dead", || a.peer.0.has_ended().then_some(()));
    closed(&client, 1006, at_a);
    tunnels(&instance, "a", 0);
    counted(&instance, "a", "tunnels_closed_by_backend", at_a);
    tunnels(&instance, "b", at_b);
}

#[test]
fn a_client_that_dies_is_gone_at_its_backend_too() {
    let a = Server::start("a");
    let instance = start("", &[("a", &a)]);
    let (mut client, _) = hold(&url(&instance), 5);
    client.0.signal(Signal::KILL);
    eventually("it is dead", || client.0.has_ended().then_some(()));
    eventually("its backend knows", || (a.peer.closes().len() == 5).then_some(()));
    counted(&instance, "a", "tunnels_closed_by_client", 5);
    tunnels(&instance, "a", 0);
}

#[test]
fn a_data_plane_that_is_to_stop_lets_tunnels_be_and_then_tells_them() {
    let a = Server::start("a");
    let mut instance = setup("", &[("a", &a)]).global("workers = 2\ndrain_timeout = \"12s\"").start();
    let (client, _) = hold(&url(&instance), 40);
    instance.process.signal(Signal::TERM);
    let status = instance.process.ended();
    assert!(status.success(), "all had ended by then: {status:?}");
    closed(&client, 1001, 40);
    let at: Vec<_> = client.told().iter().filter_map(|told| told["at"].as_f64()).collect();
    assert!(at.last().unwrap() - at.first().unwrap() > 1.5, "not all at once: {at:?}");
    assert_eq!(a.peer.closes(), vec![1001; 40]);
}

#[test]
fn one_that_floods_is_told_at_the_end_of_a_frame() {
    let a = Server::start("a");
    let instance = start("", &[("a", &a)]);
    let mut client = Peer::start(&["hold", &url(&instance), "/flood", "1"]);
    client.tells("open");
    eventually("it floods", || {
        let backend = instance.backend("shop", "a");
        (backend["counts"]["tunnel_bytes_from_backend"].as_u64().unwrap() > 10 << 20).then_some(())
    });
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None).0, 200);
    closed(&client, 1001, 1);
}

#[test]
fn a_rolling_restart_waits_until_tunnels_are_closed() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let instance = start("", &[("a", &a), ("b", &b)]);
    let (client, _) = hold(&url(&instance), 20);
    let seen = instance.folder.path("seen");
    let command = format!(
        "curl -s http://{}/metrics | grep '^steadfast_backend_tunnels{{.*\"'$STEADFAST_BACKEND'\"' >>{seen:?}",
        instance.admin()
    );
    let restarted = instance.ctl(&["rolling-restart", "shop", "--command", &command, "--deadline", "1s"]);
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    let metric = |name: &str| format!("steadfast_backend_tunnels{{pool=\"shop\",backend=\"{name}\"}} 0\n");
    assert_eq!(std::fs::read_to_string(seen).unwrap(), metric("a") + &metric("b"));
    closed(&client, 1001, 20);
}

#[test]
fn nodes_ws_plays_both_roles() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.node/node_modules");
    if !modules.join("ws").exists() {
        eprintln!("left out: there is no Node with its package `ws` here; tests/run installs that where npm is");
        return;
    }
    let node = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("node");
        command.arg("-e").arg(program).arg("--").args(arguments).env("NODE_PATH", &modules);
        Running::start(command)
    };
    let server = node(
        "const { WebSocketServer } = require('ws');
         const server = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 1 << 30 });
         server.on('listening', () => console.log(server.address().port));
         server.on('connection', socket => {
             socket.on('message', (data, binary) => socket.send(data, { binary }));
             socket.on('close', code => console.log('closed ' + code));
         });",
        &[],
    );
    let port = eventually("it says its port", || server.stdout().lines().next().map(str::to_owned));
    let pool = "[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", format!("127.0.0.1:{port}"))]).start();
    let mut client = node(
        "const WebSocket = require('ws');
         const socket = new WebSocket(process.argv[1] + '/echo', { maxPayload: 1 << 30 });
         const large = Buffer.alloc(64 << 20, 'abcdefg');
         const parts = ['text', '', large];
         socket.on('open', () => socket.ping('are you there'));
         socket.on('pong', () => {
             socket.send('in ', { fin: false });
             socket.send('fragments', { fin: true });
             for (const part of parts) socket.send(part);
         });
         const wanted = ['in fragments', ...parts].map(part => Buffer.from(part));
         socket.on('message', data => {
             if (Buffer.compare(data, wanted.shift())) throw new Error('not what was sent');
             if (!wanted.length) socket.close(4003, 'enough');
         });
         socket.on('close', (code, reason) => console.log(code + ' ' + reason));
         socket.on('error', error => { throw error; });",
        &[&url(&instance)],
    );
    let status = client.ended_within(3 * PATIENCE);
    assert!(status.success(), "{}", client.stderr());
    assert_eq!(client.stdout(), "4003 enough\n");
    eventually("the server knows", || server.stdout().contains("closed 4003").then_some(()));
    counted(&instance, "a", "tunnels_opened", 1);
    // And with Python at the other end.
    let python = Server::start("a");
    let instance = start("", &[("a", &python)]);
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 426, "no WebSocket is no tunnel");
}
