//! The seam between the exchange and the runtime: buffers, and streams that read and write them. Nothing above it knows
//! how bytes are moved.

mod buffer;
mod handle;
mod interrupt;
mod listener;
mod pipe;
mod spare;
mod stream;
mod tally;
mod tcp;
mod tls;
mod wait;

#[cfg(test)]
pub(crate) use buffer::holding;
pub(crate) use buffer::{Buffer, Buffers};
pub(crate) use handle::Handle;
pub(crate) use interrupt::Interrupt;
pub(crate) use listener::{Accepted, Listener, clients_descriptors};
pub(crate) use pipe::{Carried, FarEnd, Way, pipe};
pub(crate) use spare::Spare;
pub(crate) use stream::Stream;
pub(crate) use tally::tally;
pub(crate) use tls::Refused;
pub(crate) use wait::{Beat, Wakeup, hold_back, within};
