//! Connections to backends, each shared by the requests of a worker.

use super::{
    SEND_BUFFER, STREAM_WINDOW, call, connection_window,
    frames::Frames,
    wire::{End, Wire},
};
use crate::{
    io::{Carried, Stream, pipe, within},
    pick::{Claim, Failure, Kind, Target, open},
    tls::HTTP2,
    worker::{Connection, Deadline, Ends, Worker},
};
use bytes::Bytes;
use control::Endpoint;
use control::spec::Span;
use h2::{
    Ping, PingPong,
    client::{self, SendRequest},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
};

/// Requests at once on one connection, where the backend says nothing else.
const STREAMS: u32 = 100;
/// How long a backend may take to read the last of what it was sent.
const LINGER: Span = Span::from_secs(2);

/// A connection to a backend, as it is known to those who use it.
pub(crate) struct Upstream {
    address: Endpoint,
    is_tls: bool,
    wire: Rc<Wire>,
    state: RefCell<State>,
    /// Requests under way.
    live: Cell<usize>,
    has_answered: Cell<bool>,
    /// Absent where it has been asked already whether the backend's settings have come.
    pings: RefCell<Option<PingPong>>,
    has_settled: Cell<bool>,
    /// The task that moves its bytes, and those that wait until it is open.
    waiting: RefCell<Vec<Waker>>,
}

enum State {
    Opening,
    Open(SendRequest<Bytes>),
    /// It could not be opened.
    Failed(Failure),
    /// No request is begun on it any more.
    Closed,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).field("live", &self.live).finish_non_exhaustive()
    }
}

/// A connection for one request to the backend, within one that is open or is opened for it; and whether that has served
/// before. With `fresh` it has not.
///
/// # Errors
/// Where none can be opened.
pub(crate) async fn connect(
    worker: &Worker,
    claim: &Claim,
    target: &Target,
    fresh: bool,
) -> Result<(Connection, bool), Failure> {
    loop {
        let known =
            worker.backends.shared(target.slot, |each| each.takes(target) && !(fresh && each.has_answered.get()));
        let upstream = match known {
            Some(upstream) => upstream,
            None => {
                let upstream = Rc::new(Upstream::new(worker, target));
                worker.backends.share(target.slot, &upstream);
                let opened = Opening(&upstream);
                match begin(worker, claim, target, &upstream).await {
                    Ok(()) => drop(opened),
                    Err(failure) => {
                        *upstream.state.borrow_mut() = State::Failed(failure);
                        worker.backends.unshare(target.slot, &upstream);
                        return Err(failure);
                    }
                }
                upstream
            }
        };
        // Those who wait with us find it open, or what came of it.
        if within(claim.pool.timeouts.connect.to_std(), upstream.opened()).await.is_none() {
            return Err(Failure::backend(Kind::ConnectTimeout, false));
        }
        if let State::Failed(failure) = *upstream.state.borrow() {
            return Err(failure);
        }
        if upstream.takes(target) {
            return Ok((upstream.begin(worker, target), upstream.has_answered.get()));
        }
    }
}

/// Opens the connection, and has its bytes moved.
async fn begin(worker: &Worker, claim: &Claim, target: &Target, upstream: &Rc<Upstream>) -> Result<(), Failure> {
    let stream = open(worker, claim, target).await?;
    if target.is_tls && !stream.has_agreed_on(HTTP2) {
        tracing::debug!("the backend does not speak HTTP/2");
        return Err(Failure::backend(Kind::Handshake, false));
    }
    let deadline = worker.deadline(stream.handle()).leads_to(target.slot);
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(STREAMS))
        .initial_max_send_streams(STREAMS as usize)
        .max_header_list_size(u32::try_from(worker.buffers.size()).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    let shaken = builder.handshake::<_, Bytes>(End(Rc::clone(&upstream.wire))).await;
    let (sender, mut connection) = shaken.map_err(|_| Failure::backend(Kind::Connect, false))?;
    *upstream.state.borrow_mut() = State::Open(sender);
    *upstream.pings.borrow_mut() = connection.ping_pong();
    let (worker, upstream, idle) = (worker.own(), Rc::clone(upstream), claim.pool.timeouts.idle);
    let slot = target.slot;
    monoio::spawn(async move {
        upstream.drive(&worker, (stream, deadline), connection, idle).await;
        worker.backends.unshare(slot, &upstream);
    });
    Ok(())
}

/// Whatever comes of an opening, those who wait for it go on.
struct Opening<'a>(&'a Upstream);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        if matches!(*state, State::Opening) {
            *state = State::Closed;
        }
        drop(state);
        self.0.wake();
    }
}

impl Upstream {
    fn new(worker: &Worker, target: &Target) -> Self {
        Self {
            address: target.address.clone(),
            is_tls: target.is_tls,
            wire: Wire::new(Frames::of_backend(worker.clock.millis())),
            state: RefCell::new(State::Opening),
            live: Cell::new(0),
            has_answered: Cell::new(false),
            pings: RefCell::default(),
            has_settled: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    pub(crate) fn address(&self) -> &Endpoint {
        &self.address
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Begins no more requests on it; it closes when those under way have ended.
    pub(crate) fn close(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Open(_)) {
            *state = State::Closed;
        }
        drop(state);
        self.wake();
    }

    /// Whether another request to the target may be begun on it, or will once it is open.
    fn takes(&self, target: &Target) -> bool {
        let has_room = match &*self.state.borrow() {
            State::Opening => true,
            State::Open(sender) => self.live.get() < sender.current_max_send_streams().clamp(1, STREAMS as usize),
            State::Failed(_) | State::Closed => false,
        };
        (&self.address, self.is_tls) == (&target.address, target.is_tls) && has_room
    }

    /// Waits until it is open, or will not be.
    async fn opened(&self) {
        poll_fn(|context| match *self.state.borrow() {
            State::Opening => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            State::Open(_) | State::Failed(_) | State::Closed => Poll::Ready(()),
        })
        .await;
    }

    /// Whether the backend takes WebSockets over streams, which its settings say (RFC 8441 section 3).
    pub(super) async fn takes_websockets(self: &Rc<Self>, sender: &SendRequest<Bytes>) -> bool {
        if !sender.is_extended_connect_protocol_enabled() {
            self.settled().await;
        }
        sender.is_extended_connect_protocol_enabled()
    }

    /// Waits until the backend's settings have come: they stand before its answer to a ping.
    async fn settled(self: &Rc<Self>) {
        if let Some(mut pings) = self.pings.take() {
            let upstream = Rc::clone(self);
            monoio::spawn(async move {
                // Where no answer comes, the connection has ended.
                drop(pings.ping(Ping::opaque()).await);
                upstream.has_settled.set(true);
                upstream.wake();
            });
        }
        poll_fn(|context| match self.has_settled.get() {
            true => Poll::Ready(()),
            false => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// What begins requests; `None` where there are to be no more.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        match &*self.state.borrow() {
            State::Open(sender) => Some(sender.clone()),
            State::Opening | State::Failed(_) | State::Closed => None,
        }
    }

    pub(super) fn has_answered(&self) {
        self.has_answered.set(true);
    }

    fn begin(self: &Rc<Self>, worker: &Worker, target: &Target) -> Connection {
        let (stream, far) = pipe(Carried { is_tls: self.is_tls, local_address: None });
        let (worker, upstream) = (worker.own(), Rc::clone(self));
        let deadline = worker.deadline(stream.handle()).leads_to(target.slot);
        upstream.live.set(upstream.live.get() + 1);
        upstream.wire.asks();
        monoio::spawn(async move {
            call::serve(&worker, &upstream, far).await;
            upstream.live.set(upstream.live.get() - 1);
            upstream.wake();
        });
        Connection { deadline, stream, address: target.address.clone() }
    }

    /// Moves the connection's bytes to its end.
    async fn drive(
        &self,
        worker: &Rc<Worker>,
        (stream, deadline): (Stream, Deadline),
        connection: client::Connection<End, Bytes>,
        idle: Span,
    ) {
        let mut connection = Some(connection);
        let mut reading = pin!(self.wire.read(worker, &stream, worker.buffers.buffer()));
        let mut writing = pin!(self.wire.write(&stream));
        let watch = worker.drain.watch();
        let (mut read, mut written, mut is_idle) = (false, false, false);
        poll_fn(|context| {
            self.waiting.borrow_mut().push(context.waker().clone());
            if watch.has_begun(context) {
                *self.state.borrow_mut() = State::Closed;
            }
            read = read || reading.as_mut().poll(context).is_ready();
            if let Some(open) = &mut connection {
                match (self.live.get(), is_idle) {
                    (0, false) => deadline.set(worker.after(idle), Ends::Both),
                    (1.., true) => deadline.clear(),
                    _ => {}
                }
                is_idle = self.live.get() == 0;
                let verdict = self.wire.verdict();
                if let Some(reason) = verdict {
                    tracing::debug!(address = ?self.address, %reason, "left a backend for its frames");
                }
                if verdict.is_some() || Pin::new(open).poll(context).is_ready() {
                    *self.state.borrow_mut() = State::Closed;
                    // What is under way on it ends with it.
                    connection = None;
                    deadline.set(worker.after(LINGER), Ends::Both);
                }
            }
            written = written || writing.as_mut().poll(context).is_ready();
            if connection.is_none() && written { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
