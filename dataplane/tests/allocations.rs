//! How often a steady keep-alive exchange allocates, counted on the worker's own thread.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use control::{
    config::{Config, Workers},
    desired::{Desired, PoolState, SEED_INCARNATION, Snapshot},
    spec::{Affinity, AffinityHeader, Backend, HeaderStyle, Key, Listener, Mode, Pool, Route},
    status::Sandbox,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Instant,
};

/// Counts the allocations of one thread.
struct Counting;

static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: gettid touches no memory.
        let thread = unsafe { libc::gettid() };
        if thread == WATCHED.load(Relaxed) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's layout goes through unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: what comes here came from `alloc` above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
    Session: x\r\n\r\nhello";

/// Answers every request on every connection.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                while read_head(&mut stream).is_some() {
                    stream.write_all(RESPONSE).unwrap();
                }
            });
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

/// Starts a data plane with one worker that serves by a snapshot, for want of an admin process.
fn dataplane(folder: &std::path::Path, backend: SocketAddr) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener {
        name: "web".into(),
        bind: address.to_string(),
        pool: Some("shop".into()),
        routes: vec![Route { path: Some("/header".into()), pool: "header".into(), ..Route::default() }],
        ..Listener::default()
    };
    let backend = Backend { name: "a".into(), address: backend.to_string(), ..Backend::default() };
    let pool = Pool { name: "shop".into(), backends: vec![backend], ..Pool::default() };
    let header = AffinityHeader { name: "Session".into(), style: HeaderStyle::Follow, ..AffinityHeader::default() };
    let affinity = Affinity { mode: Mode::Header, header: Some(header), ..Affinity::default() };
    let follows = Pool { name: "header".into(), affinity, ..pool.clone() };
    let pools = [pool, follows].map(|pool| (pool.name.clone(), PoolState::seed(pool, SEED_INCARNATION))).into();
    let mut config = Config { listeners: vec![listener.clone()], ..Config::default() };
    config.global.workers = Workers::Count(1);
    config.global.state_dir = folder.to_owned();
    config.global.runtime_dir = folder.to_owned();
    let desired = Desired { listeners: vec![listener], pools, keys: vec![Key([7; 32])], ..Desired::default() };
    let snapshot = Snapshot { generation: 1, desired, ..Snapshot::default() };
    std::fs::write(config.global.snapshot_path(), serde_json::to_vec(&snapshot).unwrap()).unwrap();
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        let ready = Box::new(move || ready.send(()).unwrap());
        dataplane::run(dataplane::Options {
            config,
            sockets: vec![("web".into(), socket.into())],
            version: "test",
            sandbox: Sandbox::default(),
            ready,
            give_back: || {},
        })
    });
    is_ready.recv().unwrap();
    address
}

fn worker_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let is_worker = |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).unwrap().trim() == "worker-0";
    let task = tasks.map(|task| task.unwrap().path()).find(|path| is_worker(path)).unwrap();
    task.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn exchange(client: &mut TcpStream, request: &[u8]) -> String {
    client.write_all(request).unwrap();
    let head = read_head(client).unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    String::from_utf8(head).unwrap()
}

#[test]
fn a_steady_exchange_allocates_nothing() {
    let folder = std::env::temp_dir().join(format!("steadfast-allocations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut client = TcpStream::connect(dataplane(&folder, backend())).unwrap();
    let head = exchange(&mut client, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let sticky = format!("GET /cart HTTP/1.1\r\nHost: shop\r\nUser-Agent: test\r\nCookie: a=b; {cookie}\r\n\r\n");
    let head = exchange(&mut client, b"GET /header HTTP/1.1\r\nHost: shop\r\n\r\n");
    let session = head.lines().find(|line| line.starts_with("Session: ") && line.ends_with("~x")).unwrap();
    let wrapped = format!("GET /header HTTP/1.1\r\nHost: shop\r\nUser-Agent: test\r\n{session}\r\n\r\n");
    for request in [sticky, wrapped] {
        for _ in 0..100 {
            exchange(&mut client, request.as_bytes());
        }
        ALLOCATIONS.store(0, Relaxed);
        WATCHED.store(worker_thread(), Relaxed);
        let (exchanges, began) = (10_000, Instant::now());
        for _ in 0..exchanges {
            let head = exchange(&mut client, request.as_bytes());
            assert!(!head.contains("Set-Cookie"));
        }
        WATCHED.store(0, Relaxed);
        let allocations = ALLOCATIONS.load(Relaxed);
        println!("{allocations} allocations in {exchanges} exchanges");
        // The worker's clock ticks meanwhile, and the runtime's timers allocate now and then for that; an exchange does not.
        let ticks = began.elapsed().as_millis() / 50 + 1;
        assert!(u128::from(allocations) <= ticks, "{allocations} allocations in {exchanges} exchanges, {ticks} ticks");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
