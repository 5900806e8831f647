//! Bodies of any size, in bounded memory, with servers that this project did not write.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use support::{
    Folder, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, get, request},
    peers::{Nginx, python_server},
    resident,
};

const SIZE: usize = 10 << 20;

fn content() -> Vec<u8> {
    (0..SIZE).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn ten_mebibytes_go_up_and_down_unchanged() {
    let nginx = Nginx::start(&["a"]);
    let content = content();
    nginx.file("big", &content);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    assert!(get(&address, "/files/big", &[]).body == content);
    assert_eq!(request(&address, "POST", "/", &[], &content).status, 200);
}

#[test]
fn a_chunked_upload_arrives_whole_with_its_trailers() {
    let (seen, sees) = std::sync::mpsc::channel();
    let backend = support::Scripted::start(move |mut stream| {
        let head = read_head(&mut stream).unwrap();
        let mut body = Vec::new();
        let mut buffer = [0; 65536];
        while !body.ends_with(b"0\r\nX-Sum: 1\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0);
            body.extend_from_slice(&buffer[..count]);
        }
        seen.send((head, body)).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let instance = Setup::shop("", [("a", backend.address())]).start();
    let mut stream = std::net::TcpStream::connect(instance.listener("web")).unwrap();
    let mut wire = Vec::new();
    for chunk in content().chunks(100_000) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    stream.write_all(&wire).unwrap();
    let (head, body) = sees.recv_timeout(support::PATIENCE).unwrap();
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert!(body == wire);
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn slow_readers_cost_a_buffer_and_not_a_body() {
    let nginx = Nginx::start(&["a"]);
    let content = content();
    nginx.file("big", &content);
    let instance = Setup::shop("", nginx.backends.clone()).start();
    let address = instance.listener("web");
    get(&address, "/files/big", &[]);
    let pid = instance.pid("dataplane");
    let before = resident(pid);
    let mut streams: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(read_head(stream).unwrap().starts_with("HTTP/1.1 200 "));
    }
    // 400 MiB of bodies are under way and nobody reads: what is held for each is one buffer of 128 KiB. Where the kernel
    // has huge pages, memory comes in steps of 2 MiB, a few of them begun by each worker.
    let held = resident(pid).saturating_sub(before);
    let bound = 40 * 144 * 1024 + 4 * (2 << 20);
    assert!(held < bound, "{held} bytes for 40 slow readers");
    let mut body = vec![0; SIZE];
    for stream in &mut streams {
        stream.read_exact(&mut body).unwrap();
        assert!(body == content);
    }
    let held = resident(pid).saturating_sub(before);
    println!("{held} bytes more after 400 MiB");
    assert!(held < bound, "{held} bytes after all bodies");
}

#[test]
fn both_directions_move_at_once() {
    let echo = support::Scripted::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        let mut buffer = [0; 65536];
        let mut left = SIZE;
        while left > 0 {
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..count]).unwrap();
            left -= count;
        }
    });
    let instance = Setup::shop("", [("a", echo.address())]).start();
    let mut reader = std::net::TcpStream::connect(instance.listener("web")).unwrap();
    let mut writer = reader.try_clone().unwrap();
    let content = content();
    let sent = content.clone();
    let upload = std::thread::spawn(move || {
        writer.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    read_head(&mut reader).unwrap();
    let mut body = vec![0; SIZE];
    reader.read_exact(&mut body).unwrap();
    upload.join().unwrap();
    assert!(body == content);
}

#[test]
fn pythons_http_server_speaks_http_1_0_and_is_served_from() {
    let folder = Folder::new();
    let content = content();
    folder.write("hello.txt", "hello");
    std::fs::write(folder.path("big"), &content).unwrap();
    let (backend, _server) = python_server(&folder);
    let instance = Setup::shop("", [("py", backend)]).start();
    let address = instance.listener("web");
    let mut connection = support::http::Connection::open(&address);
    for _ in 0..10 {
        assert_eq!(connection.request("GET", "/hello.txt", &[], b"").text(), "hello");
    }
    assert!(get(&address, "/big", &[]).body == content);
    assert_eq!(get(&address, "/none", &[]).status, 404);
}

/// They took 25 KB each: a buffer, and the state of an exchange that none of them had.
#[test]
fn a_connection_between_two_requests_has_no_memory_of_an_exchange() {
    const CONNECTIONS: usize = 3_000;
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let backend = Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let instance = Setup::shop("", [("a", backend.address())]).global("workers = 1").start();
    let (pid, address) = (instance.pid("dataplane"), instance.listener("web"));
    Connection::open(&address).request("GET", "/", &[], b"");
    let before = resident(pid);
    let mut held: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(&address)).collect();
    let mut all_ask = || held.iter_mut().all(|client| client.request("GET", "/", &[], b"").text() == "ok");
    assert!(all_ask());
    eventually("what they had is given back", || {
        let each = resident(pid).saturating_sub(before) / CONNECTIONS;
        // Nearer to 2 KB with more of them: other things take some MB, in steps of 2 where there are huge pages.
        (each < 8 << 10).then_some(())
    });
    assert!(all_ask(), "and each is served as before");
}
