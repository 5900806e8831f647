//! The control channel: lines are the same however they come, and a message that is read is written and read as itself.

#[path = "../../../dataplane/src/control/lines.rs"]
mod lines;

use super::super::input::{Input, pieces};
use control::message::{ToAdmin, ToDataplane, from_line, to_line};
use serde_json::Value;
use std::io::{self, BufRead, Read};

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (most, seed) = (1 + usize::from(input.byte()) * 64, input.byte());
    let bytes = input.rest();
    let came = read(bytes, most, seed);
    assert_eq!(came, read(bytes, most, 0), "by how they are cut");
    let mut at = 0;
    for line in &came.0 {
        assert!(line.len() <= most && line.ends_with(b"\n"));
        assert_eq!(line[..line.len() - 1].iter().position(|byte| *byte == b'\n'), None);
        assert_eq!(bytes.get(at..at + line.len()), Some(&line[..]));
        at += line.len();
    }
    let rest = &bytes[at..];
    let is_whole = rest.iter().take(most).any(|byte| *byte == b'\n');
    assert_eq!(came.1, !rest.is_empty() && !is_whole, "what is left is no line, and only that");
    for line in bytes.split(|byte| *byte == b'\n') {
        stable::<ToDataplane>(line);
        stable::<ToAdmin>(line);
    }
}

fn stable<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(line: &[u8]) {
    let Ok(message) = from_line::<T>(line) else { return };
    let written = to_line(&message);
    assert_eq!(written.iter().position(|byte| *byte == b'\n'), Some(written.len() - 1), "one line");
    let again: T = match from_line(&written) {
        Ok(again) => again,
        Err(reason) => panic!("{reason}: {}", written.escape_ascii()),
    };
    assert_eq!(again, message);
    assert_eq!(to_line(&again), written);
    assert!(serde_json::from_slice::<Value>(&written).is_ok());
}

/// The lines, and whether they ended with one that is none.
fn read(bytes: &[u8], most: usize, seed: u8) -> (Vec<Vec<u8>>, bool) {
    let mut reader = Pieces(pieces(bytes, seed).collect::<Vec<_>>().into_iter(), &[]);
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    loop {
        match lines::next(&mut reader, most, &mut line) {
            Ok(true) => lines.push(line.clone()),
            Ok(false) => return (lines, false),
            Err(_) => return (lines, true),
        }
    }
}

/// A reader that has one piece at a time.
struct Pieces<'b>(std::vec::IntoIter<&'b [u8]>, &'b [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.1.is_empty() {
            self.1 = self.0.next().unwrap_or_default();
        }
        Ok(self.1)
    }

    fn consume(&mut self, count: usize) {
        self.1 = &self.1[count..];
    }
}
