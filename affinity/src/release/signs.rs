//! What one response shows.

use crate::{cookie::CookieName, hash::name_hash, marker::wrapped, route::is_below};
use control::release::Signal;

/// Signals of one response, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs(u8);

impl Signs {
    /// Not a signal: a cache was hit.
    const HIT: u8 = 1 << 7;

    pub fn of(signals: impl IntoIterator<Item = Signal>) -> Self {
        signals.into_iter().fold(Self::default(), Self::with)
    }

    #[must_use]
    pub fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << signal as u8)
    }

    #[must_use]
    pub fn with_hit(self) -> Self {
        Self(self.0 | Self::HIT)
    }

    /// What either has.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn has(self, signal: Signal) -> bool {
        self.0 & 1 << signal as u8 != 0
    }

    pub fn has_hit(self) -> bool {
        self.0 & Self::HIT != 0
    }
}

/// What the status alone says.
pub fn by_status(status: u16) -> Signs {
    match status {
        401 | 403 => Signs::of([Signal::Denied]),
        500.. => Signs::of([Signal::ServerError]),
        _ => Signs::default(),
    }
}

/// Whether a redirect leads to this path or below it. `location` is what the field says: an address, or a part of one; a
/// relative path is taken from the root.
pub fn leads_to(status: u16, location: &[u8], path: &str) -> bool {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return false;
    }
    let end = location.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(location.len());
    let location = &location[..end];
    let without_scheme = match memchr::memmem::find(location, b"//") {
        Some(0) => Some(&location[2..]),
        Some(at) if location[at - 1] == b':' => Some(&location[at + 2..]),
        Some(_) | None => None,
    };
    let found = match without_scheme {
        Some(rest) => memchr::memchr(b'/', rest).map_or(&b"/"[..], |at| &rest[at..]),
        None => location,
    };
    let path = path.trim_end_matches('/').as_bytes();
    match found.first() {
        Some(b'/') => is_below(found, path),
        Some(_) => path.strip_prefix(b"/").is_some_and(|path| is_below(found, path)),
        None => false,
    }
}

/// The value of the application's session cookie in a request, as its hash; the first where several came. What of ours
/// stands in front of it does not count.
pub fn carried<'h>(cookie: &CookieName, mut headers: impl Iterator<Item = &'h [u8]>) -> Option<u64> {
    headers.find_map(|header| cookie.find(header).next()).map(|value| name_hash(wrapped::bare(value)))
}

/// Whether a `Set-Cookie` value begins another session of the application than the one that the request carried.
pub fn begins_another(set_cookie: &[u8], name: &[u8], carried: Option<u64>, now: u32) -> bool {
    use crate::marker::{Told, told_by_cookie};
    if told_by_cookie(set_cookie, name, now) != Some(Told::Named) {
        return false;
    }
    let pair = set_cookie.split(|byte| *byte == b';').next().unwrap_or_default();
    let value = memchr::memchr(b'=', pair).map_or(&b""[..], |at| pair[at + 1..].trim_ascii());
    let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    carried != Some(name_hash(value))
}

/// What a cache's header says.
pub fn by_cache(value: &[u8], hit: &str) -> Signs {
    let hit = hit.as_bytes();
    let is_hit = !hit.is_empty() && value.windows(hit.len()).any(|part| part.eq_ignore_ascii_case(hit));
    if is_hit { Signs::default().with_hit() } else { Signs::of([Signal::CacheMiss]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_caches_tell() {
        for (status, signals) in [
            (200, &[][..]),
            (302, &[]),
            (401, &[Signal::Denied]),
            (403, &[Signal::Denied]),
            (404, &[]),
            (499, &[]),
            (500, &[Signal::ServerError]),
            (504, &[Signal::ServerError]),
        ] {
            assert_eq!(by_status(status), Signs::of(signals.iter().copied()), "{status}");
        }
        assert!(by_cache(b"Hit from cloudfront", "HIT").has_hit() && !by_cache(b"MISS", "HIT").has_hit());
        assert!(by_cache(b"TCP_MISS", "HIT").has(Signal::CacheMiss) && !by_cache(b"hit", "HIT").has(Signal::CacheMiss));
    }

    #[test]
    fn a_redirect_to_the_login_is_seen_in_every_form() {
        for (location, is_login) in [
            ("/login", true),
            ("/login?next=%2Fcart", true),
            ("/login/step#top", true),
            ("https://shop.example.com/login", true),
            ("//shop.example.com/login?x", true),
            ("login", true),
            ("https://shop.example.com", false),
            ("/logins", false),
            ("/cart?to=//x/login", false),
            ("/cart//login", false),
            ("", false),
        ] {
            assert_eq!(leads_to(302, location.as_bytes(), "/login"), is_login, "{location}");
        }
        assert!(!leads_to(200, b"/login", "/login") && !leads_to(304, b"/login", "/login"));
        assert!(leads_to(307, b"/", "/") && leads_to(303, b"/a", "/"));
    }

    #[test]
    fn another_value_is_another_session_and_the_same_one_is_renewed() {
        let cookie = CookieName::new("sid").unwrap();
        let had = carried(&cookie, [&b"a=b"[..], b"x=y; sid=abc", b"sid=later"].into_iter());
        assert_eq!(carried(&cookie, [&b"a=b"[..]].into_iter()), None);
        for (line, another) in [
            ("sid=abc; Path=/", false),
            ("sid=\"abc\"", false),
            (" sid = abc ", false),
            ("sid=new; HttpOnly", true),
            ("sid=; Max-Age=0", false),
            ("sid=gone; Max-Age=0", false),
            ("other=new", false),
        ] {
            assert_eq!(begins_another(line.as_bytes(), b"sid", had, 0), another, "{line}");
        }
        assert!(begins_another(b"sid=abc", b"sid", None, 0));
        let ours = format!("sid={}~abc", "A".repeat(crate::token::SEALED_LEN));
        assert_eq!(carried(&cookie, [ours.as_bytes()].into_iter()), had);
    }
}
