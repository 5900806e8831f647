use super::super::{Name, text};

/// What becomes of a trailer line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailer {
    Forward,
    Drop,
    /// The empty line.
    End,
}

/// Names that say something about framing, routing, the request itself, who asks, or how to read the body, and so come
/// too late in a trailer (RFC 9110 §6.5.1): a reader that merges trailers into the head would act on them.
const TOO_LATE: [&str; 34] = [
    "accept-encoding",
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "early-data",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy",
    "range",
    "retry-after",
    "set-cookie2",
    "strict-transport-security",
    "trailer",
    "vary",
    "warning",
    "www-authenticate",
    "x-http-method-override",
    "x-real-ip",
];

/// Reads one line without its CRLF; `None` if it is not a field. What could be taken for `claimed` is no one's to say.
pub(super) fn parse(line: &[u8], claimed: Option<&str>) -> Option<Trailer> {
    if line.is_empty() {
        return Some(Trailer::End);
    }
    let (label, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    if !text::is_token(label) || !text::is_text(value) {
        return None;
    }
    // Every name that we act on in a head is one of those; so is what only looks like it.
    let too_late = Name::of(label) != Name::Other
        || claimed.is_some_and(|claimed| text::are_alike(label, claimed.as_bytes()))
        || TOO_LATE.iter().any(|name| label.eq_ignore_ascii_case(name.as_bytes()))
        || label.get(..12).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"x-forwarded-"));
    Some(if too_late { Trailer::Drop } else { Trailer::Forward })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailer_lines() {
        for (line, expected) in [
            ("", Some(Trailer::End)),
            ("Server-Timing: db;dur=53", Some(Trailer::Forward)),
            ("grpc-status:0", Some(Trailer::Forward)),
            ("Content-Digest: sha-256=:x:", Some(Trailer::Forward)),
            ("X:", Some(Trailer::Forward)),
            ("Content-Length: 5", Some(Trailer::Drop)),
            ("transfer-encoding: chunked", Some(Trailer::Drop)),
            ("Transfer_Encoding: chunked", Some(Trailer::Drop)),
            ("Host: evil.example", Some(Trailer::Drop)),
            ("Cookie: a=b", Some(Trailer::Drop)),
            ("Set-Cookie: a=b", Some(Trailer::Drop)),
            ("Authorization: Basic x", Some(Trailer::Drop)),
            ("Connection: close", Some(Trailer::Drop)),
            ("Proxy-Authorization: x", Some(Trailer::Drop)),
            ("X-Forwarded-For: 1.2.3.4", Some(Trailer::Drop)),
            ("X-Forwarded-Port: 1", Some(Trailer::Drop)),
            ("Trailer: a", Some(Trailer::Drop)),
            ("WWW-Authenticate: Basic", Some(Trailer::Drop)),
            ("X : y", None),
            (" X: y", None),
            ("\tfolded", None),
            ("no colon", None),
            (": empty", None),
            ("X: a\0b", None),
            ("X: a\rb", None),
            ("X: a\u{7f}", None),
            ("é: a", None),
        ] {
            assert_eq!(parse(line.as_bytes(), None), expected, "{line:?}");
        }
        for (line, expected) in [
            ("X-Subject: a", Trailer::Drop),
            ("x_subject:a", Trailer::Drop),
            ("X-Subjects: a", Trailer::Forward),
            ("Host: a", Trailer::Drop),
        ] {
            assert_eq!(parse(line.as_bytes(), Some("x-Subject")), Some(expected), "{line:?}");
        }
    }
}
