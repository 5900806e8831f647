//! One direction of a tunnel.

use super::{Side, Tunnel, Who, websocket::Frames, websocket::going_away};
use crate::{
    io::{Buffer, within},
    worker::{Seat, Worker},
};
use control::{counters::BackendCount, spec::Span};
use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

/// Why a direction moves nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its source has ended, and its destination knows.
    Ended,
    /// The tunnel was told to end, and its destination knows.
    Told,
    /// This side can be neither read nor written.
    Broken(Who),
}

/// Whose close frames have passed.
#[derive(Debug, Default)]
pub(super) struct Farewells([Cell<bool>; 2]);

impl Farewells {
    fn of(&self, who: Who) -> &Cell<bool> {
        &self.0[usize::from(who == Who::Backend)]
    }

    fn said(&self, who: Who) -> bool {
        self.of(who).get()
    }

    fn say(&self, who: Who) {
        self.of(who).set(true);
    }
}

pub(super) struct Pump<'t> {
    worker: &'t Worker,
    seat: &'t Seat<'t>,
    from: Side<'t>,
    to: Side<'t>,
    source: Who,
    /// The backend's.
    slot: u32,
    frames: Option<Frames>,
    /// Which side has ended first.
    first: &'t Cell<Option<Who>>,
    farewells: &'t Farewells,
    tunnel: &'t Tunnel<'t>,
    /// Pieces that went without a wait.
    at_once: u32,
}

/// How long a backend may take to end a stream on which both sides have said that they close.
const PARTING: Span = Span::from_millis(250);

/// Pieces that may go one after the other without giving way to others.
const AT_ONCE: u32 = 16;

impl<'t> Pump<'t> {
    pub(super) fn new(
        tunnel: &'t Tunnel<'t>,
        source: Who,
        seat: &'t Seat<'t>,
        slot: u32,
        (first, farewells): (&'t Cell<Option<Who>>, &'t Farewells),
    ) -> Self {
        let (from, to) = match source {
            Who::Client => (tunnel.client, tunnel.backend),
            Who::Backend => (tunnel.backend, tunnel.client),
        };
        let frames = tunnel.is_websocket.then(Frames::default);
        Self { worker: tunnel.worker, seat, from, to, source, slot, frames, first, farewells, tunnel, at_once: 0 }
    }

    fn destination(&self) -> Who {
        match self.source {
            Who::Client => Who::Backend,
            Who::Backend => Who::Client,
        }
    }

    /// Moves what is `held`, and then what comes.
    pub(super) async fn run(mut self, mut held: Buffer) -> Stop {
        let stop = self.pass(&mut held).await;
        self.worker.buffers.give_back(held);
        stop
    }

    async fn pass(&mut self, held: &mut Buffer) -> Stop {
        // A read that left room found all that there was: to read again before there is more would be in vain.
        let mut emptied = true;
        loop {
            if !held.is_empty() {
                let count = self.piece(held.bytes());
                if !self.write(held, count).await {
                    return Stop::Broken(self.destination());
                }
                // What follows the last whole frame is not sent any more.
                held.clear();
            }
            self.note_close().await;
            if self.is_to_stop() {
                return if self.part().await { Stop::Told } else { Stop::Broken(self.destination()) };
            }
            if emptied {
                self.worker.buffers.give_back(std::mem::take(held));
                if self.have_parted() {
                    if self.source == Who::Client {
                        return Stop::Ended;
                    }
                    if !self.still_comes().await {
                        self.end().await;
                        return Stop::Ended;
                    }
                } else {
                    self.wait().await;
                    if self.is_to_stop() || self.have_parted() {
                        continue;
                    }
                }
                *held = self.worker.buffers.buffer();
            }
            self.worker.buffers.widen(held);
            match self.from.stream.try_read(held) {
                Ok(Some(0)) => {
                    self.end().await;
                    return Stop::Ended;
                }
                Ok(Some(_)) => emptied = !held.is_full(),
                Ok(None) => emptied = true,
                Err(_) => return Stop::Broken(self.source),
            }
        }
    }

    /// How many of these bytes go on: all, unless the tunnel is to end and a frame ends among them.
    fn piece(&mut self, bytes: &[u8]) -> usize {
        let is_told = self.seat.told().is_some();
        let Some(frames) = &mut self.frames else { return bytes.len() };
        let before = *frames;
        match frames.pass(bytes) {
            Some(end) if is_told => {
                *frames = before;
                frames.pass(&bytes[..end]);
                end
            }
            _ => bytes.len(),
        }
    }

    /// Whether the tunnel is to end, and may here.
    fn is_to_stop(&self) -> bool {
        self.seat.told().is_some() && self.frames.as_ref().is_none_or(Frames::is_between)
    }

    /// Tells the other direction that a close frame has gone this way.
    async fn note_close(&self) {
        if self.frames.as_ref().is_some_and(Frames::have_closed) && !self.farewells.said(self.source) {
            self.farewells.say(self.source);
            // It may have been polled before this one.
            poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Whether both sides have closed a WebSocket whose backend has it over a stream.
    fn have_parted(&self) -> bool {
        let both = || [Who::Client, Who::Backend].into_iter().all(|who| self.farewells.said(who));
        self.tunnel.backend.stream.is_http2() && both()
    }

    /// Whether a backend says more once both sides have closed. Its client waits for it to end the connection (RFC 6455
    /// section 7.1.1), and so do we; but not every server ends a stream, and then we do.
    async fn still_comes(&self) -> bool {
        within(PARTING.to_std(), self.from.stream.readable()).await.is_some()
    }

    /// Waits until there is something to read or the tunnel is to end. To give up the wait loses nothing.
    async fn wait(&self) {
        let mut readable = pin!(self.from.stream.readable());
        poll_fn(|context| match self.is_to_stop() || self.have_parted() {
            true => Poll::Ready(()),
            false => readable.as_mut().poll(context),
        })
        .await;
    }

    async fn write(&mut self, held: &mut Buffer, count: usize) -> bool {
        let written = self.write_all(held, count).await;
        self.seat.moved(self.worker.clock.millis());
        let counts = match self.source {
            Who::Client => [BackendCount::BytesToBackend, BackendCount::TunnelBytesToBackend],
            Who::Backend => [BackendCount::BytesFromBackend, BackendCount::TunnelBytesFromBackend],
        };
        for what in counts {
            self.worker.board().add_backend(self.slot, what, count as u64);
        }
        match (self.tunnel.entry, self.source) {
            (Some(entry), Who::Client) => entry.came(count),
            (Some(entry), Who::Backend) => entry.went(count),
            (None, _) => {}
        }
        written
    }

    /// Writes at once what goes at once, which spares a small message the way through the ring; but now and then all by the
    /// ring, so that others get their turn beside one that is always ready.
    async fn write_all(&mut self, held: &mut Buffer, count: usize) -> bool {
        self.at_once += 1;
        let written = match self.at_once {
            AT_ONCE.. => {
                self.at_once = 0;
                Ok(0)
            }
            _ => self.to.stream.try_write_front(held, count),
        };
        match written {
            Ok(written) if written == count => true,
            Ok(written) => {
                let (result, rest) = self.to.stream.write_front(std::mem::take(held), count - written, |_| {}).await;
                *held = rest;
                result.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Passes on that the source has ended.
    async fn end(&self) {
        self.first.set(self.first.get().or(Some(self.source)));
        self.to.stream.finish().await;
        self.seat.shorten(self.tunnel.half_closed);
    }

    /// Says that nothing more comes, in the words of the protocol where it has any.
    async fn part(&self) -> bool {
        let mut said = true;
        if self.frames.as_ref().is_some_and(Frames::takes_close) {
            let mut out = self.worker.buffers.vector();
            let random = self.worker.clock.random().to_be_bytes();
            let mask = [random[0], random[1], random[2], random[3]];
            going_away((self.source == Who::Client).then_some(mask), &mut out);
            let (written, out) = self.to.stream.write_vector(out).await;
            self.worker.buffers.give_back_vector(out);
            said = written.is_ok();
        }
        if !self.tunnel.ends_by_server(self.destination()) {
            self.to.stream.finish().await;
        }
        said
    }
}
