//! A client's connection, from its first byte on: what is spoken on it.

use crate::{
    http::{self, Client},
    http2,
    io::Stream,
    proxy, tcp, tls,
    worker::Open,
};
use control::spec::Protocol;
use std::{net::SocketAddr, rc::Rc};

/// Serves a client's connection to its end.
pub(crate) async fn serve(mut open: Open, stream: Stream, peer: SocketAddr) {
    let Some(peer) = proxy::receive(&open.worker, open.listener, &stream, peer).await else { return };
    if !open.count_for(peer.ip()) {
        return;
    }
    let (worker, listener) = (&open.worker, open.listener);
    let Some(accepted) = tls::accept(worker, listener, stream).await else { return };
    match worker.protocol(listener) {
        Some(Protocol::Http) if accepted.stream.has_agreed_on(tls::HTTP2) => {
            let read = worker.buffers.buffer();
            Box::pin(http2::serve(Rc::clone(worker), listener, accepted, read, peer)).await;
        }
        // In a task as small as can be, for most of these connections wait most of the time.
        Some(Protocol::Http) => {
            let client = Box::new(Client::new(worker, listener, accepted, peer));
            drop(monoio::spawn(requests(open, client)));
        }
        Some(Protocol::Tcp) => Box::pin(tcp::serve(worker, listener, accepted.stream, peer)).await,
        // Its listener is gone since it was accepted.
        None => {}
    }
}

/// Serves HTTP/1.1; or HTTP/2, where that is what a client begins with.
async fn requests(open: Open, client: Box<Client>) {
    let worker = &open.worker;
    if let Some((accepted, read, peer)) = http::serve(worker, client).await {
        Box::pin(http2::serve(Rc::clone(worker), open.listener, accepted, read, peer)).await;
    }
}

/// Lets go of what was kept for connections that may come and was not needed for a while; whether that was anything.
pub(crate) fn trim() -> bool {
    http::trim() | http2::trim()
}
