//! The head for the other side: one pass over the fields, one contiguous head appended to `out`.
//!
//! Fields that are passed on keep their order and the spelling of their names. What is meant for one hop is left out, and
//! the one field that frames the body is written anew from [`BodyLength`], so that the next reader has no choice.

mod forwarding;
mod identity;
mod lines;
#[cfg(test)]
mod tests;
mod wrapped;

pub use wrapped::{Carrier, Wrap};

use super::{BodyLength, Name, RequestHead, ResponseHead, Version, hop, reply, text};
use affinity::cookie::CookieName;
use control::spec::Forwarding;
use identity::Identity;
use lines::Lines;

/// What a backend is told beyond what the client said.
#[derive(Clone, Copy, Debug)]
pub struct ToBackend<'a> {
    pub forwarding: &'a Forwarding,
    /// The peer is a proxy whose forwarding fields are believed.
    pub trusted: bool,
    /// The client's address, without brackets or port.
    pub client_ip: &'a str,
    /// The client came over TLS.
    pub tls: bool,
    /// The request came over HTTP/2.
    pub http2: bool,
    pub subject: Option<Subject<'a>>,
    /// `Host` for an HTTP/1.0 request that has none.
    pub backend_host: &'a str,
    /// The affinity cookie, which is no business of the backend's.
    pub hide_cookie: Option<&'a CookieName>,
    /// What has tokens of ours in front of its values.
    pub unwrap: Option<Carrier<'a>>,
    /// The protocols that the client may have; see [`super::upgrade::wanted`].
    pub upgrade: Option<&'a [u8]>,
    /// A number that no other request has, for the names that it is given.
    pub unique: u128,
}

/// Whom the client's certificate names.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The field in which the backend is told so, and nobody else may say it.
    pub header: &'a str,
    /// Absent where the client has shown none.
    pub name: Option<&'a str>,
}

impl Subject<'_> {
    /// Whether a reader could take the field for ours: some turn `-` into `_`.
    fn is_claimed_by(&self, label: &[u8]) -> bool {
        text::are_alike(label, self.header.as_bytes())
    }
}

/// Appends `head` as it goes to the backend, always as HTTP/1.1.
///
/// Imitations (see [`Name::Imitation`]) are left out, whoever they come from.
/// `Expect` is passed on only in the one form that means something, for a body that is there; in any other it has been
/// used to make two parties disagree on who speaks next. `TE: trailers` is passed on, with the option that it needs
/// (RFC 9110 §10.1.4), since trailers are passed back.
pub fn request(head: &RequestHead<'_>, to: &ToBackend<'_>, out: &mut Vec<u8>) {
    let source = head.fields.head();
    out.reserve(source.len() + 256);
    let (slash, rest) = head.target.origin();
    let host = head.host.unwrap_or(to.backend_host.as_bytes());
    for part in [head.verb, b" ", slash, rest, b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
        out.extend_from_slice(part);
    }
    let identity = Identity::of(head, to);
    let mut lines = Lines::new(source, out);
    for field in head.fields.iter() {
        let carrier = to.unwrap.filter(|carrier| carrier.is_request_field(&field));
        match field.name {
            // Whatever the field is called otherwise.
            _ if to.subject.is_some_and(|subject| subject.is_claimed_by(field.label)) => {}
            Name::Other if head.nominates && hop::nominated(&head.fields, field.label) => {}
            Name::Other | Name::Cookie if let Some(carrier) = carrier => lines.write(&field, |value, out| {
                carrier.unwrap(value, out);
                true
            }),
            Name::Other | Name::CacheControl | Name::SetCookie | Name::Via => lines.keep(&field),
            Name::Cookie => match to.hide_cookie {
                Some(hidden) if hidden.is_in(field.value) => {
                    lines.write(&field, |value, out| hidden.without(value, out));
                }
                _ => lines.keep(&field),
            },
            Name::Forwarded | Name::XForwardedFor | Name::XForwardedHost | Name::XForwardedProto => {
                if forwarding::passes(field.name, to) {
                    lines.keep(&field);
                }
            }
            Name::Traceparent | Name::Tracestate | Name::XRequestId => {
                if identity.passes(field.name) {
                    lines.keep(&field);
                }
            }
            Name::Connection
            | Name::ContentLength
            | Name::Expect
            | Name::Hop
            | Name::Host
            | Name::Imitation
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade => {}
        }
    }
    lines.finish();
    framing(head.body, out);
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    match (head.te_trailers, to.upgrade) {
        (false, None) => {}
        (true, None) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
        (te, Some(protocols)) => {
            let options: &[u8] = if te { b"TE: trailers\r\nConnection: TE, Upgrade" } else { b"Connection: Upgrade" };
            switch(options, protocols, out);
        }
    }
    forwarding::write(head, to, out);
    identity.write(to, out);
    if let Some(Subject { header, name: Some(name) }) = to.subject {
        for part in [header, ": ", name, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    via(head.version, to.http2, &to.forwarding.via, out);
    out.extend_from_slice(b"\r\n");
}

/// What a client is told beyond what the backend said.
#[derive(Clone, Copy, Debug)]
pub struct ToClient<'a> {
    /// The client's.
    pub version: Version,
    /// The response came over HTTP/2.
    pub http2: bool,
    /// Whether the client's connection may stay open after this response.
    pub keep_alive: bool,
    /// Our name in `Via`; empty writes none.
    pub via: &'a str,
    /// Whole field lines of ours, each with its CRLF.
    pub extra: &'a [u8],
    /// The token that goes in front of the session's name.
    pub wrap: Option<Wrap<'a>>,
    /// For how many seconds browsers come over TLS alone (RFC 6797), unless the backend says so itself.
    pub hsts: Option<u32>,
    /// `extra` or `wrap` is for this one user, so no shared cache may store the response.
    pub private: bool,
}

/// Appends `head` as it goes to the client and returns whether the client's connection stays open: not where closing is
/// the only way to end the body, see [`ResponseHead::ends_by_close`].
pub fn response(head: &ResponseHead<'_>, to: &ToClient<'_>, out: &mut Vec<u8>) -> bool {
    let keep_alive = to.keep_alive && !head.ends_by_close(to.version);
    status_and_fields(head, to.wrap, out);
    match (head.body, head.told_length) {
        (BodyLength::None, Some(told)) => framing(BodyLength::Length(told), out),
        (BodyLength::Chunked, _) if to.version == Version::Http10 => {}
        (body, _) => framing(body, out),
    }
    match head.upgrade {
        None => out.extend_from_slice(reply::connection(to.version, keep_alive)),
        Some(protocol) => switch(b"Connection: Upgrade", protocol, out),
    }
    via(head.version, to.http2, to.via, out);
    out.extend_from_slice(to.extra);
    if let Some(seconds) = to.hsts.filter(|_| !head.fields.iter().any(|field| is_hsts(field.label))) {
        out.extend_from_slice(b"Strict-Transport-Security: max-age=");
        text::decimal(u64::from(seconds), out);
        out.extend_from_slice(b"\r\n");
    }
    if to.private && !head.fields.values(Name::CacheControl).any(keeps_caches_off) {
        // RFC 9111 §3: `private` forbids a shared cache to store, whatever other directives allow.
        out.extend_from_slice(b"Cache-Control: private\r\n");
    }
    out.extend_from_slice(b"\r\n");
    keep_alive
}

/// Appends a 1xx as it goes to the client, which must speak HTTP/1.1 (RFC 9110 §15.2). `http2` and `via_name` as in
/// [`ToClient`].
pub fn interim(head: &ResponseHead<'_>, http2: bool, via_name: &str, out: &mut Vec<u8>) {
    status_and_fields(head, None, out);
    via(head.version, http2, via_name, out);
    out.extend_from_slice(b"\r\n");
}

fn status_and_fields(head: &ResponseHead<'_>, wrap: Option<Wrap<'_>>, out: &mut Vec<u8>) {
    let source = head.fields.head();
    out.reserve(source.len() + 512);
    out.extend_from_slice(b"HTTP/1.1 ");
    text::decimal(u64::from(head.status), out);
    for part in [b" ", head.reason, b"\r\n"] {
        out.extend_from_slice(part);
    }
    let mut lines = Lines::new(source, out);
    for field in head.fields.iter() {
        let wrap = wrap.and_then(|wrap| Some((wrap, wrap.place(&field)?)));
        match field.name {
            Name::Other | Name::Imitation if head.nominates && hop::nominated(&head.fields, field.label) => {}
            Name::Other | Name::SetCookie if let Some((wrap, at)) = wrap => lines.write(&field, |value, out| {
                wrap.write(value, at, out);
                true
            }),
            Name::Connection | Name::ContentLength | Name::Hop | Name::Te | Name::TransferEncoding | Name::Upgrade => {}
            Name::Other
            | Name::Imitation
            | Name::CacheControl
            | Name::Cookie
            | Name::Expect
            | Name::Forwarded
            | Name::Host
            | Name::SetCookie
            | Name::Traceparent
            | Name::Tracestate
            | Name::Via
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedProto
            | Name::XRequestId => lines.keep(&field),
        }
    }
    lines.finish();
}

/// The one field that frames the body, if it needs one.
fn framing(body: BodyLength, out: &mut Vec<u8>) {
    match body {
        BodyLength::None | BodyLength::UntilClose => {}
        BodyLength::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            text::decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// The line with the option, and the one with the protocols.
fn switch(options: &[u8], protocols: &[u8], out: &mut Vec<u8>) {
    for part in [options, b"\r\nUpgrade: ", protocols, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// A further `Via` line (RFC 9110 §7.6.3) with the version that the message came in.
fn via(received: Version, http2: bool, name: &str, out: &mut Vec<u8>) {
    if !name.is_empty() {
        out.extend_from_slice(match (received, http2) {
            (_, true) => b"Via: 2.0 ",
            (Version::Http11, false) => b"Via: 1.1 ",
            (Version::Http10, false) => b"Via: 1.0 ",
        });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn is_hsts(label: &[u8]) -> bool {
    label.eq_ignore_ascii_case(b"strict-transport-security")
}

/// Whether a `Cache-Control` value forbids shared caches to store. `private="field"` does not, and a value with any
/// quoted string is not trusted to be read right: one `private` too many does no harm.
fn keeps_caches_off(value: &[u8]) -> bool {
    !value.contains(&b'"')
        && text::list(value)
            .any(|directive| directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store"))
}
