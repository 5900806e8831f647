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

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: Status,
    /// The client's; 1.1 where none was read.
    pub version: Version,
    pub keep_alive: bool,
    /// An answer to HEAD, which has no body.
    pub to_head: bool,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// Where a redirect leads.
    pub location: Option<Box<[u8]>>,
}

impl Reply {
    /// The reply after which the connection is closed, as it must be where the framing is in doubt.
    pub fn closing(status: Status) -> Self {
        Self { status, version: Version::Http11, keep_alive: false, to_head: false, retry_after: None, location: None }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
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
    use super::super::testing::answer;
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
