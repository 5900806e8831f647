use super::header::{Parsed, belongs, parse};
use crate::{
    io::Stream,
    worker::{Ends, Worker},
};
use control::counters::Dataplane;
use std::net::SocketAddr;

/// Whose the connection is that `peer` has opened: who it says, where it is a proxy that has to; `None` where nobody is to
/// be served. No byte is read of what follows the header.
pub(crate) async fn receive(worker: &Worker, listener: usize, stream: &Stream, peer: SocketAddr) -> Option<SocketAddr> {
    let timeout = {
        let table = worker.table.borrow();
        let settings = &table.listeners[worker.listener_at(listener)?].settings;
        if !settings.proxy_protocol.iter().any(|range| range.contains(peer.ip())) {
            return Some(peer);
        }
        settings.timeouts.head
    };
    let deadline = worker.deadline(stream.handle());
    deadline.set(worker.after(timeout), Ends::Both);
    // On the heap, so that connections without a header have no room for it.
    let told = Box::pin(read(stream)).await;
    if told.is_none() {
        worker.board().count(Dataplane::ProxyRefused);
        stream.reset_on_close();
        tracing::debug!(%peer, "no header of the PROXY protocol");
    }
    told.map(|source| source.unwrap_or(peer))
}

async fn read(stream: &Stream) -> Option<Option<SocketAddr>> {
    let (mut header, mut ahead) = (Vec::with_capacity(64), [0; 256]);
    loop {
        stream.readable().await;
        let count = match stream.peek(&mut ahead) {
            Ok(Some(count)) if count > 0 => count,
            Ok(None) => continue,
            Ok(Some(_)) | Err(_) => return None,
        };
        let next = &ahead[..count];
        let taken = stream.pass_over(belongs(&header, next)).ok()?;
        header.extend_from_slice(&next[..taken]);
        match parse(&header) {
            Parsed::Partial if taken > 0 => {}
            Parsed::Complete(source) => return Some(source),
            Parsed::Partial | Parsed::Bad => return None,
        }
    }
}
