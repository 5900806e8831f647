//! WebSockets of the Python package `websockets`, in both roles, and bare ones.

use super::{Instance, PATIENCE, eventually, http2, peers, process::Running};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

const PROGRAM: &str = include_str!("websocket.py");

/// A program of `websocket.py` that runs.
#[derive(Debug)]
pub struct Peer(pub Running);

impl Peer {
    pub fn start(arguments: &[&str]) -> Self {
        Self(peers::start_python(PROGRAM, arguments))
    }

    /// What it has told so far.
    pub fn told(&self) -> Vec<Value> {
        let text = self.0.stdout();
        // The last line may not be whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the first thing that it tells with this key.
    #[track_caller]
    pub fn tells(&mut self, key: &str) -> Value {
        eventually(&format!("{key} is told"), || {
            let ended = self.0.has_ended();
            let told = self.told().into_iter().find(|told| told.get(key).is_some());
            assert!(told.is_some() || !ended, "it ended: {} {}", self.0.stdout(), self.0.stderr());
            told
        })
    }

    /// The codes of all closes, in order.
    pub fn closes(&self) -> Vec<u64> {
        self.told().iter().filter_map(|told| told["closed"].as_u64()).collect()
    }

    /// Waits until it has ended well.
    #[track_caller]
    pub fn ended(&mut self) -> Vec<Value> {
        let status = self.0.ended_within(3 * PATIENCE);
        assert!(status.success(), "{} {}", self.0.stdout(), self.0.stderr());
        self.told()
    }
}

/// A server with its address.
#[derive(Debug)]
pub struct Server {
    pub peer: Peer,
    pub address: String,
}

impl Server {
    #[track_caller]
    pub fn start(name: &str) -> Self {
        let mut peer = Peer::start(&["server", name, "0"]);
        let address = format!("127.0.0.1:{}", peer.tells("port")["port"]);
        Self { peer, address }
    }
}

/// The head of a handshake.
pub fn handshake(more: &str) -> String {
    format!(
        "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A connection on which bytes are written and read as they are.
#[derive(Debug)]
pub struct Raw(pub TcpStream);

impl Raw {
    #[track_caller]
    pub fn open(address: &str, first: &[u8]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self(stream);
        raw.send(first);
        raw
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The head of a response.
    #[track_caller]
    pub fn head(&mut self) -> String {
        super::backend::read_head(&mut self.0).expect("a head comes")
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub fn reads(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    /// All that comes up to the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn ends(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

/// Holds so many WebSockets open, and waits until they are.
#[track_caller]
pub fn hold(url: &str, count: usize) -> (Peer, Value) {
    let mut peer = Peer::start(&["hold", url, "/name", &count.to_string()]);
    let open = peer.tells("open");
    (peer, open)
}

/// How many of them are at that backend: each worker takes turns for itself.
pub fn at(open: &Value, name: &str) -> usize {
    open["open"].as_array().unwrap().iter().filter(|each| **each == name).count()
}

#[track_caller]
pub fn tunnels(instance: &Instance, name: &str, count: usize) -> Value {
    eventually(&format!("{count} tunnels are open at `{name}`"), || {
        let backend = instance.backend("shop", name);
        (backend["tunnels"] == count).then_some(backend)
    })
}

#[track_caller]
pub fn counted(instance: &Instance, backend: &str, name: &str, count: usize) {
    eventually(&format!("{name} is {count}"), || {
        (instance.backend("shop", backend)["counts"][name] == count).then_some(())
    });
}

/// Waits until so many have been closed, and all of them with this code.
#[track_caller]
pub fn closed(peer: &Peer, code: u64, count: usize) {
    eventually(&format!("{count} are closed"), || (peer.closes().len() == count).then_some(()));
    assert_eq!(peer.closes(), vec![code; count]);
}

/// Speaks for WebSockets of HTTP/1.1 over HTTP/2.
#[derive(Debug)]
pub struct Bridge {
    _program: Running,
    pub url: String,
}

impl Bridge {
    /// To one of the instance's listeners.
    #[track_caller]
    pub fn start(address: &str) -> Self {
        let program = http2::start(include_str!("bridge.py"), &[address]);
        let port = eventually("its port is told", || {
            let told: Value = serde_json::from_str(program.stdout().lines().next()?).ok()?;
            told["port"].as_u64()
        });
        Self { _program: program, url: format!("ws://127.0.0.1:{port}") }
    }
}
