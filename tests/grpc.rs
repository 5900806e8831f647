//! gRPC end to end, with grpcio as client and server: all kinds of call, who serves them, and how they end.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::TcpStream;
use support::{
    Instance, Running, Setup, eventually,
    peers::{python, start_python},
    pki::Pki,
};

const LIBRARY: &str = include_str!("support/grpc.py");
const POOL: &str = "http2 = true\n[pool.health]\ncheck = \"tcp\"\n";

fn whole(program: &str) -> String {
    format!("{LIBRARY}\n{program}")
}

/// What a client says with its only `say`.
#[track_caller]
fn ask(program: &str, arguments: &[&str]) -> Value {
    let outcome = python(&whole(program), arguments);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr))
}

/// A program that goes on, and what it says.
struct Program(Running);

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Self {
        Self(start_python(&whole(program), arguments))
    }

    /// A backend, with its address.
    #[track_caller]
    fn backend(name: &str) -> (Self, String) {
        let backend = Self::start("serve(sys.argv[1])", &[name]);
        let address = backend.says(0)["address"].as_str().unwrap().to_owned();
        (backend, address)
    }

    #[track_caller]
    fn says(&self, line: usize) -> Value {
        let said = eventually("it says more", || self.0.stdout().lines().nth(line).map(str::to_owned));
        serde_json::from_str(&said).unwrap()
    }
}

fn shop(pool: &str, names: &[&str]) -> (Vec<Program>, Instance) {
    let backends: Vec<_> = names.iter().map(|name| Program::backend(name)).collect();
    let addresses = names.iter().zip(&backends).map(|(name, (_, address))| (*name, address.as_str()));
    let instance = Setup::listening("limits = { streams = 2000 }", pool, addresses).start();
    (backends.into_iter().map(|(backend, _)| backend).collect(), instance)
}

#[test]
fn all_kinds_of_call_go_through_with_metadata_statuses_and_large_messages() {
    let (_backends, instance) = shop(POOL, &["a"]);
    let said = ask(
        r#"
channel = grpc.insecure_channel(sys.argv[1], options=SIZES)
unary = call(channel, "unary_unary", "Unary")
answer, rpc = unary.with_call(b"hello", metadata=[("x-user", "u")])
large = unary(b"x" * (10 << 20))
try: call(channel, "unary_unary", "Fail")(b"you")
except grpc.RpcError as error: failed = [error.code().name, error.details()]
both = call(channel, "stream_stream", "Both")
say(
    unary=answer, backend=dict(rpc.initial_metadata()).get("x-backend"), size=dict(rpc.trailing_metadata()).get("x-size"),
    large=len(large), down=sum(1 for _ in call(channel, "unary_stream", "Down")(b"1000")),
    up=call(channel, "stream_unary", "Up")(iter([b"x" * 1000] * 500)), both=[*both(iter([b"1", b"2", b"3"]))][-1],
    big=sum(len(each) for each in both(iter([b"y" * (10 << 20)] * 3))),
    failed=failed, unknown=code(lambda: call(channel, "unary_unary", "Nothing")(b"")),
)
"#,
        &[&instance.listener("web")],
    );
    let expected = json!({
        "unary": "a:hello", "backend": "a", "size": "5", "large": (10 << 20) + 2, "down": 1000, "up": "a:500000",
        "both": "a:3", "big": 3 * ((10 << 20) + 2), "failed": ["FAILED_PRECONDITION", "not so: you"],
        "unknown": "UNIMPLEMENTED",
    });
    assert_eq!(said, expected);
    instance.counts("http2_connections", 1);
}

#[test]
fn calls_of_one_channel_go_to_the_backends_of_their_users() {
    for (affinity, metadata) in [
        ("mode = \"header\"\nheader = { name = \"X-User\", style = \"hash\" }", "(\"x-user\", user)"),
        ("mode = \"cookie\"", "(\"cookie\", cookies.get(user, \"none=x\"))"),
    ] {
        let pool = format!("{POOL}[pool.affinity]\n{affinity}\n");
        let (_backends, instance) = shop(&pool, &["a", "b", "c"]);
        let program = r#"
channel = grpc.insecure_channel(sys.argv[1], options=SIZES)
unary, both = call(channel, "unary_unary", "Unary"), call(channel, "stream_stream", "Both")
cookies, homes, moved = {}, {}, 0
for user in ["u%d" % at for at in range(12)]:
    answer, rpc = unary.with_call(b"", metadata=[METADATA])
    for name, value in rpc.initial_metadata():
        if name == "set-cookie": cookies[user] = value.split(";")[0]
    homes[user] = answer
for user in [*homes] * 3:
    moved += unary(b"", metadata=[METADATA]) != homes[user]
    moved += any(each != homes[user] + b"m" for each in both(iter([b"m"] * 3), metadata=[METADATA]))
say(homes=len(set(homes.values())), moved=moved)
"#;
        let said = ask(&program.replace("METADATA", metadata), &[&instance.listener("web")]);
        assert_eq!(said, json!({"homes": 3, "moved": 0}), "{affinity}");
    }
}

#[test]
fn a_thousand_streams_are_open_at_once() {
    let (_backends, instance) = shop(POOL, &["a", "b"]);
    let said = ask(
        r#"
channel = grpc.insecure_channel(sys.argv[1], options=SIZES)
wait = call(channel, "unary_unary", "Unary")
calls = [wait.future(b"%d" % at) for at in range(1000)]
say(right=sum(each.result().endswith(b":%d" % at) for at, each in enumerate(calls)))
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said, json!({"right": 1000}));
    // Held open, and all of them at once: 64 threads of a backend take no more.
    let held = Program::start(
        r#"
channel = grpc.insecure_channel(sys.argv[1], options=SIZES)
hold, done = call(channel, "stream_stream", "Hold"), threading.Event()
def messages():
    done.wait(PATIENCE)
    yield b"last"
calls = [hold(messages()) for _ in range(100)]
say(begun=[next(each).decode() for each in calls])
done.set()
say(ended=sum([*each][-1].endswith(b":end") for each in calls))
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(held.says(0)["begun"].as_array().unwrap().len(), 100);
    assert_eq!(held.says(1), json!({"ended": 100}));
}

#[test]
fn deadlines_and_cancellations_reach_the_backend() {
    let (backends, instance) = shop(POOL, &["a"]);
    let said = ask(
        r#"
channel = grpc.insecure_channel(sys.argv[1])
wait = call(channel, "unary_unary", "Wait")
late = code(lambda: wait(b"", timeout=0.3))
call_ = wait.future(b"")
# Not before the backend has it.
call(channel, "unary_unary", "Unary")(b"")
call_.cancel()
say(late=late, cancelled=code(call_.result) if not call_.cancelled() else "CANCELLED")
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said, json!({"late": "DEADLINE_EXCEEDED", "cancelled": "CANCELLED"}));
    for line in [1, 2] {
        assert_eq!(backends[0].says(line), json!({"ended": "a"}), "the backend has stopped to work for nobody");
    }
}

#[test]
fn what_fails_here_fails_with_a_status_of_grpc() {
    // Nobody is there; nobody answers in time; a session that is no more.
    let gone = "[pool.affinity]\nmode = \"header\"\nheader = { name = \"X-Session\", style = \"follow\" }\n";
    for (pool, method, metadata, expected) in [
        (POOL.to_owned(), "Unary", "[]", "UNAVAILABLE"),
        (format!("{HTTP2}[pool.timeouts]\nresponse = \"300ms\"\n"), "Wait", "[]", "DEADLINE_EXCEEDED"),
        (format!("{HTTP2}{gone}"), "Unary", "[(\"x-session\", \"nonsense\")]", "NOT_FOUND"),
    ] {
        let (mut backends, instance) = shop(&pool, &["a"]);
        if expected == "UNAVAILABLE" {
            backends[0].0.signal(Signal::KILL);
            backends[0].0.ended();
            eventually("it is down", || (instance.backend("shop", "a")["health"] == "down").then_some(()));
        }
        let program = format!(
            "channel = grpc.insecure_channel(sys.argv[1])\n\
             say(code=code(lambda: call(channel, \"unary_unary\", \"{method}\")(b\"\", metadata={metadata})))"
        );
        assert_eq!(ask(&program, &[&instance.listener("web")]), json!({"code": expected}));
    }
}

const HTTP2: &str = "http2 = true\n[pool.health]\ncheck = \"off\"\n";

#[test]
fn a_stream_whose_backend_dies_ends_as_unavailable() {
    let (mut backends, instance) = shop(HTTP2, &["a"]);
    let client = Program::start(
        r#"
channel = grpc.insecure_channel(sys.argv[1])
done = threading.Event()
def messages():
    done.wait(PATIENCE)
    yield b"last"
held = call(channel, "stream_stream", "Hold")(messages())
say(first=next(held))
say(code=code(lambda: [*held]))
done.set()
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(client.says(0), json!({"first": "a"}));
    backends[0].0.signal(Signal::KILL);
    backends[0].0.ended();
    assert_eq!(client.says(1), json!({"code": "UNAVAILABLE"}));
    instance.counts("http2_broken", 1);
}

#[test]
fn a_drain_lets_streams_end_and_new_calls_go_elsewhere() {
    let pool = format!("{POOL}[pool.affinity]\nmode = \"none\"\n");
    let (_backends, mut instance) = shop(&pool, &["a", "b"]);
    let client = Program::start(
        r#"
channel = grpc.insecure_channel(sys.argv[1])
unary, hold, done = call(channel, "unary_unary", "Unary"), call(channel, "stream_stream", "Hold"), threading.Event()
def messages():
    done.wait(PATIENCE)
    yield b"last"
held = [hold(messages()) for _ in range(4)]
signal.signal(signal.SIGUSR1, lambda *_: done.set())
say(homes=sorted(next(each) for each in held))
say(ended=sum([*each][-1].endswith(b":end") for each in held))
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(client.says(0)["homes"], json!(["a", "a", "b", "b"]));
    // A backend's drain waits for its streams.
    let (status, _) = instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(json!({})));
    assert_eq!(status, 200);
    let said = ask(
        r#"
channel = grpc.insecure_channel(sys.argv[1])
say(names=sorted({call(channel, "unary_unary", "Unary")(b"") for _ in range(20)}))
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said, json!({"names": ["b:"]}));
    let in_flight = || instance.backend("shop", "a")["requests_in_flight"].as_u64();
    eventually("two of them are at the backend that drains", || (in_flight() == Some(2)).then_some(()));
    // And so does the end of the data plane, up to its own time.
    let address = instance.listener("web");
    instance.process.signal(Signal::TERM);
    eventually("nobody else is let in", || TcpStream::connect(&address).is_err().then_some(()));
    assert!(!instance.process.has_ended());
    client.0.signal(Signal::USR1);
    assert_eq!(client.says(1), json!({"ended": 4}));
    assert!(instance.process.ended().success());
}

#[test]
fn calls_go_over_tls_on_both_sides() {
    let pki = Pki::new();
    let (outside, inside) = (pki.issue("shop", "DNS:shop.test"), pki.issue("inside", "DNS:inside.test"));
    let backend = Program::start(
        "read = lambda path: open(path, 'rb').read()\n\
         serve('a', grpc.ssl_server_credentials([(read(sys.argv[2]), read(sys.argv[1]))]))",
        &[inside.chain.to_str().unwrap(), inside.key.to_str().unwrap()],
    );
    let address = backend.says(0)["address"].as_str().unwrap().to_owned();
    let listener = format!("[listener.tls]\ncertificate = [{}]", outside.toml());
    let pool = format!("{HTTP2}[pool.tls]\nca = {:?}\nserver_name = \"inside.test\"\n", pki.ca());
    let instance = Setup::listening(&listener, &pool, [("a", address)]).start();
    let said = ask(
        r#"
credentials = grpc.ssl_channel_credentials(open(sys.argv[2], "rb").read())
options = [("grpc.ssl_target_name_override", "shop.test")]
channel = grpc.secure_channel(sys.argv[1], credentials, options=options)
say(answer=call(channel, "unary_unary", "Unary")(b"hello"))
"#,
        &[&instance.listener("web"), pki.ca().to_str().unwrap()],
    );
    assert_eq!(said, json!({"answer": "a:hello"}));
}

#[test]
fn a_grpc_check_asks_the_health_service() {
    let backend = Program::start(
        r#"
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
servicer = health.HealthServicer()
def prepare(server): health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
Serving = health_pb2.HealthCheckResponse
servicer.set("shop.Carts", Serving.SERVING)
signal.signal(signal.SIGUSR1, lambda *_: servicer.set("shop.Carts", Serving.NOT_SERVING))
signal.signal(signal.SIGUSR2, lambda *_: servicer.set("shop.Carts", Serving.SERVING))
serve("a", prepare=prepare)
"#,
        &[],
    );
    let address = backend.says(0)["address"].as_str().unwrap().to_owned();
    let (_plain, without) = Program::backend("b");
    let check = |service: &str| {
        format!("http2 = true\n[pool.health]\ncheck = \"grpc\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n{service}\n")
    };
    let health = |instance: &Instance| {
        let backend = instance.backend("shop", "a");
        (backend["health"].clone(), backend["health_reason"].as_str().unwrap_or_default().to_owned())
    };
    for (service, address, reason) in [
        ("service = \"shop.Other\"", &address, "the service is not known there"),
        ("", &without, "it has no grpc.health.v1.Health"),
    ] {
        let instance = Setup::shop(&check(service), [("a", address)]).start();
        eventually("it is down", || {
            let (health, why) = health(&instance);
            (health == "down" && why.contains(reason)).then_some(())
        });
    }
    let instance = Setup::shop(&check("service = \"shop.Carts\""), [("a", &address)]).start();
    let is = |expected: &str| eventually(expected, || (health(&instance).0 == expected).then_some(()));
    is("up");
    backend.0.signal(Signal::USR1);
    is("down");
    assert!(health(&instance).1.contains("not serving"));
    backend.0.signal(Signal::USR2);
    is("up");
}
