//! A reader written from RFC 9112 alone, for clarity and not for speed: it shares no line with the product, takes bytes in
//! one piece, and refuses what the RFC lets a recipient refuse.

use super::{End, Message, Reading};

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    /// With the connection.
    Close,
}

/// What a chunked body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Bad,
    Partial,
    /// `len` bytes with their framing. `trailers` are lines with their ends.
    Whole {
        data: Vec<u8>,
        len: usize,
        trailers: Vec<u8>,
    },
}

/// A head, as far as where its message ends goes.
struct Head {
    start: Vec<u8>,
    target: Vec<u8>,
    framing: Framing,
    keep_alive: bool,
}

/// Requests, one behind the other.
pub fn requests(bytes: &[u8]) -> Reading {
    read(bytes, |lines| {
        let mut words = lines.first()?.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let is_line = words.next().is_none() && is_token(method) && target.iter().all(u8::is_ascii_graphic);
        if !is_line || target.is_empty() {
            return None;
        }
        let fields = Fields::read(&lines[1..])?;
        let framing = fields.framing(version)?.unwrap_or(Framing::Length(0));
        Some(Head { start: method.to_vec(), target: target.to_vec(), framing, keep_alive: fields.keep_alive(version)? })
    })
}

/// Responses, each to a request with the same method.
pub fn responses(bytes: &[u8], to_head: bool) -> Reading {
    read(bytes, |lines| {
        let line = lines.first()?;
        let (version, rest) = line.split_at_checked(8)?;
        let rest = rest.strip_prefix(b" ")?;
        let (status, reason) = rest.split_at_checked(3)?;
        let is_line = status.iter().all(u8::is_ascii_digit) && (reason.is_empty() || reason.starts_with(b" "));
        let fields = is_line.then(|| Fields::read(&lines[1..]))??;
        let bodiless = to_head || status[0] == b'1' || status == b"204" || status == b"304";
        let framing = if bodiless { Framing::Length(0) } else { fields.framing(version)?.unwrap_or(Framing::Close) };
        let keep_alive = fields.keep_alive(version)? && framing != Framing::Close && status != b"101";
        Some(Head { start: status.to_vec(), target: Vec::new(), framing, keep_alive })
    })
}

fn read(bytes: &[u8], understand: impl Fn(&[&[u8]]) -> Option<Head>) -> Reading {
    let mut messages = Vec::new();
    let mut at = 0;
    let end = loop {
        while bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        let Some(len) = bytes[at..].windows(4).position(|window| window == b"\r\n\r\n") else { break End::InHead };
        let lines: Vec<&[u8]> = lines(&bytes[at..at + len]);
        let Some(head) = understand(&lines) else { break End::Refused };
        at += len + 4;
        let (body, len) = match head.framing {
            Framing::Close => (bytes[at..].to_vec(), bytes.len() - at),
            Framing::Length(len) => match bytes[at..].get(..len) {
                Some(body) => (body.to_vec(), len),
                None => break End::InBody,
            },
            Framing::Chunked => match chunked(&bytes[at..]) {
                Body::Whole { data, len, .. } => (data, len),
                Body::Partial => break End::InBody,
                Body::Bad => break End::Refused,
            },
        };
        at += len;
        messages.push(Message { start: head.start, target: head.target, body, end: Some(at) });
        if !head.keep_alive {
            break End::Closed;
        }
    };
    Reading { messages, end }
}

/// Split at CRLF and nothing else.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// Names in small letters with their values.
struct Fields<'b>(Vec<(Vec<u8>, &'b [u8])>);

impl<'b> Fields<'b> {
    fn read(lines: &[&'b [u8]]) -> Option<Self> {
        let field = |line: &&'b [u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
            (is_token(name) && is_text(value)).then(|| (name.to_ascii_lowercase(), value))
        };
        lines.iter().map(field).collect::<Option<_>>().map(Self)
    }

    /// The elements of all fields of this name.
    fn list(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let values = self.0.iter().filter(|(label, _)| label == name).map(|(_, value)| *value);
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(|part| trim(part).to_ascii_lowercase()).collect()
    }

    /// `None` where it is in doubt, the inner one where nothing is said.
    fn framing(&self, version: &[u8]) -> Option<Option<Framing>> {
        let (codings, lengths) = (self.list(b"transfer-encoding"), self.list(b"content-length"));
        match (codings.as_slice(), lengths.split_first()) {
            ([], None) => Some(None),
            ([coding], None) if coding == b"chunked" && version == b"HTTP/1.1" => Some(Some(Framing::Chunked)),
            ([], Some((first, rest))) if rest.iter().all(|other| number(other) == number(first)) => {
                number(first).map(|length| Some(Framing::Length(length)))
            }
            _ => None,
        }
    }

    fn keep_alive(&self, version: &[u8]) -> Option<bool> {
        let options = self.list(b"connection");
        let has = |option: &[u8]| options.iter().any(|each| each == option);
        match version {
            b"HTTP/1.1" => Some(!has(b"close") && !has(b"upgrade")),
            b"HTTP/1.0" => Some(has(b"keep-alive") && !has(b"close")),
            _ => None,
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// `chunk-size [ chunk-ext ] CRLF` and its data, again and again, then trailers (RFC 9112 section 7.1).
pub fn chunked(bytes: &[u8]) -> Body {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let Some(end) = bytes[at..].windows(2).position(|window| window == b"\r\n") else { return Body::Partial };
        let line = &bytes[at..at + end];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let extension = trim(&line[digits..]);
        let is_plain = extension.is_empty() || (extension.starts_with(b";") && is_text(extension));
        let Some(size) = size.filter(|_| is_plain) else { return Body::Bad };
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = usize::try_from(size).ok().and_then(|size| bytes[at..].get(..size)) else {
            return Body::Partial;
        };
        data.extend_from_slice(chunk);
        at += chunk.len();
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Body::Partial,
            _ => return Body::Bad,
        }
    }
    let trailers = at;
    loop {
        let Some(end) = bytes[at..].windows(2).position(|window| window == b"\r\n") else { return Body::Partial };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Body::Whole { data, len: at, trailers: bytes[trailers..at - 2].to_vec() };
        }
        if Fields::read(&[line]).is_none() {
            return Body::Bad;
        }
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let is_special = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || is_special(byte))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

/// Without the SP and HTAB around.
fn trim(bytes: &[u8]) -> &[u8] {
    let is_more = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(is_more) else { return b"" };
    &bytes[start..=bytes.iter().rposition(is_more).unwrap_or(start)]
}
