use crate::{
    pick::{Claim, Failure, Side},
    worker::Worker,
};
use affinity::{
    choose::{Ended, Outcome, Pin, Unserved},
    ledger::{Entry as Moved, Reason},
    sessions::Touch,
};
use std::{cell::Cell, net::SocketAddr};

/// What is told of one exchange, as far as it is known by now.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) opening: Opening,
    /// As it went to the backend, or came where none got it; often with something of the body behind it.
    pub(crate) head: Vec<u8>,
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) marker: &'static str,
    pub(super) affinity: Cell<&'static str>,
    pub(super) cause: Cell<&'static str>,
    /// The response gives the client a marker, or takes it away.
    pub(super) marked: Cell<bool>,
    pub(super) session: Cell<Option<u64>>,
    pub(super) status: Cell<u16>,
    pub(super) attempts: u32,
    pub(super) reused: bool,
    pub(super) ended_by: Cell<Option<By>>,
    pub(super) error: Cell<&'static str>,
    pub(super) bytes_in: Cell<u64>,
    pub(super) bytes_out: Cell<u64>,
    /// All of them in microseconds; absent where it did not come to that.
    pub(super) queue: Option<u64>,
    pub(super) connect: Option<u64>,
    pub(super) response: Cell<Option<u64>>,
    /// When what is under way has begun.
    since: u64,
}

/// What is known from the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// The worker's.
    pub(crate) listener: usize,
    pub(crate) client: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) protocol: &'static str,
    /// In microseconds of the worker's clock.
    pub(crate) began: u64,
}

/// Who ended an exchange that did not end in order, or a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Client,
    Backend,
    Us,
}

impl Entry {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            opening,
            head: Vec::new(),
            pool: String::new(),
            backend: String::new(),
            marker: "",
            affinity: Cell::new(""),
            cause: Cell::new(""),
            marked: Cell::new(false),
            session: Cell::new(None),
            status: Cell::new(0),
            attempts: 0,
            reused: false,
            ended_by: Cell::new(None),
            error: Cell::new(""),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            queue: None,
            connect: None,
            response: Cell::new(None),
            since: 0,
        }
    }

    /// The same for another exchange, with the memory that it has.
    pub(super) fn renew(&mut self, opening: Opening) {
        let (mut pool, mut backend) = (std::mem::take(&mut self.pool), std::mem::take(&mut self.backend));
        pool.clear();
        backend.clear();
        *self = Self { pool, backend, ..Self::new(opening) };
    }

    /// The same, with what its client claims.
    pub(crate) fn of(mut self: Box<Self>, pool: &str, claim: &Claim) -> Box<Self> {
        self.pool.push_str(pool);
        self.marker = marker(claim);
        self
    }

    /// Something begins that is timed.
    pub(crate) fn begins(&mut self, worker: &Worker) {
        self.since = worker.clock.micros_now();
    }

    /// It has waited for room at a backend.
    pub(crate) fn waited(&mut self, worker: &Worker) {
        let took = worker.clock.micros_now().saturating_sub(self.since);
        self.queue = Some(self.queue.unwrap_or(0) + took);
    }

    /// A backend is chosen, and what is timed begins.
    pub(crate) fn chose(&mut self, worker: &Worker, backend: &str) {
        self.backend.clear();
        self.backend.push_str(backend);
        self.attempts += 1;
        // Why the last one failed stays; that it ended there does not.
        self.ended_by.set(None);
        self.begins(worker);
    }

    pub(crate) fn connected(&mut self, worker: &Worker, reused: bool) {
        self.reused = reused;
        let now = worker.clock.micros_now();
        self.connect = (!reused).then(|| now.saturating_sub(self.since));
        self.since = now;
    }

    /// The final response has begun.
    pub(crate) fn answered(&self, status: u16, now: u64) {
        self.status.set(status);
        self.response.set(Some(now.saturating_sub(self.since)));
    }

    /// The answer is ours.
    pub(crate) fn answered_by_us(&self, status: u16) {
        self.status.set(status);
        self.ended_by.set(self.ended_by.get().or(Some(By::Us)));
    }

    /// What became of the session.
    pub(crate) fn settled(&self, outcome: Outcome, marked: bool, touch: Option<Touch>) {
        let (what, cause) = match outcome {
            Outcome::Free => ("free", ""),
            Outcome::New => ("new", ""),
            Outcome::Pinned => ("pinned", ""),
            Outcome::Lost => ("lost", Reason::Incarnation.name()),
            Outcome::Repinned { cause, .. } => ("repinned", cause.name()),
            Outcome::Spilled { cause, .. } => ("spilled", cause.name()),
            Outcome::Released { .. } => ("released", ""),
        };
        self.affinity.set(what);
        self.cause.set(cause);
        self.marked.set(marked);
        self.session.set(touch.map(|touch| touch.key));
    }

    pub(crate) fn unserved(&self, unserved: Unserved) {
        let (what, cause) = match (unserved, Moved::of_unserved(unserved)) {
            (Unserved::Ended(Ended::Unreadable | Ended::Incarnation | Ended::Left(_)), Some(moved)) => {
                ("lost", moved.reason.name())
            }
            (_, Some(moved)) => ("failed", moved.reason.name()),
            (Unserved::Full { .. }, None) => ("", "full"),
            (_, None) => ("", "no_backend"),
        };
        self.affinity.set(what);
        self.cause.set(cause);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        let by = if failure.side == Side::Client { By::Client } else { By::Backend };
        self.ended(by, failure.reason());
    }

    /// `why` is empty where it ended in order.
    pub(crate) fn ended(&self, by: By, why: &'static str) {
        self.ended_by.set(Some(by));
        self.error.set(why);
    }

    /// Bytes of the request's body, or what stands for it in a tunnel, have gone to the backend.
    pub(crate) fn came(&self, bytes: usize) {
        self.bytes_in.set(self.bytes_in.get() + bytes as u64);
    }

    /// Bytes have gone to the client.
    pub(crate) fn went(&self, bytes: usize) {
        self.bytes_out.set(self.bytes_out.get() + bytes as u64);
    }
}

/// What came of the session's marker.
fn marker(claim: &Claim) -> &'static str {
    let refused = claim.found.refused.map(|why| Reason::Refused(why).name());
    match claim.found.pin {
        Pin::At { .. } if claim.found.adopted.is_some() => "adopted",
        Pin::At { .. } => "valid",
        Pin::Hashed => "hashed",
        Pin::Unreadable => "unreadable",
        Pin::Gone => refused.unwrap_or("removed"),
        Pin::Absent | Pin::Free => refused.unwrap_or("none"),
    }
}
