//! HTTP/1.1 through the real binary: what is forwarded, what is refused, and how messages end.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use socket2::SockRef;
use std::io::{Read, Write};
use support::{
    Instance, Recorder, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get, request},
};

fn before(backend: &Scripted) -> Instance {
    Setup::shop("", [("a", backend.address())]).start()
}

/// Sends bytes as they are; gives all that comes until the other side closes.
#[track_caller]
fn raw(address: &str, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_two_parties_could_read_differently_is_never_forwarded() {
    let recorder = Recorder::start();
    let instance = Setup::shop("", [("a", recorder.address())]).start();
    let address = instance.listener("web");
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    for (request, status, source) in [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400, "RFC 9112 6.1"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400, "RFC 9110 8.6"),
        (post("Content-Length: 5, 6\r\n", "hello!"), 400, "RFC 9110 8.6"),
        (post("Content-Length: +5\r\n", "hello"), 400, "RFC 9110 8.6"),
        (post("Content-Length: -1\r\n", ""), 400, "RFC 9110 8.6"),
        (post("Content-Length: 0x5\r\n", "hello"), 400, "RFC 9110 8.6"),
        (post("Content-Length: \r\n", ""), 400, "RFC 9110 8.6"),
        (post("Content-Length: 99999999999999999999\r\n", ""), 400, "RFC 9110 8.6"),
        (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "RFC 9112 6.1"),
        (post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 400, "RFC 9112 6.3"),
        (post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400, "RFC 9112 6.1"),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400, "TE obfuscation"),
        (post("Transfer-Encoding: identity\r\n", ""), 400, "RFC 9112 6.1"),
        (post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"), 400, "TE obfuscation"),
        (post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400, "RFC 9112 5.1"),
        (post("X: 1\r\n folded\r\n", ""), 400, "RFC 9112 5.2"),
        (post("X: a\rb\r\n", ""), 400, "RFC 9112 2.2"),
        (post("X: a\0b\r\n", ""), 400, "RFC 9110 5.5"),
        (post("X: 1\nY: 2\r\n", ""), 400, "RFC 9112 2.2"),
        (post("Host: b\r\n", ""), 400, "RFC 9112 3.2"),
        (post(": empty\r\n", ""), 400, "RFC 9110 5.1"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400, "RFC 9112 2.2"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "RFC 9112 3.2"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400, "RFC 9112 3"),
        ("GET /\r\n\r\n".to_owned(), 400, "HTTP/0.9"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505, "RFC 9110 15.6.6"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505, "RFC 9113 3.4"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(), 501, "RFC 9110 9.3.6"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400, "RFC 9112 6.1"),
        (post("Transfer-Encoding: chunked\r\n", "g\r\n"), 400, "RFC 9112 7.1"),
        (post("Transfer-Encoding: chunked\r\n", "-1\r\n"), 400, "RFC 9112 7.1"),
        (post("Transfer-Encoding: chunked\r\n", "0x1\r\na\r\n0\r\n\r\n"), 400, "RFC 9112 7.1"),
        (post("Transfer-Encoding: chunked\r\n", "1\na\r\n0\r\n\r\n"), 400, "RFC 9112 7.1"),
        (post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"), 400, "RFC 9112 7.1"),
    ] {
        let answer = raw(&address, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{source}: {request:?} got {answer:?}");
        assert!(answer.contains("Connection: close\r\n"), "{source}: {request:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{source}: one answer, then the end: {answer:?}");
    }
    assert_eq!(recorder.take(), "", "nothing of it reached the backend");
}

#[test]
fn limits_have_statuses_of_their_own() {
    let recorder = Recorder::start();
    let listener = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n\
        [listener.limits]\nhead_bytes = 2048\nheaders = 20\nuri_bytes = 200\nbody_bytes = 1000\n\
        [listener.timeouts]\nhead = \"300ms\"\nbody = \"300ms\"\n";
    let pool =
        format!("[[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n", recorder.address());
    let instance = Setup::new(&format!("{listener}{pool}")).start();
    let address = instance.listener("web");
    let head = |extra: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{extra}\r\n");
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300)), 414),
        (head(&format!("X: {}\r\n", "x".repeat(3000))), 431),
        (head(&"X: 1\r\n".repeat(30)), 431),
        (head("Content-Length: 1001\r\n"), 413),
        (head("Transfer-Encoding: chunked\r\n") + &format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001)), 413),
        ("GET / HTTP/1.1\r\nHost:".to_owned(), 408),
    ] {
        let answer = raw(&address, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{:.60?} got {answer:?}", request);
    }
    assert_eq!(request(&address, "POST", "/", &[], &[b'x'; 1000]).status, 200, "at the limit is within it");
}

#[test]
fn a_body_that_stops_coming_is_a_408() {
    let silent = Scripted::start(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\ntimeouts.body = \"200ms\"\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        silent.address()
    );
    let instance = Setup::new(&text).start();
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    assert!(raw(&instance.listener("web"), half).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_head_goes_on_without_what_is_for_one_hop_and_with_who_the_client_is() {
    let recorder = Recorder::start();
    let instance = Setup::shop("", [("a", recorder.address())]).start();
    let address = instance.listener("web");
    let mut connection = Connection::open(&address);
    connection.send(
        b"GET /a?b=c HTTP/1.1\r\nHost: Shop.example:8080\r\nAccept: */*\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\n\
        Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\nX-Last: 1\r\n\r\n",
    );
    connection.response(false).unwrap();
    let seen = recorder.take();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\nHost: Shop.example:8080\r\n"), "{seen}");
    for field in
        ["Accept: */*", "X-Last: 1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "Via: 1.1 steadfast"]
    {
        assert!(seen.contains(&format!("\r\n{field}\r\n")), "{field}: {seen}");
    }
    for gone in ["X-Secret", "Keep-Alive", "Proxy-Connection", "TE:", "Upgrade", "6.6.6.6"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
}

#[test]
fn requests_in_a_row_are_answered_in_order_on_one_connection() {
    let backend = Scripted::start(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
    let instance = before(&backend);
    let mut connection = Connection::open(&instance.listener("web"));
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    connection.send(requests.as_bytes());
    for n in 0..20 {
        assert_eq!(connection.response(false).unwrap().text(), format!("/{n}"));
    }
}

#[test]
fn every_way_to_end_a_response_is_passed_on() {
    for (response, close, body, framing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, "hello", "Content-Length"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
            false,
            "hello",
            "Transfer-Encoding",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true, "hello", "Connection"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true, "hello", "Content-Length"),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, "", ""),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", false, "", ""),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            false,
            "hello",
            "Content-Length",
        ),
    ] {
        let backend =
            if close { Scripted::closing_after(response.as_bytes()) } else { Scripted::answering(response.as_bytes()) };
        let instance = before(&backend);
        let address = instance.listener("web");
        let answer = get(&address, "/", &[]);
        assert_eq!(answer.text(), body, "{response:?}");
        assert!(framing.is_empty() || answer.header(framing).is_some(), "{response:?}: {:?}", answer.headers);
        let old = raw(&address, b"GET / HTTP/1.0\r\n\r\n");
        assert!(old.ends_with(body) && !old.contains("Transfer-Encoding"), "to an HTTP/1.0 client: {old:?}");
    }
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let answer = request(&before(&backend).listener("web"), "HEAD", "/", &[], b"");
    assert_eq!((answer.header("Content-Length"), answer.body.len()), (Some("5"), 0));
}

#[test]
fn a_response_that_could_be_read_in_two_ways_is_a_502() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "garbage\r\n\r\n",
        "",
    ] {
        let backend = Scripted::closing_after(response.as_bytes());
        let answer = get(&before(&backend).listener("web"), "/", &[]);
        assert_eq!(answer.status, 502, "{response:?}");
        assert!(!answer.text().contains("127.0.0.1"), "names no internals");
    }
}

#[test]
fn bytes_behind_a_response_are_never_taken_for_the_next_one() {
    let backend = Scripted::answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    );
    let instance = before(&backend);
    let mut connection = Connection::open(&instance.listener("web"));
    for _ in 0..20 {
        assert_eq!(connection.request("GET", "/", &[], b"").text(), "ok");
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_backend() {
    let backend = Scripted::start(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert!(head.contains("Expect: 100-continue\r\n"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        let response = [&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..], &body].concat();
        stream.write_all(&response).unwrap();
    });
    let instance = before(&backend);
    let mut stream = std::net::TcpStream::connect(instance.listener("web")).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_gets_through() {
    let backend = Scripted::closing_after(
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch",
    );
    let instance = before(&backend);
    let mut connection = Connection::open(&instance.listener("web"));
    connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nthe beginning");
    let answer = connection.response(false).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "much"));
    assert!(connection.is_closed(), "the rest of the request can't be told from another one");
}

#[test]
fn a_last_response_comes_whole_and_a_small_one_together_with_the_end() {
    let sizes = [0, 1, 20 << 10, 4 << 20];
    let backend = Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let mut body = vec![0; usize::from(head.starts_with("POST"))];
            stream.read_exact(&mut body).unwrap();
            let size: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &vec![b'x'; size]].concat()).unwrap();
        }
    });
    let instance = before(&backend);
    for size in sizes {
        for request in [
            format!("GET /{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            format!("GET /{size} HTTP/1.0\r\n\r\n"),
            // Behind a body some clients send an empty line, which must not reset the connection.
            format!("POST /{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx\r\n"),
        ] {
            let mut stream = std::net::TcpStream::connect(instance.listener("web")).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = vec![0; 64 << 10];
            let first = stream.read(&mut answer).unwrap();
            if size < 2 && request.starts_with("GET") {
                stream.set_nonblocking(true).unwrap();
                assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the end is there with the answer");
                stream.set_nonblocking(false).unwrap();
            }
            answer.truncate(first);
            stream.read_to_end(&mut answer).unwrap();
            let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(answer.len() - head, size, "{request:?}");
        }
    }
}

#[test]
fn a_stale_idle_connection_costs_no_request() {
    // Each connection serves one request and is then closed, though it was said to be kept.
    let backend = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let instance = before(&backend);
    let mut connection = Connection::open(&instance.listener("web"));
    for n in 0..100 {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200, "{n}");
    }
}

/// What was read of a response that fills a buffer was lost when its connection broke right behind it.
#[test]
fn a_reset_behind_a_whole_response_takes_nothing_away_and_one_within_is_seen() {
    for framing in ["Content-Length: 16000\r\n", "Content-Length: 20000\r\n", ""] {
        let backend = Scripted::start(move |mut stream| {
            read_head(&mut stream).unwrap();
            let mut answer = format!("HTTP/1.1 200 OK\r\n{framing}X-Pad: ");
            let end = 16_384 - 16_000 - 4;
            answer.extend(std::iter::repeat_n('x', end - answer.len()));
            answer.push_str("\r\n\r\n");
            answer.extend(std::iter::repeat_n('~', 16_000));
            stream.write_all(answer.as_bytes()).unwrap();
            SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        });
        let instance = before(&backend);
        let mut stream = std::net::TcpStream::connect(instance.listener("web")).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let result = stream.read_to_end(&mut answer);
        let came = answer.iter().filter(|byte| **byte == b'~').count();
        // An end without a length is told by a reset; the other is short of what was promised.
        assert!(came == 16_000 && result.is_err() == framing.is_empty(), "{framing:?}: {came} {result:?}");
    }
}

#[test]
fn a_request_that_may_have_been_processed_is_not_repeated() {
    let recorder = Recorder::start();
    let broken = Scripted::start(|mut stream| drop(read_head(&mut stream)));
    let instance =
        Setup::shop("[pool.affinity]\nmode = \"none\"\n", [("a", broken.address()), ("b", recorder.address())]).start();
    // One connection is one worker, which takes its backends in turn.
    let mut connection = Connection::open(&instance.listener("web"));
    let statuses: Vec<_> = (0..4).map(|_| connection.request("GET", "/", &[], b"").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
}

#[test]
fn a_backend_that_refuses_connections_costs_no_request() {
    let recorder = Recorder::start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pool = "[pool.affinity]\nmode = \"none\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", closed), ("b", recorder.address())]).start();
    let address = instance.listener("web");
    for n in 0..20 {
        assert_eq!(request(&address, "POST", "/", &[], b"x").status, 200, "{n}");
    }
    eventually("the backend is marked down for all", || {
        (instance.backend("shop", "a")["health"] == "down").then_some(())
    });
}

#[test]
fn a_backend_that_does_not_answer_is_a_504_and_one_that_breaks_off_is_seen() {
    let silent = Scripted::start(|mut stream| while read_head(&mut stream).is_some() {});
    let instance = Setup::shop("[pool.timeouts]\nresponse = \"200ms\"\n", [("a", silent.address())]).start();
    assert_eq!(get(&instance.listener("web"), "/", &[]).status, 504);
    let cut = Scripted::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let instance = before(&cut);
    let mut connection = Connection::open(&instance.listener("web"));
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(connection.response(false).is_err(), "a client must see that the body is not whole");
}

#[test]
fn routes_by_host_and_path_lead_to_their_pools() {
    let (shop, chat) = (Recorder::start(), Recorder::start());
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[listener.route]]\nhost = \"*.shop.test\"\npool = \"shop\"\n\
         [[listener.route]]\npath = \"/chat\"\npool = \"chat\"\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"s\"\naddress = \"{}\"\n\
         [[pool]]\nname = \"chat\"\n[[pool.backend]]\nname = \"c\"\naddress = \"{}\"\n",
        shop.address(),
        chat.address()
    );
    let instance = Setup::new(&text).start();
    let address = instance.listener("web");
    for (host, path, to) in
        [("a.shop.test", "/chat", "shop"), ("x", "/chat/1", "chat"), ("x", "/chatter", ""), ("x", "/", "")]
    {
        let answer =
            raw(&address, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
        let expected = if to.is_empty() { "HTTP/1.1 503 " } else { "HTTP/1.1 200 " };
        assert!(answer.starts_with(expected), "{host}{path}: {answer}");
        assert_eq!((!shop.take().is_empty(), !chat.take().is_empty()), (to == "shop", to == "chat"), "{host}{path}");
    }
}

#[test]
fn an_abandoned_request_is_taken_from_its_backend() {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let silent = Scripted::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        // Ends when the other side closes.
        let _ = stream.read(&mut [0]);
        ended.send(()).unwrap();
    });
    let instance = before(&silent);
    let mut connection = Connection::open(&instance.listener("web"));
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the backend", || {
        (instance.backend("shop", "a")["requests_in_flight"] == 1).then_some(())
    });
    drop(connection);
    has_ended.recv_timeout(support::PATIENCE).unwrap();
}
