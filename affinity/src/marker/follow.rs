//! Sessions that the application begins and names, with a token of ours that goes along: in a cookie beside the
//! application's, in front of that cookie's value, or in front of a header. What the backend's response says of the
//! session decides whether there is one.

use super::{Carried, Found, Marker, NoPin, Told, find_sealed, marker, named, own_cookies, token_for, wrapped};
use crate::{
    choose::{Cause, Choice, Outcome, Pin},
    table::PoolTable,
    token::Refused,
};
use control::spec::Follows;

#[cfg(test)]
mod tests;

/// A token counts only as long as the application's cookie is there.
pub(super) fn find_beside(pool: &PoolTable, request: &impl Carried, now: u32, found: &mut Found) {
    found.pin = Pin::Free;
    if named::app_names(pool, request).next().is_some() {
        find_sealed(pool, own_cookies(pool, request), now, found);
    }
}

/// What has no token in front of it is the application's alone.
pub(super) fn find_in_cookie(pool: &PoolTable, request: &impl Carried, now: u32, found: &mut Found) {
    found.pin = Pin::Free;
    let tokens = named::app_names(pool, request).filter_map(|value| Some(wrapped::split(value)?.0));
    find_sealed(pool, tokens, now, found);
}

/// A session that is named must be found.
pub(super) fn find_in_header(pool: &PoolTable, value: Option<&[u8]>, now: u32, found: &mut Found) {
    found.pin = Pin::Free;
    let Some(value) = value.filter(|value| !value.is_empty()) else { return };
    found.pin = Pin::Unreadable;
    match wrapped::split(value) {
        Some((token, _)) => find_sealed(pool, std::iter::once(token), now, found),
        None => found.refused = Some(NoPin::Refused(Refused::Malformed)),
    }
}

/// What became of the session, and the marker that goes out, once the backend has answered and `told` of the
/// application's.
pub fn follow(
    pool: &PoolTable,
    found: &Found,
    choice: Choice,
    told: Told,
    fresh: u64,
    now: u32,
) -> (Outcome, Option<Marker>) {
    let outcome = match (told, choice.outcome) {
        (Told::Named, Outcome::Free) if found.may_mark => Outcome::New,
        // It is named by whom it was sent to for now, and so it is there from now on.
        (Told::Named, Outcome::Spilled { from, cause }) => Outcome::Repinned { from: Some(from), cause },
        (Told::Named, Outcome::Released { from }) if from == choice.backend => Outcome::Pinned,
        (Told::Named, Outcome::Released { from }) => Outcome::Repinned { from: Some(from), cause: Cause::Released },
        (Told::Named | Told::Nothing | Told::Deleted, outcome) => outcome,
    };
    let old = found.token.map(|(_, token)| token).filter(|_| !matches!(outcome, Outcome::New | Outcome::Lost));
    let follows = pool.settings.affinity.follows().filter(|_| found.may_mark);
    let marker = match (told, follows) {
        (_, None) => None,
        (Told::Nothing, Some(Follows::Beside)) => marker(pool, found, choice, fresh, now),
        (Told::Deleted, Some(Follows::Beside)) => found.token.map(|_| Marker::Deleted),
        (Told::Nothing | Told::Deleted, Some(Follows::Cookie | Follows::Header)) => None,
        (Told::Named, Some(follows)) => token_for(pool, choice.backend, old, fresh, now).map(|mut token| {
            // A client takes a session by another name for another session.
            if let (Follows::Header, Some(old)) = (follows, old) {
                token.last_seen = old.last_seen;
            }
            Marker::Sealed { token }
        }),
    };
    (outcome, marker)
}
