/// The fields that we act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name {
    #[default]
    Other,
    /// Reads like one of the fields below to a backend that takes `_` for `-`, as CGI and its heirs do: a way past
    /// whatever we do to the real one.
    Imitation,
    /// Meant for one connection only, and of no use to us: `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings`, and the
    /// `Proxy-Auth…` family, whose credentials are for a proxy that a client chose and not for a backend.
    Hop,
    CacheControl,
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Forwarded,
    Host,
    SetCookie,
    Te,
    Traceparent,
    Tracestate,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
}

impl Name {
    /// The name that `label`, a token, stands for.
    pub(super) fn of(label: &[u8]) -> Self {
        // Length and first letter leave one candidate at most.
        match (label.len(), label.first().map_or(0, |byte| byte | 0x20)) {
            (2, b't') => Self::Te.if_spelled(label, b"te"),
            (3, b'v') => Self::Via.if_spelled(label, b"via"),
            (4, b'h') => Self::Host.if_spelled(label, b"host"),
            (6, b'c') => Self::Cookie.if_spelled(label, b"cookie"),
            (6, b'e') => Self::Expect.if_spelled(label, b"expect"),
            (7, b'u') => Self::Upgrade.if_spelled(label, b"upgrade"),
            (9, b'f') => Self::Forwarded.if_spelled(label, b"forwarded"),
            (10, b'c') => Self::Connection.if_spelled(label, b"connection"),
            (10, b'k') => Self::Hop.if_spelled(label, b"keep-alive"),
            (10, b's') => Self::SetCookie.if_spelled(label, b"set-cookie"),
            (10, b't') => Self::Tracestate.if_spelled(label, b"tracestate"),
            (11, b't') => Self::Traceparent.if_spelled(label, b"traceparent"),
            (12, b'x') => Self::XRequestId.if_spelled(label, b"x-request-id"),
            (13, b'c') => Self::CacheControl.if_spelled(label, b"cache-control"),
            (14, b'c') => Self::ContentLength.if_spelled(label, b"content-length"),
            (14, b'h') => Self::Hop.if_spelled(label, b"http2-settings"),
            (15, b'x') => Self::XForwardedFor.if_spelled(label, b"x-forwarded-for"),
            (16, b'p') => Self::Hop.if_spelled(label, b"proxy-connection"),
            (16, b'x') => Self::XForwardedHost.if_spelled(label, b"x-forwarded-host"),
            (17, b't') => Self::TransferEncoding.if_spelled(label, b"transfer-encoding"),
            (17, b'x') => Self::XForwardedProto.if_spelled(label, b"x-forwarded-proto"),
            (18, b'p') => Self::Hop.if_spelled(label, b"proxy-authenticate"),
            (19, b'p') => Self::Hop.if_spelled(label, b"proxy-authorization"),
            (25, b'p') => Self::Hop.if_spelled(label, b"proxy-authentication-info"),
            _ => Self::Other,
        }
    }

    /// The length is known at compile time, and so the comparison is a few instructions without a branch.
    #[inline(always)]
    fn if_spelled<const N: usize>(self, label: &[u8], spelling: &[u8; N]) -> Self {
        let Ok(label) = <&[u8; N]>::try_from(label) else { return Self::Other };
        // Setting 0x20 lowers a letter, and makes no other byte of a token one that a spelling has.
        if label.iter().zip(spelling).fold(0, |differs, (ours, theirs)| differs | ((ours | 0x20) ^ theirs)) == 0 {
            self
        } else if imitates(label, spelling) {
            Self::Imitation
        } else {
            Self::Other
        }
    }

    /// The bit that stands for this name in a set.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[cold]
fn imitates(label: &[u8], spelling: &[u8]) -> bool {
    label.iter().zip(spelling).all(|(ours, theirs)| {
        let ours = if *ours == b'_' { b'-' } else { ours.to_ascii_lowercase() };
        ours == *theirs
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_no_lookalike_is_taken_for_one() {
        for (label, name) in [
            ("te", Name::Te),
            ("Via", Name::Via),
            ("HOST", Name::Host),
            ("cOOKIE", Name::Cookie),
            ("Expect", Name::Expect),
            ("upgrade", Name::Upgrade),
            ("Forwarded", Name::Forwarded),
            ("Connection", Name::Connection),
            ("Keep-Alive", Name::Hop),
            ("Set-Cookie", Name::SetCookie),
            ("tracestate", Name::Tracestate),
            ("TraceParent", Name::Traceparent),
            ("X-Request-ID", Name::XRequestId),
            ("Cache-Control", Name::CacheControl),
            ("CONTENT-length", Name::ContentLength),
            ("HTTP2-Settings", Name::Hop),
            ("X-Forwarded-For", Name::XForwardedFor),
            ("Proxy-Connection", Name::Hop),
            ("x-forwarded-HOST", Name::XForwardedHost),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("X-Forwarded-Proto", Name::XForwardedProto),
            ("Proxy-Authenticate", Name::Hop),
            ("Proxy-Authorization", Name::Hop),
            ("Proxy-Authentication-Info", Name::Hop),
            ("Content_Length", Name::Imitation),
            ("transfer_encoding", Name::Imitation),
            ("X_Forwarded-For", Name::Imitation),
            ("Hast", Name::Other),
            ("Content-Lengths", Name::Other),
            ("Content-Lengtk", Name::Other),
            ("Transfer.Encoding", Name::Other),
            ("Kookie", Name::Other),
            ("Accept", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::of(label.as_bytes()), name, "{label}");
        }
    }

    #[test]
    fn every_name_has_a_bit_of_its_own() {
        assert!((Name::XRequestId as u32) < u32::BITS);
        assert_ne!(Name::Host.bit(), Name::Te.bit());
    }
}
