//! A client's connection, from its first byte on: what is spoken on it.

use crate::{http, io::Stream, proxy, tcp, tls, worker::Worker};
use control::spec::Protocol;
use std::{net::SocketAddr, rc::Rc};

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, listener: usize, stream: Stream, peer: SocketAddr) {
    let worker = &*worker;
    let Some(peer) = proxy::receive(worker, listener, &stream, peer).await else { return };
    let Some(accepted) = tls::accept(worker, listener, stream).await else { return };
    match worker.protocol(listener) {
        Some(Protocol::Http) => http::serve(worker, listener, accepted, peer).await,
        // On the heap, so that connections of HTTP have no room for it.
        Some(Protocol::Tcp) => Box::pin(tcp::serve(worker, listener, accepted.stream, peer)).await,
        // Its listener is gone since it was accepted.
        None => {}
    }
}
