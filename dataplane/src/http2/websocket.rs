//! WebSockets over a stream (RFC 8441): a CONNECT with a protocol becomes the handshake of HTTP/1.1, or that a CONNECT, and the
//! stream is open once it has been agreed to. Key and answer of the handshake (RFC 6455 section 4) are between us and who
//! speaks HTTP/1.1.

use crate::worker::Worker;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use h2::ext::Protocol;
use http::{HeaderName, Method, Request, request::Parts};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Makes the handshake a CONNECT.
pub(super) fn connect(request: &mut Request<()>) {
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().remove(HeaderName::from_static("sec-websocket-key"));
}

/// A handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake {
    key: Box<[u8]>,
    is_open: Cell<bool>,
    upload: RefCell<Option<Waker>>,
}

impl Handshake {
    pub(super) fn begin(worker: &Worker) -> Self {
        let random = [worker.clock.random(), worker.clock.random()].map(u64::to_be_bytes);
        Self::of(STANDARD.encode(random.concat()).as_bytes())
    }

    /// One that began with this key.
    pub(super) fn of(key: &[u8]) -> Self {
        Self { key: key.into(), is_open: Cell::new(false), upload: RefCell::default() }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The answer to the key.
    pub(super) fn answer(&self) -> String {
        let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.key(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
        STANDARD.encode(hashed)
    }

    /// Says that both sides have agreed.
    pub(super) fn open(&self) {
        self.is_open.set(true);
        if let Some(waker) = self.upload.take() {
            waker.wake();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Waits for that. What a client sends before must never be read as its next request.
    pub(super) async fn opened(&self) {
        poll_fn(|context| match self.is_open.get() {
            true => Poll::Ready(()),
            false => {
                *self.upload.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        let handshake = Handshake::of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(handshake.answer(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
