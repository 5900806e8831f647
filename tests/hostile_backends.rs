//! Backends are attackers too: whatever they answer, or don't, those who are served by others are served as before, and memory is
//! bounded. `STEADFAST_SOAK=seconds` attacks for so long.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    Instance, Scripted, Setup,
    backend::read_head,
    burden::{Bystander, forget_most_resident, most_resident, quantile, soak},
    eventually,
    frames::{self, frame},
    peers::Nginx,
    resident,
};

const CLIENTS: usize = 8;
/// What all clients of an attacker together may make the data plane hold; each connection has its buffers.
const MOST: usize = 48 << 20;
const WINDOW: usize = 300;

/// Below `/bad` this backend, and one that is none of these everywhere else.
fn beside(attacker: &Scripted, settings: &str) -> (Nginx, Instance) {
    let nginx = Nginx::start(&["good"]);
    let (_, good) = &nginx.backends[0];
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"good\"\n\
         [[listener.route]]\npath = \"/bad\"\npool = \"bad\"\n\
         [[pool]]\nname = \"good\"\nhealth.check = \"off\"\n[[pool.backend]]\nname = \"good\"\naddress = \"{good}\"\n\
         [[pool]]\nname = \"bad\"\nhealth.check = \"off\"\ntimeouts = {{ response = \"500ms\", body = \"500ms\" }}\n{settings}\n\
         [[pool.backend]]\nname = \"bad\"\naddress = \"{}\"\n",
        attacker.address()
    );
    (nginx, Setup::new(&text).start())
}

/// Asks the attacker again and again, and reads what comes; how often it came to an end.
fn keep_asking(address: &str, stop: &Arc<AtomicBool>, ended: &Arc<AtomicU64>) -> thread::JoinHandle<()> {
    let (address, stop, ended) = (address.to_owned(), Arc::clone(stop), Arc::clone(ended));
    thread::spawn(move || {
        let mut piece = vec![0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
            stream.write_all(b"GET /bad HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let began = Instant::now();
            // One that has no end is left after a while.
            while began.elapsed() < Duration::from_secs(1) && !stop.load(Ordering::Relaxed) {
                if !matches!(stream.read(&mut piece), Ok(1..)) {
                    break;
                }
            }
            ended.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Has clients ask the attacker, and compares how a bystander is served before and meanwhile.
#[track_caller]
fn holds(what: &str, settings: &str, attack: impl Fn(TcpStream) + Send + Sync + 'static) {
    let attacker = Scripted::start(attack);
    let (nginx, instance) = beside(&attacker, settings);
    let (web, pid) = (instance.listener("web"), instance.pid("dataplane"));
    let bystander = Bystander::start(&web, "/");
    bystander.waits(50);
    let calm = bystander.waits(WINDOW);
    let before = resident(pid);
    forget_most_resident(pid);
    let (stop, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let clients: Vec<_> = (0..CLIENTS).map(|_| keep_asking(&web, &stop, &ended)).collect();
    let began = Instant::now();
    let mut waits = bystander.waits(WINDOW);
    while soak().is_some_and(|time| began.elapsed() < time) {
        waits.extend(bystander.waits(WINDOW));
    }
    waits.sort();
    eventually("those who ask the attacker come to an end", || {
        (ended.load(Ordering::Relaxed) >= CLIENTS as u64).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    bystander.waits(WINDOW);
    bystander.end();
    let grown = most_resident(pid).saturating_sub(before);
    let [half, most] = [0.5, 0.99].map(|share| [quantile(&calm, share), quantile(&waits, share)]);
    println!(
        "{what:28} {:6} asked; bystander p50 {:?} -> {:?}, p99 {:?} -> {:?}; {} KiB more at most",
        ended.load(Ordering::Relaxed),
        half[0],
        half[1],
        most[0],
        most[1],
        grown >> 10
    );
    assert!(grown < MOST, "{what}: {} MiB", grown >> 20);
    assert_eq!(instance.pid("dataplane"), pid, "{what}: {}", instance.process.stderr());
    // On a machine that others use: a bystander who has to wait for the attacker would wait for seconds.
    assert!(half[1] <= half[0] * 10 + Duration::from_millis(50), "{what}: {half:?}");
    eventually("what was held is given back", || (resident(pid) < before + MOST / 2).then_some(()));
    drop(nginx);
}

/// Writes the same again and again behind a beginning, until nobody takes it.
fn endless(begin: &'static [u8], more: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    let more = more.repeat((16 << 10) / more.len() + 1);
    move |mut stream| {
        if read_head(&mut stream).is_some() && stream.write_all(begin).is_ok() {
            while stream.write_all(&more).is_ok() {}
        }
    }
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn silence_and_drops() {
    holds("silence", "", |mut stream| while read_head(&mut stream).is_some() {});
    holds("a byte of head a time", "", |mut stream| {
        if read_head(&mut stream).is_some() {
            for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 1_000)) {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        }
    });
    holds("a byte of body a time", "", |mut stream| {
        if read_head(&mut stream).is_some() {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"));
            while stream.write_all(b"x").is_ok() {
                thread::park_timeout(Duration::from_millis(100));
            }
        }
    });
    holds("silence within a body", "", |mut stream| {
        while read_head(&mut stream).is_some() {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx"));
        }
    });
}

#[test]
fn what_has_no_end() {
    holds("an endless head", "", endless(b"HTTP/1.1 200 OK\r\n", b"X-More: of this\r\n"));
    holds("an endless line", "", endless(b"HTTP/1.1 200 OK\r\nX: ", b"xxxxxxxxxxxxxxxx"));
    holds("interim responses", "", endless(b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"));
    holds("an endless chunk extension", "", endless(CHUNKED, b"1;xxxxxxxxxxxxxxx"));
    holds("endless trailers", "", endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"));
    holds("a body without end", "", endless(b"HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxxxxxxxxxx"));
}

#[test]
fn what_is_not_as_it_was_told() {
    holds("a reset in mid-body", "", |mut stream| {
        if read_head(&mut stream).is_some() {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nxxxx"));
            drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        }
    });
    holds("more than was told", "", endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.1 200 OK\r\n"));
    holds("less than was told", "", |mut stream| {
        if read_head(&mut stream).is_some() {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nxxxx"));
        }
    });
    holds("100,000 chunks of a byte", "", |mut stream| {
        let chunks = b"1\r\nx\r\n".repeat(1_000);
        if read_head(&mut stream).is_some() && stream.write_all(CHUNKED).is_ok() {
            for _ in 0..100 {
                if stream.write_all(&chunks).is_err() {
                    return;
                }
            }
            drop(stream.write_all(b"0\r\n\r\n"));
        }
    });
}

/// A backend of HTTP/2 that, once somebody asks, begins so and then sends the same without end.
fn flooding(begin: Vec<u8>, more: Vec<u8>) -> impl Fn(TcpStream) + Send + Sync {
    let more = more.repeat((8 << 10) / more.len() + 1);
    move |mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let settings = frame(frames::SETTINGS, 0, 0, &[]);
        if stream.write_all(&settings).is_err() {
            return;
        }
        let mut piece = [0; 4096];
        let Ok(1..) = reader.read(&mut piece) else { return };
        // What it is told is read, so that nobody waits for that.
        let reads = thread::spawn(move || while matches!(reader.read(&mut piece), Ok(1..)) {});
        if stream.write_all(&begin).is_ok() {
            while stream.write_all(&more).is_ok() {}
        }
        drop(stream.shutdown(std::net::Shutdown::Both));
        reads.join().unwrap();
    }
}

#[test]
fn floods_over_http_2() {
    let ok = || frame(frames::HEADERS, frames::END_HEADERS, 1, frames::OK);
    let floods = [
        ("pings", Vec::new(), frame(frames::PING, 0, 0, b"12345678")),
        ("settings", Vec::new(), frame(frames::SETTINGS, 0, 0, &[])),
        ("empty data", ok(), frame(frames::DATA, 0, 1, b"")),
        (
            "continuations",
            frame(frames::HEADERS, 0, 1, frames::OK),
            frame(frames::CONTINUATION, 0, 1, &frames::field("x", "y")),
        ),
        ("windows", Vec::new(), frame(frames::WINDOW, 0, 0, &[0, 0, 0, 1])),
        ("windows of a stream", ok(), frame(frames::WINDOW, 0, 1, &[0, 0, 0, 1])),
        ("resets", Vec::new(), frame(frames::RESET, 0, 1, &[0, 0, 0, 8])),
        ("priorities", Vec::new(), frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 3, 5])),
        ("unknown frames", Vec::new(), frame(0xbe, 0, 0, b"x")),
        (
            "interim responses",
            Vec::new(),
            frame(frames::HEADERS, frames::END_HEADERS, 1, &{
                // `:status: 103`, by a name of the static table.
                [&[0x08, 0x03][..], b"103"].concat()
            }),
        ),
        ("goaways", Vec::new(), frame(frames::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
        ("noise", Vec::new(), vec![0xff; 512]),
    ];
    for (what, begin, more) in floods {
        holds(&format!("HTTP/2: {what}"), "http2 = true", flooding(begin, more));
    }
}
