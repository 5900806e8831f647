//! HTTP/2 to backends: connections that requests share, translated both ways, and what goes wrong on them.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    Running, Setup, eventually,
    http::{Connection, get, request},
    http2::{self, ask},
    peers::Nginx,
    pki::Pki,
};

/// Backends speak HTTP/2, and no check talks to them.
const HTTP2: &str = "http2 = true\n[pool.health]\ncheck = \"off\"\n";

/// A backend in Python, and what it has said: its address first.
struct Backend {
    process: Running,
    address: String,
}

impl Backend {
    /// Requests that have reached it.
    fn seen(&self) -> usize {
        self.process.stdout().lines().count() - 1
    }

    /// `answer` is the body of a function of `state`, `stream` and `request`.
    #[track_caller]
    fn start(answer: &str) -> Self {
        let lines: Vec<_> = answer.lines().map(|line| format!("    {line}")).collect();
        let program = format!(
            "def answer(state, stream, request):\n    say(seen=request)\n{}\nserver = Server(answer)\n\
             say(address=server.address)\nthreading.Event().wait()",
            lines.join("\n")
        );
        let process = http2::start(&program, &[]);
        let told = eventually("the backend says where it is", || process.stdout().lines().next().map(str::to_owned));
        let told: Value = serde_json::from_str(&told).unwrap();
        Self { process, address: told["address"].as_str().unwrap().to_owned() }
    }
}

/// What echoes a request: its line, its fields, its body.
const ECHO: &str = r#"
text = json.dumps([[list(field) for field in request["fields"]], request["data"].decode(), request["trailers"]]).encode()
state.send_headers(stream, [(":status", "200"), ("x-answer", "yes")])
state.send_data(stream, text)
state.send_headers(stream, [("x-sum", "5")], end_stream=True)
"#;

#[test]
fn requests_of_all_clients_share_connections_and_keep_their_backends() {
    let nginx = Nginx::start_with(&["a", "b", "c"], " http2", "", "");
    let big: Vec<u8> = (0..2_000_000u32).map(|at| (at / 3) as u8).collect();
    nginx.file("big", &big);
    let pool = "http2 = true\n[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\nexpect = \"200\"\n";
    let instance = Setup::shop(pool, nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let address = instance.listener("web");
    eventually("checks find it up", || (instance.backend("shop", "a")["health"] == "up").then_some(()));
    let mut homes = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let first = get(&address, "/", &[]);
        assert_eq!((first.status, first.header("via")), (200, Some("2.0 steadfast")));
        let cookie = first.cookie("lb-affinity").unwrap();
        for _ in 0..5 {
            let again = get(&address, "/", &[("Cookie", &cookie)]);
            assert_eq!(again.text(), first.text());
        }
        homes.insert(first.text());
    }
    assert_eq!(homes.len(), 3);
    let mut client = Connection::open(&address);
    let response = client.request("GET", "/files/big", &[], b"");
    assert!(response.body == big, "{} of {} bytes", response.body.len(), big.len());
    let head = client.request("HEAD", "/files/big", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("2000000")));
    assert_eq!(client.request("GET", "/files/none", &[], b"").status, 404);
    let many = ask(
        r#"
client = Client(sys.argv[1])
answers = client.finish(*[client.send(client.fields("/files/big?%d" % at)) for at in range(40)])
say(whole=sum(len(answer["data"]) == 2000000 and answer["ended"] for answer in answers))
"#,
        &[&address],
    );
    assert_eq!(many, json!({"whole": 40}));
    // Two workers, three backends.
    let connects =
        || ["a", "b", "c"].map(|name| instance.backend("shop", name)["counts"]["connects"].as_u64().unwrap());
    assert!(connects().iter().sum::<u64>() <= 6, "{:?}", connects());
}

#[test]
fn what_goes_there_and_comes_back_is_the_same_message() {
    let backend = Backend::start(ECHO);
    let instance = Setup::shop(HTTP2, [("a", &backend.address)]).start();
    let address = instance.listener("web");
    let fields = [("Connection", "X-Hop"), ("X-Hop", "1"), ("X-A", "b"), ("Cookie", "c=d"), ("TE", "trailers")];
    let told = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let response = request(&address, "POST", "/x?y=%20", &fields, b"hello");
    assert_eq!((response.status, response.header("x-answer")), (200, Some("yes")));
    let said = told(&response.body);
    let has = |name: &str, value: &str| said[0].as_array().unwrap().contains(&json!([name, value]));
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/x?y=%20"),
        ("x-a", "b"),
        ("cookie", "c=d"),
        ("content-length", "5"),
        ("via", "1.1 steadfast"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert!(has(name, value), "no {name}: {value} in {said}");
    }
    assert!(said[0].as_array().unwrap().iter().all(|field| field[0] != "connection" && field[0] != "x-hop"), "{said}");
    assert_eq!(said[1], "hello");
    // Trailers of both, where both sides are HTTP/2.
    let said = ask(
        r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields(method="POST", more=[("te", "trailers")]), body=b"hello", trailers=[("x-end", "of it")])
seen = json.loads(answer["data"])
say(status=answer["status"], trailers=answer["trailers"], came=seen[2], te=["te", "trailers"] in seen[0],
    authority=[":authority", "shop.test"] in seen[0], body=seen[1], ended=answer["ended"])
"#,
        &[&address],
    );
    let expected = json!({
        "status": 200, "trailers": {"x-sum": "5"}, "came": [["x-end", "of it"]], "te": true, "authority": true,
        "body": "hello", "ended": true,
    });
    assert_eq!(said, expected);
}

#[test]
fn what_a_backend_refuses_or_breaks_off_is_told_and_never_made_whole() {
    for (answer, status, whole, requests) in [
        // Given back untouched, so that it goes there again: over a connection of its own.
        (
            "if len(server.seen) == 1: state.reset_stream(stream, 7)\nelse: state.send_headers(stream, [(':status', '204')], end_stream=True)",
            204,
            true,
            2,
        ),
        ("state.reset_stream(stream, 7)", 502, true, 2),
        // Whoever says this may have done some of it.
        ("state.reset_stream(stream, 2)", 502, true, 1),
        ("return 'close'", 502, true, 1),
        (
            "state.send_headers(stream, [(':status', '200')]); state.send_data(stream, b'hello'); state.reset_stream(stream, 2)",
            200,
            false,
            1,
        ),
        (
            "state.send_headers(stream, [(':status', '200'), ('content-length', '9')]); state.send_data(stream, b'hello', end_stream=True)",
            200,
            false,
            1,
        ),
        ("state.send_headers(stream, [(':status', '200'), ('connection', 'close')], end_stream=True)", 502, true, 1),
        (
            "state.send_headers(stream, [(':status', '103')])\nstate.send_headers(stream, [(':status', '200')], end_stream=True)",
            200,
            true,
            1,
        ),
    ] {
        let backend = Backend::start(answer);
        let instance = Setup::shop(HTTP2, [("a", &backend.address)]).start();
        let said = ask(
            r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields(method="POST"))
say(status=answer["status"], ended=answer["ended"], reset=answer["reset"] is not None)
"#,
            &[&instance.listener("web")],
        );
        assert_eq!((said["ended"].as_bool(), said["reset"].as_bool()), (Some(whole), Some(!whole)), "{answer}");
        // A reset may overtake what was sent before it.
        assert!(said["status"] == status || !whole, "{said} of {answer}");
        assert_eq!(backend.seen(), requests, "{answer}");
    }
}

#[test]
fn backends_agree_on_it_over_tls_or_are_not_served() {
    let pki = Pki::new();
    let inside = pki.issue("inside", "DNS:inside.test");
    let server = format!(
        "ssl_certificate {};\nssl_certificate_key {};",
        inside.chain.to_str().unwrap(),
        inside.key.to_str().unwrap()
    );
    for (listen, status) in [(" ssl http2", 200), (" ssl", 503)] {
        let nginx = Nginx::start_with(&["a"], listen, &server, "");
        let pool = format!("{HTTP2}[pool.tls]\nca = {:?}\nserver_name = \"inside.test\"\n", pki.ca());
        let instance = Setup::shop(&pool, nginx.backends.iter().map(|(name, address)| (name, address))).start();
        assert_eq!(get(&instance.listener("web"), "/", &[]).status, status, "{listen}");
        let failures = || instance.backend("shop", "a")["counts"]["tls_failures"].as_u64().unwrap();
        eventually("failures are counted", || ((failures() > 0) == (status == 503)).then_some(()));
    }
}

#[test]
fn a_backend_that_dies_fails_what_it_had_and_one_that_comes_back_serves() {
    let nginx = Nginx::start_with(&["a", "b"], " http2", "", "");
    let pool = format!("{HTTP2}[pool.affinity]\non_down = \"spill\"\n[pool.retry]\nattempts = 2\n");
    let mut backend = Backend::start("pass");
    let backends = [("a", backend.address.clone()), ("b", nginx.backends[1].1.clone())];
    let instance = Setup::shop(&pool, backends).start();
    let address = instance.listener("web");
    let waiting = http2::start(
        r#"
client = Client(sys.argv[1])
streams = [client.send(client.fields()) for _ in range(20)]
answers = client.finish(*streams)
say(served=sum(answer["status"] == 200 for answer in answers), failed=sum(answer["status"] == 502 for answer in answers))
"#,
        &[&address],
    );
    let in_flight = || instance.backend("shop", "a")["requests_in_flight"].as_u64().unwrap();
    eventually("half of them wait for a", || (in_flight() == 10).then_some(()));
    backend.process.signal(Signal::KILL);
    backend.process.ended();
    let said = eventually("the client has all answers", || waiting.stdout().lines().next().map(str::to_owned));
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"served": 10, "failed": 10}));
    // New sessions go where somebody is.
    for _ in 0..6 {
        assert_eq!(get(&address, "/", &[]).status, 200);
    }
}
