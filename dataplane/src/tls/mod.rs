//! TLS on both sides: what handshakes are made with, and the handshakes.
//!
//! The control thread reads the files and hands each worker the result; workers shake hands and move the bytes
//! ([`crate::io`]). Keys stay in this process: nothing of them is in a snapshot, a log or a report.

mod accept;
mod store;

pub(crate) use accept::{Accepted, accept};
pub(crate) use store::{HTTP2, News, Store};
