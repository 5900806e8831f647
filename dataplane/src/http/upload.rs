use super::{
    body::{BadBody, Body, Piece},
    client::Link,
    exchange::Flow,
    pace::Pace,
    request::Request,
};
use crate::{
    io::Buffer,
    pick::{Failure, Kind},
    worker::{Connection, Ends, Worker},
};
use control::counters::{BackendCount, Dataplane};

/// How forwarding a request's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    All,
    /// The backend takes no more; it may have answered all the same.
    Unwanted,
}

/// Puts what has been read of the body behind the head, so that one write carries both.
///
/// # Errors
/// Where the body is malformed or too large.
pub(super) fn prefix(
    worker: &Worker,
    buffer: &mut Buffer,
    request: &mut Request,
    body: &mut Body,
) -> Result<(), Failure> {
    if body.is_done() || buffer.is_empty() {
        return Ok(());
    }
    let piece = take(worker, buffer, request, body)?;
    request.head.extend_from_slice(&buffer.bytes()[..piece.send]);
    if let Some(entry) = &request.entry {
        entry.came(piece.send);
    }
    buffer.consume(piece.consumed);
    Ok(())
}

fn take(worker: &Worker, buffer: &mut Buffer, request: &Request, body: &mut Body) -> Result<Piece, Failure> {
    body.take(buffer.bytes_mut(), request.rules.body_limit).map_err(|bad| {
        worker.board().count(Dataplane::BadRequests);
        match bad {
            BadBody::TooLarge => Failure::client(Kind::TooLarge),
            BadBody::Chunk(bad) => {
                tracing::debug!(reason = bad.reason(), "request body refused");
                Failure::client(Kind::Malformed)
            }
        }
    })
}

/// What an upload moves between.
pub(super) struct Upload<'a> {
    pub(super) worker: &'a Worker,
    pub(super) client: &'a Link,
    pub(super) buffer: &'a mut Buffer,
    pub(super) backend: &'a Connection,
    pub(super) slot: u32,
    pub(super) request: &'a Request,
    pub(super) flow: &'a Flow,
    pub(super) pace: Pace,
}

impl Upload<'_> {
    /// Forwards what is to come of the body.
    ///
    /// # Errors
    /// Where the client fails: goes, stalls, or sends what is not a body.
    pub(super) async fn run(mut self, body: &mut Body) -> Result<Uploaded, Failure> {
        loop {
            let piece = take(self.worker, self.buffer, self.request, body)?;
            if piece.send > 0 && !self.write(piece.send).await {
                return Ok(Uploaded::Unwanted);
            }
            self.buffer.consume(piece.consumed - piece.send);
            if body.is_done() {
                break;
            }
            self.read().await?;
        }
        self.worker.buffers.narrow(self.buffer);
        self.flow.uploaded();
        match self.flow.has_answered() {
            false => {
                self.backend.deadline.set(self.worker.after(self.request.claim.pool.timeouts.response), Ends::Both)
            }
            // From here on whoever waits for more of the response sets it.
            true => self.backend.deadline.clear(),
        }
        Ok(Uploaded::All)
    }

    async fn write(&mut self, count: usize) -> bool {
        let allow = || self.backend.deadline.set(self.worker.after(self.request.claim.pool.timeouts.body), Ends::Both);
        allow();
        let (written, buffer) = self.backend.stream.write_front(std::mem::take(self.buffer), count, |_| allow()).await;
        *self.buffer = buffer;
        if let Some(entry) = &self.request.entry {
            entry.came(count);
        }
        self.worker.board().add_backend(self.slot, BackendCount::BytesToBackend, count as u64);
        written.is_ok()
    }

    async fn read(&mut self) -> Result<(), Failure> {
        self.worker.buffers.widen(self.buffer);
        // While the client is waited for, the backend has nothing to be late with.
        self.backend.deadline.clear();
        let began = self.worker.clock.millis();
        // Once there is an answer both sides may send when they have something to say.
        let (wait, ends) = match self.flow.has_answered() {
            true => (self.request.rules.timeouts.body, Ends::Both),
            false => (self.pace.wait(), Ends::Reading),
        };
        self.client.deadline.set(self.worker.after(wait), ends);
        match self.client.read(self.buffer).await {
            Ok(count) if count > 0 => {
                self.pace.moved(count, self.worker.clock.millis() - began);
                Ok(())
            }
            Ok(_) | Err(_) if self.client.deadline.has_passed() => {
                self.worker.board().count(Dataplane::BodyTimeouts);
                Err(Failure::client(Kind::Timeout))
            }
            Ok(_) | Err(_) => {
                self.worker.board().count(Dataplane::ClientAborts);
                Err(Failure::client(Kind::Closed))
            }
        }
    }
}
