use super::{
    body::{BadBody, Body},
    client::Link,
    exchange::Flow,
    follow,
    pace::Pace,
    request::Request,
    watch,
};
use crate::{
    http1::{Asked, HeadScan, Limits, Output, Parse, ResponseHead, ToClient, Version, response, rewrite, upgrade},
    io::Buffer,
    pick::{Failure, Kind, Target},
    worker::{Connection, Ends, Worker},
};
use affinity::sessions::Touch;
use control::counters::{BackendCount, Dataplane};
use std::{future::poll_fn, io::ErrorKind, pin::pin};

/// Interim responses that a backend may send before the final one.
const MAX_INTERIM: usize = 100;

/// How a response that was passed on whole leaves the two connections.
#[derive(Debug)]
pub(super) enum Downloaded {
    Answered {
        keep_client: bool,
        keep_backend: bool,
        /// As in [`follow::Followed`], whatever decided it.
        marked: Option<bool>,
    },
    Switched(Switched),
}

/// Another protocol is spoken behind the head.
#[derive(Debug)]
pub(super) struct Switched {
    /// What the backend has sent of it already.
    pub(super) read: Buffer,
    pub(super) is_websocket: bool,
    /// By what the session counts as live.
    pub(super) session: Option<Touch>,
}

/// What a download moves between.
pub(super) struct Download<'a> {
    pub(super) worker: &'a Worker,
    pub(super) client: &'a Link,
    /// The client's connection is closed behind the response at once.
    pub(super) ends: bool,
    pub(super) backend: &'a Connection,
    pub(super) reused: bool,
    pub(super) request: &'a Request,
    pub(super) target: &'a Target,
    pub(super) flow: &'a Flow,
    pub(super) pace: Pace,
}

/// What the head of the final response decided.
struct Begun {
    body: Body,
    keep_client: bool,
    keep_backend: bool,
    /// Another protocol follows; whether it is that of WebSockets.
    switched: Option<bool>,
    marked: Option<bool>,
    session: Option<Touch>,
}

/// What the final response's head says, as it went out.
struct Written {
    /// The client's connection stays open.
    keep_client: bool,
    /// Whether the client has a marker from now on, where it says so.
    marked: Option<bool>,
    /// By what the session counts as live.
    session: Option<Touch>,
}

impl Download<'_> {
    /// Passes the response on.
    ///
    /// # Errors
    /// Where either side fails. Whether the client has been sent anything by then, [`Flow::has_answered`] tells.
    pub(super) async fn run(self) -> Result<Downloaded, Failure> {
        let mut buffer = self.worker.buffers.buffer();
        let result = self.pass(&mut buffer).await;
        self.worker.buffers.give_back(buffer);
        result
    }

    async fn pass(&self, buffer: &mut Buffer) -> Result<Downloaded, Failure> {
        let mut begun = self.head(buffer).await?;
        if let Some(is_websocket) = begun.switched {
            return Ok(Downloaded::Switched(Switched {
                read: std::mem::take(buffer),
                is_websocket,
                session: begun.session,
            }));
        }
        while !begun.body.is_done() {
            if !self.more(buffer, &begun.body).await? {
                break;
            }
            let piece = begun.body.take(buffer.bytes_mut(), u64::MAX).map_err(|bad| self.bad_body(bad))?;
            if piece.send > 0 {
                self.write(buffer, piece.send, self.is_last(&begun)).await?;
            }
            buffer.consume(piece.consumed - piece.send);
        }
        // Bytes behind a response belong to no request: the connection can't be trusted with another one.
        let keep_backend = begun.keep_backend && buffer.is_empty() && !self.flow.has_failed();
        Ok(Downloaded::Answered { keep_client: begun.keep_client, keep_backend, marked: begun.marked })
    }

    /// Reads the head of the final response and sends it on, together with what came of the body behind it.
    async fn head(&self, buffer: &mut Buffer) -> Result<Begun, Failure> {
        let limits = Limits { head: self.worker.buffers.size(), headers: Limits::MAX_HEADERS, uri: 0 };
        let (mut scan, mut interims) = (HeadScan::default(), 0);
        loop {
            if buffer.is_empty() || !scan.due(buffer.bytes(), &limits) {
                self.more_head(buffer, interims > 0).await?;
                continue;
            }
            let mut out = self.worker.buffers.vector();
            let Some((len, begun)) = self.parse(buffer.bytes(), &limits, &mut out)? else {
                self.worker.buffers.give_back_vector(out);
                self.more_head(buffer, true).await?;
                continue;
            };
            buffer.consume(len);
            scan = HeadScan::default();
            let Some(mut begun) = begun else {
                interims += 1;
                if interims > MAX_INTERIM {
                    return Err(self.malformed());
                }
                self.send(out, false).await?;
                continue;
            };
            let piece = begun.body.take(buffer.bytes_mut(), u64::MAX).map_err(|bad| self.bad_body(bad))?;
            self.flow.answered();
            let is_last = self.is_last(&begun);
            // Both go in one write; the smaller is copied.
            if piece.send > out.len() && buffer.prepend(&out) {
                let send = out.len() + piece.send;
                self.worker.buffers.give_back_vector(out);
                self.write(buffer, send, is_last).await?;
                buffer.consume(piece.consumed - piece.send);
            } else {
                out.extend_from_slice(&buffer.bytes()[..piece.send]);
                buffer.consume(piece.consumed);
                self.send(out, is_last).await?;
            }
            return Ok(begun);
        }
    }

    /// Writes the head at the front of `bytes` to `out` as it goes to the client; `None` where it is not whole yet. With
    /// the length of the head, what it began, unless it was an interim one.
    fn parse(
        &self,
        bytes: &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Option<Begun>)>, Failure> {
        let asked = Asked { method: self.request.method, upgrade: self.request.upgrade.as_deref() };
        let mut fields = self.worker.fields.borrow_mut();
        match response::parse(bytes, limits, asked, &mut fields) {
            Ok(Parse::Partial) => Ok(None),
            Ok(Parse::Complete { head, len }) if head.is_interim() => {
                self.interim(&head, out);
                Ok(Some((len, None)))
            }
            Ok(Parse::Complete { head, len }) => Ok(Some((len, Some(self.begin(&head, out))))),
            Err(bad) => {
                tracing::debug!(reason = bad.reason(), "response refused");
                Err(self.malformed())
            }
        }
    }

    /// A 1xx other than 101. HTTP/1.0 has none (RFC 9110 section 15.2).
    fn interim(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) {
        if head.status == 100 {
            self.flow.continued();
        }
        if self.request.version == Version::Http11 {
            self.with_via(|via| rewrite::interim(head, self.backend.stream.is_http2(), via, out));
        }
    }

    fn begin(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) -> Begun {
        self.worker.backends.succeeded(self.target.slot);
        let class = match head.status {
            200..=299 => Some(BackendCount::Responses2xx),
            300..=399 => Some(BackendCount::Responses3xx),
            400..=499 => Some(BackendCount::Responses4xx),
            500..=599 => Some(BackendCount::Responses5xx),
            _ => None,
        };
        if let Some(class) = class {
            self.count(class);
        }
        watch::answered(self.worker, self.request, self.target, head);
        let version = self.request.version;
        let Written { keep_client, marked, session } = self.write_head(head, out);
        let output = if version == Version::Http10 { Output::Plain } else { Output::Chunked };
        if head.ends_by_close(version) {
            self.flow.ends_by_close();
        }
        Begun {
            body: Body::new(head.body, output),
            keep_client,
            // A backend that was asked and has not said that it wants the body may take that for the next request.
            keep_backend: head.keep_alive && (!self.request.expects || self.flow.has_continued()),
            switched: head.upgrade.map(upgrade::is_websocket),
            marked,
            session,
        }
    }

    /// Writes the head with what goes out of the session's marker.
    fn write_head(&self, head: &ResponseHead<'_>, out: &mut Vec<u8>) -> Written {
        let table = self.worker.table.borrow();
        let mut pools = table.pools.iter().filter(|_| self.target.follows);
        let pool = pools.find(|pool| pool.slot == self.request.claim.pool.slot);
        let followed = pool.and_then(|pool| follow::decide(self.worker, pool, self.request, self.target, head));
        let session = self.target.settle(
            self.worker,
            &self.request.claim,
            followed.as_ref().map(|followed| (followed.outcome, followed.binds)),
        );
        let token = followed.as_ref().and_then(|followed| followed.token.as_ref());
        let wrap = pool.and_then(|pool| follow::carrier(pool)).zip(token);
        let wrap = wrap.map(|(carrier, token)| rewrite::Wrap { carrier, token });
        let extra = followed.as_ref().map_or(&self.target.set_cookie, |followed| &followed.set_cookie);
        let marked = followed.as_ref().map_or_else(|| (!extra.is_empty()).then_some(true), |followed| followed.marked);
        if let Some(entry) = &self.request.entry {
            let outcome = followed.as_ref().map_or(self.target.outcome, |followed| followed.outcome);
            entry.settled(outcome, !extra.is_empty() || wrap.is_some(), session);
        }
        let keep_client = self.with_via(|via| {
            let to = ToClient {
                version: self.request.version,
                http2: self.backend.stream.is_http2(),
                keep_alive: self.request.may_go_on() && self.flow.has_uploaded() && !self.worker.is_draining(),
                via,
                extra,
                wrap,
                hsts: self.hsts(),
                private: !extra.is_empty() || wrap.is_some(),
            };
            rewrite::response(head, &to, out)
        });
        Written { keep_client, marked, session }
    }

    fn hsts(&self) -> Option<u32> {
        if !self.client.stream.is_tls() {
            return None;
        }
        let table = self.worker.table.borrow();
        let listener = self.worker.listener_at(self.client.listener).map(|at| &table.listeners[at])?;
        listener.settings.tls.as_ref()?.hsts()
    }

    fn with_via<R>(&self, write: impl FnOnce(&str) -> R) -> R {
        let table = self.worker.table.borrow();
        let listener = self.worker.listener_at(self.client.listener).map(|at| &table.listeners[at]);
        write(listener.map_or("", |listener| &listener.settings.forwarding.via))
    }

    /// Reads more of the head; `began` where something of the response has come.
    async fn more_head(&self, buffer: &mut Buffer, began: bool) -> Result<(), Failure> {
        let began = began || !buffer.is_empty();
        if !self.read(buffer, began).await? {
            return Err(self.broken_off(began));
        }
        if buffer.was_filled() {
            // More of the body is there already, and goes in the same write.
            self.worker.buffers.widen(buffer);
            if !buffer.is_full() {
                match self.backend.stream.try_read(buffer) {
                    Ok(read) => self.count_read(read.unwrap_or(0)),
                    Err(_) => self.flow.failed(),
                }
            }
        }
        Ok(())
    }

    /// Reads more of the body; false where closing has ended it, as it may.
    async fn more(&self, buffer: &mut Buffer, body: &Body) -> Result<bool, Failure> {
        self.worker.buffers.widen(buffer);
        match self.read(buffer, true).await? {
            true => Ok(true),
            false if matches!(body, Body::UntilClose) => Ok(false),
            false => Err(self.broken_off(true)),
        }
    }

    /// Reads from the backend; false at its end.
    async fn read(&self, buffer: &mut Buffer, began: bool) -> Result<bool, Failure> {
        if self.flow.has_failed() {
            return Err(self.broken_off(began));
        }
        let mut watching = false;
        let mut read = pin!(self.backend.stream.read(std::mem::take(buffer)));
        let (result, rest) = poll_fn(|context| {
            // While the client uploads, the upload sees whether it is still there.
            if !watching && self.flow.has_uploaded() {
                watching = true;
                self.watch();
            }
            read.as_mut().poll(context)
        })
        .await;
        *buffer = rest;
        let left = watching && self.client.deadline.has_passed();
        if watching {
            self.client.deadline.clear();
        }
        match result {
            Ok(count) if count > 0 => {
                self.count_read(count);
                Ok(true)
            }
            Ok(_) | Err(_) if left => {
                self.worker.board().count(Dataplane::ClientAborts);
                Err(Failure::client(Kind::Closed))
            }
            Ok(_) | Err(_) if self.backend.deadline.is_closed() => Err(Failure::backend(Kind::Drained, self.reused)),
            Ok(_) | Err(_) if self.backend.deadline.has_passed() => Err(Failure::backend(Kind::Timeout, self.reused)),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && !began => {
                Err(Failure::backend(Kind::Refused, self.reused))
            }
            Err(_) => Err(self.broken_off(began)),
        }
    }

    /// Looks now and then whether the client is still there, for as long as the backend alone is waited for.
    fn watch(&self) {
        self.client.deadline.watch(self.worker.clock.millis(), self.backend.stream.handle());
        if self.flow.has_answered() {
            self.backend.deadline.set(self.worker.after(self.request.claim.pool.timeouts.body), Ends::Both);
        }
    }

    /// Whether nothing is sent behind what has been taken of the body, so that it can go with the end of the connection.
    fn is_last(&self, begun: &Begun) -> bool {
        self.ends && !begun.keep_client && begun.body.is_done() && begun.switched.is_none()
    }

    async fn send(&self, mut out: Vec<u8>, is_last: bool) -> Result<(), Failure> {
        self.went(out.len());
        if is_last {
            out.drain(..self.client.stream.try_write_last(&out));
        }
        let (began, count) = (self.worker.clock.millis(), out.len());
        self.allow();
        let (result, out) = self.client.stream.give_vector(out).await;
        self.pace.moved(count, self.worker.clock.millis() - began);
        self.worker.buffers.give_back_vector(out);
        result.map_err(|_| self.client_gone())
    }

    async fn write(&self, buffer: &mut Buffer, mut count: usize, is_last: bool) -> Result<(), Failure> {
        self.went(count);
        if is_last {
            let written = self.client.stream.try_write_last(&buffer.bytes()[..count]);
            buffer.consume(written);
            count -= written;
        }
        self.allow();
        if self.flow.has_uploaded() {
            // While the client is slow to take it, the backend is not late.
            self.backend.deadline.clear();
        }
        let mut since = self.worker.clock.millis();
        let taken = |count| {
            let now = self.worker.clock.millis();
            self.pace.moved(count, now - std::mem::replace(&mut since, now));
            self.allow();
        };
        let (result, rest) = self.client.stream.write_front(std::mem::take(buffer), count, taken).await;
        *buffer = rest;
        result.map_err(|_| self.client_gone())
    }

    /// Has the client take more within the time that it still has.
    fn allow(&self) {
        self.client.deadline.set(self.worker.after(self.pace.wait()), Ends::Both);
    }

    fn went(&self, bytes: usize) {
        if let Some(entry) = &self.request.entry {
            entry.went(bytes);
        }
    }

    fn client_gone(&self) -> Failure {
        let (what, kind) = match self.client.deadline.has_passed() {
            true => (Dataplane::BodyTimeouts, Kind::Timeout),
            false => (Dataplane::ClientAborts, Kind::Closed),
        };
        self.worker.board().count(what);
        Failure::client(kind)
    }

    fn broken_off(&self, began: bool) -> Failure {
        Failure::backend(if began { Kind::CutShort } else { Kind::Closed }, self.reused)
    }

    fn bad_body(&self, bad: BadBody) -> Failure {
        tracing::debug!(?bad, "response body refused");
        self.malformed()
    }

    fn malformed(&self) -> Failure {
        self.count(BackendCount::BadResponses);
        Failure::backend(Kind::Malformed, self.reused)
    }

    fn count_read(&self, count: usize) {
        self.worker.board().add_backend(self.target.slot, BackendCount::BytesFromBackend, count as u64);
    }

    fn count(&self, what: BackendCount) {
        self.worker.board().count_backend(self.target.slot, what);
    }
}
