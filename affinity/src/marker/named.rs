//! Sessions that the application names: by its cookie, a header, or an argument in the query. Nothing is marked here; the
//! name says where, by its hash or by its end. A request without a name is of no session.

use super::{Carried, Found};
use crate::{
    choose::Pin,
    hash::{mix64, name_hash},
    table::PoolTable,
};
use control::check::is_name;

#[cfg(test)]
mod tests;

/// The session key of a name. The same in every release: a change moves sessions.
pub fn name_key(name: &[u8]) -> u64 {
    mix64(name_hash(name))
}

/// A session that its name's hash places.
pub(super) fn hashed(name: Option<&[u8]>, found: &mut Found) {
    found.pin = Pin::Free;
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        (found.pin, found.key) = (Pin::Hashed, name_key(name));
    }
}

/// The names that the application's cookie has, then that of the path parameter that stands in for it.
pub(super) fn app_names<'r>(pool: &'r PoolTable, request: &'r impl Carried) -> impl Iterator<Item = &'r [u8]> {
    let settings = pool.settings.affinity.app_cookie.as_ref();
    let parameter = settings.and_then(|cookie| cookie.path_parameter.as_deref());
    let in_cookies = request.cookies().flat_map(|field| pool.app_cookie.iter().flat_map(|cookie| cookie.find(field)));
    let in_path = parameter.and_then(|name| path_parameter(request.path(), name.as_bytes()));
    in_cookies.chain(in_path).filter(|name| !name.is_empty())
}

/// The first value of a path parameter, in whatever segment it stands (RFC 3986 section 3.3): `/a;name=value/b`.
fn path_parameter<'p>(path: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let parameters = path.split(|byte| *byte == b'/').flat_map(|segment| segment.split(|byte| *byte == b';').skip(1));
    parameters.filter_map(|parameter| value_of(parameter, name)).next()
}

/// The first value of an argument, as it came.
pub(super) fn argument<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|argument| value_of(argument, name))
}

fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

/// The first name that ends in a backend which is there. What no backend can be called is no such end.
pub(super) fn suffixed<'r>(pool: &PoolTable, names: impl Iterator<Item = &'r [u8]>, found: &mut Found) {
    found.pin = Pin::Free;
    for name in names {
        let ends = || memchr::memchr_iter(b'.', name).map(|dot| (&name[..dot], &name[dot + 1..]));
        // A backend's name may have dots, and so may a session's: any end will do that is known.
        if let Some((session, backend)) = ends().find_map(|(session, end)| Some((session, pool.by_name(end)?))) {
            (found.pin, found.key) = (Pin::At { backend, incarnation: None }, name_key(session));
            found.was_at = None;
            return;
        }
        let gone = ends().next().filter(|(_, end)| str::from_utf8(end).is_ok_and(is_name));
        if let Some((session, end)) = gone {
            (found.pin, found.key, found.was_at) = (Pin::Gone, name_key(session), pool.former.by_name(end));
        }
    }
}
