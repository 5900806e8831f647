//! What clients with bad intentions cost: no request or connection takes more than 100 times the processor of an ordinary one, nor
//! memory beyond a cap, and whoever is served beside them is. `--nocapture` shows the table; `STEADFAST_SOAK=seconds` floods for so
//! long and holds bystanders' waits to twice what they are beside as many honest clients.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    Instance, PATIENCE, Setup,
    burden::{Bystander, computed, forget_most_resident, most_resident, quantile, soak},
    eventually,
    frames::{self, PREFACE, field, frame},
    http::get,
    peers::Nginx,
    resident,
};

/// How much more than an ordinary one may cost.
const FACTOR: f64 = 100.0;
const MOST: usize = 48 << 20;
const ROUNDS: usize = 5;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// What of a pattern is compared with an ordinary one.
#[derive(Clone, Copy, Debug)]
enum By {
    Connection,
    /// So many of them.
    Requests(usize),
    /// Of what may be as long as its sender likes, each byte.
    Byte,
}

/// What one connection of an attacker sends: a beginning, and then the pieces one after another.
struct Pattern {
    name: &'static str,
    by: By,
    begin: Vec<u8>,
    pieces: Vec<Vec<u8>>,
}

/// Sends it all, or as much as is taken, while what comes is read; the bytes that went.
fn send(address: &str, pattern: &Pattern) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let reads = thread::spawn(move || {
        let mut piece = vec![0; 1 << 16];
        while matches!(reader.read(&mut piece), Ok(1..)) {}
    });
    let mut sent = 0;
    for piece in std::iter::once(&pattern.begin).chain(&pattern.pieces) {
        if stream.write_all(piece).is_err() {
            break;
        }
        sent += piece.len();
    }
    drop(stream.shutdown(Shutdown::Write));
    reads.join().unwrap();
    sent
}

/// Frames that follow the preface, in pieces of a hundred.
fn flood(name: &'static str, begin: &[u8], count: u32, more: impl Fn(u32) -> Vec<u8>) -> Pattern {
    let settings = frame(frames::SETTINGS, 0, 0, &[]);
    let frames: Vec<_> = (0..count).map(more).collect();
    let pieces = frames.chunks(100).map(<[_]>::concat).collect();
    Pattern { name, by: By::Connection, begin: [PREFACE, &settings, begin].concat(), pieces }
}

fn floods() -> Vec<Pattern> {
    const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;
    const FEW: u32 = 10;
    let stream = |at: u32| 2 * at + 1;
    let head = |flags, block: &[u8]| frame(frames::HEADERS, flags, 1, block);
    let posts = head(frames::END_HEADERS, frames::POST);
    // A field that fills the table, then references to it.
    let bomb = {
        let mut block = [frames::GET, &[0x40, 1, b'x', 0x7f, 0x80 | 0x21, 0x1e]].concat();
        block.resize(block.len() + 4_000, b'x');
        block.resize(block.len() + 8_000, 0xbe);
        block
    };
    let crumbs: Vec<u8> = (0..3_000).flat_map(|_| field("cookie", "a=b")).collect();
    let none = frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let big: Vec<u8> = (0..100)
        .flat_map(|at| {
            let block = [&[0x82, 0x86, 0x04, 4][..], b"/big", &[0x01, 0x01, b'x']].concat();
            frame(frames::HEADERS, WHOLE, stream(at), &block)
        })
        .collect();
    vec![
        flood("rapid reset", b"", 5_000, |at| {
            [frame(frames::HEADERS, WHOLE, stream(at), frames::GET), frame(frames::RESET, 0, stream(at), &[0, 0, 0, 8])]
                .concat()
        }),
        // So few at once that not even their number is odd.
        Pattern {
            name: "resets, a few at a time",
            by: By::Connection,
            begin: [PREFACE, &frame(frames::SETTINGS, 0, 0, &[])].concat(),
            pieces: (0..5_000 / FEW)
                .flat_map(|at| {
                    let streams = || (at * FEW..(at + 1) * FEW).map(stream);
                    let begun =
                        streams().flat_map(|stream| frame(frames::HEADERS, WHOLE, stream, frames::GET)).collect();
                    let reset = streams().flat_map(|stream| frame(frames::RESET, 0, stream, &[0, 0, 0, 8])).collect();
                    [begun, reset]
                })
                .collect(),
        },
        flood("made you reset", b"", 5_000, |at| {
            [frame(frames::HEADERS, WHOLE, stream(at), frames::GET), frame(frames::WINDOW, 0, stream(at), &[0; 4])]
                .concat()
        }),
        flood("pings", b"", 20_000, |_| frame(frames::PING, 0, 0, b"12345678")),
        flood("settings", b"", 20_000, |_| frame(frames::SETTINGS, 0, 0, &[])),
        flood("empty data", &posts, 20_000, |_| frame(frames::DATA, 0, 1, b"")),
        flood("priorities", b"", 20_000, |_| frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 3, 5])),
        flood("continuations", &head(0, frames::GET), 20_000, |_| frame(frames::CONTINUATION, 0, 1, &field("x", "y"))),
        flood("empty continuations", &head(0, frames::GET), 20_000, |_| frame(frames::CONTINUATION, 0, 1, b"")),
        flood("fields without names", b"", 200, |at| {
            frame(frames::HEADERS, WHOLE, stream(at), &[frames::GET, &[0; 3 * 3_000]].concat())
        }),
        flood("a table that is referred to", b"", 20, |at| {
            let block = if at == 0 { bomb.clone() } else { [frames::GET, &[0xbe; 8_000]].concat() };
            frame(frames::HEADERS, WHOLE, stream(at), &block)
        }),
        flood("crumbs of cookies", b"", 20, |at| {
            let first = frame(frames::HEADERS, frames::END_STREAM, stream(at), frames::GET);
            let (half, rest) = crumbs.split_at(crumbs.len() / 2);
            let middle = frame(frames::CONTINUATION, 0, stream(at), half);
            [first, middle, frame(frames::CONTINUATION, frames::END_HEADERS, stream(at), rest)].concat()
        }),
        // It has a hundred requests.
        Pattern {
            by: By::Requests(100),
            ..flood("windows of a byte", &[none, big].concat(), 20_000, |at| {
                frame(frames::WINDOW, 0, stream(at % 100), &[0, 0, 0, 1])
            })
        },
    ]
}

/// `token` is a cookie that opens.
fn of_http_1(token: &str) -> Vec<Pattern> {
    let closing = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n").into_bytes();
    let one = |name, bytes: Vec<u8>| Pattern { name, by: By::Requests(1), begin: bytes, pieces: Vec::new() };
    let dribbled = |name, bytes: Vec<u8>| {
        let pieces = bytes.iter().map(|byte| vec![*byte]).collect();
        Pattern { name, by: By::Connection, begin: Vec::new(), pieces }
    };
    let fields: String = (0..95).map(|at| format!("X-{at}: {}\r\n", "y".repeat(150))).collect();
    let wrong = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "B" } else { "A" });
    let post = b"POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        one("95 fields of 150 bytes", closing(&fields)),
        one("1,000 tokens that are none", closing(&format!("Cookie: {}\r\n", ["lb-affinity=A"; 1_000].join(";")))),
        one("190 tokens that look right", closing(&format!("Cookie: {}\r\n", vec![&*wrong; 190].join(";")))),
        Pattern {
            name: "10,000 requests ahead",
            by: By::Requests(10_000),
            begin: Vec::new(),
            pieces: vec![GET.repeat(1_000); 10],
        },
        Pattern {
            name: "chunks of a byte",
            by: By::Byte,
            begin: post.to_vec(),
            pieces: vec![b"1\r\nx\r\n".repeat(1_000); 50],
        },
        Pattern {
            name: "chunk extensions",
            by: By::Byte,
            begin: post.to_vec(),
            pieces: vec![[&b"1;"[..], &[b'x'; 60], b"\r\nx\r\n"].concat().repeat(100); 50],
        },
        dribbled("a head byte by byte", closing(&format!("X: {}\r\n", "y".repeat(400)))),
        Pattern { name: "nothing at all", by: By::Connection, begin: Vec::new(), pieces: Vec::new() },
    ]
}

fn shop(nginx: &Nginx) -> Instance {
    nginx.file("big", &vec![b'x'; 64 << 10]);
    let (_, address) = &nginx.backends[0];
    let more = format!(
        "[[listener]]\nname = \"proxied\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\nproxy_protocol = [\"127.0.0.0/8\"]\n\
         [[pool]]\nname = \"shop\"\nhealth.check = \"off\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
    );
    Setup::new(&format!("[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n{more}")).start()
}

/// What an ordinary connection with its request, a further request, and a byte of these cost.
fn ordinary(address: &str, pid: u32) -> [Duration; 3] {
    let closing = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let once = Pattern { name: "", by: By::Connection, begin: closing.to_vec(), pieces: Vec::new() };
    let cost = |count: u32, pattern: &Pattern| {
        let before = computed(pid);
        (0..count).for_each(|_| assert!(send(address, pattern) > 0));
        (computed(pid) - before) / count
    };
    cost(50, &once);
    let connection = cost(200, &once);
    let many = Pattern { name: "", by: By::Requests(100), begin: GET.repeat(100), pieces: Vec::new() };
    let request = cost(10, &many) / 100;
    [connection, request, connection / closing.len() as u32]
}

#[test]
fn no_request_or_connection_costs_more_than_100_ordinary_ones() {
    let nginx = Nginx::start(&["a"]);
    let instance = shop(&nginx);
    let (web, pid) = (instance.listener("web"), instance.pid("dataplane"));
    let token = get(&web, "/", &[]).cookie("lb-affinity").unwrap();
    let [connection, request, byte] = ordinary(&web, pid);
    println!("an ordinary connection {connection:?}, a further request {request:?}, a byte {byte:?}");
    let mut proxied = vec![b"PROXY TCP4 127.0.0.1 127.0.0.1 1 ".to_vec()];
    proxied = proxied[0].iter().map(|byte| vec![*byte]).collect();
    let proxied =
        Pattern { name: "a PROXY header byte by byte", by: By::Connection, begin: Vec::new(), pieces: proxied };
    let listener = instance.listener("proxied");
    let to_web = floods().into_iter().chain(of_http_1(&token)).map(|pattern| (web.as_str(), pattern));
    let mut over = Vec::new();
    for (address, pattern) in to_web.chain([(listener.as_str(), proxied)]) {
        let (before, memory) = (computed(pid), resident(pid));
        forget_most_resident(pid);
        let sent: usize = (0..ROUNDS).map(|_| send(address, &pattern)).sum();
        let each = (computed(pid) - before) / ROUNDS as u32;
        let times = match pattern.by {
            By::Connection => each.as_secs_f64() / connection.as_secs_f64(),
            // It has a connection of its own, as an ordinary one.
            By::Requests(1) => each.as_secs_f64() / connection.as_secs_f64(),
            By::Requests(count) => each.as_secs_f64() / count as f64 / request.as_secs_f64(),
            By::Byte => each.as_secs_f64() / (sent / ROUNDS) as f64 / byte.as_secs_f64(),
        };
        let grown = most_resident(pid).saturating_sub(memory);
        println!(
            "{:28} {times:8.2} times by {:?}; {each:?} for {} bytes, {} KiB",
            pattern.name,
            pattern.by,
            sent / ROUNDS,
            grown >> 10
        );
        if times > FACTOR || grown > MOST {
            over.push(format!("{}: {times:.1} times, {} MiB", pattern.name, grown >> 20));
        }
        assert_eq!(get(&web, "/", &[]).status, 200, "behind {}", pattern.name);
    }
    assert!(over.is_empty(), "{over:?}");
    assert_eq!(instance.pid("dataplane"), pid);
}

/// How long a bystander waits beside four who do this over and over: the half and the 99 of 100 who wait least.
#[track_caller]
fn beside(bystander: &Bystander, does: impl Fn() + Send + Sync + 'static) -> [Duration; 2] {
    let (stop, does) = (Arc::<AtomicBool>::default(), Arc::new(does));
    let attack = |_| {
        let (stop, does) = (Arc::clone(&stop), Arc::clone(&does));
        thread::spawn(move || {
            // Attackers are elsewhere, and don't take the processors of those whom they attack.
            rustix::process::nice(19).unwrap();
            while !stop.load(Ordering::Relaxed) {
                does();
            }
        })
    };
    let attackers: Vec<_> = (0..4).map(attack).collect();
    let began = Instant::now();
    let mut waits = bystander.waits(200);
    while soak().is_some_and(|time| began.elapsed() < time) {
        waits.extend(bystander.waits(200));
    }
    stop.store(true, Ordering::Relaxed);
    attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
    waits.sort();
    [0.5, 0.99].map(|share| quantile(&waits, share))
}

/// The same beside those who mean no harm and ask for all that they can get: many requests ahead, and a hundred long answers at
/// once over HTTP/2.
fn beside_the_honest(bystander: &Bystander, web: &str) -> [[Duration; 2]; 2] {
    let ahead = Pattern { name: "honest", by: By::Requests(50), begin: GET.repeat(50), pieces: Vec::new() };
    let (address, url) = (web.to_owned(), format!("http://{web}/big"));
    let ahead = beside(bystander, move || {
        send(&address, &ahead);
    });
    let at_once = beside(bystander, move || {
        let told = Command::new("h2load").args(["-n100", "-c1", "-m100", &url]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains("100 succeeded, 0 failed"), "{told}");
    });
    [ahead, at_once]
}

#[test]
fn bystanders_are_served_beside_floods() {
    let nginx = Nginx::start(&["a"]);
    let instance = shop(&nginx);
    let (web, pid) = (instance.listener("web"), instance.pid("dataplane"));
    let bystander = Bystander::start(&web, "/");
    bystander.waits(100);
    let before = beside_the_honest(&bystander, &web);
    let mut floods_cost = Vec::new();
    for pattern in floods() {
        let (before, name, by) = (resident(pid), pattern.name, pattern.by);
        forget_most_resident(pid);
        let address = web.clone();
        let waits = beside(&bystander, move || {
            send(&address, &pattern);
        });
        let grown = most_resident(pid).saturating_sub(before);
        println!("{name:28} bystander p50 and p99 {waits:?}; {} KiB", grown >> 10);
        assert!(grown < MOST, "{name}: {} MiB", grown >> 20);
        floods_cost.push((name, by, waits));
    }
    // Whatever else the machine does comes and goes meanwhile.
    let after = beside_the_honest(&bystander, &web);
    bystander.end();
    let [ahead, at_once] = [0, 1].map(|who| [0, 1].map(|share| before[who][share].max(after[who][share])));
    println!("beside the honest with requests ahead, bystander p50 and p99 {ahead:?}; at once {at_once:?}");
    let calm = |by| if matches!(by, By::Connection) { ahead } else { at_once };
    for (name, by, [half, _]) in &floods_cost {
        assert!(*half <= calm(*by)[0] * 10 + Duration::from_millis(50), "{name}: {half:?} for {:?}", calm(*by));
    }
    floods_cost.retain(|(_, by, [_, most])| *most > calm(*by)[1] * 2 + Duration::from_millis(2));
    println!("more than twice the honest p99: {floods_cost:?}");
    assert!(soak().is_none() || floods_cost.is_empty(), "{floods_cost:?}");
    eventually("it is calm again", || (get(&web, "/", &[]).status == 200).then_some(()));
    assert_eq!(instance.pid("dataplane"), pid);
}
