//! HTTP/2 (RFC 9113). An exchange knows HTTP/1.1 text alone: each stream is one more connection to it, within the worker,
//! on which the text of one request comes and that of its response goes. So whatever holds for the one holds for the
//! other, and there is one parser that decides what a request is.
//!
//! `h2` knows frames and windows; here is what lies between it and the text, and between it and the ring.

mod answer;
mod connection;
mod flood;
#[cfg(test)]
mod properties;
mod stream;
mod text;
mod wire;

pub(crate) use connection::serve;
