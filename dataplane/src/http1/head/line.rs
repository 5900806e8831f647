use super::super::{Limits, Refusal, Split, Target, Version, text};
use super::Method;

/// Longer than any registered method.
const MAX_METHOD: usize = 32;

/// Empty lines that may come before a request (RFC 9112 §2.2); more are no accident.
const MAX_EMPTY_LINES: usize = 2;

#[derive(Clone, Copy)]
pub(super) struct RequestLine<'b> {
    pub(super) method: Method,
    pub(super) verb: &'b [u8],
    pub(super) target: Target<'b>,
    pub(super) version: Version,
}

/// Parses the request line and returns it with the place after it; `None` when it is not whole.
///
/// Each step looks at bytes strictly from left to right, so that more bytes never change a refusal.
pub(super) fn parse<'b>(buf: &'b [u8], limits: &Limits) -> Result<Option<(RequestLine<'b>, usize)>, Refusal> {
    let Some(rest) = skip_empty_lines(buf)? else { return Ok(None) };
    let Some((verb, rest)) = verb(rest)? else { return Ok(None) };
    let Some((target, rest)) = target(rest, limits)? else { return Ok(None) };
    let Some((version, rest)) = version(rest)? else { return Ok(None) };
    let method = Method::of(verb);
    if method == Method::Other {
        if verb == b"CONNECT" {
            return Err(Refusal::Connect);
        }
        // Methods are case-sensitive, but a backend that thinks otherwise would send no body, or a tunnel, where we
        // wait for one.
        if verb.eq_ignore_ascii_case(b"HEAD") || verb.eq_ignore_ascii_case(b"CONNECT") {
            return Err(Refusal::Line);
        }
    }
    let target = Target::parse(target, method)?;
    Ok(Some((RequestLine { method, verb, target, version }, buf.len() - rest.len())))
}

fn skip_empty_lines(buf: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let mut rest = buf;
    for _ in 0..MAX_EMPTY_LINES {
        match rest {
            [b'\r', b'\n', tail @ ..] => rest = tail,
            _ => break,
        }
    }
    match rest {
        [] | [b'\r'] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Refusal::Line),
        _ => Ok(Some(rest)),
    }
}

/// The method and what follows its SP.
fn verb(rest: &[u8]) -> Result<Option<Split<'_>>, Refusal> {
    let window = rest.get(..=MAX_METHOD).unwrap_or(rest);
    match window.iter().position(|byte| !text::is_token_byte(*byte)) {
        Some(0) => Err(Refusal::Line),
        Some(end) => split_at_space(rest, end).map(Some).ok_or(Refusal::Line),
        None if window.len() > MAX_METHOD => Err(Refusal::Method),
        None => Ok(None),
    }
}

/// The target and what follows its SP: visible ASCII other than `#`, which starts what is never sent.
fn target<'b>(rest: &'b [u8], limits: &Limits) -> Result<Option<Split<'b>>, Refusal> {
    let window = rest.get(..=limits.uri).unwrap_or(rest);
    let end = memchr::memchr(b' ', window);
    let target = end.and_then(|end| window.get(..end)).unwrap_or(window);
    if !target.iter().fold(true, |all, byte| all & (matches!(byte, 0x21..=0x7e) & (*byte != b'#'))) {
        return Err(Refusal::Target);
    }
    match end {
        Some(0) => Err(Refusal::Line),
        Some(end) => split_at_space(rest, end).map(Some).ok_or(Refusal::Line),
        None if window.len() > limits.uri => Err(Refusal::UriTooLong),
        None => Ok(None),
    }
}

fn split_at_space(rest: &[u8], at: usize) -> Option<Split<'_>> {
    let (part, tail) = rest.split_at_checked(at)?;
    Some((part, tail.strip_prefix(b" ")?))
}

/// The version and what follows its CRLF.
fn version(rest: &[u8]) -> Result<Option<(Version, &[u8])>, Refusal> {
    const FORM: &[u8] = b"HTTP/d.d\r\n";
    if let Some(tail) = rest.strip_prefix(b"HTTP/1.1\r\n") {
        return Ok(Some((Version::Http11, tail)));
    }
    if let Some(tail) = rest.strip_prefix(b"HTTP/1.0\r\n") {
        return Ok(Some((Version::Http10, tail)));
    }
    let fits = |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
    if !rest.iter().zip(FORM).all(fits) {
        Err(Refusal::Line)
    } else if rest.len() < FORM.len() {
        Ok(None)
    } else {
        Err(Refusal::Version)
    }
}
