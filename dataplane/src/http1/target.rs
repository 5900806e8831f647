use super::{Method, Refusal, host};

/// A request's target in the forms that a gateway takes (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`
    Origin(&'b [u8]),
    /// `http://authority/path?query`; `rest` is what follows the authority: empty, or from `/` or `?` on.
    Absolute { authority: &'b [u8], rest: &'b [u8] },
    /// `*`: OPTIONS for the server as a whole.
    Asterisk,
}

impl<'b> Target<'b> {
    /// `target` consists of visible ASCII other than `#` and is not empty.
    pub(super) fn parse(target: &'b [u8], method: Method) -> Result<Self, Refusal> {
        match target {
            [b'/', ..] => Ok(Self::Origin(target)),
            b"*" if method == Method::Options => Ok(Self::Asterisk),
            _ => Self::absolute(target, method).ok_or(Refusal::Target),
        }
    }

    fn absolute(target: &'b [u8], method: Method) -> Option<Self> {
        let hierarchy = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
            let (head, tail) = target.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(tail)
        })?;
        let end = hierarchy.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(hierarchy.len());
        let (authority, rest) = hierarchy.split_at_checked(end)?;
        host::is_valid(authority).then_some(if rest.is_empty() && method == Method::Options {
            // RFC 9112 §3.2.4: this is how `*` is asked for through a proxy, but the host that it names counts.
            Self::Absolute { authority, rest: b"*" }
        } else {
            Self::Absolute { authority, rest }
        })
    }

    /// The host that an absolute target names.
    pub fn authority(&self) -> Option<&'b [u8]> {
        match self {
            Self::Absolute { authority, .. } => Some(authority),
            Self::Origin(_) | Self::Asterisk => None,
        }
    }

    /// The path, as it came and never empty: `/` where an absolute target has none, `*` for the server as a whole.
    pub fn path(&self) -> &'b [u8] {
        let (slash, rest) = self.origin();
        let path = rest.split(|byte| *byte == b'?').next().unwrap_or_default();
        if path.is_empty() { slash } else { path }
    }

    /// What follows the first `?`.
    pub fn query(&self) -> Option<&'b [u8]> {
        let (_, rest) = self.origin();
        memchr::memchr(b'?', rest).and_then(|at| rest.get(at + 1..))
    }

    /// The origin form in two parts: the `/` that an absolute target may lack, and the rest as it came.
    pub(crate) fn origin(&self) -> (&'static [u8], &'b [u8]) {
        match self {
            Self::Origin(target) => (b"", target),
            Self::Asterisk => (b"", b"*"),
            Self::Absolute { rest: rest @ ([b'/', ..] | b"*"), .. } => (b"", rest),
            Self::Absolute { rest, .. } => (b"/", rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        use Method::{Get, Options};
        // target, method, authority, path, query
        for (target, method, authority, path, query) in [
            ("/", Get, None, "/", None),
            ("/a/b?c=d?e", Get, None, "/a/b", Some("c=d?e")),
            ("/?", Get, None, "/", Some("")),
            ("//a/b", Get, None, "//a/b", None), // origin form, not an authority
            ("/http://a/", Get, None, "/http://a/", None),
            ("http://a.example/b?c", Get, Some("a.example"), "/b", Some("c")),
            ("HTTPS://a.example:443", Get, Some("a.example:443"), "/", None),
            ("http://a.example?c=/d", Get, Some("a.example"), "/", Some("c=/d")),
            ("http://[::1]:80/", Get, Some("[::1]:80"), "/", None),
            ("http://a.example", Options, Some("a.example"), "*", None),
            ("http://a.example/", Options, Some("a.example"), "/", None),
            ("*", Options, None, "*", None),
        ] {
            let parsed = Target::parse(target.as_bytes(), method).unwrap();
            assert_eq!(parsed.authority(), authority.map(str::as_bytes), "{target}");
            assert_eq!(parsed.path(), path.as_bytes(), "{target}");
            assert_eq!(parsed.query(), query.map(str::as_bytes), "{target}");
        }
        for (target, method) in [
            ("*", Get),
            ("**", Options),
            ("a.example:443", Get), // authority form is for CONNECT
            ("a", Get),
            ("?x", Get),
            ("ftp://a.example/", Get),
            ("http:/a.example/", Get),
            ("http://", Get),
            ("http:///a", Get),
            ("http://u:p@a.example/", Get),
            ("http://a.example:port/", Get),
            ("http://a,b/", Get),
            ("http//a.example/", Get),
        ] {
            assert_eq!(Target::parse(target.as_bytes(), method), Err(Refusal::Target), "{target}");
        }
    }
}
