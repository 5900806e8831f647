//! The cases as they stand in the files beside this one.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// In these files each character of what is sent or read is one byte: `\u00a0` is the byte 0xa0.
const REQUESTS: [&str; 6] = [
    include_str!("framing.toml"),
    include_str!("chunked.toml"),
    include_str!("fields.toml"),
    include_str!("targets.toml"),
    include_str!("pipelining.toml"),
    include_str!("http2.toml"),
];
const RESPONSES: [&str; 3] = [
    include_str!("responses-framing.toml"),
    include_str!("responses-heads.toml"),
    include_str!("responses-http2.toml"),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<C> {
    case: Vec<C>,
}

/// What a client sends, and what has to come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    pub name: String,
    pub source: String,
    /// The bytes of a connection of HTTP/1.
    #[serde(default)]
    pub send: String,
    /// The head of a stream of HTTP/2, in place of `send`.
    pub fields: Option<Vec<(String, String)>>,
    /// What follows it.
    #[serde(default)]
    pub data: Vec<String>,
    pub trailers: Option<Vec<(String, String)>>,
    /// What the backend has to have seen, and nothing else.
    #[serde(default)]
    pub forwarded: Vec<Forwarded>,
    /// It is refused by its body, of which the backend may have seen a part.
    #[serde(default)]
    pub begun: bool,
    /// What it may have seen before the rest was refused.
    #[serde(default)]
    pub perhaps: Vec<Forwarded>,
    /// What is answered behind all that was forwarded: a status, or of a stream `reset`.
    pub refused: Option<Refused>,
    /// The connection serves no further request, though nothing was refused.
    #[serde(default)]
    pub closes: bool,
    /// The client ends its side of the connection behind its bytes, in the midst of a message.
    #[serde(default)]
    pub cut: bool,
    /// Nothing of this stands in what the backend sees, in any case of letters.
    #[serde(default)]
    pub absent: Vec<String>,
    /// All of this stands there.
    #[serde(default)]
    pub present: Vec<String>,
    /// Readers that take no request of this kind, for reasons of their own.
    #[serde(default)]
    pub unread_by: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Refused {
    Status(u16),
    Reset(Reset),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    Reset,
}

/// A request as every reader has to read it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    #[serde(default = "get")]
    pub method: String,
    #[serde(default = "slash")]
    pub target: String,
    #[serde(default = "host")]
    pub host: String,
    #[serde(default)]
    pub body: String,
}

fn get() -> String {
    "GET".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn host() -> String {
    "a.example".to_owned()
}

impl Forwarded {
    /// A request that is in order, and tells by its target that it came through.
    pub fn canary(target: &str) -> Self {
        Self { method: get(), target: target.to_owned(), host: "canary.example".to_owned(), body: String::new() }
    }
}

/// What a backend answers, and what has to come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answering {
    pub name: String,
    pub source: String,
    #[serde(default = "get")]
    pub method: String,
    /// The client's version.
    #[serde(default = "version")]
    pub version: String,
    /// Further lines of the client's head, and behind an empty line its body.
    #[serde(default)]
    pub ask: String,
    /// The bytes of a backend of HTTP/1.
    #[serde(default)]
    pub send: String,
    /// What a backend of HTTP/2 does on its stream, in place of `send`.
    pub frames: Option<Vec<Frame>>,
    /// It closes its connection behind that.
    #[serde(default)]
    pub close: bool,
    /// What it sends comes in one piece.
    #[serde(default)]
    pub at_once: bool,
    /// The connection serves no further request, though nothing is wrong with the answer.
    #[serde(default)]
    pub spent: bool,
    /// Bytes that it sends when the client has had its answer and nobody asks for anything.
    pub late: Option<String>,
    pub passed: Option<Passed>,
    /// The status that the client gets in place of it.
    pub refused: Option<u16>,
}

fn version() -> String {
    "HTTP/1.1".to_owned()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Frame {
    pub fields: Option<Vec<(String, String)>>,
    pub data: Option<String>,
    pub ends: bool,
    /// The code of a reset.
    pub reset: Option<u32>,
}

/// A response as every client has to read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub body: String,
    #[serde(default)]
    pub interim: Vec<u16>,
    /// It is seen not to be the whole.
    #[serde(default)]
    pub cut: bool,
    /// But for these readers, which take it for one when all of its body has come.
    #[serde(default)]
    pub taken_by: Vec<String>,
    #[serde(default)]
    pub absent: Vec<String>,
}

fn ok() -> u16 {
    200
}

pub fn asking() -> Vec<Asking> {
    let cases: Vec<Asking> = REQUESTS.iter().flat_map(|text| read(text)).collect();
    named(cases.iter().map(|case| (&case.name, &case.source)));
    for case in &cases {
        assert!(case.send.is_empty() != case.fields.is_none(), "{}: one of the two", case.name);
        let says = case.refused.is_some() || !case.forwarded.is_empty() || case.cut;
        assert!(says, "{} says nothing of what comes of it", case.name);
    }
    cases
}

pub fn answering() -> Vec<Answering> {
    let cases: Vec<Answering> = RESPONSES.iter().flat_map(|text| read(text)).collect();
    named(cases.iter().map(|case| (&case.name, &case.source)));
    for case in &cases {
        assert!(case.passed.is_some() != case.refused.is_some(), "{}: one of the two", case.name);
    }
    cases
}

fn read<C: for<'a> Deserialize<'a>>(text: &str) -> Vec<C> {
    toml::from_str::<File<C>>(text).unwrap_or_else(|error| panic!("{error}")).case
}

#[track_caller]
fn named<'c>(cases: impl Iterator<Item = (&'c String, &'c String)>) {
    let mut names = BTreeSet::new();
    for (name, source) in cases {
        assert!(names.insert(name), "two cases are called {name:?}");
        assert!(!source.is_empty(), "{name} has no source");
    }
}

/// The bytes that a text of the files stands for. `{200 x}` stands for 200 times `x`.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, repeated)) = rest.split_once('{') {
        out.extend(plain(before));
        let (inside, after) = repeated.split_once('}').expect("a brace closes");
        let (count, what) = inside.split_once(' ').expect("a count and what it counts");
        out.extend(plain(what).repeat(count.parse().expect("a count")));
        rest = after;
    }
    out.extend(plain(rest));
    out
}

fn plain(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).expect("each character is a byte")).collect()
}

/// The text of the files that stands for these bytes, as the readers in Python tell them.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A string in what the readers tell.
#[track_caller]
pub fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}
