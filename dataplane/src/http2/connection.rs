//! A client's connection: its settings, its streams, and its end.

use super::{
    SEND_BUFFER, STREAM_WINDOW, connection_window,
    frames::Frames,
    lanes,
    stream::{Common, Stream},
    wire::{End, Wire},
};
use crate::{
    io::{Buffer, Carried},
    tls::Accepted,
    worker::{Deadline, Ends, Worker},
};
use bytes::Bytes;
use control::{
    counters::Dataplane,
    spec::{Listener, Span},
};
use h2::{Reason, server};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

/// How long a client may take to read the last of what it was sent.
const LINGER: Span = Span::from_secs(2);

/// A connection, as its streams know it.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) common: Common,
    idle: Span,
    /// Requests that are served at once.
    most: usize,
    /// How many requests it may carry in all; 0 for as many as come.
    requests: u32,
    /// Requests that are being served. A stream that its client has taken back counts until nothing is left of it, so that
    /// nobody gets more done than by waiting for the answers.
    live: Cell<usize>,
    task: RefCell<Option<Waker>>,
}

/// Serves a client's connection to its end. `read` is what was read of it already.
pub(crate) async fn serve(worker: Rc<Worker>, listener: usize, accepted: Accepted, read: Buffer, peer: SocketAddr) {
    let Accepted { stream, subject } = accepted;
    let carried = Carried { is_tls: stream.is_tls(), local_address: stream.local_address() };
    let Some(settings) = worker.listener_at(listener).map(|at| worker.table.borrow().listeners[at].settings.clone())
    else {
        return;
    };
    worker.board().count(Dataplane::Http2Connections);
    let (body_timeout, body_rate) = (settings.timeouts.body, settings.limits.body_rate);
    let common = Common { listener, peer, subject, carried, body_timeout, body_rate };
    let connection = Rc::new(Connection {
        worker: Rc::clone(&worker),
        common,
        idle: settings.timeouts.idle,
        most: settings.limits.streams as usize,
        requests: settings.limits.requests_per_connection,
        live: Cell::new(0),
        task: RefCell::default(),
    });
    let deadline = worker.deadline(stream.handle());
    let wire = Wire::new(Frames::new(worker.clock.millis()));
    {
        let mut session = pin!(connection.session(&settings, &wire, &deadline));
        let mut reading = pin!(wire.read(&worker, &stream, read));
        let mut writing = pin!(wire.write(&stream));
        let (mut read, mut over, mut written) = (false, false, false);
        poll_fn(|context| {
            read = read || reading.as_mut().poll(context).is_ready();
            if !over && session.as_mut().poll(context).is_ready() {
                over = true;
                deadline.set(worker.after(LINGER), Ends::Both);
            }
            written = written || writing.as_mut().poll(context).is_ready();
            if over && written { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    stream.finish().await;
    stream.read_out(&worker.buffers).await;
    drop(deadline);
    drop(stream);
    connection.without_streams().await;
}

impl Connection {
    /// Takes requests until there are to be no more of them.
    async fn session(self: &Rc<Self>, settings: &Listener, wire: &Rc<Wire>, deadline: &Deadline) {
        let board = self.worker.board();
        deadline.set(self.worker.after(settings.timeouts.head), Ends::Both);
        let Ok(mut connection) = builder(settings).handshake::<_, Bytes>(End(Rc::clone(wire))).await else {
            return board.count(Dataplane::Http2Failed);
        };
        let watch = self.worker.drain.watch();
        let (mut leaving, mut condemned, mut idle, mut taken) = (false, false, false, 0);
        loop {
            let accepted = poll_fn(|context| {
                *self.task.borrow_mut() = Some(context.waker().clone());
                if self.live.get() == 0 && !idle {
                    deadline.set(self.worker.after(self.idle), Ends::Idle);
                }
                idle = self.live.get() == 0;
                if let Some(reason) = wire.verdict().filter(|_| !condemned) {
                    (leaving, condemned) = (true, true);
                    let is_flood = reason == Reason::ENHANCE_YOUR_CALM;
                    board.count(if is_flood { Dataplane::Http2Floods } else { Dataplane::Http2Failed });
                    connection.abrupt_shutdown(reason);
                } else if !leaving && idle && deadline.has_passed() {
                    leaving = true;
                    board.count(Dataplane::IdleClosed);
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                } else if !leaving && watch.has_begun(context) {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                match self.live.get() < self.most {
                    true => connection.poll_accept(context),
                    false => connection.poll_closed(context).map(|closed| closed.err().map(Err)),
                }
            })
            .await;
            match accepted {
                Some(Ok((request, respond))) => {
                    deadline.clear();
                    self.begin(request, respond);
                    taken += 1;
                    if taken == self.requests && !leaving {
                        leaving = true;
                        board.count(Dataplane::OverRequests);
                        connection.graceful_shutdown();
                    }
                }
                Some(Err(error)) if error.is_library() => {
                    tracing::debug!(%error, "connection refused");
                    return board.count(Dataplane::Http2Failed);
                }
                Some(Err(_)) | None => return,
            }
        }
    }

    fn begin(self: &Rc<Self>, request: http::Request<h2::RecvStream>, respond: server::SendResponse<Bytes>) {
        self.live.set(self.live.get() + 1);
        lanes::serve(Stream { connection: Rc::clone(self), request, respond });
    }

    /// One of its streams has been served.
    pub(super) fn served(&self) {
        self.live.set(self.live.get() - 1);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Waits for the end of the requests that are still being served.
    async fn without_streams(&self) {
        poll_fn(|context| {
            *self.task.borrow_mut() = Some(context.waker().clone());
            if self.live.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

fn builder(settings: &Listener) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(connection_window(settings.limits.streams))
        .max_concurrent_streams(settings.limits.streams)
        .max_header_list_size(settings.limits.head_bytes)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}
