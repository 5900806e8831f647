//! The head of a backend's response.

#[cfg(test)]
mod tests;

use super::{
    BadResponse, BodyLength, FieldIndex, Fields, Limits, Method, Parse, Split, Version, framing, hop, text, upgrade,
};

/// What was asked of the backend, as far as the response depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub method: Method,
    /// The protocols in the `Upgrade` that went to the backend, one of which it may agree to by 101.
    pub upgrade: Option<&'a [u8]>,
}

/// A response's head, and what all its fields together mean. Lives off the buffer that it was read into.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'b> {
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase as it came; often empty.
    pub reason: &'b [u8],
    pub body: BodyLength,
    /// The length that a response to HEAD, or a 304, tells of the body that it does not have.
    pub told_length: Option<u64>,
    /// Whether the backend will take another request on this connection once the body has ended.
    pub keep_alive: bool,
    /// The protocol that is spoken from here on; there in a 101 and nowhere else.
    pub upgrade: Option<&'b [u8]>,
    pub fields: Fields<'b>,
    pub(super) nominates: bool,
}

impl ResponseHead<'_> {
    /// 1xx: another head follows. 101 is the last one.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether the end of the body can only be told to a `client` of that version by closing.
    pub fn ends_by_close(&self, client: Version) -> bool {
        match self.body {
            BodyLength::UntilClose => true,
            BodyLength::Chunked => client == Version::Http10,
            BodyLength::None | BodyLength::Length(_) => false,
        }
    }
}

/// Parses the response head at the front of `buf`, as strictly as a request's: see [`super::head::parse`].
pub fn parse<'b>(
    buf: &'b [u8],
    limits: &Limits,
    asked: Asked<'_>,
    index: &'b mut FieldIndex,
) -> Result<Parse<ResponseHead<'b>>, BadResponse> {
    let window = limits.window(buf);
    match parse_window(window, limits, asked, index)? {
        Some((head, len)) => Ok(Parse::Complete { head, len }),
        None if limits.exhausted(window) => Err(BadResponse::HeadTooLarge),
        None => Ok(Parse::Partial),
    }
}

fn parse_window<'b>(
    window: &'b [u8],
    limits: &Limits,
    asked: Asked<'_>,
    index: &'b mut FieldIndex,
) -> Result<Option<(ResponseHead<'b>, usize)>, BadResponse> {
    let Some((line, at)) = status_line(window)? else { return Ok(None) };
    if !(100..=599).contains(&line.status) || (line.status == 101 && asked.upgrade.is_none()) {
        return Err(BadResponse::Status);
    }
    match Fields::parse(window, at, limits, index)? {
        Some((fields, len)) => Ok(Some((understand(&line, fields, asked)?, len))),
        None => Ok(None),
    }
}

fn understand<'b>(
    line: &StatusLine<'b>,
    fields: Fields<'b>,
    asked: Asked<'_>,
) -> Result<ResponseHead<'b>, BadResponse> {
    let method = asked.method;
    let StatusLine { version, status, reason } = *line;
    let body = framing::of_response(&fields, method, status, version)?;
    let options = hop::options(&fields)?;
    let upgrade = match status {
        101 => Some(upgrade::agreed(&fields, options, version, asked.upgrade).ok_or(BadResponse::Upgrade)?),
        _ => None,
    };
    Ok(ResponseHead {
        version,
        status,
        reason,
        body,
        told_length: framing::told_length(&fields, method, status),
        keep_alive: options.persist(version) && body != BodyLength::UntilClose,
        upgrade,
        nominates: options.nominates,
        fields,
    })
}

struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b [u8],
}

/// Parses the status line and returns it with the place after it. The SP before an empty reason may be missing: RFC 9112
/// §4 wants it, many leave it out, and nobody can read it otherwise.
fn status_line(buf: &[u8]) -> Result<Option<(StatusLine<'_>, usize)>, BadResponse> {
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'v' => matches!(byte, b'0' | b'1'),
        b'd' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    if !buf.iter().zip(b"HTTP/1.v ddd").all(fits) {
        return Err(BadResponse::Line);
    }
    let [_, _, _, _, _, _, _, minor, _, hundreds, tens, ones, rest @ ..] = buf else { return Ok(None) };
    let Some((reason, tail)) = reason(rest)? else { return Ok(None) };
    let status = [hundreds, tens, ones].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'));
    let version = if *minor == b'1' { Version::Http11 } else { Version::Http10 };
    Ok(Some((StatusLine { version, status, reason }, buf.len() - tail.len())))
}

/// The reason phrase in what follows the status code, and what follows its line.
fn reason(rest: &[u8]) -> Result<Option<Split<'_>>, BadResponse> {
    if !matches!(rest, [] | [b'\r'] | [b'\r', b'\n', ..] | [b' ', ..]) {
        return Err(BadResponse::Line);
    }
    let Some((line, tail)) = memchr::memchr(b'\n', rest).and_then(|lf| rest.split_at_checked(lf + 1)) else {
        return Ok(None);
    };
    let line = line.strip_suffix(b"\r\n").ok_or(BadResponse::Line)?;
    let reason = line.strip_prefix(b" ").unwrap_or(line);
    if text::is_text(reason) { Ok(Some((reason, tail))) } else { Err(BadResponse::Line) }
}
