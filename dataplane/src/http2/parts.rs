//! Fields and bodies of the text as HTTP/2 has them. Like [`super::text`], [`super::ask`] and [`super::answer`] this knows no
//! stream: the fuzz target compiles the four as they stand.

use crate::http::{BadBody, Body, Piece};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Why text was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Nobody is there for it.
    Gone,
    /// It broke off, or is no message.
    Broken,
}

/// What came of a body.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) data: Bytes,
    /// Where there are any, the body has ended.
    pub(super) trailers: Option<HeaderMap>,
}

/// Takes what `text` holds of the body, and leaves there what is not whole yet. `lines` gathers those of trailers.
///
/// # Errors
/// Where it is no body, or its trailers can't be sent on.
pub(super) fn part(text: &mut Vec<u8>, body: &mut Body, lines: &mut Vec<u8>) -> Result<Part, Unsent> {
    let Piece { send, trailing, consumed } = body.take(text, u64::MAX).map_err(|_: BadBody| Unsent::Broken)?;
    let rest = text.split_off(consumed);
    let mut taken = std::mem::replace(text, rest);
    lines.extend_from_slice(&taken[send..send + trailing]);
    taken.truncate(send);
    let trailers = if body.is_done() { fields(lines)? } else { HeaderMap::new() };
    Ok(Part { data: taken.into(), trailers: (!trailers.is_empty()).then_some(trailers) })
}

/// Trailer lines as fields.
fn fields(lines: &[u8]) -> Result<HeaderMap, Unsent> {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(at) = memchr::memchr(b':', line) else { continue };
        append(&mut fields, &line[..at], line[at + 1..].trim_ascii())?;
    }
    Ok(fields)
}

/// Appends a field of the text.
///
/// # Errors
/// Where it is none of HTTP/2.
pub(super) fn append(fields: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Unsent> {
    let name = HeaderName::from_bytes(name).map_err(|_| Unsent::Broken)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Unsent::Broken)?;
    fields.try_append(name, value).map(drop).map_err(|_| Unsent::Broken)
}

pub(super) fn pairs(fields: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}
