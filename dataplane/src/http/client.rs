use super::{
    closing,
    request::{Prepared, Request, Rules, prepare},
};
use crate::{
    access_log::{By, Entry, Opening},
    http1::{BodyLength, HeadScan, Parse, Reply, Status, Version, head, rewrite::Subject},
    io::{Buffer, Interrupt, Stream},
    tls::Accepted,
    worker::{Deadline, Ends, Worker},
};
use control::{
    counters::Dataplane,
    spec::{Listener, Span},
};
use std::{future::poll_fn, net::SocketAddr, pin::pin};

/// A client's connection with what was read from it.
pub(crate) struct Client {
    pub(super) link: Link,
    /// What was read and belongs to this request or to those that follow; without memory while nothing is.
    pub(super) buffer: Buffer,
    /// Where it comes from, of the family that it has on its own network.
    pub(super) peer: SocketAddr,
    /// The address as text, for the fields that tell it.
    pub(super) address_text: String,
    /// Until when it may wait for its next request, in milliseconds of the worker's clock; absent while it has one.
    until: Option<u64>,
    /// Nothing but this may come first where a client speaks HTTP/2.
    is_fresh: bool,
    /// Requests whose heads have been read.
    requests: u32,
    /// The slot of the pool whose marker was set on this connection last.
    pub(super) marked: Option<u32>,
    /// Whom its certificate names, where backends are to know.
    pub(super) subject: Option<Box<str>>,
}

/// The connection itself, of which one direction may be read while the other is written.
pub(super) struct Link {
    /// Goes before the stream whose descriptor it knows.
    pub(super) deadline: Deadline,
    pub(super) stream: Stream,
    /// The worker's listener that accepted it.
    pub(super) listener: usize,
}

impl Link {
    /// Reads behind what the buffer holds. Given up, the buffer is left without memory and what was read is lost.
    pub(super) async fn read(&self, buffer: &mut Buffer) -> std::io::Result<usize> {
        let (result, read) = self.stream.read(std::mem::take(buffer)).await;
        *buffer = read;
        result
    }
}

/// What came of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "taken apart at once; a box would cost an allocation per request")]
pub(super) enum Next {
    Request(Request),
    Refused(Reply),
    /// Nothing has come of it yet.
    None,
    Closed,
    /// What came is the beginning of an HTTP/2 connection (RFC 9113 section 3.3).
    Http2,
}

/// How long a connection keeps its buffer for the next request, and whoever serves it. A browser's next one is there by then,
/// or its user reads.
const MOMENT: Span = Span::from_millis(250);

/// How long a client may take to read a refusal before the connection is closed on what it still sends.
const LINGER: Span = Span::from_secs(2);

/// The beginning of the preface, by which clients speak HTTP/2 that know that we do. As a request it would be refused.
const PRIOR_KNOWLEDGE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

impl Client {
    pub(crate) fn new(worker: &Worker, listener: usize, accepted: Accepted, peer: SocketAddr) -> Self {
        let Accepted { stream, subject } = accepted;
        let address = peer.ip().to_canonical();
        Self {
            link: Link { deadline: worker.deadline(stream.handle()), stream, listener },
            buffer: Buffer::default(),
            peer: SocketAddr::new(address, peer.port()),
            address_text: address.to_string(),
            until: None,
            is_fresh: true,
            requests: 0,
            marked: None,
            subject,
        }
    }

    /// The connection, what was read of it, and its peer.
    pub(super) fn give_back(self) -> (Accepted, Buffer, SocketAddr) {
        let Self { link: Link { deadline, stream, .. }, buffer, subject, peer, .. } = self;
        // Before the stream whose descriptor it knows.
        drop(deadline);
        (Accepted { stream, subject }, buffer, peer)
    }

    /// What is written down of a request that came on it, if anything is; `client` is whose it is.
    pub(super) fn entry(
        &self,
        worker: &Worker,
        listener: &Listener,
        client: SocketAddr,
        began: u64,
        version: Version,
    ) -> Option<Box<Entry>> {
        worker.access_log.begin(listener.access_log, || Opening {
            listener: self.link.listener,
            client,
            is_tls: self.link.stream.is_tls(),
            protocol: match version {
                _ if self.link.stream.is_http2() => "HTTP/2.0",
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            began,
        })
    }

    /// Writes down a request that is refused by its head: `head` is what is known of that, `why` where it can't be read.
    fn note_refused(&self, worker: &Worker, reply: &Reply, head: &[u8], why: &'static str) {
        let table = worker.table.borrow();
        let listener = worker.listener_at(self.link.listener).map(|at| &table.listeners[at].settings);
        let entry = listener
            .and_then(|listener| self.entry(worker, listener, self.peer, worker.clock.micros_now(), reply.version));
        let Some(mut entry) = entry else { return };
        entry.head = worker.buffers.vector();
        entry.head.extend_from_slice(head);
        entry.answered_by_us(reply.status.code());
        if !why.is_empty() {
            entry.ended(By::Client, why);
        }
        worker.access_log.write(worker, entry);
    }

    /// Whether `most` requests have come, the one that was read last among them; 0 is never reached. A stream of HTTP/2 has
    /// its one, and its connection counts them.
    pub(super) fn has_had(&self, most: u32) -> bool {
        most > 0 && self.requests >= most && !self.link.stream.is_http2()
    }

    /// What backends are told of its certificate.
    pub(super) fn subject<'a>(&'a self, listener: &'a Listener) -> Option<Subject<'a>> {
        let header = listener.tls.as_ref()?.subject_header()?;
        Some(Subject { header, name: self.subject.as_deref() })
    }

    pub(super) fn end(self, worker: &Worker) {
        worker.buffers.give_back(self.buffer);
    }

    /// Waits until something of a request has come, without memory for it; false where none is served any more.
    pub(super) async fn comes(&mut self, worker: &Worker) -> bool {
        let Some(until) = self.wait_until(worker) else { return false };
        self.link.deadline.set(until, Ends::Idle);
        self.link.stream.readable().await;
        true
    }

    /// Waits a moment for the next request with a buffer at hand: most come soon, and to wait without one costs a system
    /// call more. `None` where the moment is over.
    async fn lingers(&mut self, worker: &Worker, interrupt: &Interrupt) -> Option<std::io::Result<usize>> {
        let until = self.wait_until(worker)?.min(worker.after(MOMENT));
        let deadline = &self.link.deadline;
        let mut read = pin!(self.link.stream.read_unless(std::mem::take(&mut self.buffer), interrupt));
        let (mut is_set, mut is_over) = (false, false);
        let (result, buffer) = poll_fn(|context| {
            if !is_set {
                is_set = true;
                deadline.wake(until, context.waker());
            } else if !is_over && deadline.has_woken() {
                is_over = true;
                interrupt.interrupt();
            }
            read.as_mut().poll(context)
        })
        .await;
        self.buffer = buffer;
        match result {
            Err(error) if Interrupt::is_why(&error) => None,
            result => Some(result),
        }
    }

    /// Until when it may wait; `None` where its listener is gone.
    fn wait_until(&mut self, worker: &Worker) -> Option<u64> {
        let timeouts = Rules::of(worker, self.link.listener)?.timeouts;
        let until = *self.until.get_or_insert_with(|| worker.after(timeouts.idle));
        // Whoever comes while we stop gets one answer.
        Some(if worker.is_stopping() { until.min(worker.after(timeouts.head)) } else { until })
    }

    /// Reads up to the end of the next request's head, and decides all that the head decides. With `interrupt` it waits a moment
    /// for one that has not begun.
    pub(super) async fn next_request(&mut self, worker: &Worker, interrupt: Option<&Interrupt>) -> Next {
        let mut scan = HeadScan::default();
        let mut began = false;
        loop {
            let Some(rules) = Rules::of(worker, self.link.listener) else { return Next::Closed };
            let due = !self.buffer.is_empty() && scan.due(self.buffer.bytes(), &rules.limits);
            if due && let Some(next) = self.parse(worker, &rules) {
                // What ended the wait must not end the exchange.
                self.link.deadline.clear();
                self.until = None;
                return next;
            }
            if !self.buffer.is_empty() && !began {
                began = true;
                self.link.deadline.set(worker.after(rules.timeouts.head), Ends::Reading);
            }
            match self.more(worker, interrupt).await {
                Some(Ok(count)) if count > 0 => {}
                Some(Ok(_) | Err(_)) => return self.stopped(worker),
                None => return Next::None,
            }
        }
    }

    /// Reads more of a head; `None` where it has not begun, and is no more waited for.
    async fn more(&mut self, worker: &Worker, interrupt: Option<&Interrupt>) -> Option<std::io::Result<usize>> {
        if !self.buffer.is_held() {
            self.buffer = worker.buffers.buffer();
        }
        let read = match interrupt {
            _ if !self.buffer.is_empty() || self.link.stream.is_http2() => {
                return Some(self.link.read(&mut self.buffer).await);
            }
            Some(interrupt) => self.lingers(worker, interrupt).await,
            None => self.link.stream.try_read(&mut self.buffer).transpose(),
        };
        if read.is_none() {
            worker.buffers.give_back(std::mem::take(&mut self.buffer));
        }
        read
    }

    fn stopped(&self, worker: &Worker) -> Next {
        let board = worker.board();
        match (self.buffer.is_empty(), self.link.deadline.has_passed()) {
            (true, true) => board.count(Dataplane::IdleClosed),
            (true, false) => {}
            (false, true) => {
                board.count(Dataplane::HeadTimeouts);
                let reply = closing(Status::RequestTimeout);
                self.note_refused(worker, &reply, b"", "the head did not come in time");
                return Next::Refused(reply);
            }
            (false, false) => board.count(Dataplane::ClientAborts),
        }
        Next::Closed
    }

    /// `None` where the head is not whole yet.
    fn parse(&mut self, worker: &Worker, rules: &Rules) -> Option<Next> {
        let mut fields = worker.fields.borrow_mut();
        let (prepared, len) = match head::parse(self.buffer.bytes(), &rules.limits, &mut fields) {
            Ok(Parse::Partial) => return None,
            Ok(Parse::Complete { head, len }) => {
                self.requests = self.requests.saturating_add(1);
                if self.has_had(rules.requests) {
                    worker.board().count(Dataplane::OverRequests);
                }
                let prepared = prepare(worker, self, self.link.listener, rules, &head);
                if let Prepared::Refused(reply) = &prepared {
                    self.note_refused(worker, reply, head.fields.head(), "");
                }
                (prepared, len)
            }
            Err(_) if self.is_fresh && rules.http2 && self.buffer.bytes().starts_with(PRIOR_KNOWLEDGE) => {
                return Some(Next::Http2);
            }
            // As a request it is refused a few bytes before it is seen to be none.
            Err(_) if self.is_fresh && rules.http2 && PRIOR_KNOWLEDGE.starts_with(self.buffer.bytes()) => return None,
            Err(refusal) => {
                worker.board().count(Dataplane::BadRequests);
                tracing::debug!(client = %self.peer.ip(), reason = refusal.reason(), "request refused");
                let reply = closing(refusal.status());
                self.note_refused(worker, &reply, b"", refusal.reason());
                return Some(Next::Refused(reply));
            }
        };
        drop(fields);
        self.is_fresh = false;
        self.buffer.consume(len);
        Some(match prepared {
            Prepared::Request(request) => Next::Request(request),
            Prepared::Refused(reply) => Next::Refused(reply),
        })
    }

    /// Sends an answer of ours, which `entry` is told of; whether the connection may serve another request.
    pub(super) async fn reply(&mut self, worker: &Worker, reply: &Reply, entry: Option<&Entry>) -> bool {
        let mut out = worker.buffers.vector();
        reply.write(&mut out);
        if let Some(entry) = entry {
            entry.went(out.len());
        }
        self.link.deadline.set(worker.after(LINGER), Ends::Both);
        let (result, out) = self.link.stream.give_vector(out).await;
        worker.buffers.give_back_vector(out);
        result.is_ok() && reply.keep_alive
    }

    pub(super) async fn reply_and_close(&mut self, worker: &Worker, reply: &Reply, entry: Option<&Entry>) {
        self.reply(worker, reply, entry).await;
        self.linger(worker).await;
    }

    /// Whether this was the last request, and nothing comes behind it: a client that has said so sends nothing more (RFC 9112
    /// section 9.6), but for the empty line that some send behind a body (section 2.2).
    pub(super) fn has_said_all(&self, request: &Request) -> bool {
        let is_last = !request.keep_alive && request.body == BodyLength::None;
        is_last && self.buffer.is_empty() && self.link.stream.is_plain()
    }

    /// Lets the client read what it was sent, before its connection is closed upon what it still sends.
    pub(super) async fn linger(&self, worker: &Worker) {
        self.link.deadline.set(worker.after(LINGER), Ends::Both);
        self.link.stream.finish().await;
        self.link.stream.read_out(&worker.buffers).await;
    }
}
