//! `then = "close"`: what a drain leaves open at its end is closed.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use support::{
    Instance, PATIENCE, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get},
};

const COOKIE: &str = "lb-affinity";

/// A backend that answers with its name; at `/stream` without end, at `/bare` likewise and with nothing but the close to end
/// it; at `/never` not at all. Tells how many connections to it are open.
fn backend(name: &'static str) -> (Scripted, Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let scripted = Scripted::start(move |mut stream| {
        counted.fetch_add(1, SeqCst);
        serve(&mut stream, name);
        counted.fetch_sub(1, SeqCst);
    });
    (scripted, open)
}

fn serve(stream: &mut TcpStream, name: &str) {
    while let Some(head) = read_head(stream) {
        let (begin, more): (_, &[u8]) = match head.split(' ').nth(1).unwrap() {
            "/stream" => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), b"5\r\nhello\r\n"),
            "/bare" => ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), b"hello"),
            "/never" => (String::new(), b""),
            _ => (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()), b""),
        };
        if stream.write_all(begin.as_bytes()).is_err() {
            return;
        }
        if begin.is_empty() {
            // Whatever comes of the body, up to the end.
            while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            return;
        }
        while !more.is_empty() {
            if stream.write_all(more).is_err() || is_closed(stream) {
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

struct Shop {
    instance: Instance,
    address: String,
    /// Of a session at `a`.
    cookie: String,
    open: Arc<AtomicUsize>,
}

/// Backends `a` and `b`, with a session at the first.
fn shop(pool: &str) -> Shop {
    let ((a, open), (b, _)) = (backend("a"), backend("b"));
    let settings = format!("{pool}\n[pool.health]\ncheck = \"off\"\n");
    let instance = Setup::shop(&settings, [("a", a.address()), ("b", b.address())]).start();
    let address = instance.listener("web");
    let cookie = eventually("a session begins at `a`", || {
        let first = get(&address, "/", &[]);
        first.cookie(COOKIE).filter(|_| first.text() == "a")
    });
    Shop { instance, address, cookie, open }
}

impl Shop {
    /// Asks within the session, without waiting for an answer.
    fn ask(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{head}\r\nHost: x\r\nCookie: {}\r\n\r\n", self.cookie).as_bytes()).unwrap();
        stream
    }

    #[track_caller]
    fn drain(&self, body: &Value) {
        let (status, answer) = self.instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(body.clone()));
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
        eventually("the drain has ended", || (self.backend()["admin_state"] == "maintenance").then_some(()));
    }

    fn backend(&self) -> Value {
        self.instance.backend("shop", "a")
    }

    /// Waits until so many requests are at `a`.
    #[track_caller]
    fn in_flight(&self, count: u64) {
        eventually(&format!("{count} are under way"), || (self.backend()["requests_in_flight"] == count).then_some(()));
    }
}

/// Reads until `part` has come.
#[track_caller]
fn read_up_to(stream: &mut TcpStream, part: &str) {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while !text.windows(part.len()).any(|window| window == part.as_bytes()) {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "it ended with {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..count]);
    }
}

/// All that comes up to the end, and how that came.
fn rest(stream: &mut TcpStream) -> (String, Result<usize, ErrorKind>) {
    let mut text = Vec::new();
    let end = stream.read_to_end(&mut text).map_err(|error| error.kind());
    (String::from_utf8_lossy(&text).into_owned(), end)
}

#[test]
fn what_is_under_way_at_the_end_is_cut_where_it_was_told_and_nowhere_else() {
    let shop = shop("");
    let mut stream = shop.ask("GET /stream HTTP/1.1");
    read_up_to(&mut stream, "hello");
    let mut bare = shop.ask("GET /bare HTTP/1.0");
    read_up_to(&mut bare, "hello");
    let mut upload = shop.ask("POST /never HTTP/1.1\r\nContent-Length: 100000000");
    upload.write_all(&[b'x'; 10_000]).unwrap();
    let mut waiting = shop.ask("GET /never HTTP/1.1");
    // An idle one stays beside them.
    assert_eq!(get(&shop.address, "/", &[("Cookie", &shop.cookie)]).text(), "a");
    shop.in_flight(4);
    assert!(shop.open.load(SeqCst) >= 5);

    shop.drain(&json!({ "deadline": "1ms" }));
    for _ in 0..3 {
        read_up_to(&mut stream, "hello");
        read_up_to(&mut bare, "hello");
    }
    shop.in_flight(4);

    shop.drain(&json!({ "deadline": "1ms", "then": "close" }));
    let (body, _) = rest(&mut stream);
    assert!(!body.contains("\r\n0\r\n"), "a response that is cut must not look whole: {body}");
    assert_eq!(rest(&mut bare).1, Err(ErrorKind::ConnectionReset), "nor one that only its close ends");
    for cut in [&mut upload, &mut waiting] {
        let mut head = vec![0; 12];
        cut.read_exact(&mut head).unwrap();
        assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 503");
    }
    let (head, _) = rest(&mut upload);
    assert!(head.contains("Connection: close\r\n") && head.contains("Retry-After: "), "{head}");
    shop.in_flight(0);
    eventually("its connections are closed", || (shop.open.load(SeqCst) == 0).then_some(()));
    let counts = eventually("they are counted", || {
        let counts = shop.backend()["counts"].clone();
        (counts["closed_by_drain"] == 4).then_some(counts)
    });
    assert_eq!((&counts["resets"], &counts["timeouts"]), (&json!(0), &json!(0)), "no fault of the backend's: {counts}");
    assert_eq!(get(&shop.address, "/", &[("Cookie", &shop.cookie)]).text(), "b", "the session goes on elsewhere");
    eventually("that is counted", || (shop.instance.pool_count("repinned_deadline") == 1).then_some(()));

    // In service again, nothing of that is left.
    assert_eq!(shop.instance.api("POST", "/v1/pools/shop/backends/a/activate", None).0, 200);
    assert_eq!(get(&shop.address, "/", &[("Cookie", &shop.cookie)]).text(), "a");
    let mut again = shop.ask("GET /stream HTTP/1.1");
    read_up_to(&mut again, "hello");
    shop.in_flight(1);
    assert_eq!(shop.backend()["counts"]["closed_by_drain"], 4);
}

#[test]
fn those_that_wait_for_room_there_go_elsewhere() {
    let shop = shop("[pool.affinity]\non_overload = \"queue\"\n[pool.limits]\nrequests = 1\n");
    let mut stream = shop.ask("GET /stream HTTP/1.1");
    read_up_to(&mut stream, "hello");
    let mut queued = Connection::open(&shop.address);
    queued.send(format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", shop.cookie).as_bytes());
    eventually("it waits", || (shop.backend()["requests_queued"] == 1).then_some(()));
    shop.drain(&json!({ "deadline": "1ms", "then": "close" }));
    let answer = queued.response(false).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
    let (body, _) = rest(&mut stream);
    assert!(!body.contains("\r\n0\r\n"), "{body}");
    eventually("what was under way is counted", || {
        let backend = shop.backend();
        (backend["counts"]["closed_by_drain"] == 1 && backend["requests_queued"] == 0).then_some(())
    });
}

#[test]
fn with_nothing_left_it_ends_before_its_deadline_and_closes_what_is_idle() {
    let shop = shop("[pool.affinity.cookie]\nidle_timeout = \"1s\"\n[pool.timeouts]\nidle = \"1h\"\n");
    assert!(shop.open.load(SeqCst) > 0, "a connection was kept");
    let drained = shop.instance.ctl(&["drain", "shop", "a", "--deadline", "1h", "--then", "close"]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    eventually("nothing is left", || (shop.backend()["admin_state"] == "maintenance").then_some(()));
    eventually("its connections are closed", || (shop.open.load(SeqCst) == 0).then_some(()));
    assert_eq!(shop.backend()["counts"]["closed_by_drain"], 0);
}
