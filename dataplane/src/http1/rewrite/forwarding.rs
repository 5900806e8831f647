//! What a backend is told about the client: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use super::super::{Name, RequestHead, text};
use super::ToBackend;
use control::spec::ForwardMode;

/// Whether a forwarding field that came is passed on as it is. `X-Forwarded-For` and `Forwarded` that are appended to are
/// not: [`write`] writes them as one line, since some backends read but the first or the last one.
pub(super) fn passes(name: Name, to: &ToBackend<'_>) -> bool {
    match mode(name, to) {
        ForwardMode::Off => true,
        ForwardMode::Replace => false,
        ForwardMode::Append => to.trusted && matches!(name, Name::XForwardedHost | Name::XForwardedProto),
    }
}

/// Appends ours.
pub(super) fn write(head: &RequestHead<'_>, to: &ToBackend<'_>, out: &mut Vec<u8>) {
    let scheme: &[u8] = if to.tls { b"https" } else { b"http" };
    if mode(Name::XForwardedFor, to) != ForwardMode::Off {
        out.extend_from_slice(b"X-Forwarded-For: ");
        earlier(head, Name::XForwardedFor, to, out);
        out.extend_from_slice(to.client_ip.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    single(head, Name::XForwardedProto, b"X-Forwarded-Proto: ", scheme, to, out);
    if let Some(host) = head.host {
        single(head, Name::XForwardedHost, b"X-Forwarded-Host: ", host, to, out);
    }
    if mode(Name::Forwarded, to) != ForwardMode::Off {
        out.extend_from_slice(b"Forwarded: ");
        earlier(head, Name::Forwarded, to, out);
        node(to.client_ip, out);
        if let Some(host) = head.host {
            out.extend_from_slice(b";host=");
            token_or_quoted(host, out);
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(scheme);
        out.extend_from_slice(b"\r\n");
    }
}

fn mode(name: Name, to: &ToBackend<'_>) -> ForwardMode {
    #[allow(clippy::wildcard_enum_match_arm, reason = "asked for these four alone")]
    match name {
        Name::XForwardedFor => to.forwarding.x_forwarded_for,
        Name::XForwardedHost => to.forwarding.x_forwarded_host,
        Name::XForwardedProto => to.forwarding.x_forwarded_proto,
        Name::Forwarded => to.forwarding.forwarded,
        _ => ForwardMode::Off,
    }
}

/// A field that has one value: a trusted peer's, which has been passed on already, else ours.
fn single(head: &RequestHead<'_>, name: Name, label: &[u8], ours: &[u8], to: &ToBackend<'_>, out: &mut Vec<u8>) {
    let mode = mode(name, to);
    let passed_on = mode == ForwardMode::Append && to.trusted && head.fields.has(name);
    if mode != ForwardMode::Off && !passed_on {
        for part in [label, ours, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// The list that a trusted peer sent, from all its fields, up to where ours goes. A value with an open quote is left out:
/// it would swallow what comes after it.
fn earlier(head: &RequestHead<'_>, name: Name, to: &ToBackend<'_>, out: &mut Vec<u8>) {
    if mode(name, to) != ForwardMode::Append || !to.trusted {
        return;
    }
    for value in head.fields.values(name).filter(|value| !value.is_empty() && quotes_close(value)) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

fn quotes_close(value: &[u8]) -> bool {
    let mut open = false;
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => open = !open,
            b'\\' if open => drop(bytes.next()),
            _ => {}
        }
    }
    !open
}

/// RFC 7239 §6: an IPv6 address in brackets, and so in quotes.
fn node(client_ip: &str, out: &mut Vec<u8>) {
    let (before, after): (&[u8], &[u8]) = if client_ip.contains(':') { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    for part in [before, client_ip.as_bytes(), after] {
        out.extend_from_slice(part);
    }
}

/// A host holds neither quote nor backslash, so that there is nothing to escape.
fn token_or_quoted(host: &[u8], out: &mut Vec<u8>) {
    let quote: &[u8] = if text::is_token(host) { b"" } else { b"\"" };
    for part in [quote, host, quote] {
        out.extend_from_slice(part);
    }
}
