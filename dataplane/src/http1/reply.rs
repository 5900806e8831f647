//! The answers that are our own: plain, and silent about what is behind us.

use super::{Version, text};

/// The statuses that the data plane answers with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    PermanentRedirect = 308,
    BadRequest = 400,
    NotFound = 404,
    RequestTimeout = 408,
    Gone = 410,
    ContentTooLarge = 413,
    UriTooLong = 414,
    HeadTooLarge = 431,
    NotImplemented = 501,
    BadGateway = 502,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    VersionNotSupported = 505,
    /// 400 with words of its own: to a client that speaks in clear text where TLS is spoken.
    TlsExpected,
}

impl Status {
    pub fn code(self) -> u16 {
        if self == Self::TlsExpected { Self::BadRequest as u16 } else { self as u16 }
    }

    /// RFC 9110 §15, RFC 6585 §5.
    fn reason(self) -> &'static str {
        match self {
            Self::PermanentRedirect => "Permanent Redirect",
            Self::BadRequest => "Bad Request",
            Self::NotFound => "Not Found",
            Self::RequestTimeout => "Request Timeout",
            Self::Gone => "Gone",
            Self::ContentTooLarge => "Content Too Large",
            Self::UriTooLong => "URI Too Long",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented => "Not Implemented",
            Self::BadGateway => "Bad Gateway",
            Self::ServiceUnavailable => "Service Unavailable",
            Self::GatewayTimeout => "Gateway Timeout",
            Self::VersionNotSupported => "HTTP Version Not Supported",
            Self::TlsExpected => "This Port Expects HTTPS",
        }
    }
}

/// gRPC's code for a backend that can't be reached, or went.
pub const UNAVAILABLE: u64 = 14;

impl Status {
    /// The code that tells a client of gRPC the same: whether to try again, and where the fault is
    /// (`doc/statuscodes.md` of grpc/grpc).
    fn grpc(self) -> u64 {
        match self {
            Self::GatewayTimeout => 4,
            // Of a session that is no more.
            Self::NotFound | Self::Gone => 5,
            Self::ContentTooLarge | Self::UriTooLong | Self::HeadTooLarge => 8,
            Self::RequestTimeout => 10,
            Self::NotImplemented => 12,
            Self::BadRequest | Self::VersionNotSupported | Self::TlsExpected | Self::PermanentRedirect => 13,
            Self::BadGateway | Self::ServiceUnavailable => UNAVAILABLE,
        }
    }
}

/// Whether a message with this `Content-Type` is of gRPC.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: Status,
    /// The client's; 1.1 where none was read.
    pub version: Version,
    pub keep_alive: bool,
    /// An answer to HEAD, which has no body.
    pub to_head: bool,
    /// An answer to a call of gRPC, which reads a status of its own.
    pub to_grpc: bool,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// Where a redirect leads.
    pub location: Option<Box<[u8]>>,
}

impl Reply {
    /// The reply after which the connection is closed, as it must be where the framing is in doubt.
    pub fn closing(status: Status) -> Self {
        Self {
            status,
            version: Version::Http11,
            keep_alive: false,
            to_head: false,
            to_grpc: false,
            retry_after: None,
            location: None,
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        if self.to_grpc {
            return self.write_grpc(out);
        }
        let (code, reason) = (u64::from(self.status.code()), self.status.reason().as_bytes());
        out.extend_from_slice(b"HTTP/1.1 ");
        text::decimal(code, out);
        out.push(b' ');
        out.extend_from_slice(reason);
        // Caches may keep a 414 or 501 unless told not to (RFC 9110 §15.1).
        out.extend_from_slice(b"\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: ");
        text::decimal(reason.len() as u64 + 5, out);
        out.extend_from_slice(b"\r\n");
        if let Some(seconds) = self.retry_after {
            out.extend_from_slice(b"Retry-After: ");
            text::decimal(u64::from(seconds), out);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(location) = &self.location {
            for part in [b"Location: ", &**location, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(connection(self.version, self.keep_alive));
        out.extend_from_slice(b"\r\n");
        if !self.to_head {
            text::decimal(code, out);
            out.push(b' ');
            out.extend_from_slice(reason);
            out.push(b'\n');
        }
    }
    /// Trailers alone, as gRPC has it: over HTTP/2 a head without a body.
    fn write_grpc(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: ");
        text::decimal(self.status.grpc(), out);
        out.extend_from_slice(b"\r\nGrpc-Message: ");
        out.extend_from_slice(self.status.reason().as_bytes());
        out.extend_from_slice(b"\r\nCache-Control: no-store\r\nContent-Length: 0\r\n");
        out.extend_from_slice(connection(self.version, self.keep_alive));
        out.extend_from_slice(b"\r\n");
    }
}

/// The `Connection` line that a client of that version needs to be told what becomes of its connection.
pub(super) fn connection(client: Version, keep_alive: bool) -> &'static [u8] {
    match (client, keep_alive) {
        (_, false) => b"Connection: close\r\n",
        (Version::Http10, true) => b"Connection: keep-alive\r\n",
        (Version::Http11, true) => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GET, answer};
    use super::super::{Asked, BodyLength, Method};
    use super::*;

    const ALL: [Status; 14] = [
        Status::PermanentRedirect,
        Status::TlsExpected,
        Status::BadRequest,
        Status::NotFound,
        Status::RequestTimeout,
        Status::Gone,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::HeadTooLarge,
        Status::NotImplemented,
        Status::BadGateway,
        Status::ServiceUnavailable,
        Status::GatewayTimeout,
        Status::VersionNotSupported,
    ];

    #[test]
    fn every_reply_is_a_whole_response_of_its_length() {
        for status in ALL {
            for (to_head, keep_alive) in [(false, false), (true, true)] {
                let mut out = Vec::new();
                Reply { to_head, keep_alive, ..Reply::closing(status) }.write(&mut out);
                let asked = Asked { method: if to_head { Method::Head } else { Method::Get }, upgrade: None };
                let at = memchr::memmem::find(&out, b"\r\n\r\n").unwrap() + 4;
                let (head, body) = (answer(&out[..at], asked), (out.len() - at) as u64);
                assert_eq!(head.status, status.code());
                assert_eq!(head.keep_alive, keep_alive);
                match to_head {
                    true => assert_eq!((head.body, body), (BodyLength::None, 0)),
                    false => assert_eq!(head.body, BodyLength::Length(body)),
                }
            }
        }
    }

    #[test]
    fn calls_of_grpc_are_told_in_their_own_words() {
        let mut out = Vec::new();
        Reply { to_grpc: true, keep_alive: true, ..Reply::closing(Status::ServiceUnavailable) }.write(&mut out);
        let head = answer(&out, GET);
        assert_eq!((head.status, head.body), (200, BodyLength::Length(0)));
        for (name, value) in
            [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", "Service Unavailable")]
        {
            assert_eq!(head.fields.called(name.as_bytes()).collect::<Vec<_>>(), [value.as_bytes()]);
        }
        for (content_type, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(content_type.as_bytes()), is, "{content_type}");
        }
    }

    #[test]
    fn a_reply_says_what_it_is_asked_to_and_no_more() {
        let mut out = Vec::new();
        let reply = Reply { retry_after: Some(7), ..Reply::closing(Status::ServiceUnavailable) };
        reply.write(&mut out);
        let expected = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
            Content-Length: 24\r\nRetry-After: 7\r\nConnection: close\r\n\r\n503 Service Unavailable\n";
        assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        out.clear();
        Reply { version: Version::Http10, keep_alive: true, ..reply.clone() }.write(&mut out);
        assert!(out.escape_ascii().to_string().contains("Connection: keep-alive"));
    }
}
