//! Readers of HTTP/1 that say where messages end: ours, and three that have nothing to do with it.

pub mod hyper;
#[cfg(feature = "llhttp")]
pub mod llhttp;
pub mod ours;
pub mod strict;

/// One message as a reader takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// A request's method, a response's status.
    pub start: Vec<u8>,
    /// As it came; empty in a response.
    pub target: Vec<u8>,
    /// The data, without its framing.
    pub body: Vec<u8>,
    /// Where it ends in the stream, from a reader that tells.
    pub end: Option<usize>,
}

/// Why there are no more messages than a reader has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What comes next is refused.
    Refused,
    /// The last head has not ended, or there are no bytes for one.
    InHead,
    /// A head is whole, and its body is not.
    InBody,
    /// The last message says that none follows.
    Closed,
}

/// What a reader makes of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub messages: Vec<Message>,
    pub end: End,
}

impl Reading {
    /// Fails where the other reader takes a message for another one than this one does, or sees one end where this one
    /// waits for more. It may refuse what this one takes, and the other way round.
    pub fn assert_agrees(&self, other: &Self, who: &str) {
        for (at, ours) in self.messages.iter().enumerate() {
            let Some(theirs) = other.messages.get(at) else {
                let is_stricter = matches!(other.end, End::Refused | End::Closed);
                assert!(is_stricter, "{who} waits for more of message {at}: {:?}", other.end);
                return;
            };
            assert_eq!((&ours.start, &ours.body), (&theirs.start, &theirs.body), "{who} reads another message {at}");
            let ends = ours.end.zip(theirs.end);
            assert!(ends.is_none_or(|(ours, theirs)| ours == theirs), "{who} sees message {at} end at {ends:?}");
        }
        let count = self.messages.len();
        assert!(self.end != End::InBody || other.messages.len() <= count, "{who} sees the end of message {count}");
    }

    /// Fails unless the other reader takes every message of this one, and nothing else. `may_refuse` says for which it has
    /// reasons of its own that have nothing to do with where they end.
    pub fn assert_same(&self, other: &Self, who: &str, may_refuse: impl Fn(&Message) -> bool) {
        self.assert_agrees(other, who);
        if let Some(left) = self.messages.get(other.messages.len()) {
            assert!(may_refuse(left), "{who} refuses what is passed on: {left:?}");
            return;
        }
        for (ours, theirs) in self.messages.iter().zip(&other.messages) {
            assert_eq!(ours.target, theirs.target, "{who} reads another target");
        }
        assert_eq!(self.messages.len(), other.messages.len(), "{who} sees messages that are none of ours");
    }
}

/// Fails unless these are the lines of one head, each with its end and with nothing in it that any reader could take for one.
pub fn assert_is_one_head(bytes: &[u8]) {
    let lines = bytes.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.is_empty(), "an empty line in {}", bytes.escape_ascii());
        let is_odd = |byte: &u8| matches!(byte, b'\r' | 0);
        assert!(!line.iter().any(is_odd), "a line ends within a line: {}", bytes.escape_ascii());
    }
    let (ends, returns) = (count(lines, b'\n'), count(lines, b'\r'));
    assert_eq!(ends, returns, "a line ends by LF alone: {}", bytes.escape_ascii());
}

fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().filter(|byte| **byte == wanted).count()
}
