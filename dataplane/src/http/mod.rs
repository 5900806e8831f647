//! The exchange: one request with its response, from a client's connection to a backend's and back.

mod body;
mod carried;
mod client;
mod download;
mod exchange;
mod follow;
mod marked;
mod request;
mod status;
mod upgraded;
mod upload;
mod watch;

pub(crate) use body::{BadBody, Body, Piece};

use crate::{
    http1::{Reply, Status},
    io::Buffer,
    tls::Accepted,
    worker::Worker,
};
use client::{Client, Next};
use exchange::After;
use std::net::SocketAddr;

/// Serves a client's connection to its end; or gives it back with what was read of it, where the client speaks HTTP/2.
pub(crate) async fn serve(
    worker: &Worker,
    listener: usize,
    accepted: Accepted,
    peer: SocketAddr,
) -> Option<(Accepted, Buffer)> {
    let mut client = Client::new(worker, listener, accepted, peer);
    loop {
        let after = match client.next_request(worker).await {
            Next::Request(request) => exchange::run(worker, &mut client, request).await,
            Next::Refused(reply) if reply.keep_alive => match client.reply(worker, &reply).await {
                true => After::Next,
                false => After::Close,
            },
            Next::Refused(reply) => {
                client.reply_and_close(worker, &reply).await;
                After::Close
            }
            Next::Closed => After::Close,
            Next::Http2 => return Some(client.give_back()),
        };
        match after {
            // A stream of HTTP/2 carries one.
            After::Next if client.link.stream.is_http2() => break,
            After::Next => {}
            After::Close => break,
            After::Tunnel(upgraded) => {
                // On the heap, so that connections without a tunnel have no room for one.
                Box::pin(upgraded.run(&mut client)).await;
                break;
            }
        }
    }
    client.end(worker);
    None
}

/// A reply that closes the connection, for a request of which no more is known than that it is refused.
fn closing(status: Status) -> Reply {
    Reply::closing(status)
}
