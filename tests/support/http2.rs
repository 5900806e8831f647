//! Clients of HTTP/2 in Python, by the library h2.

use super::{
    Outcome, Running,
    peers::{python, start_python},
};
use serde_json::Value;

const LIBRARY: &str = include_str!("http2.py");

fn whole(program: &str) -> String {
    format!("{LIBRARY}\n{program}")
}

/// What a program says with `say`, one value for each call.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Vec<Value> {
    let Outcome { stdout, stderr, .. } = python(&whole(program), arguments);
    assert!(stderr.is_empty(), "{stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a program says with its only `say`.
#[track_caller]
pub fn ask(program: &str, arguments: &[&str]) -> Value {
    let mut said = run(program, arguments);
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

/// A program that goes on.
pub fn start(program: &str, arguments: &[&str]) -> Running {
    start_python(&whole(program), arguments)
}
