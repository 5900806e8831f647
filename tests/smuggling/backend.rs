//! A backend that records every byte of every connection, and answers what the most careless reader makes of it.

use super::{
    careless,
    support::{PATIENCE, Scripted, eventually},
};
use rustix::io::ioctl_fionread;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

pub struct Backend {
    scripted: Scripted,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicU64,
    came: Mutex<Came>,
    script: Mutex<Script>,
}

#[derive(Default)]
struct Came {
    /// What has come on each connection since it was last taken.
    bytes: BTreeMap<u64, Vec<u8>>,
    /// What a careless reader found in it.
    read: Vec<careless::Request>,
    /// Those that have not ended.
    open: BTreeMap<u64, TcpStream>,
    /// Those on which nothing else is to come, and how many times something did.
    spent: BTreeSet<u64>,
    reused: usize,
}

/// What has come, by connections, and what a careless reader found in it.
pub struct Taken {
    pub streams: Vec<Vec<u8>>,
    pub read: Vec<careless::Request>,
}

/// How the target `/case` is answered; every other one is told what was read.
#[derive(Clone, Default)]
pub struct Script {
    pub send: Vec<u8>,
    pub dribbles: bool,
    pub closes: bool,
    /// Nothing else is to come on a connection that was answered so.
    pub spends: bool,
    pub late: Option<Late>,
}

/// What is sent later, once it is said; that it was sent is told.
#[derive(Clone)]
pub struct Late {
    pub send: Vec<u8>,
    pub when: Arc<Mutex<Receiver<()>>>,
    pub told: Sender<()>,
}

impl Late {
    /// With the ends by which it is said and told.
    pub fn new(send: Vec<u8>) -> (Self, Sender<()>, Receiver<()>) {
        let ((say, when), (told, tells)) = (channel(), channel());
        (Self { send, when: Arc::new(Mutex::new(when)), told }, say, tells)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        Self { scripted: Scripted::start(move |stream| own.serve(stream)), state }
    }

    pub fn address(&self) -> SocketAddr {
        self.scripted.address()
    }

    pub fn answers(&self, script: Script) {
        *lock(&self.state.script) = script;
    }

    /// How many requests have come where none was to come any more, since this was last asked.
    pub fn reused(&self) -> usize {
        std::mem::take(&mut lock(&self.state.came).reused)
    }

    /// Waits until nobody is connected any more.
    #[track_caller]
    pub fn is_left(&self) {
        eventually("all connections end", || lock(&self.state.came).open.is_empty().then_some(()));
    }

    /// What has come since it was last taken, to the last byte that has reached this machine's sockets.
    #[track_caller]
    pub fn take(&self) -> Taken {
        eventually("all that came is recorded", || {
            let mut came = lock(&self.state.came);
            let is_all = came.open.values().all(|stream| ioctl_fionread(stream).is_ok_and(|count| count == 0));
            is_all.then(|| Taken {
                streams: std::mem::take(&mut came.bytes).into_values().collect(),
                read: std::mem::take(&mut came.read),
            })
        })
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let id = self.connections.fetch_add(1, Ordering::SeqCst);
        lock(&self.came).open.insert(id, stream.try_clone().unwrap());
        self.answer_all(&mut stream, id);
        lock(&self.came).open.remove(&id);
    }

    fn answer_all(&self, stream: &mut TcpStream, id: u64) {
        let mut unread = Vec::new();
        while self.read(stream, id, &mut unread) {
            while let Some(request) = careless::request(&unread) {
                unread.drain(..request.len);
                self.note(id, &request);
                if !self.answer(stream, &request) {
                    return;
                }
            }
        }
    }

    fn note(&self, id: u64, request: &careless::Request) {
        let spends = request.target == "/case" && lock(&self.script).spends;
        let mut came = lock(&self.came);
        came.read.push(request.clone());
        came.reused += usize::from(came.spent.contains(&id));
        if spends {
            came.spent.insert(id);
        }
    }

    /// Records what comes next, in one step for whoever asks what has come; false at the end.
    fn read(&self, stream: &mut TcpStream, id: u64, unread: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 16384];
        if !stream.peek(&mut buffer[..1]).is_ok_and(|count| count > 0) {
            return false;
        }
        let mut came = lock(&self.came);
        let count = stream.read(&mut buffer).unwrap_or(0);
        came.bytes.entry(id).or_default().extend_from_slice(&buffer[..count]);
        unread.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// Whether the connection goes on.
    fn answer(&self, stream: &mut TcpStream, request: &careless::Request) -> bool {
        if request.target != "/case" {
            let body = if request.method == "HEAD" { "" } else { "ok" };
            let seen = format!("{} {}", request.method, request.target);
            let response = format!("HTTP/1.1 200 OK\r\nX-Seen: {seen}\r\nContent-Length: 2\r\n\r\n{body}");
            return stream.write_all(response.as_bytes()).is_ok();
        }
        let script = lock(&self.script).clone();
        // Who has heard enough may be gone before the end.
        drop(send(stream, &script.send, script.dribbles));
        if let Some(late) = script.late {
            lock(&late.when).recv_timeout(PATIENCE).unwrap();
            drop(stream.write_all(&late.send));
            late.told.send(()).unwrap();
        }
        !script.closes
    }
}

/// Sends bytes at once, or each by itself.
pub fn send(stream: &mut impl Write, bytes: &[u8], dribbles: bool) -> std::io::Result<()> {
    bytes.chunks(if dribbles { 1 } else { usize::MAX }).try_for_each(|piece| stream.write_all(piece))
}
