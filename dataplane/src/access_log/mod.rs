//! The access log: a line for each request, or connection of plain TCP, once it is over.
//!
//! A worker copies what is to be told into a batch, and hands that over with each tick of its clock. A thread of its own makes
//! lines of it and writes them. Where that is too slow, lines are lost and counted: no worker ever waits for it.

mod batch;
mod entry;
mod line;
mod recorder;
mod sink;
mod writer;

pub(crate) use entry::{By, Entry, Opening};
pub(crate) use recorder::Recorder;
pub(crate) use writer::Log;
