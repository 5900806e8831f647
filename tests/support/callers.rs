//! Clients that know which backend their session belongs to, on sockets of their own: they repeat nothing, count every answer by
//! what came of it, and go on.

use super::{PATIENCE, eventually};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

const COOKIE: &str = "lb-affinity";

/// What one of them has seen since it was asked last.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The backend of its session then, and now.
    pub began_at: String,
    pub home: String,
    pub served: u64,
    /// Served by another backend, to which the session belongs from then on.
    pub moved: u64,
    /// Answered with something else than 200, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Sent, and not answered.
    pub broken: u64,
    /// Not even connected.
    pub unconnected: u64,
    /// What was not as it has to be, in words.
    pub wrong: Vec<String>,
}

impl Seen {
    pub fn answered(&self) -> u64 {
        self.served + self.moved + self.refused.values().sum::<u64>()
    }

    /// Requests without their answer.
    pub fn lost(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.broken + self.unconnected
    }
}

/// All of them, added up; where their sessions are is left out.
pub fn sum(all: &[Seen]) -> Seen {
    all.iter().fold(Seen::default(), |mut sum, seen| {
        sum.served += seen.served;
        sum.moved += seen.moved;
        for (status, count) in &seen.refused {
            *sum.refused.entry(*status).or_default() += count;
        }
        sum.broken += seen.broken;
        sum.unconnected += seen.unconnected;
        sum.wrong.extend(seen.wrong.iter().cloned());
        sum
    })
}

/// They end with this value.
#[derive(Debug)]
pub struct Callers {
    stop: Arc<AtomicBool>,
    seen: Vec<Arc<Mutex<Seen>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Starts so many, and returns once each has its session.
    #[track_caller]
    pub fn start(address: &str, count: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let seen: Vec<_> = (0..count).map(|_| Arc::<Mutex<Seen>>::default()).collect();
        let start = |seen: &Arc<Mutex<Seen>>| {
            let mut caller = Caller { address: address.to_owned(), seen: Arc::clone(seen), ..Caller::default() };
            let stop = Arc::clone(&stop);
            thread::spawn(move || caller.go_on_until(&stop))
        };
        let threads = seen.iter().map(start).collect();
        let callers = Self { stop, seen, threads };
        eventually("each has a session", || callers.homes().iter().all(|home| !home.is_empty()).then_some(()));
        callers.take();
        callers
    }

    /// The backends of their sessions.
    pub fn homes(&self) -> Vec<String> {
        self.seen.iter().map(|seen| seen.lock().unwrap().home.clone()).collect()
    }

    /// What each has seen since the last call.
    pub fn take(&self) -> Vec<Seen> {
        let take = |seen: &Arc<Mutex<Seen>>| {
            let mut seen = seen.lock().unwrap();
            let fresh = Seen { began_at: seen.home.clone(), home: seen.home.clone(), ..Seen::default() };
            std::mem::replace(&mut *seen, fresh)
        };
        self.seen.iter().map(take).collect()
    }

    /// Waits until each of those whose session began at a backend that is asked for has `more` answers.
    #[track_caller]
    pub fn are_answered(&self, more: u64, at: impl Fn(&str) -> bool) {
        let answered = || -> Vec<_> {
            let seen = self.seen.iter().map(|seen| seen.lock().unwrap());
            seen.map(|seen| if at(&seen.began_at) { seen.answered() } else { u64::MAX / 2 }).collect()
        };
        let before = answered();
        eventually("each of them is answered", || {
            answered()
                .iter()
                .zip(&before)
                .all(|(now, before)| now - before >= more || *now >= u64::MAX / 2)
                .then_some(())
        });
    }

    /// Waits until each has `more` answers.
    #[track_caller]
    pub fn all_are_answered(&self, more: u64) {
        self.are_answered(more, |_| true);
    }

    /// Ends them; what each has seen since it was asked last.
    pub fn end(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        self.take()
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Caller {
    address: String,
    cookie: String,
    connection: Option<TcpStream>,
    seen: Arc<Mutex<Seen>>,
    buffer: Vec<u8>,
}

impl Caller {
    fn go_on_until(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let Some(mut stream) = self.connection.take().or_else(|| self.connect()) else {
                self.seen.lock().unwrap().unconnected += 1;
                // Nobody listens: not as fast as that can be told.
                thread::park_timeout(std::time::Duration::from_millis(20));
                continue;
            };
            match self.ask(&mut stream) {
                Some(true) => self.connection = Some(stream),
                Some(false) => {}
                None => self.seen.lock().unwrap().broken += 1,
            }
        }
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(&self.address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(stream)
    }

    /// One request with its answer; whether the connection goes on. `None` where no whole answer came.
    fn ask(&mut self, stream: &mut TcpStream) -> Option<bool> {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", self.cookie);
        stream.write_all(request.as_bytes()).ok()?;
        self.buffer.clear();
        let (mut piece, mut whole) = ([0; 4096], None);
        while whole.is_none_or(|whole| self.buffer.len() < whole) {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
            }
            whole = whole.or_else(|| length(&self.buffer));
        }
        let (whole, seen) = (whole?, Arc::clone(&self.seen));
        let mut seen = seen.lock().unwrap();
        if self.buffer.len() > whole {
            seen.wrong.push(format!("more than an answer: {}", String::from_utf8_lossy(&self.buffer)));
            return Some(false);
        }
        let text = String::from_utf8_lossy(&self.buffer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        self.judge(&mut seen, head, body);
        Some(!fields(head, "connection").any(|value| value.eq_ignore_ascii_case("close")))
    }

    fn judge(&mut self, seen: &mut Seen, head: &str, body: &str) {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status != 200 {
            *seen.refused.entry(status).or_default() += 1;
            return;
        }
        if seen.home == body {
            seen.served += 1;
        } else {
            seen.moved += u64::from(!seen.home.is_empty());
            body.clone_into(&mut seen.home);
        }
        for cookie in fields(head, "set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default();
            if pair.starts_with(COOKIE) {
                pair.clone_into(&mut self.cookie);
            }
        }
    }
}

fn fields<'h>(head: &'h str, name: &'h str) -> impl Iterator<Item = &'h str> {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// How long the answer at the front is, once its head is whole.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let body = fields(&head, "content-length").next().and_then(|value| value.parse::<usize>().ok());
    Some(end + body.unwrap_or(0))
}
