//! Either side breaking off, at every moment of an exchange: nothing is left hanging, mistaken or done twice.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};
use support::{
    Instance, PATIENCE, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get},
};

/// One listener with these lines of its own that leads to one pool with this backend and no checks.
fn before(backend: &Scripted, listener: &str, pool: &str) -> Instance {
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n{listener}\n\
         [[pool]]\nname = \"shop\"\n{pool}\nhealth.check = \"off\"\nhealth.passive.failures = 0\n\
         [[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        backend.address()
    );
    Setup::new(&text).start()
}

fn open(instance: &Instance) -> TcpStream {
    let stream = TcpStream::connect(instance.listener("web")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// All that comes until the other side closes, and whether it closed by a reset.
fn all(stream: &mut TcpStream) -> (String, bool) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (String::from_utf8_lossy(&seen).into_owned(), false),
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (String::from_utf8_lossy(&seen).into_owned(), true);
            }
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&seen)),
        }
    }
}

/// A backend that tells of each request head and of the end of each connection, and never answers.
fn silent() -> (Scripted, Receiver<&'static str>) {
    let (tell, told) = channel();
    let backend = Scripted::start(move |mut stream| {
        if read_head(&mut stream).is_some() {
            tell.send("head").unwrap();
            while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                tell.send("body").unwrap();
            }
            tell.send("end").unwrap();
        }
    });
    (backend, told)
}

#[test]
fn an_upload_that_is_abandoned_halfway_is_taken_from_its_backend() {
    let (backend, told) = silent();
    let instance = before(&backend, "", "");
    let mut client = open(&instance);
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("head"));
    drop(client);
    assert!(std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok()).any(|told| told == "end"));
}

#[test]
fn a_client_that_leaves_after_its_upload_is_missed_before_the_answer() {
    let (backend, told) = silent();
    let instance = before(&backend, "", "");
    let mut client = open(&instance);
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("head"));
    client.write_all(b"all of i").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("body"));
    drop(client);
    assert!(std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok()).any(|told| told == "end"));
}

#[test]
fn a_backend_that_breaks_off_its_answer_lets_go_of_a_client_that_still_uploads() {
    let backend = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let instance = before(&backend, "", "");
    let mut client = open(&instance);
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    let (seen, _) = all(&mut client);
    assert!(seen.starts_with("HTTP/1.1 200 ") && seen.ends_with("half"), "{seen:?}");
}

#[test]
fn the_time_limit_of_an_upload_ends_with_it() {
    let (tell, told) = channel();
    let (release, is_released) = channel::<()>();
    let is_released = Mutex::new(is_released);
    let backend = Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST /slow ") {
                tell.send(()).unwrap();
                stream.read_exact(&mut [0; 4]).unwrap();
                tell.send(()).unwrap();
                is_released.lock().unwrap().recv().unwrap();
            }
            if !head.starts_with("POST /half ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        }
    });
    let instance = before(&backend, "timeouts.body = \"200ms\"", "");
    let mut client = Connection::open(&instance.listener("web"));
    client.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    told.recv_timeout(PATIENCE).unwrap();
    client.send(b"body");
    told.recv_timeout(PATIENCE).unwrap();
    // Takes as long as the limit, and begins later.
    let limit_passes = || {
        let mut other = open(&instance);
        other.write_all(b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nx").unwrap();
        assert!(all(&mut other).0.starts_with("HTTP/1.1 408 "));
    };
    limit_passes();
    limit_passes();
    release.send(()).unwrap();
    assert_eq!(client.response(false).unwrap().text(), "ok");
    limit_passes();
    assert_eq!(client.request("GET", "/", &[], b"").text(), "ok", "the connection lives on, as was said");
}

#[test]
fn what_is_left_of_a_body_is_never_taken_for_a_request() {
    let (backend, told) = refusing();
    let instance = before(&backend, "", "");
    let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..20 {
        let mut client = open(&instance);
        let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nx", rest.len() + 1);
        client.write_all(head.as_bytes()).unwrap();
        let end = told.recv_timeout(PATIENCE).unwrap();
        // The rest of the body and the end of the backend's connection are there when it looks again.
        instance.signal("dataplane", Signal::STOP);
        client.write_all(rest.as_bytes()).unwrap();
        drop(end);
        assert!(told.recv_timeout(PATIENCE).unwrap().is_none());
        instance.signal("dataplane", Signal::CONT);
        let (seen, _) = all(&mut client);
        assert!(seen.starts_with("HTTP/1.1 502 ") && seen.contains("\r\nConnection: close\r\n"), "{seen:?}");
        assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "one request, one answer: {seen:?}");
    }
}

/// A body that a backend was asked about, and answered without, was read by some as the next request, whose answer the next
/// client got (Kettle 2025, HTTP/1.1 Must Die).
#[test]
fn a_body_that_was_not_asked_for_is_never_answered_to_another_client() {
    let answer = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let backend = Scripted::start(move |mut stream| {
        let Some(first) = read_head(&mut stream) else { return };
        stream.write_all(answer("ok").as_bytes()).unwrap();
        // It takes its time over the body, until another request is behind it.
        if first.starts_with("POST") && read_head(&mut stream).is_some() && read_head(&mut stream).is_some() {
            stream.write_all(answer("poison").as_bytes()).unwrap();
        }
    });
    let instance = before(&backend, "", "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = format!("Host: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", smuggled.len());
    for _ in 0..5 {
        let mut client = Connection::open(&instance.listener("web"));
        client.send(format!("POST / HTTP/1.1\r\n{head}{smuggled}").as_bytes());
        assert_eq!(client.response(false).unwrap().text(), "ok");
        assert_eq!(get(&instance.listener("web"), "/", &[]).text(), "ok", "the answer to what was smuggled");
    }
}

#[test]
fn a_body_that_was_asked_for_leaves_the_connection_to_the_next_request() {
    let (tell, told) = channel();
    let backend = Scripted::start(move |mut stream| {
        tell.send(()).unwrap();
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                stream.read_exact(&mut [0; 4]).unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let text = "workers = 1";
    let instance = Setup::shop("health.check = \"off\"", [("a", backend.address())]).global(text).start();
    for _ in 0..3 {
        let mut client = Connection::open(&instance.listener("web"));
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response(false).unwrap().text(), "ok");
    }
    assert_eq!(told.try_iter().count(), 1, "one connection for all of them");
}

/// The end of a backend's connection to come, or that it has come.
type Told = Option<Sender<()>>;

/// A backend that tells of each head, closes with what follows it unread once what it told is dropped, and tells of that.
fn refusing() -> (Scripted, Receiver<Told>) {
    let (tell, told) = channel();
    let backend = Scripted::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        let (end, ends) = channel();
        tell.send(Some(end)).unwrap();
        assert!(ends.recv().is_err());
        drop(stream);
        tell.send(None).unwrap();
    });
    (backend, told)
}

#[test]
fn a_client_of_http_1_0_sees_that_chunks_were_cut_short() {
    let backend = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf");
    let instance = before(&backend, "", "");
    let mut client = open(&instance);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let (seen, reset) = all(&mut client);
    assert!(reset, "an end like any other would make this the whole: {seen:?}");
}

#[test]
fn a_backend_that_is_never_done_with_interim_responses_is_a_502() {
    let backend = Scripted::start(|mut stream| {
        if read_head(&mut stream).is_some() {
            while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").is_ok() {}
        }
    });
    let instance = before(&backend, "", "");
    let mut client = Connection::open(&instance.listener("web"));
    // It is the client's turn, so that no time limit of the backend's runs.
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.response(false).unwrap().status, 502);
}

#[test]
fn a_request_that_had_an_interim_response_is_not_repeated() {
    let (tell, told) = channel();
    let backend = Scripted::start(move |mut stream| {
        for response in ["200 OK\r\nContent-Length: 2\r\n\r\nok", "103 Early Hints\r\n\r\n"] {
            if read_head(&mut stream).is_some() {
                tell.send(()).unwrap();
                stream.write_all(format!("HTTP/1.1 {response}").as_bytes()).unwrap();
            }
        }
    });
    let instance = before(&backend, "", "");
    let mut client = Connection::open(&instance.listener("web"));
    assert_eq!(client.request("GET", "/", &[], b"").status, 200);
    assert_eq!(client.request("GET", "/", &[], b"").status, 502, "on the same connection, after its first byte");
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn what_breaks_off_within_a_body_is_counted() {
    let backend = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let instance = before(&backend, "", "");
    let mut client = Connection::open(&instance.listener("web"));
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.response(false).is_err());
    eventually("it is counted", || (instance.backend("shop", "a")["counts"]["resets"] == 1).then_some(()));
}

#[test]
fn a_new_session_goes_where_it_can_although_sessions_must_stay() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pool = "affinity.on_down = \"fail\"\nhealth.check = \"off\"\nhealth.passive.failures = 0\n";
    let instance = Setup::shop(pool, [("a", closed), ("b", backend.address())]).start();
    let address = instance.listener("web");
    for n in 0..10 {
        assert_eq!(get(&address, "/", &[]).status, 200, "{n}");
    }
}

#[test]
fn each_listener_has_a_limit_of_its_own() {
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let listener = |name: &str, host: &str| {
        format!("[[listener]]\nname = \"{name}\"\nbind = \"{host}:0\"\npool = \"shop\"\nlimits.connections = 1\n")
    };
    let (one, two) = (listener("one", "127.0.0.1"), listener("two", "127.0.0.2"));
    let text = format!(
        "{one}{two}[[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        backend.address()
    );
    let instance = Setup::new(&text).global("workers = 1").start();
    let mut kept: Vec<_> = ["one", "two"].map(|name| Connection::open(&instance.listener(name))).into();
    for connection in &mut kept {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
    }
    for name in ["one", "two"] {
        assert!(Connection::open(&instance.listener(name)).is_closed(), "{name} is full");
    }
    for connection in &mut kept {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
    }
}
