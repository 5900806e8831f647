//! The marker of a session: reading the pin from a request, writing the one that goes out with the response.

mod adopt;
mod burst;
mod carried;
mod follow;
mod named;
mod rules;
mod told;
pub mod wrapped;

pub use adopt::take_away;
pub use burst::fresh_key;
pub use carried::{Carried, Parts};
pub use follow::follow;
pub use named::name_key;
pub use rules::is_ignored;
pub use told::{Told, told_by_cookie};

use crate::{
    choose::{Asked, Choice, Outcome, Pin},
    drain,
    hash::{mix64, name_hash},
    table::PoolTable,
    token::{Expiry, Opened, Refused, SEALED_LEN, Token, expired},
};
use control::{
    check::is_name,
    spec::{AppCookieStyle, HeaderStyle, Mode, SourceIp, Span, TokenKind},
};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub pin: Pin,
    /// The session key: the pin's, that of the name or address, or a fresh one for a session that begins.
    pub key: u64,
    /// The token that opened, with the index of the key that sealed it.
    token: Option<(usize, Token)>,
    /// The slot of the backend that the marker names, where that is no pin: it was removed, or the session is over.
    pub was_at: Option<u32>,
    /// Why the marker that came counts as none; the last reason where several came.
    pub refused: Option<NoPin>,
    /// The response may carry a new or a changed marker.
    pub may_mark: bool,
    /// A rule honours the pin though its backend is down or in maintenance.
    pub forced: bool,
    /// The cookie of another balancer that told the pin, or where the session begins, by its index in the table.
    pub adopted: Option<u8>,
    /// A session that begins with this request begins where its key says, and others with that key do too.
    pub together: bool,
}

impl Found {
    /// What is found where affinity does not hold: nothing is read, and nothing is set.
    pub fn free(fresh: u64) -> Self {
        let pin = Pin::Free;
        Self {
            pin,
            key: fresh,
            token: None,
            was_at: None,
            refused: None,
            may_mark: false,
            forced: false,
            adopted: None,
            together: false,
        }
    }

    /// Of the token that opened: the index of the key that sealed it, and when its session began, in Unix seconds.
    pub fn opened(&self) -> Option<(usize, u32)> {
        self.token.map(|(key_index, token)| (key_index, token.issued_at))
    }

    /// What is asked of [`choose`](crate::choose::choose) for this request, whose pin is `pin` by the table of this moment.
    pub fn asked(&self, pin: Pin, random: u64, now: u32) -> Asked {
        let Self { key, token, forced: force, together, may_mark, .. } = *self;
        let idle = token.filter(|_| may_mark).map(|(_, token)| now.saturating_sub(token.last_seen));
        Asked { pin, key, random, now, force, together, idle }
    }
}

/// Why a marker counts as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoPin {
    Refused(Refused),
    /// It is a token of another pool; see [`is_of_another`].
    OtherPool,
    Expired(Expiry),
    /// Another balancer's cookie, which names nobody who is here.
    Foreign,
}

/// A marker to set with the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Sealed {
        token: Token,
    },
    /// The backend's name, by its index.
    Plain {
        backend: u16,
    },
    /// The cookie goes.
    Deleted,
}

/// Reads the pin. `now` is in Unix seconds, `fresh` becomes the session key of a session that begins; see [`fresh_key`].
///
/// What is found is filled in where it will be returned: handed on from one function to the next by value, it would cost as
/// much as the MAC.
pub fn find(pool: &PoolTable, request: &impl Carried, now: u32, fresh: u64) -> Found {
    let affinity = &pool.settings.affinity;
    let mut found = Found::free(fresh);
    if rules::is_ignored(pool, request) {
        return found;
    }
    found.forced = rules::is_forced(pool, request);
    if rules::may_mark(pool, request) {
        (found.pin, found.may_mark, found.together) = (Pin::Absent, true, affinity.coalesce.is_some());
    }
    match affinity.mode {
        Mode::None => {}
        Mode::SourceIp => {
            (found.pin, found.key) = (Pin::Hashed, address_key(request.client(), affinity.source_ip));
        }
        Mode::Cookie if affinity.cookie.token == TokenKind::Plain => {
            // A plain pin carries no key: the address stands in for it, so that a re-pin is stable for the client.
            found.key = address_key(request.client(), affinity.source_ip);
            find_plain(pool, own_cookies(pool, request), &mut found);
            adopt::adopt(pool, request, &mut found);
            if found.pin == Pin::Absent && found.together && found.adopted.is_none() {
                found.key = fresh;
            }
        }
        Mode::Cookie => {
            find_sealed(pool, own_cookies(pool, request), now, &mut found);
            adopt::adopt(pool, request, &mut found);
        }
        Mode::AppCookie => match affinity.app_cookie.as_ref().map(|cookie| cookie.style) {
            Some(AppCookieStyle::Suffix) => named::suffixed(pool, named::app_names(pool, request), &mut found),
            Some(AppCookieStyle::Follow) => follow::find_beside(pool, request, now, &mut found),
            Some(AppCookieStyle::Prefix) => follow::find_in_cookie(pool, request, now, &mut found),
            Some(AppCookieStyle::Hash) | None => named::hashed(named::app_names(pool, request).next(), &mut found),
        },
        Mode::Header => {
            let value = affinity.header.as_ref().and_then(|header| request.headers(&header.name).next());
            match affinity.header.as_ref().map(|header| header.style) {
                Some(HeaderStyle::Follow) => follow::find_in_header(pool, value, now, &mut found),
                Some(HeaderStyle::Hash) | None => named::hashed(value, &mut found),
            }
        }
        Mode::Query => {
            let name = affinity.query.as_ref().map(|query| query.name.as_bytes());
            let value = request.query().zip(name).and_then(|(query, name)| named::argument(query, name));
            named::hashed(value, &mut found);
        }
    }
    found
}

/// How many other pools are asked whether a token is theirs, and about how many cookies: whoever forges a head full of them
/// must not get a MAC for each of them and each pool.
const OTHERS: usize = 64;
const ASKED_ABOUT: usize = 4;

/// Whether a cookie that this pool's keys refused opens with those of another one: two pools set cookies of one name, or
/// a route was led elsewhere. Asked of what was refused alone, for it costs a MAC for each pool.
pub fn is_of_another<'p>(
    pool: &PoolTable,
    others: impl Iterator<Item = &'p PoolTable>,
    request: &impl Carried,
    now: u32,
) -> bool {
    let mut others =
        others.filter(|other| other.slot != pool.slot).filter_map(|other| other.keys.as_ref()).take(OTHERS);
    others.any(|keys| own_cookies(pool, request).take(ASKED_ABOUT).any(|value| keys.open(value, now).is_ok()))
}

/// The values of our own cookie.
fn own_cookies<'r>(pool: &'r PoolTable, request: &'r impl Carried) -> impl Iterator<Item = &'r [u8]> {
    request.cookies().flat_map(|header| pool.cookie.iter().flat_map(|name| name.find(header)))
}

/// The first backend that is named and there. What no backend can be called counts as no cookie.
fn find_plain<'h>(pool: &PoolTable, names: impl Iterator<Item = &'h [u8]>, found: &mut Found) {
    for value in names {
        if let Some(backend) = pool.by_name(value) {
            (found.pin, found.was_at) = (Pin::At { backend, incarnation: None }, None);
            return;
        }
        if str::from_utf8(value).is_ok_and(is_name) {
            (found.pin, found.was_at) = (Pin::Gone, pool.former.by_name(value));
        }
    }
}

/// The first token that opens.
fn find_sealed<'h>(pool: &PoolTable, mut tokens: impl Iterator<Item = &'h [u8]>, now: u32, found: &mut Found) {
    let Some(keys) = &pool.keys else { return };
    // From within, the nested iterators are plain loops.
    tokens.any(|token| match keys.open(token, now) {
        Ok(opened) => goes_on(pool, &opened, now, found),
        Err(refused) => {
            (found.refused, found.was_at) = (Some(NoPin::Refused(refused)), None);
            false
        }
    });
}

/// Whether the session of a token that opened is not over. If so, `found` says where it is.
#[inline]
fn goes_on(pool: &PoolTable, opened: &Opened, now: u32, found: &mut Found) -> bool {
    let Opened { key_index, token } = *opened;
    let cookie = &pool.settings.affinity.cookie;
    let seconds = |span: Option<Span>| span.map(Span::as_secs_u32);
    let backend = pool.by_ref(key_index, token.backend_ref);
    let former = || pool.former.by_ref(key_index, token.backend_ref);
    if let Some(expiry) = expired(&token, now, seconds(cookie.lifetime), seconds(cookie.idle_timeout)) {
        found.refused = Some(NoPin::Expired(expiry));
        found.was_at = backend.map(|backend| pool.backends[usize::from(backend)].slot).or_else(former);
        return false;
    }
    (found.pin, found.was_at) = match backend {
        Some(backend) => (Pin::At { backend, incarnation: Some(token.incarnation) }, None),
        None => (Pin::Gone, former()),
    };
    (found.key, found.token, found.refused) = (token.session_key, Some((key_index, token)), None);
    true
}

/// The session key of a client address, cut to its prefix. An IPv4 address in IPv6 clothes counts as what it is.
pub fn address_key(client: IpAddr, prefix: SourceIp) -> u64 {
    let cut = |bits: u128, prefix: u8, width: u8| {
        let drop = u32::from(width.saturating_sub(prefix));
        bits.checked_shr(drop).map_or(0, |kept| kept << drop)
    };
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let bits = cut(address.to_bits().into(), prefix.ipv4_prefix, 32);
            mix64(name_hash(u32::try_from(bits).unwrap_or(0).to_be_bytes()))
        }
        IpAddr::V6(address) => mix64(name_hash(cut(address.to_bits(), prefix.ipv6_prefix, 128).to_be_bytes())),
    }
}

/// The marker that has to go out with the response, if any: when the pin is new, changed, or due for refresh.
pub fn marker(pool: &PoolTable, found: &Found, choice: Choice, fresh: u64, now: u32) -> Option<Marker> {
    let affinity = &pool.settings.affinity;
    if !affinity.marks() || !found.may_mark {
        return None;
    }
    let old = found.token.map(|(_, token)| token);
    let is_due = |pinned: u16| {
        // One that was another balancer's gets its first token whatever its backend does.
        found.adopted.is_some()
            || !drain::retires(&pool.backends[usize::from(pinned)])
                && found.token.is_some_and(|(key_index, token)| is_due(pool, key_index, &token, now))
    };
    let (pinned, old) = match choice.outcome {
        Outcome::New | Outcome::Lost => (choice.backend, None),
        Outcome::Repinned { .. } => (choice.backend, old),
        Outcome::Pinned if is_due(choice.backend) => (choice.backend, old),
        // A session that spills for long must not count as idle.
        Outcome::Spilled { from, .. } | Outcome::Released { from } if is_due(from) => (from, old),
        Outcome::Pinned | Outcome::Spilled { .. } | Outcome::Released { .. } | Outcome::Free => return None,
    };
    if affinity.cookie.token == TokenKind::Plain {
        return Some(Marker::Plain { backend: pinned });
    }
    token_for(pool, pinned, old, fresh, now).map(|token| Marker::Sealed { token })
}

/// The token of a session that is at `backend` from now on: of the old one where it goes on, and else of a new one.
fn token_for(pool: &PoolTable, backend: u16, old: Option<Token>, fresh: u64, now: u32) -> Option<Token> {
    let keys = pool.keys.as_ref()?;
    let backend = &pool.backends[usize::from(backend)];
    Some(Token {
        backend_ref: keys.backend_ref(0, &backend.name),
        incarnation: backend.incarnation,
        session_key: old.map_or(fresh, |token| token.session_key),
        issued_at: old.map_or(now, |token| token.issued_at),
        last_seen: now,
    })
}

/// Whether the token of a pin that stays is to be renewed: its key is no longer the first, or a quarter of the time has
/// passed after which the proxy or the browser would end the session.
fn is_due(pool: &PoolTable, key_index: usize, token: &Token, now: u32) -> bool {
    let cookie = &pool.settings.affinity.cookie;
    let limit = cookie.idle_timeout.into_iter().chain(cookie.max_age).map(Span::as_secs_u32).min();
    key_index != 0 || limit.is_some_and(|limit| now.saturating_sub(token.last_seen) >= (limit / 4).max(1))
}

/// Appends the `Set-Cookie` line of a marker; nothing where the pool has no key to seal with.
pub fn write(pool: &PoolTable, marker: &Marker, out: &mut Vec<u8>) {
    match marker {
        Marker::Sealed { token } => {
            let Some(keys) = &pool.keys else { return };
            let mut sealed = [0; SEALED_LEN];
            keys.seal(token, &mut sealed);
            pool.cookie_text.write(&sealed, token.last_seen.saturating_sub(token.issued_at), out);
        }
        Marker::Plain { backend } => {
            pool.cookie_text.write(pool.backends[usize::from(*backend)].name.as_bytes(), 0, out);
        }
        Marker::Deleted => pool.cookie_text.write_deletion(out),
    }
}
