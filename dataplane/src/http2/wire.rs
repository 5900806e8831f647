//! What `h2` reads from and writes to, and the two waits that move it over a connection. The only place that knows the
//! traits which `h2` asks for.

use super::frames::Frames;
use crate::{
    io::{Stream, Way},
    worker::Worker,
};
use h2::Reason;
use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a connection, on their way between it and `h2`.
#[derive(Debug)]
pub(super) struct Wire {
    inward: Way,
    outward: Way,
    /// What the peer's frames are judged by.
    frames: RefCell<Frames>,
    verdict: Cell<Option<Reason>>,
}

/// So many bytes at most lie ready to be sent: a few of the largest records.
const SENDING: usize = 64 << 10;
/// And so many have been read and not been looked at.
const READ: usize = 16 << 10;

impl Wire {
    pub(super) fn new(frames: Frames) -> Rc<Self> {
        Rc::new(Self {
            inward: Way::new(READ),
            outward: Way::new(SENDING),
            frames: RefCell::new(frames),
            verdict: Cell::new(None),
        })
    }

    /// Why the connection is to end, where the peer's frames say so.
    pub(super) fn verdict(&self) -> Option<Reason> {
        self.verdict.get()
    }

    /// Notes that a request is sent to the peer.
    pub(super) fn asks(&self) {
        self.frames.borrow_mut().asked();
    }

    /// Moves what comes, beginning with `read`, to the end of the connection. The peer is judged by it, and who sends many
    /// frames at once has others served between them.
    pub(super) async fn read(&self, worker: &Worker, stream: &Stream, mut read: crate::io::Buffer) {
        'open: loop {
            let mut bytes = read.bytes();
            while !bytes.is_empty() {
                let (count, verdict) = self.frames.borrow_mut().came(bytes, worker.clock.millis());
                self.verdict.set(verdict);
                let (turn, rest) = bytes.split_at(count);
                if self.inward.write(turn).await.is_err() {
                    break 'open;
                }
                if verdict.is_some() {
                    // Nothing more is read; what ends it waits for no more either.
                    return std::future::pending().await;
                }
                bytes = rest;
                if !bytes.is_empty() {
                    worker.beat.pass().await;
                }
            }
            read.clear();
            let result;
            (result, read) = stream.read(read).await;
            if !result.is_ok_and(|count| count > 0) {
                break;
            }
        }
        worker.buffers.give_back(read);
        self.inward.end();
    }

    /// Moves what is to be sent until there is no more of it.
    pub(super) async fn write(&self, stream: &Stream) {
        let mut bytes = Vec::new();
        while self.outward.take(&mut bytes).await {
            self.frames.borrow_mut().went(bytes.len());
            let (result, sent) = stream.write_vector(bytes).await;
            if result.is_err() {
                break;
            }
            bytes = sent;
            bytes.clear();
        }
        self.outward.close();
    }
}

/// The end of `h2`.
pub(super) struct End(pub(super) Rc<Wire>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nothing is zeroed before it is written.
        let taken = self.0.inward.poll_pass(context, |bytes| {
            let count = bytes.len().min(room.remaining());
            room.put_slice(&bytes[..count]);
            count
        });
        taken.map(|_| Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.outward.poll_write(context, bytes)
    }

    /// What was taken goes as soon as the connection lets it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.outward.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.outward.end();
        self.0.inward.close();
    }
}
