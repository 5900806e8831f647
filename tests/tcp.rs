//! Listeners of plain TCP, with Redis and its own client, and byte for byte.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};
use support::{
    Folder, Instance, Outcome, Running, Scripted, Setup, eventually,
    http::connect_from,
    peers::{Nginx, python},
    pki::Pki,
};

const OFF: &str = "affinity.mode = \"none\"\n[pool.health]\ncheck = \"off\"\n";
const BY_ADDRESS: &str = "affinity.mode = \"source-ip\"\n[pool.health]\ncheck = \"off\"\n";

/// A listener `web` of plain TCP with this beside it, that leads to the pool `shop`.
fn setup<A: std::fmt::Display>(
    listener: &str,
    pool: &str,
    backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
) -> Setup {
    Setup::listening(&format!("protocol = \"tcp\"\n{listener}"), pool, backends)
}

/// Says its name, and then what comes back to it.
fn naming(name: &'static str) -> (&'static str, SocketAddr) {
    let backend = Scripted::start(move |mut stream| {
        if stream.write_all(name.as_bytes()).is_ok() {
            let mut piece = [0; 65_536];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                if stream.write_all(&piece[..count]).is_err() {
                    return;
                }
            }
        }
    });
    (name, backend.address())
}

/// A connection from an address of its own, which the backend has given its name.
fn from(source: [u8; 4], instance: &Instance) -> (String, TcpStream) {
    let mut stream = connect_from(source, &instance.listener("web"));
    let mut name = [0];
    let name = match stream.read(&mut name) {
        Ok(1) => String::from_utf8_lossy(&name).into_owned(),
        other => format!("{other:?}"),
    };
    (name, stream)
}

fn connect(instance: &Instance) -> (String, TcpStream) {
    from([127, 0, 0, 1], instance)
}

fn count(instance: &Instance, backend: &str, name: &str) -> u64 {
    instance.backend("shop", backend)["counts"][name].as_u64().unwrap()
}

#[track_caller]
fn counts(instance: &Instance, backend: &str, name: &str, number: u64) {
    eventually(&format!("{name} of {backend} is {number}"), || {
        (count(instance, backend, name) == number).then_some(())
    });
}

fn command(instance: &Instance, backend: &str, what: &str, body: Value) {
    let (status, answer) = instance.api("POST", &format!("/v1/pools/shop/backends/{backend}/{what}"), Some(body));
    assert_eq!(status, 200, "{answer}");
}

/// Sends this and reads as much back.
fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut back = vec![0; bytes.len()];
    stream.write_all(bytes).is_ok() && stream.read_exact(&mut back).is_ok() && back == bytes
}

#[test]
fn redis_and_its_benchmark_work_through_it() {
    let folder = Folder::new();
    let servers: Vec<(String, String, Running)> = ["a", "b"]
        .into_iter()
        .map(|name| {
            eventually("redis finds a free port", || {
                let held = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = held.local_addr().unwrap();
                drop(held);
                let mut command = Command::new("redis-server");
                command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
                command.current_dir(folder.root());
                let mut process = Running::start(command);
                let serves = eventually("redis serves or gives up", || match process.has_ended() {
                    true => Some(false),
                    false => process.stdout().contains("Ready to accept connections").then_some(true),
                });
                serves.then(|| (name.to_owned(), address.to_string(), process))
            })
        })
        .collect();
    let backends = servers.iter().map(|(name, address, _)| (name.clone(), address.clone()));
    let instance = setup("", "affinity.mode = \"source-ip\"", backends).start();
    let port = instance.port("web");
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]).args(arguments);
        Outcome::of(command).stdout.trim().to_owned()
    };
    assert_eq!(cli(&["set", "cart", "apple"]), "OK");
    // The same client is at the same server, however often it comes.
    (0..10).for_each(|_| assert_eq!(cli(&["get", "cart"]), "apple"));
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &port, "-n", "4000", "-c", "40", "-d", "2000", "-P", "4", "-t", "set,get", "--csv"]);
    let outcome = Outcome::of(benchmark);
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (Some(0), 3), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(cli(&["get", "cart"]), "apple");
    eventually("one of them has served all", || {
        let opened: Vec<_> = ["a", "b"].into_iter().map(|name| count(&instance, name, "tunnels_opened")).collect();
        (opened.contains(&0) && opened.iter().sum::<u64>() > 40).then_some(())
    });
}

#[test]
fn clients_stay_by_their_address_and_move_only_with_their_backend() {
    let backends = [naming("a"), naming("b"), naming("c")];
    let instance = setup("", BY_ADDRESS, backends).start();
    let homes = || (1..=40).map(|last| from([127, 0, 1, last], &instance).0).collect::<Vec<_>>();
    let before = homes();
    assert!(["a", "b", "c"].iter().all(|name| before.iter().any(|home| home == name)), "{before:?}");
    assert_eq!(homes(), before);
    assert_eq!(instance.explain(json!({ "listener": "web", "client": "127.0.1.7" }))["backend"], json!(before[6]));
    command(&instance, "a", "maintenance", json!({}));
    let during = homes();
    let others = |homes: &[String]| homes.iter().zip(&before).filter(|(_, was)| *was != "a").all(|(is, was)| is == was);
    assert!(others(&during) && during.iter().all(|home| home != "a"), "{during:?}");
    command(&instance, "a", "activate", json!({}));
    assert_eq!(homes(), before);
    // A data plane that starts anew, and a backend that comes, change nothing for those whose backend is there.
    let old = instance.signal("dataplane", Signal::KILL);
    instance.replaced("dataplane", old);
    assert_eq!(homes(), before);
    let (_, address) = naming("d");
    let (status, _) = instance.api("PUT", "/v1/pools/shop/backends/d", Some(json!({ "address": address.to_string() })));
    assert_eq!(status, 201);
    let after = homes();
    assert!(after.iter().zip(&before).all(|(is, was)| is == was || is == "d"), "{after:?}");
    eventually("live sessions are counted", || (instance.live_sessions(&["a", "b", "c", "d"]) >= 40).then_some(()));
}

#[test]
fn bytes_pass_both_ways_with_half_closes() {
    let backend = Scripted::start(|mut stream| {
        // It answers once it has heard all.
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            all.reverse();
            let _ = stream.write_all(&all);
        }
    });
    let instance = setup("", OFF, [("a", backend.address())]).start();
    let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
    let mut content: Vec<u8> = (0..20usize << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    stream.write_all(&content).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    content.reverse();
    assert!(back == content);
    counts(&instance, "a", "tunnels_closed_by_client", 1);
    assert_eq!(count(&instance, "a", "tunnel_bytes_to_backend"), 20 << 20);
    assert_eq!((count(&instance, "a", "requests"), instance.pool_count("requests")), (1, 1));
}

#[test]
fn a_dead_backend_is_passed_over_and_nobody_is_told_by_a_reset() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let instance = setup("", OFF, [("a", dead), naming("b")]).start();
    (0..8).for_each(|_| assert_eq!(connect(&instance).0, "b"));
    eventually("failures and retries are counted", || {
        (count(&instance, "a", "connect_failures") > 0 && instance.pool_count("retries") > 0).then_some(())
    });
    let instance = setup("", OFF, [("a", dead)]).start();
    let (said, _) = connect(&instance);
    assert!(said.contains(&format!("{:?}", ErrorKind::ConnectionReset)), "{said}");
}

#[test]
fn the_death_of_a_backend_ends_its_connections_and_is_counted() {
    let backend = Scripted::start(|mut stream| {
        let _ = stream.write_all(b"a");
        let mut piece = [0; 16];
        let _ = stream.read(&mut piece);
        // Its connection is reset, since it has not read all.
        let _ = stream.write_all(b"!");
    });
    let instance = setup("", OFF, [("a", backend.address())]).start();
    let (_, mut stream) = connect(&instance);
    stream.write_all(&[0; 4_096]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    eventually("its end is counted", || {
        let ended = ["tunnels_broken_by_backend", "tunnels_closed_by_backend"];
        (ended.iter().map(|name| count(&instance, "a", name)).sum::<u64>() == 1).then_some(())
    });
}

#[test]
fn silence_ends_a_connection_and_traffic_keeps_it() {
    let pool = format!("timeouts = {{ tunnel = \"1s\" }}\n{OFF}");
    let instance = setup("", &pool, [naming("a")]).start();
    let (_, mut silent) = connect(&instance);
    let (_, mut busy) = connect(&instance);
    while count(&instance, "a", "tunnels_idle") == 0 {
        assert!(echoes(&mut busy, b"still here"));
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(echoes(&mut busy, b"and still"));
    assert_eq!(count(&instance, "a", "tunnels_idle"), 1);
}

#[test]
fn a_backend_with_a_limit_takes_no_more_connections_than_that() {
    let pool = format!("limits = {{ requests = 1, queue = 1, queue_timeout = \"20s\" }}\n{OFF}");
    let instance = setup("", &pool, [naming("a")]).start();
    let (name, first) = connect(&instance);
    assert_eq!(name, "a");
    let mut second = TcpStream::connect(instance.listener("web")).unwrap();
    second.set_read_timeout(Some(support::PATIENCE)).unwrap();
    eventually("it waits", || (instance.pool_count("queued") == 1).then_some(()));
    // A third finds the queue full.
    let (said, _) = connect(&instance);
    assert!(said.contains("ConnectionReset"), "{said}");
    eventually("it is counted", || (instance.pool_count("queue_full") == 1).then_some(()));
    drop(first);
    let mut name = [0];
    second.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"a");
}

#[test]
fn drains_count_connections_and_end_them_in_their_time() {
    let backends = [naming("a"), naming("b")];
    let short = "workers = 2\ndrain_timeout = \"4s\"";
    let instance = setup("", BY_ADDRESS, backends).global(short).start();
    let mut at_a: Vec<_> = (1..=20)
        .map(|last| from([127, 0, 1, last], &instance))
        .filter(|(name, _)| name == "a")
        .map(|(_, s)| s)
        .collect();
    assert!(at_a.len() > 2);
    command(&instance, "a", "drain", json!({ "deadline": "1h" }));
    assert!(at_a.iter_mut().all(|stream| echoes(stream, b"still served")));
    eventually("those that are open are told", || {
        (instance.backend("shop", "a")["tunnels"] == json!(at_a.len())).then_some(())
    });
    assert!((1..=40).all(|last| from([127, 0, 2, last], &instance).0 == "b"), "nobody new");
    command(&instance, "a", "maintenance", json!({}));
    for stream in &mut at_a {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it ends");
    }
    counts(&instance, "a", "tunnels_drained", at_a.len() as u64);
    // What ends with the process has its time as well.
    let (_, mut last) = from([127, 0, 3, 1], &instance);
    instance.process.signal(Signal::TERM);
    assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn tls_is_taken_off_and_put_on() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test,IP:127.0.0.1");
    let tls = format!("tls.certificate = [{}]", shop.toml());
    let program = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
tls = context.wrap_socket(tcp, server_hostname='shop.test', suppress_ragged_eofs=False)
assert tls.recv(1) == b'a'
sent = bytes(n % 251 for n in range(300_000))
tls.sendall(sent)
got = b''
while len(got) < len(sent):
    got += tls.recv(65536)
assert got == sent
tls.unwrap()
";
    let ask = |instance: &Instance| {
        let outcome = python(program, &[&instance.port("web"), pki.ca().to_str().unwrap()]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    };
    let plain = naming("a");
    ask(&setup(&tls, OFF, [plain]).start());
    // And over TLS to one that takes it off again.
    let inner = setup(&tls, OFF, [plain]).start();
    let pool = format!("{OFF}[pool.tls]\nca = {:?}\n", pki.ca());
    ask(&setup(&tls, &pool, [("a", inner.listener("web"))]).start());
}

#[test]
fn a_pool_that_needs_requests_is_refused_behind_it() {
    let nginx = Nginx::start(&["a"]);
    let instance = setup("", "affinity.mode = \"none\"", nginx.backends.clone()).start();
    assert_eq!(support::http::get(&instance.listener("web"), "/", &[]).text(), "a", "it is any protocol");
    let (status, answer) = instance.api("PUT", "/v1/pools/shop", Some(json!({ "affinity": { "mode": "cookie" } })));
    assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/affinity/mode")), "{answer}");
    let (status, _) = instance.api("PUT", "/v1/pools/shop", Some(json!({ "affinity": { "mode": "source-ip" } })));
    assert_eq!(status, 200);
    let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\na") && !answer.contains("Via"), "nothing is added: {answer}");
}

#[test]
fn routes_lead_by_the_name_that_is_asked_for_in_tls() {
    let pki = Pki::new();
    let inner = |name: &str| {
        let issued = pki.issue(name, &format!("DNS:{name}.test"));
        Nginx::start_with(
            &["x"],
            " ssl",
            &format!("ssl_certificate {}; ssl_certificate_key {};", issued.chain.display(), issued.key.display()),
            name,
        )
    };
    let (a, b, rest) = (inner("a"), inner("b"), inner("rest"));
    let pools = |pools: &[(&str, &Nginx)]| {
        let pool = |(name, nginx): &(&str, &Nginx)| {
            let address = &nginx.backends[0].1;
            format!("[[pool]]\nname = \"{name}\"\n{OFF}[[pool.backend]]\nname = \"x\"\naddress = \"{address}\"\n")
        };
        pools.iter().map(pool).collect::<String>()
    };
    let listener = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\ntimeouts.head = \"1s\"\n\
        route = [{ host = \"A.test\", pool = \"a\" }, { host = \"*.b.test\", pool = \"b\" }]\n";
    let all = pools(&[("a", &a), ("b", &b), ("rest", &rest)]);
    let with_rest = Setup::new(&format!("{listener}pool = \"rest\"\n{all}")).start();
    let alone = Setup::new(&format!("{listener}{all}")).start();
    let ask = |instance: &Instance, name: &str| {
        let outcome = support::pki::curl(&instance.listener("web"), name, "/", &pki.ca(), &["-k"]);
        (outcome.code, outcome.stdout)
    };
    for (name, home) in
        [("a.test", "a"), ("x.b.test", "b"), ("y.x.b.test", "b"), ("b.test", "rest"), ("127.0.0.1", "rest")]
    {
        assert_eq!(ask(&with_rest, name), (Some(0), home.to_owned()), "{name}");
        let expected = if home == "rest" { String::new() } else { home.to_owned() };
        assert_eq!(ask(&alone, name).1, expected, "{name}");
    }
    alone.counts("no_route", 2);
    // The certificate is the backend's own: nobody has looked inside.
    assert_eq!(support::pki::curl(&with_rest.listener("web"), "a.test", "/", &pki.ca(), &[]).stdout, "a");
    // Byte by byte, never, and half.
    let mut silent = TcpStream::connect(alone.listener("web")).unwrap();
    silent.set_read_timeout(Some(support::PATIENCE)).unwrap();
    silent.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    alone.counts("head_timeouts", 1);
    assert_eq!(with_rest.explain(json!({ "listener": "web", "host": "q.b.test" }))["pool"], "b");
}

#[test]
fn routes_lead_by_name_where_tls_is_taken_off_too() {
    let pki = Pki::new();
    let issued = pki.issue("both", "DNS:a.test,DNS:b.test");
    let (a, b) = (naming("a"), naming("b"));
    let pool = |name: &str, address: SocketAddr| {
        format!("[[pool]]\nname = \"{name}\"\n{OFF}[[pool.backend]]\nname = \"x\"\naddress = \"{address}\"\n")
    };
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"a\"\n\
         route = [{{ host = \"b.test\", pool = \"b\" }}]\ntls.certificate = [{}]\n{}{}",
        issued.toml(),
        pool("a", a.1),
        pool("b", b.1)
    );
    let instance = Setup::new(&rest).start();
    let program = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
print(context.wrap_socket(tcp, server_hostname=sys.argv[3]).recv(1).decode())
";
    for name in ["a", "b"] {
        let (port, ca, asked) = (instance.port("web"), pki.ca(), format!("{name}.test"));
        let outcome = python(program, &[&port, ca.to_str().unwrap(), &asked]);
        assert_eq!(outcome.stdout.trim(), name, "{}", outcome.stderr);
    }
}
