//! HTTP/2 (RFC 9113). An exchange knows HTTP/1.1 text alone: each stream is one more connection to it, within the worker,
//! on which the text of one request comes and that of its response goes. So whatever holds for the one holds for the
//! other, and there is one parser that decides what a request is.
//!
//! `h2` knows frames and windows; here is what lies between it and the text, and between it and the ring.

mod answer;
mod ask;
mod body;
mod call;
mod connection;
mod frames;
mod lanes;
mod parts;
#[cfg(test)]
mod properties;
mod stream;
mod text;
mod upstream;
mod websocket;
mod wire;

pub(crate) use connection::serve;
pub(crate) use lanes::trim;
pub(crate) use upstream::{Upstream, connect};

/// Bytes of a body that may be on their way without having been asked for again.
const STREAM_WINDOW: u32 = 64 << 10;
/// Bytes of a body that wait to be sent.
const SEND_BUFFER: usize = 32 << 10;

/// The same as [`STREAM_WINDOW`] for all streams of a connection: as much as all of them may have, so that those whose
/// bodies nobody takes hold back no other.
const fn connection_window(streams: u32) -> u32 {
    STREAM_WINDOW * streams
}
