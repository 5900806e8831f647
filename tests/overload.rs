//! Backends that have as many requests as they may have: who waits, who goes elsewhere, who is told to come again.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::json;
use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};
use support::{
    Instance, PATIENCE, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, Response, get},
};

/// A backend that keeps every request under `/hold` until it is let go, and says its name.
struct Holding {
    backend: Scripted,
    held: Arc<Held>,
}

#[derive(Default)]
struct Held {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    inside: usize,
    most: usize,
    /// Paths in the order in which they came.
    seen: Vec<String>,
    may_go: usize,
}

impl Holding {
    fn start(name: &'static str) -> Self {
        let held = Arc::new(Held::default());
        let own = Arc::clone(&held);
        let backend = Scripted::start(move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                own.serve(head.split(' ').nth(1).unwrap());
                let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { backend, held }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    fn let_go(&self, count: usize) {
        self.held.state.lock().unwrap().may_go += count;
        self.held.changed.notify_all();
    }

    #[track_caller]
    fn has(&self, inside: usize) {
        let reached = |state: &mut State| state.inside != inside;
        let state = self.held.state.lock().unwrap();
        let (state, wait) = self.held.changed.wait_timeout_while(state, PATIENCE, reached).unwrap();
        assert!(!wait.timed_out(), "{} requests are at the backend instead of {inside}", state.inside);
    }

    fn most(&self) -> usize {
        self.held.state.lock().unwrap().most
    }

    fn seen(&self) -> Vec<String> {
        self.held.state.lock().unwrap().seen.clone()
    }
}

impl Held {
    fn serve(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        state.seen.push(path.to_owned());
        state.inside += 1;
        state.most = state.most.max(state.inside);
        self.changed.notify_all();
        if path.starts_with("/hold") {
            state = self.changed.wait_timeout_while(state, PATIENCE, |state| state.may_go == 0).unwrap().0;
            state.may_go = state.may_go.saturating_sub(1);
        }
        state.inside -= 1;
        drop(state);
        self.changed.notify_all();
    }
}

fn before(pool: &str, backends: &[(&str, &Holding)]) -> Instance {
    let addresses: Vec<_> = backends.iter().map(|(name, backend)| (*name, backend.address())).collect();
    Setup::shop(&format!("{pool}\nhealth.check = \"off\"\n"), addresses).start()
}

/// A request that waits for its answer on a thread of its own.
fn ask(instance: &Instance, path: &str, cookie: Option<&str>) -> thread::JoinHandle<Response> {
    let (address, path, cookie) = (instance.listener("web"), path.to_owned(), cookie.map(str::to_owned));
    thread::spawn(move || {
        let headers: Vec<_> = cookie.iter().map(|cookie| ("Cookie", cookie.as_str())).collect();
        get(&address, &path, &headers)
    })
}

#[track_caller]
fn queued(instance: &Instance, count: u64) {
    let all = || {
        instance.metric("steadfast_pool_requests_queued{pool=\"shop\"}")
            + instance.backend("shop", "a")["requests_queued"].as_u64().unwrap()
    };
    eventually(&format!("{count} requests wait"), || (all() == count).then_some(()));
}

#[test]
fn a_limit_holds_over_all_workers_and_everybody_is_served() {
    let backend = Holding::start("a");
    let instance = before("limits = { requests = 3 }", &[("a", &backend)]);
    let asked: Vec<_> = (0..40).map(|_| ask(&instance, "/hold", None)).collect();
    backend.has(3);
    queued(&instance, 37);
    backend.let_go(40);
    for answer in asked {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!((backend.most(), instance.pool_count("queued")), (3, 37));
    queued(&instance, 0);
}

#[test]
fn those_who_wait_are_served_in_the_order_of_coming() {
    let backend = Holding::start("a");
    let instance = before("affinity.on_overload = \"queue\"\nlimits = { requests = 1 }", &[("a", &backend)]);
    let cookie = get(&instance.listener("web"), "/", &[]).cookie("lb-affinity").unwrap();
    let mut asked = vec![ask(&instance, "/hold/0", None)];
    backend.has(1);
    // With and without a pin: two queues, one order.
    for number in 1..=6 {
        let cookie = (number % 2 == 0).then_some(cookie.as_str());
        asked.push(ask(&instance, &format!("/hold/{number}"), cookie));
        queued(&instance, number);
    }
    for left in (0..=6).rev() {
        backend.let_go(1);
        queued(&instance, u64::saturating_sub(left, 1));
    }
    for answer in asked {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    let order: Vec<_> = (0..=6).map(|number| format!("/hold/{number}")).collect();
    assert_eq!(backend.seen()[1..], order);
    assert_eq!(backend.most(), 1);
}

#[test]
fn waiting_is_bounded_in_number_and_time() {
    let backend = Holding::start("a");
    let pool = "limits = { requests = 1, queue = 1, queue_timeout = \"2s\" }";
    let instance = before(pool, &[("a", &backend)]);
    let first = ask(&instance, "/hold", None);
    backend.has(1);
    let second = ask(&instance, "/hold", None);
    queued(&instance, 1);
    let refused = get(&instance.listener("web"), "/", &[]);
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    let late = second.join().unwrap();
    assert_eq!((late.status, late.header("Retry-After").is_some()), (503, true));
    backend.let_go(1);
    assert_eq!(first.join().unwrap().status, 200);
    eventually("both refusals are counted", || {
        let counts = ["queue_full", "queue_timeouts"].map(|name| instance.pool_count(name));
        (counts == [1, 1]).then_some(())
    });
    assert_eq!(instance.pool_count("queued"), 1, "who finds no place has not waited");
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 200, "its place is free again");
}

#[test]
fn a_client_that_has_its_answer_and_does_not_go_holds_nobody_up() {
    let backend = Holding::start("a");
    // Less than it is given to read to the end.
    let instance = before("limits = { requests = 1, queue_timeout = \"1s\" }", &[("a", &backend)]);
    let mut reader = Connection::open(&instance.listener("web"));
    assert_eq!(reader.request("GET", "/", &[("Connection", "close")], b"").status, 200);
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 200);
    drop(reader);
}

#[test]
fn a_client_that_leaves_its_place_holds_nobody_up() {
    let backend = Holding::start("a");
    let instance = before("limits = { requests = 1 }", &[("a", &backend)]);
    let first = ask(&instance, "/hold", None);
    backend.has(1);
    let mut leaver = Connection::open(&instance.listener("web"));
    leaver.send(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    queued(&instance, 1);
    drop(leaver);
    queued(&instance, 0);
    let second = ask(&instance, "/", None);
    queued(&instance, 1);
    backend.let_go(1);
    assert_eq!((first.join().unwrap().status, second.join().unwrap().status), (200, 200));
    assert_eq!(backend.seen(), ["/hold", "/"]);
}

/// A session that is pinned to `a`, and has given its room there back for what comes next on this connection.
fn pinned_to_a(client: &mut Connection) -> String {
    eventually("a session begins at a", || {
        let response = client.request("GET", "/", &[], b"");
        response.cookie("lb-affinity").filter(|_| response.text() == "a")
    })
}

#[test]
fn a_session_whose_backend_is_full_does_as_on_overload_says() {
    for (on_overload, served_by) in [("stay", "a"), ("spill", "b")] {
        let (a, b) = (Holding::start("a"), Holding::start("b"));
        let pool = format!("affinity.on_overload = \"{on_overload}\"\nlimits = {{ requests = 1 }}");
        let instance = before(&pool, &[("a", &a), ("b", &b)]);
        // On one connection, for another one may be served before the backend's room is given back.
        let mut client = Connection::open(&instance.listener("web"));
        let cookie = pinned_to_a(&mut client);
        let pin = cookie.clone();
        let both = std::thread::spawn(move || {
            ["/hold", "/"].map(|path| client.request("GET", path, &[("Cookie", &pin)], b"").text())
        });
        a.has(1);
        let second = get(&instance.listener("web"), "/", &[("Cookie", &cookie)]);
        assert_eq!((second.status, second.text().as_str()), (200, served_by), "{on_overload}");
        assert_eq!(second.cookie("lb-affinity"), None, "the pin is unchanged");
        a.let_go(1);
        assert_eq!(both.join().unwrap(), ["a", "a"]);
        eventually("what spilled is counted", || {
            (instance.pool_count("spilled_overload") == u64::from(on_overload == "spill")).then_some(())
        });
        assert_eq!(a.most(), if on_overload == "stay" { 2 } else { 1 });
    }
}

#[test]
fn what_waits_for_a_backend_that_goes_finds_another() {
    let (a, b) = (Holding::start("a"), Holding::start("b"));
    let pool = "affinity.on_overload = \"queue\"\nlimits = { requests = 1, queue_timeout = \"1m\" }";
    let instance = before(pool, &[("a", &a), ("b", &b)]);
    let cookie = pinned_to_a(&mut Connection::open(&instance.listener("web")));
    let first = ask(&instance, "/hold", Some(&cookie));
    a.has(1);
    let second = ask(&instance, "/", Some(&cookie));
    queued(&instance, 1);
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/a/maintenance", None).0, 200);
    let moved = second.join().unwrap();
    assert_eq!((moved.status, moved.text().as_str()), (200, "b"));
    assert!(moved.cookie("lb-affinity").is_some());
    a.let_go(1);
    assert_eq!(first.join().unwrap().status, 200, "what was under way is finished");
}

#[test]
fn a_load_bound_sends_overflow_to_the_next_and_refuses_nobody() {
    let (a, b) = (Holding::start("a"), Holding::start("b"));
    let pool = "load_bound = 1.25\naffinity.on_overload = \"spill\"";
    let instance = before(pool, &[("a", &a), ("b", &b)]);
    let cookie = pinned_to_a(&mut Connection::open(&instance.listener("web")));
    // Of n requests and one more, 1.25 × (n + 1) / 2 rounded up may be at one backend: 1, 2, 2, 3, 4, …
    let mut asked = Vec::new();
    for number in 0..8 {
        asked.push(ask(&instance, "/hold", Some(&cookie)));
        eventually("it is at a backend", || {
            let inside = |backend: &Holding| backend.held.state.lock().unwrap().inside;
            (inside(&a) + inside(&b) == number + 1).then_some(())
        });
    }
    assert_eq!((a.most(), b.most()), (5, 3));
    a.let_go(5);
    b.let_go(3);
    for answer in asked {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert!(a.seen().len() > 5);
    let lonely = before(pool, &[("a", &a)]);
    let cookie = get(&lonely.listener("web"), "/", &[]).cookie("lb-affinity").unwrap();
    let asked: Vec<_> = (0..5).map(|_| ask(&lonely, "/hold", Some(&cookie))).collect();
    a.has(5);
    a.let_go(5);
    assert!(asked.into_iter().all(|answer| answer.join().unwrap().status == 200));
}

/// Whether a connection to this address is on its way and not accepted for want of room in the listen queue.
fn is_knocked_at(address: SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2].ends_with(&port) && fields[3] == SYN_SENT
    })
}

#[test]
fn a_change_in_between_costs_nobody_the_room_that_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let full: Vec<_> = std::iter::from_fn(|| knock().ok()).collect();
    let pool = "limits = { requests = 1 }\ntimeouts.connect = \"30s\"\nhealth.check = \"off\"\n";
    let instance = Setup::shop(pool, [("a", address)]).start();
    let first = ask(&instance, "/first", None);
    eventually("it is on its way", || is_knocked_at(address).then_some(()));
    let second = ask(&instance, "/second", None);
    queued(&instance, 1);
    let (status, answer) = instance.api("PATCH", "/v1/pools/shop/backends/a", Some(json!({ "weight": 2 })));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)));
    drop(full);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let told = Arc::clone(&told);
            thread::spawn(move || {
                while let Some(head) = read_head(&mut stream) {
                    told.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    assert_eq!((first.join().unwrap().status, second.join().unwrap().status), (200, 200));
    assert_eq!(*seen.lock().unwrap(), ["/first", "/second"]);
}
