//! HTTP/2 at listeners: requests as any others, streams that go their own ways, and what nobody may send.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use support::{
    Outcome, PATIENCE, Recorder, Scripted, Setup,
    backend::read_head,
    eventually,
    http::get,
    http2::{self, ask},
    peers::Nginx,
    pki::{Pki, curl, setup},
    resident, within,
};

/// No check talks to the backends.
const SILENT: &str = "[pool.health]\ncheck = \"off\"\n";

fn outcome(program: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command.args(arguments);
    Outcome::of(command)
}

#[test]
fn curl_and_nghttp_load_pages_and_send_bodies() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let nginx = Nginx::start(&["a"]);
    let big: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
    nginx.file("big", &big);
    let backends = nginx.backends.iter().map(|(name, address)| (name.as_str(), address.as_str()));
    let sealed = setup("", &[&shop], "", backends.clone()).start();
    let version = ["-w", "%{http_version} %{http_code}", "-o", "/dev/null"];
    for (more, expected) in [(&["--http2"][..], "2 200"), (&["--http1.1"], "1.1 200"), (&["--http2", "-I"], "2 200")] {
        let said = curl(&sealed.listener("web"), "shop.test", "/", &pki.ca(), &[&version[..], more].concat());
        assert_eq!(said.stdout, expected, "{}", said.stderr);
    }
    let file = sealed.folder.path("got");
    let to_file = ["--http2", "-o", file.to_str().unwrap()];
    curl(&sealed.listener("web"), "shop.test", "/files/big", &pki.ca(), &to_file);
    assert_eq!(std::fs::read(&file).unwrap(), big);

    let instance = Setup::shop("", backends).start();
    let url = format!("http://{}", instance.listener("web"));
    let urls: Vec<_> = (0..50).map(|at| format!("{url}/files/big?{at}")).collect();
    let arguments: Vec<_> = ["-ns"].into_iter().chain(urls.iter().map(String::as_str)).collect();
    let said = outcome("nghttp", &arguments);
    assert_eq!(said.stdout.matches(" 200 ").count(), 50, "{} {}", said.stdout, said.stderr);
    instance.counts("http2_streams", 50);
    instance.counts("http2_connections", 1);
    instance.counts("requests", 50);

    let recorder = Recorder::start();
    let instance = Setup::shop(SILENT, [("a", recorder.address())]).start();
    let url = format!("http://{}/up?x=%20", instance.listener("web"));
    let known = ["--http2-prior-knowledge", "-sS", "-d", "hello", "-H", "Expect:", url.as_str()];
    assert_eq!(outcome("curl", &known).stdout, "ok");
    let seen = recorder.take_up_to("hello");
    for line in ["POST /up?x=%20 HTTP/1.1\r\n", "\r\nContent-Length: 5\r\n", "\r\nVia: 2.0 steadfast\r\n"] {
        assert!(seen.contains(line), "{seen}");
    }
}

#[test]
fn streams_of_one_connection_go_each_to_its_own_backend() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let said = ask(
        r#"
client = Client(sys.argv[1])
first = client.finish(*[client.send(client.fields()) for _ in range(30)])
pins = [(each["fields"]["set-cookie"].split(";")[0], each["data"]) for each in first]
streams = [(client.send(client.fields(more=[("cookie", "x=y"), ("cookie", pin)])), home)
           for _ in range(3) for pin, home in pins]
answers = client.finish(*[stream for stream, _ in streams])
say(homes=sorted(set(home for _, home in pins)),
    moved=sum(answer["data"] != home for answer, (_, home) in zip(answers, streams)),
    marked=sum("set-cookie" in answer["fields"] for answer in answers), streams=len(answers))
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said, json!({"homes": ["a", "b", "c"], "moved": 0, "marked": 0, "streams": 90}));
    eventually("the pins are counted", || (instance.pool_count("pinned") == 90).then_some(()));
    instance.counts("http2_connections", 1);
}

#[test]
fn what_is_no_request_is_reset_and_harms_no_other() {
    let recorder = Recorder::start();
    let instance = Setup::shop(SILENT, [("a", recorder.address())]).start();
    let said = ask(
        r#"
client = Client(sys.argv[1])
plain = client.fields()
def swap(name, value):
    return [(key, value if key == name else old) for key, old in plain if key != name or value is not None]
cases = dict(
    connection=plain + [("connection", "close")], upgrade=plain + [("upgrade", "websocket")],
    keep_alive=plain + [("keep-alive", "5")], proxy_connection=plain + [("proxy-connection", "x")],
    transfer_encoding=plain + [("transfer-encoding", "chunked")], te=plain + [("te", "gzip")],
    upper=plain + [("X-Upper", "a")], empty_name=plain + [("", "a")], space_name=plain + [("a b", "c")],
    colon_name=plain + [("a:b", "c")], line_feed=plain + [("x", "a\nb: c")], nul=plain + [("x", "a\0b")],
    return_=plain + [("x", "a\r\nHost: evil\r\n\r\nGET / HTTP/1.1")], host=plain + [("host", "evil.test")],
    two_hosts=plain + [("host", "shop.test"), ("host", "shop.test")], no_path=swap(":path", None),
    empty_path=swap(":path", ""), path=swap(":path", "/ HTTP/1.1\r\nx: y"), relative=swap(":path", "x"),
    no_method=swap(":method", None), method=swap(":method", "GET / HTTP/1.1\r\nx:"), no_scheme=swap(":scheme", None),
    no_authority=swap(":authority", None), authority=swap(":authority", "a b"), user=swap(":authority", "a@b"),
    status=plain + [(":status", "200")], unknown_pseudo=[(":x", "y")] + plain, late_pseudo=plain[:3] + [("x", "y")] + plain[3:],
    twice=plain + [(":path", "/")], length=plain + [("content-length", "5")], words=plain + [("content-length", "five")],
)
outcomes = {}
def note(name, *fields, **more):
    each = Client(sys.argv[1])
    answer = each.ask(*fields, **more)
    reset = "reset" if answer["reset"] is not None else "nothing"
    outcomes[name] = answer["status"] or ("closed" if each.goaway is not None else reset)
for name, fields in cases.items():
    note(name, fields)
connect = client.ask([(":method", "CONNECT"), (":authority", "shop.test:443")])
long = client.ask(client.fields(more=[("x", "y" * 17000)]))
uri = client.ask(client.fields("/" + "y" * 9000))
good = client.ask(client.fields("/good"))
closed = sorted(name for name, what in outcomes.items() if what == "closed")
say(odd={name: what for name, what in outcomes.items() if what not in ("reset", "closed")}, connections=closed, connect=connect["status"],
    long=long["status"], uri=uri["status"], good=good["status"], closed=client.closed)
"#,
        &[&instance.listener("web")],
    );
    // A list of fields that can't be decoded as such ends the connection.
    let connections =
        ["colon_name", "empty_name", "line_feed", "method", "nul", "return_", "space_name", "unknown_pseudo", "upper"];
    // What is well-formed as HTTP/2 our own parser judges.
    let expected = json!({
        "odd": {"user": 400}, "connections": connections, "connect": 501, "long": 431, "uri": 414, "good": 200,
        "closed": false,
    });
    assert_eq!(said, expected);
    let seen = recorder.take();
    let requests: Vec<_> = seen.lines().filter(|line| line.contains(" HTTP/1.")).collect();
    assert!(requests.iter().all(|line| line.starts_with("POST / ") || *line == "GET /good HTTP/1.1"), "{seen}");
}

#[test]
fn a_body_of_another_length_than_was_told_reaches_no_backend_as_a_whole() {
    let came = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&came);
    let backend = Scripted::start(move |mut stream| {
        let mut all = String::new();
        drop(stream.read_to_string(&mut all));
        seen.lock().unwrap().push(all);
    });
    let instance = Setup::shop(SILENT, [("a", backend.address())]).start();
    for (length, most) in [(3, "hel"), (7, "hello")] {
        let said = ask(
            r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields(method="POST", more=[("content-length", sys.argv[2])]), body=b"hello")
say(reset=answer["reset"], status=answer["status"])
"#,
            &[&instance.listener("web"), &length.to_string()],
        );
        // PROTOCOL_ERROR.
        assert_eq!(said, json!({"reset": 1, "status": null}));
        let seen = eventually("the backend has seen its end", || came.lock().unwrap().pop());
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {length}\r\n")), "{head}");
        assert!(body.len() < length && most.starts_with(body), "{body:?} of {length}");
    }
}

#[test]
fn trailers_and_interim_responses_go_through() {
    let backend = Scripted::start(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 1_024];
            let count = stream.read(&mut buffer).unwrap();
            body.extend_from_slice(&buffer[..count]);
        }
        let body = String::from_utf8(body).unwrap();
        let told = format!("{:?}", (head.contains("\r\nTE: trailers\r\n"), body));
        let response = format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{told}\r\n0\r\nx-sum: 5\r\nContent-Length: 9\r\n\r\n",
            told.len()
        );
        drop(stream.write_all(response.as_bytes()));
    });
    let instance = Setup::shop(SILENT, [("a", backend.address())]).start();
    let said = ask(
        r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields(method="POST", more=[("te", "trailers")]), body=b"hello", trailers=[("x-end", "of it")])
say(**{key: answer[key] for key in ("status", "interim", "data", "trailers", "ended")})
"#,
        &[&instance.listener("web")],
    );
    let told = r#"(true, "5\r\nhello\r\n0\r\nx-end: of it\r\n\r\n")"#;
    let expected = json!({"status": 200, "interim": [103], "data": told, "trailers": {"x-sum": "5"}, "ended": true});
    assert_eq!(said, expected);
}

#[test]
fn what_breaks_off_is_never_taken_for_the_whole() {
    for (response, data, ended) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "hello", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
    ] {
        let backend = Scripted::closing_after(response.as_bytes());
        let instance = Setup::shop(SILENT, [("a", backend.address())]).start();
        let said = ask(
            r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields())
say(data=answer["data"], ended=answer["ended"], reset=answer["reset"], alive=client.ask(client.fields())["status"])
"#,
            &[&instance.listener("web")],
        );
        let status = response[9..12].parse::<u32>().unwrap();
        // INTERNAL_ERROR.
        let reset = if ended { Value::Null } else { json!(2) };
        assert_eq!(said, json!({"data": data, "ended": ended, "reset": reset, "alive": status}), "{response}");
    }
}

#[test]
fn a_stream_that_its_client_takes_back_ends_its_exchange() {
    let gone = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&gone);
    let backend = Scripted::start(move |mut stream| {
        while read_head(&mut stream).is_some() {}
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let instance = Setup::shop(SILENT, [("a", backend.address())]).start();
    let _client = http2::start(
        r#"
client = Client(sys.argv[1])
streams = [client.send(client.fields()) for _ in range(20)]
client.state.ping(b"12345678"); client.flush()
while not client.pongs: client.read()
for stream in streams: client.state.reset_stream(stream, 8)
client.flush()
client.until_closed()
"#,
        &[&instance.listener("web")],
    );
    eventually("the backend's connections are closed", || (gone.load(Ordering::Relaxed) == 20).then_some(()));
    instance.counts("http2_cancelled", 20);
    instance.counts("http2_failed", 0);
}

/// What floods and their like do: each sends something without end, and says how the connection came to its own.
const FLOODS: &str = r#"
def flood(frame, count=30000):
    client = Client(sys.argv[1])
    for at in range(0, count, 100):
        client.raw(b"".join(frame(client, at + i) for i in range(100)))
        while client.goaway is None and client.read(0.001, watch=True): pass
        if client.closed or client.goaway is not None: break
    return client.goaway
def headers(client, stream, flags=("END_STREAM", "END_HEADERS")):
    data = client.state.encoder.encode(client.fields())
    return frames.HeadersFrame(stream, data, flags=flags).serialize()
def rapid(client, at):
    return headers(client, 2 * at + 1) + frames.RstStreamFrame(2 * at + 1, 8).serialize()
open_stream = lambda client: headers(client, 1, flags=("END_HEADERS",))
"#;

#[test]
fn floods_end_their_connection_and_nobody_elses() {
    let nginx = Nginx::start(&["a"]);
    let instance = Setup::shop(SILENT, nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let address = instance.listener("web");
    let floods = [
        ("ping", "flood(lambda client, at: frames.PingFrame(0, b'12345678').serialize())"),
        ("settings", "flood(lambda client, at: frames.SettingsFrame(0).serialize())"),
        ("reset", "flood(rapid)"),
        (
            "empty",
            "flood(lambda client, at: (b'' if at else open_stream(client)) + frames.DataFrame(1, b'').serialize())",
        ),
        ("priority", "flood(lambda client, at: frames.PriorityFrame(1, depends_on=3, stream_weight=5).serialize())"),
        ("unknown", "flood(lambda client, at: bytes([0, 0, 1, 0xbe, 0, 0, 0, 0, 0, 7]))"),
        (
            "continuation",
            "flood(lambda client, at: (b'' if at else headers(client, 1, flags=())) \
            + frames.ContinuationFrame(1, client.state.encoder.encode([('x-%d' % at, 'y')])).serialize())",
        ),
        ("window", "flood(lambda client, at: frames.WindowUpdateFrame(0, 1).serialize())"),
    ];
    for (name, flood) in floods {
        let said = ask(&format!("{FLOODS}\nsay(goaway={flood})"), &[&address]);
        // ENHANCE_YOUR_CALM.
        assert_eq!(said["goaway"], 11, "{name}");
        let bystander = get(&address, "/", &[]);
        assert_eq!((bystander.status, bystander.text().as_str()), (200, "a"), "after {name}");
    }
    // Some of them h2 ends by itself.
    eventually("floods are counted", || (instance.metric("steadfast_dataplane_http2_floods_total") >= 5).then_some(()));
}

/// Fixed: where a flood came together with the preface, as from a client that is faster than its connection is accepted, nothing
/// was answered, and the connection stood until its head was overdue.
#[test]
fn a_flood_that_comes_with_the_preface_is_told_so_too() {
    let instance = Setup::shop(SILENT, [("a", "127.0.0.1:9")]).start();
    let said = ask(
        r#"
Client.flush = lambda self: None
client = Client(sys.argv[1])
client.raw(client.state.data_to_send() + frames.PingFrame(0, b"12345678").serialize() * 900)
while client.goaway is None and client.read(5, watch=True): pass
say(goaway=client.goaway)
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said["goaway"], 11);
    instance.counts("http2_floods", 1);
}

/// Fixed: h2 warned of each, and whoever sent many filled the log.
#[test]
fn what_a_client_does_wrong_is_not_for_the_log() {
    let nginx = Nginx::start(&["a"]);
    let instance = Setup::shop(SILENT, nginx.backends.clone()).start();
    let said = ask(
        r#"
client = Client(sys.argv[1])
for _ in range(20): client.raw(frames.PingFrame(0, opaque_data=b"unasked!", flags=("ACK",)))
say(status=client.ask(client.fields())["status"])
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said["status"], 200);
    assert!(!instance.process.stderr().contains("PING"), "{}", instance.process.stderr());
}

#[test]
fn what_readers_do_not_read_and_backends_do_not_take_is_held_within_bounds() {
    let nginx = Nginx::start(&["a"]);
    // A thousand of these fit in what the kernel gives to all of TCP; at its limit every connection of the machine stalls.
    nginx.file("big", &vec![b'x'; 512 << 10]);
    let deaf = Scripted::start(|mut stream| {
        drop(read_head(&mut stream));
        std::thread::park();
    });
    let (_, address) = &nginx.backends[0];
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\ntimeouts = {{ body = \"1m\" }}\n\
         [[listener.route]]\npath = \"/deaf\"\npool = \"deaf\"\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n\
         [[pool]]\nname = \"deaf\"\ntimeouts = {{ body = \"1m\" }}\n{SILENT}\
         [[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        deaf.address()
    );
    let instance = Setup::new(&rest).start();
    let pid = instance.pid("dataplane");
    let before = resident(pid);
    let readers = http2::start(
        r#"
clients = [Client(sys.argv[1]) for _ in range(10)]
for client in clients:
    client.reads = False
    for _ in range(100): client.send(client.fields("/files/big"))
began = 0
while began < 1000:
    for client in clients: client.read(0.1)
    began = sum(each["status"] == 200 for client in clients for each in client.streams.values())
say(began=began)
clients[0].until_closed()
"#,
        &[&instance.listener("web")],
    );
    within(4 * PATIENCE, "all readers have begun", || readers.stdout().contains("1000").then_some(()));
    let reading = resident(pid) - before;
    // Each has its buffers, and the large ones of the workers are shared by all.
    let large = std::thread::available_parallelism().unwrap().get() * (32 << 20);
    assert!(reading < 1_000 * (128 << 10) + large, "{} MiB for 1,000 streams whose readers do not read", reading >> 20);
    // A body that nobody takes stops at the windows.
    let said = ask(
        r#"
client = Client(sys.argv[1])
streams = [client.send(client.fields("/deaf", method="POST"), end=False) for _ in range(40)]
whole = 8 << 20
sent = [whole - len(client.push(stream, b"x" * whole, patience=0.05)) for stream in streams]
other = client.ask(client.fields())
say(most=max(sent), whole=whole, other=other["status"])
"#,
        &[&instance.listener("web")],
    );
    // What the kernel takes for the backend comes on top of what we hold.
    assert!(said["other"] == 200 && said["most"].as_u64() < said["whole"].as_u64(), "{said}");
    let held = resident(pid).saturating_sub(before);
    assert!(held < reading + (24 << 20), "{} MiB after {}", held >> 20, reading >> 20);
    drop(readers);
    eventually("what they had is given back", || (resident(pid) < before + reading / 2).then_some(()));
}

#[test]
fn a_drain_says_goaway_and_lets_streams_end() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let slow = Scripted::start(move |mut stream| {
        drop(read_head(&mut stream));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"));
        wait.lock().unwrap().recv().unwrap();
        drop(stream.write_all(b"world"));
    });
    let mut instance = Setup::shop(SILENT, [("a", slow.address())]).start();
    let client = http2::start(
        r#"
client, idle = Client(sys.argv[1]), Client(sys.argv[1])
stream = client.send(client.fields())
while not client.streams[stream]["data"]: client.read()
say(begun=True)
while client.goaway is None: client.read()
idle.until_closed()
say(goaway=client.goaway, idle=idle.goaway)
(answer,) = client.finish(stream)
say(data=answer["data"], ended=answer["ended"], closed=client.until_closed())
"#,
        &[&instance.listener("web")],
    );
    let said = |count: usize| {
        eventually("the client says more", || {
            let stdout = client.stdout();
            let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (lines.len() >= count).then(|| lines[count - 1].clone())
        })
    };
    said(1);
    instance.process.signal(Signal::TERM);
    assert_eq!(said(2), json!({"goaway": 0, "idle": 0}));
    go.send(()).unwrap();
    assert_eq!(said(3), json!({"data": "helloworld", "ended": true, "closed": true}));
    assert!(instance.process.ended().success());
}

#[test]
fn idle_connections_are_told_to_go_whatever_they_ping() {
    let nginx = Nginx::start(&["a"]);
    let timeouts = "timeouts = { idle = \"1s\", head = \"1s\" }";
    let backends = nginx.backends.iter().map(|(name, address)| (name, address));
    let instance = Setup::listening(timeouts, "", backends).start();
    let said = ask(
        r#"
client = Client(sys.argv[1])
answer = client.ask(client.fields())
while client.goaway is None:
    client.state.ping(b"12345678")
    client.flush()
    while client.read(0.1): pass
silent = socket.create_connection(client.socket.getpeername())
silent.sendall(b"PRI * HTTP/2.0\r\n\r\nSM")
silent.settimeout(PATIENCE)
while silent.recv(4096): pass
say(status=answer["status"], goaway=client.goaway, pongs=client.pongs > 1)
"#,
        &[&instance.listener("web")],
    );
    assert_eq!(said, json!({"status": 200, "goaway": 0, "pongs": true}));
    instance.counts("idle_closed", 1);
    instance.counts("http2_failed", 1);
}

#[test]
fn a_listener_may_be_kept_to_http_1() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let nginx = Nginx::start(&["a"]);
    let backends = || nginx.backends.iter().map(|(name, address)| (name, address));
    let plain = Setup::listening("http2 = false", "", backends()).start();
    let said = ask(
        r#"
client = socket.create_connection(sys.argv[1].rsplit(":", 1))
client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
say(line=client.recv(4096).split(b"\r\n")[0])
"#,
        &[&plain.listener("web")],
    );
    assert_eq!(said, json!({"line": "HTTP/1.1 505 HTTP Version Not Supported"}));
    let tls = format!("http2 = false\n[listener.tls]\ncertificate = [{}]", shop.toml());
    let sealed = Setup::listening(&tls, "", backends()).start();
    let version = ["--http2", "-w", "%{http_version}", "-o", "/dev/null"];
    assert_eq!(curl(&sealed.listener("web"), "shop.test", "/", &pki.ca(), &version).stdout, "1.1");
    // A reload lets clients choose from then on.
    let file = sealed.folder.path("steadfast.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("http2 = false", "http2 = true");
    std::fs::write(&file, text).unwrap();
    assert_eq!(sealed.ctl(&["reload"]).code, Some(0));
    assert_eq!(curl(&sealed.listener("web"), "shop.test", "/", &pki.ca(), &version).stdout, "2");
}

/// A connection of HTTP/2 was refused as a request when the first two lines of its preface came without all of what follows.
#[test]
fn a_preface_in_two_pieces_is_one_wherever_it_is_cut() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let instance = Setup::shop("", [("a", "127.0.0.1:1")]).start();
    for cut in 1..preface.len() {
        let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&preface[..cut]).unwrap();
        eventually("the first piece is read", || is_read(&stream).then_some(()));
        stream.write_all(&preface[cut..]).unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(frame[3], 4, "cut at {cut}: no settings, but {:?}", String::from_utf8_lossy(&frame));
    }
}

/// Whether the other end of a connection on this machine has read all that it was sent.
fn is_read(stream: &TcpStream) -> bool {
    let ports =
        [stream.peer_addr().unwrap().port(), stream.local_addr().unwrap().port()].map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&ports[0]) && fields[2].ends_with(&ports[1]) && fields[4].ends_with(":00000000")
    })
}
