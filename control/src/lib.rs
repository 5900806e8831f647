//! The words both processes speak: the configuration file, the desired state that grows out of it, what the data plane
//! reports back, and the messages that carry both. Types and pure functions only: no I/O, no runtime.

pub mod access_log;
pub mod check;
pub mod config;
pub mod cost;
pub mod counters;
pub mod desired;
pub mod drain;
pub mod endpoint;
pub mod latency;
pub mod message;
pub mod processes;
pub mod rebalance;
pub mod release;
pub mod sketch;
pub mod spec;
pub mod status;
pub mod token_age;

pub use check::{Path, Problem};
pub use endpoint::Endpoint;
