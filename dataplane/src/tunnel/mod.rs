//! Tunnels: bytes both ways between a client and a backend, whatever they mean.
//!
//! An idle tunnel holds no buffer: it waits until there is something to read, and takes one from the worker's spare memory
//! only then. A busy one holds at most one for each direction, and reads no more before that has been written, so that a
//! slow side holds back the other. The end of one side is passed on to the other, which may go on; the tunnel is over when
//! both have ended, one has broken, or it is told to end.
//!
//! Who tells it, and when it has been idle for too long, is in [`crate::worker`]; see [`Told`].

mod pump;
mod websocket;

use crate::{
    access_log::{By, Entry},
    counters::InFlight,
    io::{Buffer, Stream},
    worker::{Deadline, Ends, Seat, Seated, Told, Worker},
};
use control::{counters::BackendCount, spec::Span};
use pump::{Farewells, Pump, Stop};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

/// How long a tunnel that is told to end may take to come to the end of a frame, and to write what it holds.
const GRACE: Span = Span::from_secs(2);
/// How long a peer may take to read what it was sent last before its connection is closed upon what it still sends.
const LINGER: Span = Span::from_secs(2);
/// What closing a tunnel may take, from when it is told to.
pub(crate) const CLOSING: Span = Span::from_secs(4);

/// One end of a tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) stream: &'a Stream,
    /// Set only while the tunnel is being closed.
    pub(crate) deadline: &'a Deadline,
}

/// What bytes are moved between.
#[derive(Clone, Copy)]
pub(crate) struct Tunnel<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) client: Side<'a>,
    pub(crate) backend: Side<'a>,
    /// How long it may stay open without a byte moving once one of its sides has ended.
    pub(crate) half_closed: Span,
    /// Both sides speak the protocol of WebSockets, so that they can be told that it ends.
    pub(crate) is_websocket: bool,
    /// What is written down of it.
    pub(crate) entry: Option<&'a Entry>,
}

/// Counts a tunnel in while it is open.
struct Open<'a>([&'a InFlight; 2]);

impl<'a> Open<'a> {
    fn enter(worker: &'a Worker, seated: &Seated) -> Self {
        let board = worker.board();
        board.count_backend(seated.backend, BackendCount::TunnelsOpened);
        let both = [&board.pool(seated.pool).tunnels, &board.backend(seated.backend).tunnels];
        both.into_iter().for_each(InFlight::enter);
        Self(both)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(InFlight::leave);
    }
}

/// A side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Backend,
}

/// How a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides have ended in order, this one first.
    Closed(Who),
    Broken(Who),
    Told(Told),
}

impl End {
    fn counts(self) -> BackendCount {
        match self {
            Self::Closed(Who::Client) => BackendCount::TunnelsClosedClient,
            Self::Closed(Who::Backend) => BackendCount::TunnelsClosedBackend,
            Self::Broken(Who::Client) => BackendCount::TunnelsBrokenClient,
            Self::Broken(Who::Backend) => BackendCount::TunnelsBrokenBackend,
            Self::Told(Told::Idle) => BackendCount::TunnelsIdle,
            Self::Told(Told::Drained) => BackendCount::TunnelsDrained,
            Self::Told(Told::Stopped) => BackendCount::TunnelsStopped,
        }
    }
}

impl End {
    /// As the access log has it: in order, or why not.
    fn told(self) -> (By, &'static str) {
        let side = |who| if who == Who::Client { By::Client } else { By::Backend };
        match self {
            Self::Closed(who) => (side(who), ""),
            Self::Broken(who) => (side(who), "the connection broke"),
            Self::Told(Told::Idle) => (By::Us, "nothing moved for too long"),
            Self::Told(Told::Drained) => (By::Us, "closed at the end of its drain"),
            Self::Told(Told::Stopped) => (By::Us, "the data plane stops"),
        }
    }
}

impl Tunnel<'_> {
    /// Moves bytes until the tunnel ends. What has been read already goes first.
    pub(crate) async fn run(self, seated: Seated, from_client: Buffer, from_backend: Buffer) {
        // It counts as open until both connections are closed.
        let _open = Open::enter(self.worker, &seated);
        let seat = self.worker.seat(seated);
        for side in [&self.client, &self.backend] {
            side.deadline.clear();
        }
        let end = self.both(&seat, seated.backend, from_client, from_backend).await;
        self.worker.board().count_backend(seated.backend, end.counts());
        if let Some(entry) = self.entry {
            let (by, why) = end.told();
            entry.ended(by, why);
        }
        drop(seat);
        if !matches!(end, End::Closed(_)) {
            self.part(end).await;
        }
    }

    async fn both(&self, seat: &Seat<'_>, slot: u32, from_client: Buffer, from_backend: Buffer) -> End {
        let (first, farewells) = (Cell::new(None), Farewells::default());
        let up = Pump::new(self, Who::Client, seat, slot, (&first, &farewells));
        let down = Pump::new(self, Who::Backend, seat, slot, (&first, &farewells));
        let (mut up, mut down) = (pin!(up.run(from_client)), pin!(down.run(from_backend)));
        let (mut up_stopped, mut down_stopped) = (None, None);
        let mut told = false;
        let broken = poll_fn(|context| {
            seat.wakes(context.waker());
            if !told && seat.told().is_some() {
                told = true;
                self.limit(GRACE);
            }
            let stopped = [
                stop(&mut up_stopped, context, |context| up.as_mut().poll(context)),
                stop(&mut down_stopped, context, |context| down.as_mut().poll(context)),
            ];
            match stopped {
                [Some(Stop::Broken(who)), _] | [_, Some(Stop::Broken(who))] => Poll::Ready(Some(who)),
                [Some(_), Some(_)] => Poll::Ready(None),
                _ => Poll::Pending,
            }
        })
        .await;
        match (seat.told(), broken) {
            (Some(told), _) => End::Told(told),
            (None, Some(who)) => End::Broken(who),
            // Neither stops by itself without an end of one side.
            (None, None) => End::Closed(first.get().unwrap_or(Who::Client)),
        }
    }

    /// Whether the last that this side is sent is a close frame, and the end of the stream is left to it or to a reset: some
    /// servers take the end of one that they have closed for an error of its connection.
    fn ends_by_server(&self, who: Who) -> bool {
        who == Who::Backend && self.is_websocket && self.backend.stream.is_http2()
    }

    /// Closes both connections at the latest after so long.
    fn limit(&self, span: Span) {
        for side in [&self.client, &self.backend] {
            side.deadline.set(self.worker.after(span), Ends::Both);
        }
    }

    /// Lets both sides read to the end what they were sent: to close upon input that nobody has read would reset the
    /// connection and take that away.
    async fn part(&self, end: End) {
        self.limit(LINGER);
        for (who, side) in [(Who::Client, &self.client), (Who::Backend, &self.backend)] {
            if end == End::Broken(who) {
                side.stream.cut();
                continue;
            }
            if !self.ends_by_server(who) {
                side.stream.finish().await;
            }
        }
        for side in [&self.client, &self.backend] {
            side.stream.read_out(&self.worker.buffers).await;
        }
    }
}

/// Polls what has not stopped yet.
fn stop(
    stopped: &mut Option<Stop>,
    context: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<Stop>,
) -> Option<Stop> {
    if stopped.is_none()
        && let Poll::Ready(stop) = poll(context)
    {
        *stopped = Some(stop);
    }
    *stopped
}

const _: () = assert!(CLOSING.as_millis() >= GRACE.as_millis() + LINGER.as_millis(), "what it says it takes");
