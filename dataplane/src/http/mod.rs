//! The exchange: one request with its response, from a client's connection to a backend's and back.

mod attendant;
mod body;
mod carried;
mod client;
mod download;
mod exchange;
mod follow;
mod marked;
mod pace;
mod request;
mod status;
mod upgraded;
mod upload;
mod watch;

pub(crate) use attendant::trim;
pub(crate) use body::{BadBody, Body, Piece};
pub(crate) use client::Client;
pub(crate) use pace::Pace;

use crate::{
    http1::{Reply, Status},
    io::{Buffer, Interrupt},
    tls::Accepted,
    worker::Worker,
};
use attendant::{Left, attend};
use client::Next;
use exchange::After;
use std::{net::SocketAddr, rc::Rc};

/// Serves a client's connection to its end; or gives it back with what was read of it, and its peer, where the client speaks
/// HTTP/2.
pub(crate) async fn serve(worker: &Rc<Worker>, mut client: Box<Client>) -> Option<(Accepted, Buffer, SocketAddr)> {
    while client.comes(worker).await {
        match attend(worker, client).await {
            Left::Waits(back) => client = back,
            Left::Over => break,
            Left::Http2(client) => return Some(client.give_back()),
        }
    }
    None
}

/// Serves the one request that comes over a stream of HTTP/2.
pub(crate) async fn serve_stream(worker: &Worker, listener: usize, accepted: Accepted, peer: SocketAddr) {
    let mut client = Client::new(worker, listener, accepted, peer);
    requests(worker, &mut client, None).await;
    client.end(worker);
}

/// Why no more requests of a connection are served.
enum Stop {
    /// Nothing has come of a next one.
    Idle,
    Over,
    Http2,
}

/// Serves the requests that have come, one after the other, and those that come soon after.
async fn requests(worker: &Worker, client: &mut Client, interrupt: Option<&Interrupt>) -> Stop {
    let mut served = false;
    loop {
        let after = match client.next_request(worker, interrupt.filter(|_| served)).await {
            Next::Request(request) => exchange::run(worker, client, request).await,
            Next::Refused(reply) if reply.keep_alive => match client.reply(worker, &reply, None).await {
                true => After::Next,
                false => After::Close,
            },
            Next::Refused(reply) => {
                client.reply_and_close(worker, &reply, None).await;
                After::Close
            }
            Next::None => return Stop::Idle,
            Next::Closed => After::Close,
            Next::Http2 => return Stop::Http2,
        };
        match after {
            // A stream of HTTP/2 carries one.
            After::Next if client.link.stream.is_http2() => return Stop::Over,
            After::Next => served = true,
            After::Close => return Stop::Over,
            After::Tunnel(upgraded) => {
                // On the heap, so that connections without a tunnel have no room for one.
                Box::pin(upgraded.run(client)).await;
                return Stop::Over;
            }
        }
    }
}

/// A reply that closes the connection, for a request of which no more is known than that it is refused.
fn closing(status: Status) -> Reply {
    Reply::closing(status)
}
