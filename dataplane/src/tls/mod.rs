//! TLS of listeners: their certificates from files to what handshakes need, and again whenever the files change.
//!
//! The control thread reads the files and hands each worker the result; workers shake hands and move the bytes
//! ([`crate::io`]). Keys stay in this process: nothing of them is in a snapshot, a log or a report.

mod accept;
mod load;
mod names;
mod offer;
mod store;

pub(crate) use accept::{Accepted, accept};
pub use load::{Loaded, load};
pub(crate) use store::{News, Store};
