//! The exchange: one request with its response, from a client's connection to a backend's and back.

mod backend;
mod body;
mod carried;
mod client;
mod download;
mod exchange;
mod failure;
mod follow;
mod marked;
mod queue;
mod request;
mod settle;
mod upload;
mod watch;

use crate::{
    http1::{Reply, Status},
    io::Stream,
    worker::Worker,
};
use client::{Client, Next};
use std::{net::SocketAddr, rc::Rc};

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, listener: usize, stream: Stream, peer: SocketAddr) {
    let worker = &*worker;
    let mut client = Client::new(worker, listener, stream, peer);
    loop {
        let keep = match client.next_request(worker).await {
            Next::Request(request) => exchange::run(worker, &mut client, request).await,
            Next::Refused(reply) => {
                client.reply_and_close(worker, &reply).await;
                false
            }
            Next::Closed => false,
        };
        if !keep {
            break;
        }
    }
    client.end(worker);
}

/// A reply that closes the connection, for a request of which no more is known than that it is refused.
fn closing(status: Status) -> Reply {
    Reply::closing(status)
}
