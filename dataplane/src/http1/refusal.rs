use super::Status;

/// Why a request's head is not taken. The client learns the status alone; `reason` is for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request line is not `method SP target SP version CRLF`.
    Line,
    /// Longer than any method that exists (RFC 9112 §3).
    Method,
    /// A forbidden byte, or a form that the method does not go with.
    Target,
    UriTooLong,
    Version,
    /// CONNECT is for proxies that the client chose.
    Connect,
    HeadTooLarge,
    Fields(BadFields),
    /// `Host` missing, doubled or malformed.
    Host,
    Framing(BadFraming),
}

/// Why a block of fields is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFields {
    /// Not `name: value`: a bad byte, a folded line, a space before the colon.
    Line,
    /// A line that ends in LF alone.
    BareLf,
    TooMany,
    /// More connection options than anybody has a use for.
    ConnectionOptions,
}

/// Why no end of the body can be told that every reader would agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFraming {
    LengthAndCoding,
    Length,
    Coding,
    /// Well formed, and a coding that we do not implement.
    UnknownCoding,
    /// HTTP/1.0 has no transfer codings.
    CodingInHttp10,
    /// TRACE has no content (RFC 9110 §9.3.8).
    Trace,
}

/// Why a response's head is not taken; all of them are 502 to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// The status line is not `version SP status [SP reason] CRLF`.
    Line,
    /// A status outside 100 to 599, or a 101 that nobody asked for.
    Status,
    /// A 101 to another protocol than one that was asked for.
    Upgrade,
    HeadTooLarge,
    Fields(BadFields),
    Framing(BadFraming),
}

impl Refusal {
    pub fn status(self) -> Status {
        match self {
            Self::Line | Self::Target | Self::Host => Status::BadRequest,
            Self::Fields(BadFields::TooMany) | Self::HeadTooLarge => Status::HeadTooLarge,
            Self::Fields(BadFields::Line | BadFields::BareLf | BadFields::ConnectionOptions) => Status::BadRequest,
            Self::Framing(BadFraming::UnknownCoding) | Self::Method | Self::Connect => Status::NotImplemented,
            Self::Framing(
                BadFraming::LengthAndCoding
                | BadFraming::Length
                | BadFraming::Coding
                | BadFraming::CodingInHttp10
                | BadFraming::Trace,
            ) => Status::BadRequest,
            Self::UriTooLong => Status::UriTooLong,
            Self::Version => Status::VersionNotSupported,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Line => "request-line",
            Self::Method => "method-too-long",
            Self::Target => "target",
            Self::UriTooLong => "uri-too-long",
            Self::Version => "version",
            Self::Connect => "connect",
            Self::HeadTooLarge => "head-too-large",
            Self::Fields(fields) => fields.reason(),
            Self::Host => "host",
            Self::Framing(framing) => framing.reason(),
        }
    }
}

impl BadResponse {
    pub fn status(self) -> Status {
        Status::BadGateway
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Line => "status-line",
            Self::Status => "status",
            Self::Upgrade => "upgrade",
            Self::HeadTooLarge => "head-too-large",
            Self::Fields(fields) => fields.reason(),
            Self::Framing(framing) => framing.reason(),
        }
    }
}

impl BadFields {
    fn reason(self) -> &'static str {
        match self {
            Self::Line => "field-line",
            Self::BareLf => "bare-lf",
            Self::TooMany => "too-many-headers",
            Self::ConnectionOptions => "connection-options",
        }
    }
}

impl BadFraming {
    fn reason(self) -> &'static str {
        match self {
            Self::LengthAndCoding => "length-and-coding",
            Self::Length => "content-length",
            Self::Coding => "transfer-encoding",
            Self::UnknownCoding => "unknown-coding",
            Self::CodingInHttp10 => "coding-in-http10",
            Self::Trace => "trace-content",
        }
    }
}

impl From<BadFields> for Refusal {
    fn from(fields: BadFields) -> Self {
        Self::Fields(fields)
    }
}

impl From<BadFraming> for Refusal {
    fn from(framing: BadFraming) -> Self {
        Self::Framing(framing)
    }
}

impl From<BadFields> for BadResponse {
    fn from(fields: BadFields) -> Self {
        Self::Fields(fields)
    }
}

impl From<BadFraming> for BadResponse {
    fn from(framing: BadFraming) -> Self {
        Self::Framing(framing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_reasons() {
        let all = [
            (Refusal::Line, 400),
            (Refusal::Method, 501),
            (Refusal::Target, 400),
            (Refusal::UriTooLong, 414),
            (Refusal::Version, 505),
            (Refusal::Connect, 501),
            (Refusal::HeadTooLarge, 431),
            (Refusal::Fields(BadFields::Line), 400),
            (Refusal::Fields(BadFields::BareLf), 400),
            (Refusal::Fields(BadFields::TooMany), 431),
            (Refusal::Fields(BadFields::ConnectionOptions), 400),
            (Refusal::Host, 400),
            (Refusal::Framing(BadFraming::LengthAndCoding), 400),
            (Refusal::Framing(BadFraming::Length), 400),
            (Refusal::Framing(BadFraming::Coding), 400),
            (Refusal::Framing(BadFraming::UnknownCoding), 501),
            (Refusal::Framing(BadFraming::CodingInHttp10), 400),
            (Refusal::Framing(BadFraming::Trace), 400),
        ];
        for (refusal, status) in all {
            assert_eq!(refusal.status().code(), status, "{refusal:?}");
        }
        let mut reasons: Vec<_> = all.iter().map(|(refusal, _)| refusal.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), all.len(), "each has its own word");
        assert_eq!(BadResponse::Line.status(), Status::BadGateway);
    }
}
