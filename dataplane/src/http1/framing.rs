//! Where a message ends (RFC 9112 §6): the one place that decides it, for requests and for responses.

use super::{BadFraming, Fields, Method, Name, Version, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// The message ends with its head.
    None,
    /// Bytes; may be 0, which is said on the wire and so is not the same as `None`.
    Length(u64),
    Chunked,
    /// All until the backend closes; never a request.
    UntilClose,
}

/// How a request that came with `fields` is framed.
pub(super) fn of_request(fields: &Fields<'_>, method: Method, version: Version) -> Result<BodyLength, BadFraming> {
    match declared(fields, version)? {
        None => Ok(BodyLength::None),
        Some(_) if method == Method::Trace => Err(BadFraming::Trace),
        Some(length) => Ok(length),
    }
}

/// How a response to `method` is framed. A response that can't have a body has none, whatever its fields say.
pub(super) fn of_response(
    fields: &Fields<'_>,
    method: Method,
    status: u16,
    version: Version,
) -> Result<BodyLength, BadFraming> {
    if is_bodiless(method, status) {
        return Ok(BodyLength::None);
    }
    Ok(declared(fields, version)?.unwrap_or(BodyLength::UntilClose))
}

/// The length that a response without a body tells of the body it stands for: answers to HEAD, and 304.
pub(super) fn told_length(fields: &Fields<'_>, method: Method, status: u16) -> Option<u64> {
    let tells = status == 304 || (method == Method::Head && status >= 200 && status != 204);
    if tells && !fields.has(Name::TransferEncoding) { content_length(fields) } else { None }
}

fn is_bodiless(method: Method, status: u16) -> bool {
    method == Method::Head || status < 200 || status == 204 || status == 304
}

fn declared(fields: &Fields<'_>, version: Version) -> Result<Option<BodyLength>, BadFraming> {
    match (fields.has(Name::ContentLength), fields.has(Name::TransferEncoding)) {
        (false, false) => Ok(None),
        (true, true) => Err(BadFraming::LengthAndCoding),
        (true, false) => {
            content_length(fields).map(|length| Some(BodyLength::Length(length))).ok_or(BadFraming::Length)
        }
        (false, true) if version == Version::Http10 => Err(BadFraming::CodingInHttp10),
        (false, true) => only_chunked(fields).map(|()| Some(BodyLength::Chunked)),
    }
}

/// The one length that all `Content-Length` fields, and all elements of their lists, agree on (RFC 9110 §8.6).
fn content_length(fields: &Fields<'_>) -> Option<u64> {
    let mut elements = fields.values(Name::ContentLength).flat_map(|value| value.split(|byte| *byte == b','));
    let length = text::length(text::trim(elements.next()?))?;
    elements.all(|element| text::length(text::trim(element)) == Some(length)).then_some(length)
}

/// `chunked`, once, in one field. Lists that end in it after codings which exist are told from nonsense, because the
/// first is a client's wish and the second an attack.
fn only_chunked(fields: &Fields<'_>) -> Result<(), BadFraming> {
    let mut elements = fields
        .values(Name::TransferEncoding)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(text::trim)
        .peekable();
    let mut codings = 0;
    while let Some(coding) = elements.next() {
        let last = elements.peek().is_none();
        match coding.eq_ignore_ascii_case(b"chunked") {
            true if last && codings == 0 => return Ok(()),
            true if last => return Err(BadFraming::UnknownCoding),
            false if is_compression(coding) => codings += 1,
            _ => return Err(BadFraming::Coding),
        }
    }
    Err(BadFraming::Coding)
}

fn is_compression(coding: &[u8]) -> bool {
    [&b"gzip"[..], b"deflate", b"compress", b"x-gzip", b"x-compress"]
        .iter()
        .any(|known| coding.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
