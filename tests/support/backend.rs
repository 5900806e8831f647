//! Backends that do exactly what a test says, and tell what reached them.

use super::PATIENCE;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

/// Serves each connection with the same function, on a thread of its own.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
}

impl Scripted {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = Arc::clone(&serve);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address }
    }

    /// Answers every request on a connection with the same bytes.
    pub fn answering(response: &[u8]) -> Self {
        let response = response.to_vec();
        Self::start(move |mut stream| {
            while read_head(&mut stream).is_some() {
                if stream.write_all(&response).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers one request with these bytes and closes.
    pub fn closing_after(response: &[u8]) -> Self {
        let response = response.to_vec();
        Self::start(move |mut stream| {
            if read_head(&mut stream).is_some() {
                drop(stream.write_all(&response));
            }
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Up to the empty line; `None` where the connection ends before.
pub fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Records every byte that reaches it and answers each request head with 200.
#[derive(Debug)]
pub struct Recorder {
    backend: Scripted,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Recorder {
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let own = Arc::clone(&seen);
        let backend = Scripted::start(move |mut stream| {
            let mut buffer = [0; 4096];
            let mut unanswered = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                own.add(&buffer[..count]);
                unanswered.extend_from_slice(&buffer[..count]);
                while let Some(end) = unanswered.windows(4).position(|window| window == b"\r\n\r\n") {
                    let rest = unanswered.split_off(end + 4);
                    let is_request = unanswered.windows(10).any(|window| window == b" HTTP/1.1\r");
                    unanswered = rest;
                    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if is_request && stream.write_all(response).is_err() {
                        return;
                    }
                }
            }
        });
        Self { backend, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// What has come since it was last taken.
    pub fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.seen.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What has come by the time that it ends with these bytes.
    #[track_caller]
    pub fn take_up_to(&self, end: &str) -> String {
        let seen = self.seen.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let unlike = |bytes: &mut Vec<u8>| !bytes.ends_with(end.as_bytes());
        let (mut seen, wait) = self.seen.more.wait_timeout_while(seen, PATIENCE, unlike).unwrap();
        assert!(!wait.timed_out(), "the backend was to see {end:?} and saw {:?}", String::from_utf8_lossy(&seen));
        String::from_utf8_lossy(&std::mem::take(&mut *seen)).into_owned()
    }
}

impl Seen {
    fn add(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        self.more.notify_all();
    }
}
