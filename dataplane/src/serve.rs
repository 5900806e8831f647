//! A client's connection, from its first byte on: what is spoken on it.

use crate::{http, http2, io::Stream, proxy, tcp, tls, worker::Worker};
use control::spec::Protocol;
use std::{net::SocketAddr, rc::Rc};

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, listener: usize, stream: Stream, peer: SocketAddr) {
    let Some(peer) = proxy::receive(&worker, listener, &stream, peer).await else { return };
    let Some(accepted) = tls::accept(&worker, listener, stream).await else { return };
    // What is on the heap is so that connections of HTTP/1.1 have no room for it.
    match worker.protocol(listener) {
        Some(Protocol::Http) if accepted.stream.has_agreed_on(tls::HTTP2) => {
            let read = worker.buffers.buffer();
            Box::pin(http2::serve(worker, listener, accepted, read, peer)).await;
        }
        Some(Protocol::Http) => {
            if let Some((accepted, read)) = http::serve(&worker, listener, accepted, peer).await {
                Box::pin(http2::serve(worker, listener, accepted, read, peer)).await;
            }
        }
        Some(Protocol::Tcp) => Box::pin(tcp::serve(&worker, listener, accepted.stream, peer)).await,
        // Its listener is gone since it was accepted.
        None => {}
    }
}
