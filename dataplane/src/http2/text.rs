//! The head of an HTTP/2 message as HTTP/1.1 text.
//!
//! What could mean something else as text is refused here (RFC 9113 sections 8.2 and 8.3); all else is written in one way
//! alone, and judged by the parser that reads every other request.

use crate::http1::Method;

/// The key of a handshake (RFC 6455 section 4), and the answer to it.
pub(super) const KEY: &[u8] = b"sec-websocket-key";
pub(super) const ACCEPT: &[u8] = b"sec-websocket-accept";

/// A request's head as its HEADERS frames bring it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head<'a> {
    pub(super) method: &'a [u8],
    pub(super) authority: Option<&'a [u8]>,
    pub(super) path: &'a [u8],
    /// Names in small letters, with their values, in order.
    pub(super) fields: &'a [(&'a [u8], &'a [u8])],
    /// Nothing follows it: neither DATA nor trailers.
    pub(super) ends: bool,
    /// Where it asks for a WebSocket, the key of the handshake that this becomes.
    pub(super) key: Option<&'a [u8]>,
}

/// Why a head is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    Method,
    /// No proxy is made of us.
    Connect,
    Path,
    /// There is none, there are several, or `:authority` and `Host` differ.
    Host,
    Name,
    Value,
    /// A field that is about one connection, which HTTP/2 has not.
    Connection,
    /// Not a number, two numbers, or one that the stream does not hold to.
    Length,
}

/// How the text tells where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyText {
    None,
    /// So many bytes, as they are.
    Raw(u64),
    Chunked,
}

/// Appends the head to `out`, and says what has to follow it.
///
/// # Errors
/// Where it is malformed; `out` then holds a part of it, which must not be used.
pub(super) fn request(head: &Head<'_>, out: &mut Vec<u8>) -> Result<BodyText, Malformed> {
    if head.method.is_empty() || !head.method.iter().copied().all(is_token) {
        return Err(Malformed::Method);
    }
    if head.method == b"CONNECT" {
        return Err(Malformed::Connect);
    }
    let is_asterisk = head.method == b"OPTIONS" && head.path == b"*";
    if !(is_asterisk || head.path.starts_with(b"/")) || !head.path.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed::Path);
    }
    let host = host(head)?;
    let body = if head.key.is_some() { BodyText::None } else { body(head)? };
    for part in [head.method, b" ", head.path, b" HTTP/1.1\r\nhost: ", host, b"\r\n"] {
        out.extend_from_slice(part);
    }
    fields(head, out)?;
    write_framing(body, out);
    Ok(body)
}

/// Appends the trailers behind the last chunk, and the empty line that ends them.
///
/// # Errors
/// Where they are malformed; `out` then holds a part of them, which must not be used.
pub(super) fn trailers(fields: &[(&[u8], &[u8])], out: &mut Vec<u8>) -> Result<(), Malformed> {
    for (name, value) in fields {
        check(name, value)?;
        line(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn host<'a>(head: &Head<'a>) -> Result<&'a [u8], Malformed> {
    let mut told = head.authority;
    let mut seen = false;
    for (_, value) in head.fields.iter().filter(|(name, _)| *name == b"host") {
        let differs = told.is_some_and(|told| !told.eq_ignore_ascii_case(value));
        if seen || differs {
            return Err(Malformed::Host);
        }
        seen = true;
        told = told.or(Some(value));
    }
    told.filter(|host| !host.is_empty() && host.iter().all(u8::is_ascii_graphic)).ok_or(Malformed::Host)
}

/// Appends the head of a response to a request with that `method`, and says what has to follow it.
///
/// # Errors
/// Where it is malformed; `out` then holds a part of it, which must not be used.
pub(super) fn response(
    status: u16,
    method: Method,
    fields: &[(&[u8], &[u8])],
    ends: bool,
    out: &mut Vec<u8>,
) -> Result<BodyText, Malformed> {
    let told = told_length(fields)?;
    let (framing, follows) = match (status, method, told) {
        (100..=199 | 204, _, _) => (BodyText::None, BodyText::None),
        (304, _, None) | (_, Method::Head, None) => (BodyText::None, BodyText::None),
        (304, _, Some(length)) | (_, Method::Head, Some(length)) => (BodyText::Raw(length), BodyText::None),
        (_, _, Some(length)) => (BodyText::Raw(length), BodyText::Raw(length)),
        (_, _, None) if ends => (BodyText::Raw(0), BodyText::None),
        (_, _, None) => (BodyText::Chunked, BodyText::Chunked),
    };
    out.extend_from_slice(format!("HTTP/1.1 {status} \r\n").as_bytes());
    for (name, value) in fields {
        check(name, value)?;
        if *name != b"content-length" {
            line(name, value, out);
        }
    }
    write_framing(framing, out);
    Ok(follows)
}

/// Appends the head of a response that agrees to a WebSocket, with the answer to its key.
///
/// # Errors
/// As [`response`].
pub(super) fn switched(fields: &[(&[u8], &[u8])], answer: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.extend_from_slice(b"HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: websocket\r\n");
    line(ACCEPT, answer, out);
    for (name, value) in fields {
        check(name, value)?;
        // There is no body, and whoever speaks HTTP/2 has no answer to tell.
        if *name != b"content-length" && *name != ACCEPT {
            line(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_framing(body: BodyText, out: &mut Vec<u8>) {
    match body {
        BodyText::None => {}
        BodyText::Raw(length) => line(b"content-length", length.to_string().as_bytes(), out),
        BodyText::Chunked => line(b"transfer-encoding", b"chunked", out),
    }
    out.extend_from_slice(b"\r\n");
}

/// What the fields say that the body measures.
fn told_length(fields: &[(&[u8], &[u8])]) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for (_, value) in fields.iter().filter(|(name, _)| *name == b"content-length") {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(Malformed::Length)?;
        if length.is_some_and(|length| length != number) {
            return Err(Malformed::Length);
        }
        length = Some(number);
    }
    Ok(length)
}

fn body(head: &Head<'_>) -> Result<BodyText, Malformed> {
    match (head.ends, told_length(head.fields)?) {
        (true, None) => Ok(BodyText::None),
        (true, Some(0)) => Ok(BodyText::Raw(0)),
        (true, Some(_)) => Err(Malformed::Length),
        (false, Some(length)) => Ok(BodyText::Raw(length)),
        (false, None) => Ok(BodyText::Chunked),
    }
}

fn fields(head: &Head<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut cookies = head.fields.iter().filter(|(name, _)| *name == b"cookie").peekable();
    if cookies.peek().is_some() {
        // Each crumb came in a line of its own (RFC 9113 section 8.2.3).
        let crumbs: Vec<&[u8]> = cookies.map(|(_, value)| *value).collect();
        line(b"cookie", &crumbs.join(&b"; "[..]), out);
    }
    for (name, value) in head.fields {
        check(name, value)?;
        let is_ours = match *name {
            b"host" | b"content-length" | b"cookie" => true,
            KEY => head.key.is_some(),
            _ => false,
        };
        if !is_ours {
            line(name, value, out);
        }
    }
    if let Some(key) = head.key {
        for (name, value) in [(&b"connection"[..], &b"upgrade"[..]), (b"upgrade", b"websocket"), (KEY, key)] {
            line(name, value, out);
        }
    }
    Ok(())
}

fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn check(name: &[u8], value: &[u8]) -> Result<(), Malformed> {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            return Err(Malformed::Connection);
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed::Connection),
        _ => {}
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()) {
        return Err(Malformed::Name);
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if is_space(value.first()) || is_space(value.last()) || value.iter().any(is_control) {
        return Err(Malformed::Value);
    }
    Ok(())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (Fields<'a>, bool, Result<(BodyText, &'a str), Malformed>);
    type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

    fn head<'a>(fields: Fields<'a>) -> Head<'a> {
        Head { method: b"GET", authority: Some(b"a.example"), path: b"/", fields, ends: true, key: None }
    }

    fn text(head: &Head<'_>) -> Result<(BodyText, String), Malformed> {
        let mut out = Vec::new();
        request(head, &mut out).map(|body| (body, String::from_utf8(out).expect("these are text")))
    }

    #[test]
    fn a_head_is_written_in_one_way() {
        let fields: Fields<'_> =
            &[(b"cookie", b"a=1"), (b"host", b"A.example"), (b"te", b"trailers"), (b"x", b""), (b"cookie", b"b=2")];
        let written = "GET / HTTP/1.1\r\nhost: a.example\r\ncookie: a=1; b=2\r\nte: trailers\r\nx: \r\n\r\n";
        assert_eq!(text(&head(fields)), Ok((BodyText::None, written.to_owned())));
        let only_host = Head { authority: None, ..head(&[(b"host", b"b.example")]) };
        assert_eq!(text(&only_host), Ok((BodyText::None, "GET / HTTP/1.1\r\nhost: b.example\r\n\r\n".to_owned())));
        let all = Head { method: b"OPTIONS", path: b"*", ..head(&[]) };
        assert_eq!(text(&all), Ok((BodyText::None, "OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n".to_owned())));
    }

    #[test]
    fn the_body_follows_from_the_length_and_the_end_of_the_stream() {
        let start = "GET / HTTP/1.1\r\nhost: a.example\r\n";
        let length = |text: &'static [u8]| [(&b"content-length"[..], text)];
        let twice: Fields<'_> = &[(b"content-length", b"7"), (b"content-length", b"7")];
        let cases: [Case<'_>; 9] = [
            (&[], false, Ok((BodyText::Chunked, "transfer-encoding: chunked\r\n"))),
            (&length(b"7"), false, Ok((BodyText::Raw(7), "content-length: 7\r\n"))),
            (twice, false, Ok((BodyText::Raw(7), "content-length: 7\r\n"))),
            (&length(b"0"), true, Ok((BodyText::Raw(0), "content-length: 0\r\n"))),
            (&length(b"7"), true, Err(Malformed::Length)),
            (&length(b"+7"), false, Err(Malformed::Length)),
            (&length(b""), false, Err(Malformed::Length)),
            (&length(b"99999999999999999999"), false, Err(Malformed::Length)),
            (&[(b"content-length", b"7"), (b"content-length", b"8")], false, Err(Malformed::Length)),
        ];
        for (fields, ends, expected) in cases {
            let expected = expected.map(|(body, line)| (body, format!("{start}{line}\r\n")));
            assert_eq!(text(&Head { ends, ..head(fields) }), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_could_mean_something_else_as_text_is_refused() {
        let plain = head(&[]);
        let cases = [
            (Head { method: b"", ..plain }, Malformed::Method),
            (Head { method: b"GET / HTTP/1.1\r\nx:", ..plain }, Malformed::Method),
            (Head { method: b"CONNECT", ..plain }, Malformed::Connect),
            (Head { path: b"", ..plain }, Malformed::Path),
            (Head { path: b"*", ..plain }, Malformed::Path),
            (Head { path: b"http://b/", ..plain }, Malformed::Path),
            (Head { path: b"/ HTTP/1.1\r\n", ..plain }, Malformed::Path),
            (Head { path: b"/\xc3\xa4", ..plain }, Malformed::Path),
            (Head { authority: None, ..plain }, Malformed::Host),
            (Head { authority: Some(b""), ..plain }, Malformed::Host),
            (Head { authority: Some(b"a\r\nx: y"), ..plain }, Malformed::Host),
            (head(&[(b"host", b"b.example")]), Malformed::Host),
            (head(&[(b"host", b"a.example"), (b"host", b"a.example")]), Malformed::Host),
            (head(&[(b"connection", b"close")]), Malformed::Connection),
            (head(&[(b"keep-alive", b"")]), Malformed::Connection),
            (head(&[(b"proxy-connection", b"")]), Malformed::Connection),
            (head(&[(b"transfer-encoding", b"chunked")]), Malformed::Connection),
            (head(&[(b"upgrade", b"websocket")]), Malformed::Connection),
            (head(&[(b"te", b"gzip")]), Malformed::Connection),
            (head(&[(b"", b"")]), Malformed::Name),
            (head(&[(b"X", b"")]), Malformed::Name),
            (head(&[(b"x:y", b"")]), Malformed::Name),
            (head(&[(b":status", b"200")]), Malformed::Name),
            (head(&[(b"x", b"a\r\ny: z")]), Malformed::Value),
            (head(&[(b"x", b"a\0")]), Malformed::Value),
            (head(&[(b"x", b" a")]), Malformed::Value),
            (head(&[(b"x", b"a\t")]), Malformed::Value),
            (head(&[(b"cookie", b"a=1\n")]), Malformed::Value),
        ];
        for (head, expected) in cases {
            assert_eq!(text(&head), Err(expected), "{head:?}");
        }
    }

    #[test]
    fn responses_are_framed_as_their_status_and_their_request_have_it() {
        let five: Fields<'_> = &[(b"content-length", b"5"), (b"x", b"y")];
        let (told, zero, chunked) =
            ("x: y\r\ncontent-length: 5\r\n", "content-length: 0\r\n", "transfer-encoding: chunked\r\n");
        let cases: [(u16, Method, Fields<'_>, bool, BodyText, &str); 9] = [
            (200, Method::Get, five, false, BodyText::Raw(5), told),
            (200, Method::Get, &[], false, BodyText::Chunked, chunked),
            (200, Method::Get, &[], true, BodyText::None, zero),
            (200, Method::Head, five, true, BodyText::None, told),
            (200, Method::Head, &[], true, BodyText::None, ""),
            (304, Method::Get, five, true, BodyText::None, told),
            (204, Method::Get, &[], true, BodyText::None, ""),
            (103, Method::Get, &[], false, BodyText::None, ""),
            (503, Method::Other, &[], true, BodyText::None, zero),
        ];
        for (status, method, fields, ends, follows, lines) in cases {
            let mut out = Vec::new();
            assert_eq!(response(status, method, fields, ends, &mut out), Ok(follows), "{status} {method:?}");
            assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 {status} \r\n{lines}\r\n"), "{method:?}");
        }
        for (name, value) in
            [(&b"connection"[..], &b"close"[..]), (b"x", b"a\r\nb"), (b"content-length", b"x"), (b":x", b"")]
        {
            assert!(response(200, Method::Get, &[(name, value)], false, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn trailers_are_held_to_the_same() {
        let mut out = Vec::new();
        assert_eq!(trailers(&[(b"grpc-status", b"0")], &mut out), Ok(()));
        assert_eq!(out, b"grpc-status: 0\r\n\r\n");
        assert_eq!(trailers(&[(b"x", b"a\r\n")], &mut out), Err(Malformed::Value));
        assert_eq!(trailers(&[(b":path", b"/")], &mut out), Err(Malformed::Name));
    }
}
