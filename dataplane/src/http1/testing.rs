//! What the tests of several modules share.

use super::{
    Asked, BadResponse, BodyLength, FieldIndex, Limits, Method, Parse, Refusal, RequestHead, ResponseHead, Target,
    head, response,
};

/// An index for as long as the test process lives, so that a table's heads can be returned.
pub(super) fn index() -> &'static mut FieldIndex {
    Box::leak(Box::default())
}

/// What to put after a first line: Host, then the given field lines.
pub(super) fn head_of(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a.example\r\n{fields}\r\n").into_bytes()
}

pub(super) fn get_with(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a.example\r\n", fields, b"\r\n"].concat()
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parse<RequestHead<'_>>, Refusal> {
    head::parse(bytes, &Limits::default(), index())
}

/// The head that `bytes` consist of.
#[track_caller]
pub(super) fn request(bytes: &[u8]) -> RequestHead<'_> {
    match parse(bytes) {
        Ok(Parse::Complete { head, len }) if len == bytes.len() => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

pub(super) fn refusal(bytes: &[u8]) -> Option<Refusal> {
    parse(bytes).err()
}

pub(super) const GET: Asked<'_> = Asked { method: Method::Get, upgrade: None };

#[track_caller]
pub(super) fn answer<'b>(bytes: &'b [u8], asked: Asked<'_>) -> ResponseHead<'b> {
    match response::parse(bytes, &Limits::default(), asked, index()) {
        Ok(Parse::Complete { head, len }) if len == bytes.len() => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

pub(super) fn bad_answer(bytes: &[u8], asked: Asked<'_>) -> Option<BadResponse> {
    response::parse(bytes, &Limits::default(), asked, index()).err()
}

/// A head in one line, for tables.
pub(super) fn summary(head: &RequestHead<'_>) -> String {
    let target = match head.target {
        Target::Origin(target) => text(target),
        Target::Absolute { authority, rest } => format!("<{}>{}", text(authority), text(rest)),
        Target::Asterisk => "*".to_owned(),
    };
    let mut words = vec![format!("{:?}", head.method), target, format!("{:?}", head.version)];
    words.push(head.host.map_or("-".to_owned(), text));
    words.push(body(head.body));
    words.push(if head.keep_alive { "keep" } else { "close" }.to_owned());
    words.extend(head.expect_continue.then(|| "expect".to_owned()));
    words.extend(head.te_trailers.then(|| "trailers".to_owned()));
    words.extend(head.upgrade.map(|upgrade| format!("upgrade={}", text(upgrade))));
    words.join(" ")
}

pub(super) fn body(length: BodyLength) -> String {
    match length {
        BodyLength::None => "none".to_owned(),
        BodyLength::Length(length) => length.to_string(),
        BodyLength::Chunked => "chunked".to_owned(),
        BodyLength::UntilClose => "until-close".to_owned(),
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
