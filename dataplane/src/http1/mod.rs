//! HTTP/1.1 as bytes in and bytes out (RFC 9110, RFC 9112).
//!
//! A message goes through: [`HeadScan`] says when a parse can tell more than the last one did; [`head`] or [`response`]
//! parses; [`framing`] has decided by then where the message ends; [`rewrite`] writes the head for the other side;
//! [`chunked`] passes a chunked body on. [`reply`] holds the answers that are our own.
//!
//! Whatever two parties could read differently is refused, never repaired: a request with 4xx or 501, a response with
//! 502. Every answer is the same however the bytes were cut into reads.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod chunked;
pub mod fields;
pub mod framing;
pub mod head;
mod hop;
pub mod host;
mod names;
mod refusal;
pub mod reply;
pub mod response;
pub mod rewrite;
mod scan;
mod target;
pub mod text;
pub mod upgrade;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

pub use chunked::{BadChunk, Chunked, Output, Step};
pub use fields::{Field, FieldIndex, Fields};
pub use framing::BodyLength;
pub use head::{Method, RequestHead};
pub use names::Name;
pub use refusal::{BadFields, BadFraming, BadResponse, Refusal};
pub use reply::{Reply, Status, UNAVAILABLE, is_grpc};
pub use response::{Asked, ResponseHead};
pub use rewrite::{ToBackend, ToClient};
pub use scan::HeadScan;
pub use target::Target;

/// What a parse of the bytes read so far tells; that they can't be a head is the `Err` beside it.
#[derive(Clone, Debug)]
pub enum Parse<T> {
    /// So far nothing is wrong: read more.
    Partial,
    /// `len` bytes were the head; what follows is body, or the next message.
    Complete { head: T, len: usize },
}

/// A part of a line and all that follows it.
type Split<'b> = (&'b [u8], &'b [u8]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// Bounds on one head. Values above the `MAX_` constants count as those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the head: first line, fields, the empty line, and what empty lines came before.
    pub head: usize,
    pub headers: usize,
    /// Bytes of a request's target.
    pub uri: usize,
}

impl Limits {
    /// Places in a head are kept as 16 bits.
    pub const MAX_HEAD: usize = 1 << 16;
    pub const MAX_HEADERS: usize = fields::MAX;

    /// The part of `buf` that a head may take up.
    fn window<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        let most = self.head.min(Self::MAX_HEAD);
        buf.get(..most).unwrap_or(buf)
    }

    /// Whether a head that does not end within `window` is too large.
    fn exhausted(&self, window: &[u8]) -> bool {
        window.len() >= self.head.min(Self::MAX_HEAD)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 16 * 1024, headers: 100, uri: 8 * 1024 }
    }
}
