//! What the tests of the real binary share: folders, processes, and waiting for conditions. Ports are always 0, every
//! wait has a deadline, and what was started ends with its value.

#![allow(dead_code, unused_imports, reason = "each test file is compiled with its own copy and uses a part of it")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failed step fails the test")]

pub mod backend;
pub mod burden;
pub mod callers;
pub mod etcd;
mod folder;
pub mod frames;
pub mod http;
pub mod http2;
mod instance;
pub mod namespace;
pub mod old;
pub mod peers;
pub mod pki;
mod process;
mod shop;
pub mod terminal;
pub mod visitors;
pub mod websockets;

pub use backend::{Recorder, Scripted};
pub use folder::Folder;
pub use instance::{Instance, Setup};
pub use process::{Outcome, Running, resident, send_signal, steadfast};
pub use shop::Shop;

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that a test waits for; much more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Says what a test has done, for `tests/promises`.
pub fn figure(text: impl std::fmt::Display) {
    println!("figure: {text}");
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none in time.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// The same, for what may take longer than others.
///
/// # Panics
/// When there is no answer in time.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in {patience:?} it did not happen that {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
