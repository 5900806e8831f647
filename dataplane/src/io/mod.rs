//! The seam between the exchange and the runtime: buffers, and streams that read and write them. Nothing above it knows
//! how bytes are moved.

mod buffer;
mod stream;

#[cfg(test)]
pub(crate) use buffer::holding;
pub(crate) use buffer::{Buffer, Buffers};
pub(crate) use stream::{Accepted, Listener, Stream, Wakeup, hold_back, is_gone, shut, within};
