//! Upgraded connections, byte for byte: what is let through, what is passed on, and how a tunnel ends.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};
use support::{
    Instance, Recorder, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get},
    resident,
    websockets::{Raw, handshake},
};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const GOING_AWAY: &[u8] = b"\x88\x02\x03\xe9";

/// A backend that agrees to every upgrade and then does as it is told.
fn switching(then: impl Fn(TcpStream) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let protocol = head.lines().find_map(|line| line.strip_prefix("Upgrade: ")).unwrap_or("websocket").to_owned();
        let head = SWITCHED.replace("websocket", &protocol);
        if stream.write_all(head.as_bytes()).is_ok() {
            then(stream);
        }
    })
}

/// Sends back what comes, to the end.
fn echo(mut stream: TcpStream) {
    let mut piece = [0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        if stream.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}

fn start(pool: &str, backend: &Scripted) -> Instance {
    let pool = format!("{pool}\n[pool.health]\ncheck = \"off\"\n");
    Setup::shop(&pool, [("a", backend.address())]).start()
}

fn count(instance: &Instance, name: &str) -> u64 {
    instance.backend("shop", "a")["counts"][name].as_u64().unwrap()
}

#[track_caller]
fn counts(instance: &Instance, name: &str, number: u64) {
    eventually(&format!("{name} is {number}"), || (count(instance, name) == number).then_some(()));
}

/// Whether the backend's field for open tunnels, and what is summed elsewhere, say so.
#[track_caller]
fn open(instance: &Instance, number: u64) {
    eventually(&format!("{number} tunnels are open"), || {
        let backend = instance.backend("shop", "a");
        let pool = instance.metric("steadfast_pool_tunnels{pool=\"shop\"}");
        let gauge = instance.metric("steadfast_backend_tunnels{pool=\"shop\",backend=\"a\"}");
        (backend["tunnels"] == number && pool == number && gauge == number).then_some(())
    });
}

#[test]
fn what_is_sent_behind_the_heads_in_one_segment_arrives() {
    let backend = Scripted::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(format!("{SWITCHED}from the backend").as_bytes()).unwrap();
        let mut early = [0; 15];
        stream.read_exact(&mut early).unwrap();
        stream.write_all(&early).unwrap();
    });
    let instance = start("", &backend);
    let early = [handshake("").as_bytes(), b"from the client"].concat();
    let mut client = Raw::open(&instance.listener("web"), &early);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "{head}");
    assert!(head.contains("Set-Cookie: lb-affinity="), "affinity is decided at the handshake: {head}");
    client.reads(b"from the backendfrom the client");
    assert!(client.rest().is_empty());
    client.ends();
    counts(&instance, "tunnels_closed_by_backend", 1);
    let now = instance.backend("shop", "a")["counts"].clone();
    let bytes = ["tunnels_opened", "tunnel_bytes_to_backend", "tunnel_bytes_from_backend"].map(|key| &now[key]);
    assert_eq!(bytes, [&json!(1), &json!(15), &json!(31)]);
    assert!(now["bytes_to_backend"].as_u64().unwrap() > 100, "the head counts there, and the tunnel too: {now}");
}

#[test]
fn one_side_may_end_and_the_other_go_on() {
    const MORE: usize = 3 << 20;
    let backend = switching(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"all that I have");
        stream.write_all(&vec![b'y'; MORE]).unwrap();
    });
    let instance = start("upgrades = [\"raw/1\"]\n", &backend);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw/1\r\nContent-Length: 0\r\n\r\n";
    let mut client = Raw::open(&instance.listener("web"), head.as_bytes());
    assert!(client.head().contains("Upgrade: raw/1\r\n"));
    client.send(b"all that I have");
    client.ends();
    assert_eq!(client.rest(), vec![b'y'; MORE]);
    counts(&instance, "tunnels_closed_by_client", 1);
    open(&instance, 0);
}

#[test]
fn what_may_not_be_upgraded_is_an_ordinary_request() {
    let backend = Recorder::start();
    let pool = "[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", backend.address())]).start();
    let mut client = Connection::open(&instance.listener("web"));
    let websocket = handshake("");
    for (request, why) in [
        (websocket.replace("Upgrade: websocket", "Upgrade: h2c"), "h2c"),
        (websocket.replace("Upgrade: websocket", "Upgrade: mqtt"), "not allowed here"),
        (websocket.replace("GET", "POST"), "a WebSocket begins with GET"),
        (websocket.replace("Sec-WebSocket-Key", "X-Key"), "and has a key"),
        (websocket.replace("Connection: Upgrade", "Connection: keep-alive"), "for another hop"),
    ] {
        client.send(request.as_bytes());
        assert_eq!(client.response(false).unwrap().status, 200, "{why}");
        let seen = backend.take_up_to("\r\n\r\n");
        assert!(!seen.contains("Upgrade"), "{why}: {seen}");
    }
    // A backend that does not agree answers as to any other request, on connections that stay.
    client.send(websocket.as_bytes());
    assert_eq!(client.response(false).unwrap().text(), "ok");
    assert!(backend.take_up_to("\r\n\r\n").contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response(false).unwrap().text(), "ok");
    counts(&instance, "requests", 7);
    assert_eq!((count(&instance, "tunnels_opened"), count(&instance, "connects")), (0, 1));
}

#[test]
fn a_101_that_nobody_asked_for_is_refused() {
    let backend = Scripted::answering(SWITCHED.replace("websocket", "h2c").as_bytes());
    let instance = start("", &backend);
    for request in [handshake(""), "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()] {
        let mut client = Connection::open(&instance.listener("web"));
        client.send(request.as_bytes());
        assert_eq!(client.response(false).unwrap().status, 502, "{request}");
    }
    counts(&instance, "bad_responses", 2);
    assert_eq!(count(&instance, "tunnels_opened"), 0);
}

#[test]
fn a_pool_without_upgrades_has_none() {
    let backend = Recorder::start();
    let pool = "upgrades = []\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", backend.address())]).start();
    let mut client = Connection::open(&instance.listener("web"));
    client.send(handshake("").as_bytes());
    assert_eq!(client.response(false).unwrap().status, 200);
    assert!(!backend.take().contains("Upgrade"));
    // Over REST as in the file, and what is left out is the default.
    let put = |body: Value| instance.api("PUT", "/v1/pools/shop", Some(body));
    let (status, answer) = put(json!({ "upgrades": ["h2c", "web socket"] }));
    assert_eq!(status, 422, "{answer}");
    let wrong: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(wrong, ["/upgrades/0", "/upgrades/1"], "{answer}");
    assert_eq!(put(json!({ "health": { "check": "off" } })).0, 200);
    let (_, pool) = instance.api("GET", "/v1/pools/shop", None);
    assert_eq!(pool["upgrades"], json!(["websocket"]));
    client.send(handshake("").as_bytes());
    assert_eq!(client.response(false).unwrap().status, 200);
    assert!(backend.take_up_to("\r\n\r\n").contains("Upgrade: websocket"));
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed_and_both_sides_are_told() {
    let (tell, told) = mpsc::channel();
    let backend = switching(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        tell.send(all).unwrap();
    });
    let instance = start("[pool.timeouts]\ntunnel = \"3s\"\n", &backend);
    let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    client.head();
    let began = Instant::now();
    for _ in 0..4 {
        std::thread::park_timeout(Duration::from_millis(500));
        client.send(b"\x81\x80abcd");
    }
    client.reads(GOING_AWAY);
    assert!(began.elapsed() >= Duration::from_millis(4_900), "what moves puts it off: {:?}", began.elapsed());
    assert!(client.rest().is_empty());
    client.ends();
    let mut all = told.recv().unwrap();
    let close = all.split_off(24);
    assert_eq!(all, b"\x81\x80abcd".repeat(4));
    let [0x88, 0x82, mask @ .., one, two] = close.as_slice() else { panic!("a masked close frame: {close:?}") };
    assert_eq!([one ^ mask[0], two ^ mask[1]], [0x03, 0xe9]);
    counts(&instance, "tunnels_idle", 1);
    open(&instance, 0);
}

#[test]
fn within_a_frame_a_tunnel_is_closed_without_a_word() {
    let backend = switching(|mut stream| {
        // Half a frame, and nothing more.
        stream.write_all(b"\x82\x0ahalf").unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let instance = start("[pool.timeouts]\ntunnel = \"500ms\"\n", &backend);
    let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    client.head();
    assert_eq!(client.rest(), b"\x82\x0ahalf");
    counts(&instance, "tunnels_idle", 1);
}

#[test]
fn a_side_that_is_slow_holds_back_the_other_and_loses_nothing() {
    const SIZE: usize = 64 << 20;
    let content = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let backend = switching(move |mut stream| {
        let all: Vec<_> = (0..SIZE).map(content).collect();
        stream.write_all(&all).unwrap();
    });
    let instance = start("upgrades = [\"raw\"]\n", &backend);
    let before = resident(instance.pid("dataplane"));
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
    let mut client = Raw::open(&instance.listener("web"), head.as_bytes());
    client.head();
    let (mut last, mut since) = (0, Instant::now());
    eventually("the backend is held back", || {
        let now = count(&instance, "tunnel_bytes_from_backend");
        if now == 0 || now != last {
            (last, since) = (now, Instant::now());
        }
        // Figures come each second.
        (since.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
    assert!(last < SIZE as u64 / 2, "{last}");
    let grown = resident(instance.pid("dataplane")).saturating_sub(before);
    // Memory comes in steps of 2 MiB where the kernel has huge pages, and other things than tunnels take some.
    assert!(grown < SIZE / 4, "{grown}");
    let mut got = 0;
    let mut piece = vec![0; 1 << 20];
    while let count @ 1.. = client.0.read(&mut piece).unwrap() {
        assert!(piece[..count].iter().enumerate().all(|(at, byte)| *byte == content(got + at)));
        got += count;
    }
    assert_eq!(got, SIZE);
}

#[test]
fn who_breaks_a_tunnel_is_counted_and_the_other_side_sees_its_end() {
    let (tell, told) = mpsc::channel();
    let backend = switching(move |mut stream| {
        stream.write_all(b"hi").unwrap();
        let mut first = [0; 1];
        drop(stream.read_exact(&mut first));
        if first == *b"r" {
            // Closed with input unread: a reset.
            return;
        }
        tell.send(stream.read(&mut first).unwrap_or(0)).unwrap();
    });
    let instance = start("", &backend);
    let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    client.head();
    client.send(&[b'r'; 100_000]);
    assert_eq!(client.rest(), b"hi");
    counts(&instance, "tunnels_broken_by_backend", 1);

    let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    client.head();
    client.send(b"x");
    open(&instance, 1);
    // The same.
    assert_eq!(client.0.peek(&mut [0; 2]).unwrap(), 2);
    drop(client);
    assert_eq!(told.recv().unwrap(), 0);
    counts(&instance, "tunnels_broken_by_client", 1);
    open(&instance, 0);
}

#[test]
fn a_tunnel_takes_up_room_and_is_load_but_no_request_and_no_time() {
    let backend = Scripted::start(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.contains("Upgrade:") {
                stream.write_all(SWITCHED.as_bytes()).unwrap();
                return echo(stream);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let pool = "[pool.affinity]\nmode = \"none\"\n[pool.limits]\nrequests = 1\nqueue = 1\nqueue_timeout = \"200ms\"\n";
    let instance = start(pool, &backend);
    let address = instance.listener("web");
    let mut client = Raw::open(&address, handshake("").as_bytes());
    client.head();
    client.send(b"hello");
    client.reads(b"hello");
    open(&instance, 1);
    let began = Instant::now();
    assert_eq!(get(&address, "/", &[]).status, 503, "it has the one place there is");
    assert_eq!(instance.backend("shop", "a")["requests_in_flight"], 0);
    eventually("figures of three seconds have come", || (began.elapsed() > Duration::from_secs(4)).then_some(()));
    let busy = count(&instance, "busy_milliseconds");
    assert!(busy < 1_000, "the handshake's alone, and no {busy} ms");
    client.0.shutdown(Shutdown::Both).unwrap();
    open(&instance, 0);
    eventually("its place is free", || (get(&address, "/", &[]).status == 200).then_some(()));
}

/// A backend that tells the heads that reach it, agrees to each upgrade with these fields, and waits for the end.
fn telling(fields: &'static str) -> (Scripted, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel();
    let backend = Scripted::start(move |mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        tell.send(head).unwrap();
        stream.write_all(SWITCHED.replace("\r\n\r\n", &format!("\r\n{fields}\r\n")).as_bytes()).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    });
    (backend, told)
}

/// The values of all fields of a name.
fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[test]
fn a_handshake_binds_in_the_modes_in_which_the_application_names_its_sessions_too() {
    let app = "[pool.affinity]\nmode = \"app-cookie\"\n[pool.affinity.app_cookie]\nname = \"sid\"\n";
    let header = "[pool.affinity]\nmode = \"header\"\n[pool.affinity.header]\nname = \"Mcp-Session-Id\"\n";
    let set = "Set-Cookie: sid=one; HttpOnly\r\nMcp-Session-Id: one\r\n";
    for (pool, came, went) in [
        (format!("{app}style = \"follow\"\n"), "Set-Cookie", "Cookie: sid=one"),
        (format!("{app}style = \"prefix\"\n"), "Set-Cookie", "Cookie: sid=one"),
        (format!("{header}style = \"follow\"\n"), "Mcp-Session-Id", "Mcp-Session-Id: one"),
    ] {
        let (backend, told) = telling(set);
        let instance = start(&pool, &backend);
        let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
        let head = client.head();
        told.recv().unwrap();
        let pairs: Vec<_> = values(&head, came).iter().map(|value| value.split(';').next().unwrap()).collect();
        assert!(pairs.concat().len() > 60, "a token is in it: {head}");
        let back = match came {
            "Set-Cookie" => format!("Cookie: {}\r\n", pairs.join("; ")),
            name => format!("{name}: {}\r\n", pairs[0]),
        };
        Raw::open(&instance.listener("web"), handshake(&back).as_bytes()).head();
        let seen = told.recv().unwrap();
        assert!(seen.contains(&format!("\r\n{went}\r\n")), "the backend sees its own: {seen}");
        eventually("the session came back", || (instance.pool_count("pinned") == 1).then_some(()));
        assert_eq!(instance.live_sessions(&["a"]), 1);
    }
}

#[test]
fn one_that_is_opened_just_as_its_backend_goes_is_closed_with_the_others() {
    let (answer, waits) = mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let (tell, told) = mpsc::channel();
    let backend = Scripted::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        tell.send(()).unwrap();
        waits.lock().unwrap().recv().unwrap();
        stream.write_all(SWITCHED.as_bytes()).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let instance = start("", &backend);
    let mut client = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    told.recv().unwrap();
    let (status, answered) = instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None);
    assert_eq!((status, &answered["applied"]), (200, &json!(true)));
    answer.send(()).unwrap();
    client.head();
    client.reads(GOING_AWAY);
    counts(&instance, "tunnels_drained", 1);
}

#[test]
fn both_directions_move_at_once_and_each_arrives_as_it_was() {
    const SIZE: usize = 8 << 20;
    let backend = switching(echo);
    let instance = start("upgrades = [\"raw\"]\n", &backend);
    let address = instance.listener("web");
    std::thread::scope(|scope| {
        for number in 0..6usize {
            let address = &address;
            scope.spawn(move || {
                let content = move |at: usize| (at.wrapping_mul(2_654_435_761 + number) >> 11) as u8;
                let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
                let mut client = Raw::open(address, head.as_bytes());
                client.head();
                let mut sender = client.0.try_clone().unwrap();
                let sends = scope.spawn(move || {
                    let all: Vec<_> = (0..SIZE).map(content).collect();
                    let (mut at, mut step) = (0, 1);
                    while at < SIZE {
                        // From single bytes to more than any buffer takes.
                        let next = SIZE.min(at + step);
                        sender.write_all(&all[at..next]).unwrap();
                        (at, step) = (next, if step > 200_000 { 1 } else { step * 3 + number });
                    }
                    sender.shutdown(Shutdown::Write).unwrap();
                });
                let got = client.rest();
                sends.join().unwrap();
                assert!(got.len() == SIZE && got.iter().enumerate().all(|(at, byte)| *byte == content(at)));
            });
        }
    });
    counts(&instance, "tunnels_closed_by_client", 6);
    open(&instance, 0);
}
