//! The head of a request.

mod line;
#[cfg(test)]
mod tests;

use super::{BodyLength, FieldIndex, Fields, Limits, Name, Parse, Refusal, Target, Version, framing, hop, host, text};
use line::RequestLine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    /// Any other, passed on as it came.
    Other,
}

impl Method {
    /// `token` as it came.
    pub(crate) fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether doing it twice does no more than doing it once (RFC 9110 §9.2.2). Unknown methods are not.
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Patch | Self::Other => false,
        }
    }
}

/// A request's head, and what all its fields together mean. Lives off the buffer that it was read into.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b> {
    pub method: Method,
    /// The method as it came.
    pub verb: &'b [u8],
    pub target: Target<'b>,
    pub version: Version,
    /// Host and port that the request is for: an absolute target's, else `Host`'s. HTTP/1.0 alone may have none.
    pub host: Option<&'b [u8]>,
    pub body: BodyLength,
    /// Whether the client wants to send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub expect_continue: bool,
    /// The client takes trailers.
    pub te_trailers: bool,
    /// The protocols that the client would rather speak.
    pub upgrade: Option<&'b [u8]>,
    pub fields: Fields<'b>,
    pub(super) nominates: bool,
}

/// Parses the request head at the front of `buf`. The answer for the bytes of a whole head is the answer for each longer
/// `buf`, and for each shorter one it is the same refusal or `Partial`.
pub fn parse<'b>(buf: &'b [u8], limits: &Limits, index: &'b mut FieldIndex) -> Result<Parse<RequestHead<'b>>, Refusal> {
    let window = limits.window(buf);
    match parse_window(window, limits, index)? {
        Some((head, len)) => Ok(Parse::Complete { head, len }),
        None if limits.exhausted(window) => Err(Refusal::HeadTooLarge),
        None => Ok(Parse::Partial),
    }
}

fn parse_window<'b>(
    window: &'b [u8],
    limits: &Limits,
    index: &'b mut FieldIndex,
) -> Result<Option<(RequestHead<'b>, usize)>, Refusal> {
    let Some((line, at)) = line::parse(window, limits)? else {
        return Ok(None);
    };
    match Fields::parse(window, at, limits, index)? {
        Some((fields, len)) => Ok(Some((understand(&line, fields)?, len))),
        None => Ok(None),
    }
}

fn understand<'b>(line: &RequestLine<'b>, fields: Fields<'b>) -> Result<RequestHead<'b>, Refusal> {
    let RequestLine { method, verb, target, version } = *line;
    let host = effective_host(&fields, &target, version)?;
    let body = framing::of_request(&fields, method, version)?;
    let options = hop::options(&fields)?;
    // What HTTP/1.0 says of later inventions is noise (RFC 9110 §7.8, §10.1.1).
    let lists = |name, element: &[u8]| {
        version == Version::Http11
            && fields.values(name).flat_map(text::list).any(|listed| listed.eq_ignore_ascii_case(element))
    };
    Ok(RequestHead {
        method,
        verb,
        target,
        version,
        host,
        body,
        keep_alive: options.persist(version),
        expect_continue: !matches!(body, BodyLength::None | BodyLength::Length(0))
            && lists(Name::Expect, b"100-continue"),
        te_trailers: lists(Name::Te, b"trailers"),
        upgrade: if options.upgrade && version == Version::Http11 { fields.values(Name::Upgrade).next() } else { None },
        nominates: options.nominates,
        fields,
    })
}

/// RFC 9112 §3.2, with HTTP/1.0 held to the same where it sends a `Host`.
fn effective_host<'b>(fields: &Fields<'b>, target: &Target<'b>, version: Version) -> Result<Option<&'b [u8]>, Refusal> {
    let mut hosts = fields.values(Name::Host);
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http11 => Err(Refusal::Host),
        (None, _) => Ok(target.authority()),
        (Some(host), None) if host::is_valid(host) => Ok(Some(target.authority().unwrap_or(host))),
        (Some(_), _) => Err(Refusal::Host),
    }
}
