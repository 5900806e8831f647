//! Users who hold on to a connection each, check every answer and repeat nothing.

use super::http::Connection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const COOKIE: &str = "lb-affinity";

/// What one of them has seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub requests: u64,
    pub connections: u64,
    /// What went wrong, in words: an answer that did not come, another status, another backend.
    pub wrong: Vec<String>,
}

/// As many as there are think times; they end with this value.
#[derive(Debug)]
pub struct Visitors {
    threads: Vec<(Sender<()>, JoinHandle<Tally>)>,
    answered: Arc<AtomicU64>,
}

impl Visitors {
    /// Each begins a session, and thinks for so long between two requests.
    pub fn start(address: &str, think: impl IntoIterator<Item = Duration>) -> Self {
        let answered = Arc::<AtomicU64>::default();
        let start = |think| {
            let (stop, stopped) = channel();
            let (address, answered) = (address.to_owned(), Arc::clone(&answered));
            let goes_on = move || stopped.recv_timeout(think) == Err(RecvTimeoutError::Timeout);
            (stop, thread::spawn(move || visit(&address, &answered, goes_on)))
        };
        let threads = think.into_iter().map(start).collect();
        Self { threads, answered }
    }

    /// Requests that were answered by now.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends them. All that they have seen, added up.
    pub fn end(self) -> Tally {
        let (stops, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(stops);
        threads.into_iter().map(|thread| thread.join().expect("it notes what is wrong")).fold(
            Tally::default(),
            |mut all, Tally { requests, connections, wrong }| {
                all.requests += requests;
                all.connections += connections;
                all.wrong.extend(wrong);
                all
            },
        )
    }
}

fn visit(address: &str, answered: &AtomicU64, goes_on: impl Fn() -> bool) -> Tally {
    let mut tally = Tally::default();
    let (mut cookie, mut home) = (String::new(), None);
    'connections: loop {
        tally.connections += 1;
        let mut connection = Connection::open(address);
        loop {
            let fields = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n");
            tally.requests += 1;
            let answer = match connection.try_send(fields.as_bytes()).and_then(|()| connection.response(false)) {
                Ok(answer) => answer,
                Err(error) => {
                    tally.wrong.push(format!("request {}: {error}", tally.requests));
                    break;
                }
            };
            answered.fetch_add(1, Ordering::Relaxed);
            let body = answer.text();
            if answer.status != 200 || home.as_ref().is_some_and(|home| *home != body) {
                tally.wrong.push(format!("request {} of {home:?}: {} {body}", tally.requests, answer.status));
            }
            home.get_or_insert(body);
            cookie = answer.cookie(COOKIE).unwrap_or(cookie);
            let is_last = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if !goes_on() {
                break 'connections;
            }
            if is_last {
                break;
            }
        }
    }
    tally
}
