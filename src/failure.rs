//! What ends the command, as an exit code and the text that says why.

use std::{fmt, io};

pub(crate) const GENERAL: u8 = 1;
/// What was typed makes no sense; clap ends with the same.
pub(crate) const USAGE: u8 = 2;
/// The configuration can't be used (`EX_USAGE` of sysexits, which is what the contract names).
pub(crate) const CONFIG: u8 = 64;
/// The kernel does not let this process use io_uring (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn general(message: impl Into<String>) -> Self {
        Self::new(GENERAL, message)
    }

    /// For `map_err`: what was being done, then the error.
    pub(crate) fn doing<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::general(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::general(error.to_string())
    }
}
