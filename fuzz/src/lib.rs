//! What must hold for any bytes, as functions that panic where it does not. `fuzz_targets/` has one program for each.
//!
//! The parts under test are compiled into this crate as they stand, by path: so they need not be public, everything is
//! instrumented, and neither io_uring nor TLS has to be built.

pub mod input;
pub mod readers;
pub mod targets;

// The folders of the product in which the modules below find what they call `crate`.
mod http;
#[path = "../../dataplane/src/http1/mod.rs"]
pub mod http1;
pub mod http2;
