//! What the death of a process costs: of the admin process nothing, of the data plane what was under way in it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};
use support::{
    Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get},
    peers::Nginx,
};

/// Clients that ask again and again, retry nothing and count everything.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: &str, clients: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (address, stop, served) = (address.to_owned(), Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || Self::ask(&address, &stop, &served))
        };
        let threads = (0..clients).map(client).collect();
        Self { stop, served, threads }
    }

    fn ask(address: &str, stop: &AtomicBool, served: &AtomicU64) -> Vec<String> {
        let mut connection = Connection::open(address);
        let first = connection.request("GET", "/", &[], b"");
        let (home, cookie) = (first.text(), first.cookie("lb-affinity").unwrap());
        let mut failures = Vec::new();
        while !stop.load(SeqCst) {
            connection.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n").as_bytes());
            match connection.response(false) {
                Ok(answer) if (answer.status, answer.text()) == (200, home.clone()) => {
                    served.fetch_add(1, SeqCst);
                }
                Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
                Err(error) => {
                    failures.push(error.to_string());
                    break;
                }
            }
        }
        failures
    }

    /// Waits until so many more were served.
    #[track_caller]
    fn served(&self, more: u64) {
        let until = self.served.load(SeqCst) + more;
        eventually("requests are served", || (self.served.load(SeqCst) >= until).then_some(()));
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn killing_the_admin_process_costs_no_request_and_nothing_that_was_stored() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let load = Load::start(&instance.listener("web"), 8);
    for round in 1..=3u32 {
        let path = format!("/v1/pools/shop/backends/kept-{round}");
        let (status, answer) = instance.api("PUT", &path, Some(json!({ "address": "127.0.0.1:9", "weight": 0 })));
        assert_eq!((status, &answer["applied"]), (201, &json!(true)), "{answer}");
        load.served(200);
        let killed = instance.signal("admin", Signal::KILL);
        load.served(200);
        instance.replaced("admin", killed);
        eventually("the admin process is back with all that it answered", || {
            let stream = TcpStream::connect(instance.admin());
            stream.is_ok().then(|| instance.api("GET", "/readyz", None).0).filter(|status| *status == 200)
        });
        for kept in 1..=round {
            assert_eq!(instance.backend("shop", &format!("kept-{kept}"))["weight"], json!(0));
        }
        let (_, drained) = instance.api("POST", "/v1/pools/shop/backends/kept-1/drain", None);
        assert_eq!(drained["applied"], json!(true), "and it commands the data plane again: {drained}");
    }
    load.served(200);
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
fn who_waits_in_the_queue_of_a_dead_data_plane_is_served_by_the_next() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let first = get(&address, "/", &[]);
    let (home, cookie) = (first.text(), first.cookie("lb-affinity").unwrap());
    // Stopped, it accepts nobody: these wait in the sockets that the supervisor holds.
    let killed = instance.signal("dataplane", Signal::STOP);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    let mut waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(request.as_bytes()).unwrap();
    }
    instance.signal("dataplane", Signal::KILL);
    for mut stream in waiting {
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&home), "{answer}");
        assert!(!answer.contains("Set-Cookie"), "its session is where it was");
    }
    assert_ne!(instance.replaced("dataplane", killed), killed);
}

#[test]
fn a_data_plane_starts_without_the_admin_process_from_its_last_snapshot() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let first = get(&address, "/", &[]);
    let cookie = first.cookie("lb-affinity").unwrap();
    let (_, answer) = instance.api("POST", "/v1/pools/shop/backends/a/drain", None);
    assert_eq!(answer["applied"], json!(true));
    // A stopped admin process holds its socket and says nothing.
    instance.signal("admin", Signal::STOP);
    let killed = instance.signal("dataplane", Signal::KILL);
    instance.replaced("dataplane", killed);
    let again = get(&address, "/", &[("Cookie", &cookie)]);
    assert_eq!((again.text(), again.cookie("lb-affinity")), (first.text(), None));
    for _ in 0..10 {
        assert_eq!(get(&address, "/", &[]).text(), "b", "what was answered as applied holds in the next life too");
    }
    instance.signal("admin", Signal::CONT);
    eventually("the admin process takes over again", || {
        let (status, answer) = instance.api("POST", "/v1/pools/shop/backends/a/activate", None);
        (status == 200 && answer["applied"] == json!(true)).then_some(())
    });
}

/// Fixed: health that was commanded was written down within the next second, and a data plane that died before that sent
/// requests in its next life where nobody was to send any more.
#[test]
fn commanded_health_outlives_the_data_plane_that_has_just_acknowledged_it() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let down = Some(json!({ "health": "down" }));
    let (_, answer) = instance.api("PUT", "/v1/pools/shop/backends/a/health", down);
    instance.signal("admin", Signal::STOP);
    let killed = instance.signal("dataplane", Signal::KILL);
    assert_eq!(answer["applied"], json!(true), "{answer}");
    instance.replaced("dataplane", killed);
    for _ in 0..10 {
        assert_eq!(get(&address, "/", &[]).text(), "b");
    }
    instance.signal("admin", Signal::CONT);
}

#[test]
fn a_data_plane_that_ends_before_it_heard_anything_leaves_the_last_snapshot_as_it_was() {
    let nginx = Nginx::start(&["a"]);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    instance.signal("admin", Signal::STOP);
    let mut killed = instance.signal("dataplane", Signal::KILL);
    for _ in 0..2 {
        killed = instance.replaced("dataplane", killed);
        eventually("it obeys signals", || {
            let status = std::fs::read_to_string(format!("/proc/{killed}/status")).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            (caught & 1 << (Signal::TERM.as_raw() - 1) != 0).then_some(())
        });
        instance.signal("dataplane", Signal::TERM);
    }
    instance.replaced("dataplane", killed);
    assert_eq!(get(&address, "/", &[]).text(), "a");
    instance.signal("admin", Signal::CONT);
}

#[test]
fn at_sigterm_exchanges_finish_and_idle_connections_close() {
    let (release, is_released) = std::sync::mpsc::channel::<()>();
    let is_released = std::sync::Mutex::new(is_released);
    let slow = Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /slow ") {
                is_released.lock().unwrap().recv().unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
        }
    });
    let mut instance = Setup::shop("", [("a", slow.address())]).start();
    let address = instance.listener("web");
    let mut idle = Connection::open(&address);
    assert_eq!(idle.request("GET", "/", &[], b"").status, 200);
    let mut busy = Connection::open(&address);
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the backend", || {
        (instance.backend("shop", "a")["requests_in_flight"] == 1).then_some(())
    });
    instance.process.signal(Signal::TERM);
    assert!(idle.is_closed(), "an idle connection closes");
    release.send(()).unwrap();
    let answer = busy.response(false).unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("Connection")), (200, "done", Some("close")));
    assert!(instance.process.ended().success());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let silent = Scripted::start(|mut stream| while read_head(&mut stream).is_some() {});
    let mut instance = Setup::shop("", [("a", silent.address())]).start();
    let mut busy = Connection::open(&instance.listener("web"));
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the backend", || {
        (instance.backend("shop", "a")["requests_in_flight"] == 1).then_some(())
    });
    let dataplane = instance.pid("dataplane");
    instance.process.signal(Signal::TERM);
    eventually("it drains", || instance.process.stderr().contains("draining").then_some(()));
    instance.process.signal(Signal::TERM);
    instance.process.ended();
    assert!(!std::path::Path::new(&format!("/proc/{dataplane}/stat")).exists());
}

#[test]
fn a_snapshot_that_can_not_be_written_is_told_once_for_each_outage() {
    let nginx = Nginx::start(&["a"]);
    let instance = Setup::shop("", nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let path = instance.folder.path("state/dataplane.json");
    eventually("there is a snapshot", || path.is_file().then_some(()));
    let write = |weight: u32| {
        let body = Some(json!({ "weight": weight }));
        let (status, answer) = instance.api("PATCH", "/v1/pools/shop/backends/a", body);
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
    };
    let told = |what: &str| instance.process.stderr().matches(what).count();
    for outage in 1..=2 {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        (2..6).for_each(write);
        eventually("it is told", || (told("the snapshot can't be written") == outage).then_some(()));
        std::fs::remove_dir_all(&path).unwrap();
        write(1);
        eventually("it is written again", || (told("the snapshot can be written again") == outage).then_some(()));
        assert!(path.is_file());
        assert_eq!(told("the snapshot can't be written"), outage);
    }
}
