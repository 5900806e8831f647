//! The `Set-Cookie` line of a pool.

use control::spec::{Cookie, SameSite, Span};

/// What of `Set-Cookie` is the same for every response of a pool, rendered once.
#[derive(Clone, Debug)]
pub struct CookieText {
    before: Vec<u8>,
    attributes: Vec<u8>,
    max_age: Option<u32>,
    lifetime: Option<u32>,
}

impl CookieText {
    /// RFC 6265 section 4.1; `Partitioned` as in the CHIPS draft.
    pub fn new(cookie: &Cookie) -> Self {
        let mut attributes = format!("; Path={}", cookie.path);
        if let Some(domain) = &cookie.domain {
            attributes.push_str(&format!("; Domain={domain}"));
        }
        attributes.push_str(match cookie.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
            SameSite::Unset => "",
        });
        for (on, text) in
            [(cookie.secure, "; Secure"), (cookie.http_only, "; HttpOnly"), (cookie.partitioned, "; Partitioned")]
        {
            attributes.push_str(if on { text } else { "" });
        }
        attributes.push_str("\r\n");
        Self {
            before: format!("Set-Cookie: {}=", cookie.name).into_bytes(),
            attributes: attributes.into_bytes(),
            max_age: cookie.max_age.map(Span::as_secs_u32),
            lifetime: cookie.lifetime.map(Span::as_secs_u32),
        }
    }

    /// Appends the field line that takes the cookie from the client.
    pub fn write_deletion(&self, out: &mut Vec<u8>) {
        for part in [&self.before, &b"; Max-Age=0"[..], &self.attributes] {
            out.extend_from_slice(part);
        }
    }

    /// Appends the field line with its line end, for a session that began `age` seconds ago. The browser is never told to
    /// keep a cookie past the session's lifetime.
    pub fn write(&self, value: &[u8], age: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        out.extend_from_slice(value);
        if let Some(max_age) = self.max_age {
            let left = self.lifetime.map_or(u32::MAX, |lifetime| lifetime.saturating_sub(age));
            out.extend_from_slice(b"; Max-Age=");
            out.extend_from_slice(max_age.min(left).to_string().as_bytes());
        }
        out.extend_from_slice(&self.attributes);
    }
}
