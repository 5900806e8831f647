//! The access log: what is told of each request, where it goes, and what becomes of it when that place fails.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};
use support::{
    Outcome, Recorder, Running, Scripted, Setup, eventually,
    http::{Connection, get, request},
    visitors::Visitors,
    websockets::{Raw, Server, handshake},
};

const CHECKS_OFF: &str = "[pool.health]\ncheck = \"off\"\n";

/// With a log of this format in a file of the instance's folder.
fn logged(setup: Setup, format: &str) -> (Setup, PathBuf) {
    let file = setup.folder().path("access.log");
    let setup = setup.and(&format!("[access_log]\nto = \"file:{}\"\nformat = {format:?}\n", file.display()));
    (setup, file)
}

/// The lines, once there are so many.
#[track_caller]
fn lines(file: &Path, count: usize) -> Vec<String> {
    eventually(&format!("{} has {count} lines", file.display()), || {
        let text = fs::read_to_string(file).ok().filter(|text| text.lines().count() >= count)?;
        assert_eq!(text.lines().count(), count, "{text}");
        Some(text.lines().map(str::to_owned).collect())
    })
}

#[track_caller]
fn last(file: &Path, count: usize) -> Value {
    serde_json::from_str(lines(file, count).last().unwrap()).unwrap()
}

/// That a line has these fields, `null` being one that is not there.
#[track_caller]
fn tells(line: &Value, expected: Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(line[field], *value, "{field} of {line:#}");
    }
}

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn each_request_is_told_with_what_became_of_its_session() {
    let (a, b) = (Recorder::start(), Recorder::start());
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", a.address()), ("b", b.address())]), "json");
    let instance = setup.start();
    let web = instance.listener("web");
    let mut client = Connection::open(&web);
    let cookie = client.request("GET", "/cart?page=2", &[("User-Agent", "curl/8")], b"").cookie("lb-affinity").unwrap();
    let first = last(&file, 1);
    tells(
        &first,
        json!({
            "listener": "web", "client": "127.0.0.1", "tls": false, "protocol": "HTTP/1.1", "method": "GET",
            "host": "localhost", "path": "/cart?page=2", "status": 200, "pool": "shop", "marker": "none",
            "affinity": "new", "cause": null, "marked": true, "attempts": 1, "reused": false, "ended_by": null,
            "error": null, "bytes_in": 0, "user_agent": "curl/8", "referer": null, "time_clf": null, "queue_ms": null,
        }),
    );
    for span in ["connect_ms", "response_ms", "total_ms"] {
        assert!(first[span].as_f64().is_some_and(|span| span < 30_000.0), "{span} of {first}");
    }
    assert!(first["total_ms"].as_f64() >= first["response_ms"].as_f64());
    let id = first["request_id"].as_str().unwrap().to_owned();
    let home = first["backend"].as_str().unwrap().to_owned();
    let (its, other) = if home == "a" { (&a, &b) } else { (&b, &a) };
    assert!(its.take().contains(&format!("X-Request-Id: {id}\r\n")), "the backend got the same id");

    let referred = [("Cookie", &*cookie), ("Referer", "https://x/\"y\""), ("X-Request-Id", "of-mine/1")];
    client.request("POST", "/cart", &referred, b"12345");
    tells(
        &last(&file, 2),
        json!({
            "marker": "valid", "affinity": "pinned", "marked": false, "session": first["session"], "backend": home,
            "method": "POST", "bytes_in": 5, "request_id": "of-mine/1", "referer": "https://x/\"y\"",
        }),
    );

    instance.api("POST", &format!("/v1/pools/shop/backends/{home}/maintenance"), None);
    client.request("GET", "/", &[("Cookie", &cookie)], b"");
    let moved = json!({
        "marker": "valid", "affinity": "repinned", "cause": "maintenance", "marked": true, "session": first["session"],
    });
    tells(&last(&file, 3), moved);
    assert!(!other.take().is_empty());

    client.request("GET", "/", &[("Cookie", "lb-affinity=rubbish")], b"");
    tells(&last(&file, 4), json!({ "marker": "malformed", "affinity": "new", "marked": true }));
    let sessions: BTreeSet<_> =
        lines(&file, 4).iter().map(|line| line.contains(first["session"].as_str().unwrap())).collect();
    assert_eq!(sessions.len(), 2, "another session has another key");
    assert!(!fs::read_to_string(&file).unwrap().contains(&cookie["lb-affinity=".len()..]), "no token is told");
}

#[test]
fn what_went_wrong_is_told_and_who_ended_it() {
    let good = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let silent = Scripted::closing_after(b"");
    let cut = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok");
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[listener.route]]\npath = \"/silent\"\npool = \"silent\"\n[[listener.route]]\npath = \"/cut\"\npool = \"cut\"\n\
         [[listener.route]]\npath = \"/retry\"\npool = \"retry\"\n[[listener.route]]\npath = \"/gone\"\npool = \"gone\"\n\
         {}{}{}{}",
        pool("silent", &[("s", silent.address())]),
        pool("cut", &[("c", cut.address())]),
        pool("retry", &[("x", nobody()), ("y", good.address())]),
        pool("gone", &[("z", nobody())]),
    );
    let (setup, file) = logged(Setup::new(&rest).global("workers = 1"), "json");
    let instance = setup.start();
    let web = instance.listener("web");
    let raw = |text: &str| drop(Raw::open(&web, text.as_bytes()).rest());
    let ask = |path: &str| raw(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    let expected = [
        (
            "/silent",
            json!({ "status": 502, "ended_by": "backend", "error": "closed without a response", "backend": "s" }),
        ),
        ("/cut", json!({ "status": 200, "ended_by": "backend", "error": "closed within a response", "backend": "c" })),
        (
            "/gone",
            json!({ "status": 503, "cause": "no_backend", "error": "connection refused or unreachable", "backend": "z" }),
        ),
        (
            "/elsewhere",
            json!({ "status": 503, "ended_by": "steadfast", "path": "/elsewhere", "backend": null, "attempts": null }),
        ),
    ];
    for (count, (path, line)) in expected.into_iter().enumerate() {
        ask(path);
        tells(&last(&file, count + 1), line);
    }
    raw("GET / HTTP/1.1\r\n\r\n");
    tells(&last(&file, 5), json!({ "status": 400, "ended_by": "client", "method": null, "backend": null }));
    assert!(last(&file, 5)["error"].is_string());
    // Turns are taken: one of two begins at the one that is not there.
    ask("/retry");
    ask("/retry");
    let tried: Vec<Value> = lines(&file, 7)[5..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let retried = tried.iter().find(|line| line["attempts"] == 2).expect("one was tried again");
    let line = json!({
        "status": 200, "backend": "y", "ended_by": null, "error": "connection refused or unreachable", "affinity": "new",
    });
    tells(retried, line);
}

fn pool(name: &str, backends: &[(&str, std::net::SocketAddr)]) -> String {
    let mut text = format!("[[pool]]\nname = \"{name}\"\n{CHECKS_OFF}");
    for (backend, address) in backends {
        text += &format!("[[pool.backend]]\nname = \"{backend}\"\naddress = \"{address}\"\n");
    }
    text
}

#[test]
fn a_websocket_and_a_connection_of_tcp_are_told_when_they_end() {
    let server = Server::start("a");
    let tcp =
        format!("{}[[listener]]\nname = \"tcp\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"raw\"\n", {
            pool("raw", &[("r", echo().address())])
                .replace(CHECKS_OFF, &format!("affinity.mode = \"source-ip\"\n{CHECKS_OFF}"))
        });
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", &server.address)]).and(&tcp), "json");
    let instance = setup.start();

    let mut socket = Raw::open(&instance.listener("web"), handshake("").as_bytes());
    assert!(socket.head().starts_with("HTTP/1.1 101 "));
    assert!(!file.exists() || fs::read_to_string(&file).unwrap().is_empty(), "it is not over");
    drop(socket);
    let line = last(&file, 1);
    tells(&line, json!({ "status": 101, "path": "/echo", "affinity": "new", "ended_by": "client", "backend": "a" }));

    let mut raw = Raw::open(&instance.listener("tcp"), b"hello");
    raw.reads(b"hello");
    raw.ends();
    assert_eq!(raw.rest(), b"");
    let line = json!({
        "protocol": "TCP", "listener": "tcp", "pool": "raw", "backend": "r", "bytes_in": 5, "bytes_out": 5,
        "marker": "hashed", "affinity": "pinned", "ended_by": "client", "method": null, "status": null,
    });
    tells(&last(&file, 2), line);
}

fn echo() -> Scripted {
    Scripted::start(|mut stream| {
        let mut from = stream.try_clone().unwrap();
        drop(std::io::copy(&mut from, &mut stream));
        drop(stream.shutdown(std::net::Shutdown::Both));
    })
}

#[test]
fn http_2_is_told_as_such_and_a_listener_can_be_left_out() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let quiet = "[[listener]]\nname = \"quiet\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\naccess_log = false\n";
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", backend.address())]).and(quiet), "json");
    let instance = setup.start();
    get(&instance.listener("quiet"), "/", &[]);
    let mut command = Command::new("h2load");
    command.args(["-n", "10", "-c", "1", "-m", "5", &format!("http://{}/two", instance.listener("web"))]);
    let outcome = Outcome::of(command);
    assert!(outcome.stdout.contains("10 succeeded"), "{outcome:?}");
    for line in lines(&file, 10) {
        tells(&serde_json::from_str(&line).unwrap(), json!({ "protocol": "HTTP/2.0", "path": "/two", "status": 200 }));
    }
    instance.counts("access_log_written", 10);
}

#[test]
fn a_tool_for_logs_of_web_servers_reads_the_combined_format() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", backend.address())]), "combined");
    let instance = setup.start();
    let web = instance.listener("web");
    for (path, agent) in [("/", "curl/8"), ("/a?b=\"c\"", "x \" y \\"), ("/\u{e4}", "\u{e4}\u{7}"), ("/last", "")] {
        get(&web, path, &[("User-Agent", agent.trim_matches('\u{7}')), ("Referer", "http://x/\"\\")]);
    }
    let text = lines(&file, 4).join("\n");
    assert!(text.is_ascii() && text.contains(r#""GET /a?b=\x22c\x22 HTTP/1.1" 200 "#), "{text}");
    let report = instance.folder.path("report.json");
    let mut command = Command::new("goaccess");
    command.arg(&file).args(["--log-format=COMBINED", "--no-global-config", "-o"]).arg(&report);
    let outcome = Outcome::of(command);
    let report: Value =
        serde_json::from_str(&fs::read_to_string(report).unwrap_or_else(|_| panic!("{outcome:?}"))).unwrap();
    tells(&report["general"], json!({ "total_requests": 4, "valid_requests": 4, "failed_requests": 0 }));
}

#[test]
fn a_file_that_is_rotated_under_load_loses_no_line() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", backend.address())]), "{status} {session}");
    let instance = setup.start();
    let visitors = Visitors::start(&instance.listener("web"), [std::time::Duration::ZERO; 4]);
    let mut rotated = Vec::new();
    for turn in 0..3 {
        let before = visitors.answered();
        eventually("more are answered", || (visitors.answered() > before + 20).then_some(()));
        let moved = instance.folder.path(&format!("access.log.{turn}"));
        fs::rename(&file, &moved).unwrap();
        instance.process.signal(Signal::USR1);
        eventually("the file is opened anew", || file.exists().then_some(()));
        rotated.push(moved);
    }
    let answered = usize::try_from(visitors.end().requests).unwrap();
    rotated.push(file);
    eventually("all lines are there", || {
        let text: String = rotated.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert!(text.lines().all(|line| line.starts_with("200 ")), "{text}");
        (text.lines().count() == answered).then_some(())
    });
}

#[test]
fn a_disk_that_is_full_loses_lines_and_no_request() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let setup = Setup::shop(CHECKS_OFF, [("a", backend.address())]).and("[access_log]\nto = \"file:/dev/full\"\n");
    let instance = setup.start();
    let mut client = Connection::open(&instance.listener("web"));
    for _ in 0..50 {
        assert_eq!(client.request("GET", "/", &[], b"").status, 200);
    }
    instance.counts("access_log_lost", 50);
    assert_eq!(instance.metric("steadfast_dataplane_access_log_written_total"), 0);
    let told = instance.process.stderr().matches("the access log can't be written").count();
    assert!((1..=2).contains(&told), "once for each outage: {}", instance.process.stderr());
}

#[test]
fn a_reader_that_stands_still_holds_up_no_request() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let setup = Setup::shop(CHECKS_OFF, [("a", backend.address())]).global("workers = 1");
    let fifo = setup.folder().path("fifo");
    assert_eq!(Outcome::of(command("mkfifo", &[&fifo])).code, Some(0));
    let log = format!("[access_log]\nto = \"file:{}\"\nqueue_bytes = 65536\n", fifo.display());
    // It opens the fifo as whoever reads would, and reads nothing.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let instance = setup.and(&log).start();
    let mut client = Connection::open(&instance.listener("web"));
    let mut sent = 0;
    eventually("lines are lost", || {
        for _ in 0..100 {
            assert_eq!(client.request("GET", "/", &[], b"").status, 200);
            sent += 1;
        }
        (instance.metric("steadfast_dataplane_access_log_lost_total") > 0).then_some(())
    });
    drop(reader);
    assert!(sent >= 200, "what waits is 64 KiB, and a pipe holds as much: {sent}");
}

fn command(program: &str, paths: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(paths);
    command
}

#[test]
fn a_daemon_of_syslog_gets_each_line_as_a_message_also_after_it_was_started_again() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let setup = Setup::shop(CHECKS_OFF, [("a", backend.address())]);
    let (socket, out) = (setup.folder().path("log"), setup.folder().path("messages"));
    let rules = setup.folder().write(
        "rsyslog.conf",
        &format!(
            "module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"{}\" RateLimit.Interval=\"0\")\n\
             template(name=\"t\" type=\"string\" string=\"%syslogfacility-text%.%syslogseverity-text% %programname% %msg:2:$%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"t\")\n",
            socket.display(),
            out.display()
        ),
    );
    let pid_file = setup.folder().path("pid");
    let daemon = || {
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&rules).arg("-i").arg(&pid_file);
        let running = Running::start(command);
        eventually("rsyslog listens", || std::os::unix::net::UnixDatagram::unbound().unwrap().connect(&socket).ok());
        running
    };
    let mut first = daemon();
    let log =
        format!("[access_log]\nto = \"syslog:{}\"\nformat = \"{{method}} {{path}} {{status}}\"\n", socket.display());
    let instance = setup.and(&log).start();
    let web = instance.listener("web");
    get(&web, "/one", &[]);
    assert_eq!(lines(&out, 1), ["local0.info steadfast GET /one 200"]);
    first.signal(Signal::TERM);
    first.ended();
    drop(fs::remove_file(&socket));
    drop(fs::remove_file(&pid_file));
    let _second = daemon();
    request(&web, "PUT", "/two", &[], b"x");
    assert_eq!(lines(&out, 2)[1], "local0.info steadfast PUT /two 200");
}

#[test]
fn whoever_has_no_log_to_open_anew_is_not_ended_by_the_signal() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let instance = Setup::shop(CHECKS_OFF, [("a", backend.address())]).start();
    let pids = ["dataplane", "admin"].map(|role| instance.signal(role, Signal::USR1));
    instance.process.signal(Signal::USR1);
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 200);
    assert_eq!(instance.api("GET", "/v1/status", None).0, 200);
    assert_eq!(pids, ["dataplane", "admin"].map(|role| instance.pid(role)));
}

#[test]
fn another_log_is_taken_with_an_upgrade_and_a_reload_says_so() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (setup, file) = logged(Setup::shop(CHECKS_OFF, [("a", backend.address())]), "{path}");
    let instance = setup.start();
    get(&instance.listener("web"), "/one", &[]);
    assert_eq!(lines(&file, 1), ["/one"]);
    let configuration = instance.folder.path("steadfast.toml");
    let text = fs::read_to_string(&configuration).unwrap().replace("{path}", "{method} {path}");
    fs::File::create(&configuration).unwrap().write_all(text.as_bytes()).unwrap();
    let (_, answer) = instance.api("POST", "/v1/reload", None);
    assert!(answer["warnings"].to_string().contains("[access_log] changed"), "{answer}");
    assert_eq!(instance.ctl(&["upgrade"]).code, Some(0));
    // A connection that had come to the old one by then is still answered by it.
    eventually("the next data plane writes its own lines", || {
        get(&instance.listener("web"), "/two", &[]);
        fs::read_to_string(&file).unwrap().lines().any(|line| line == "GET /two").then_some(())
    });
}
