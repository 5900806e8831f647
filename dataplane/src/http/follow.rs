//! Sessions that the application begins and names: what a response says of them.

use super::request::Request;
use crate::{
    http1::{Name, ResponseHead, rewrite::Carrier},
    pick::Target,
    worker::Worker,
};
use affinity::{
    choose::{Cause, Choice, Outcome},
    marker::{self, Marker, Told},
    table::PoolTable,
    token::SEALED_LEN,
};
use control::spec::Follows;

/// What a response makes of its session.
pub(super) struct Followed {
    pub(super) outcome: Outcome,
    /// The client goes on with what the response says.
    pub(super) binds: bool,
    /// Whether the client has a cookie of its session from now on; absent where that is as it was.
    pub(super) marked: Option<bool>,
    /// A `Set-Cookie` line; often empty.
    pub(super) set_cookie: Vec<u8>,
    /// The token that goes in front of the session's name.
    pub(super) token: Option<[u8; SEALED_LEN]>,
}

/// Decides by the table of this moment; `None` where it has the backend no more, or the pool follows nothing.
pub(super) fn decide(
    worker: &Worker,
    pool: &PoolTable,
    request: &Request,
    target: &Target,
    head: &ResponseHead<'_>,
) -> Option<Followed> {
    let follows = pool.settings.affinity.follows()?;
    let now = worker.clock.unix();
    let told = match follows {
        Follows::Beside | Follows::Cookie => {
            let name = pool.app_cookie.as_ref()?.as_bytes();
            let told = head.fields.values(Name::SetCookie).filter_map(|line| marker::told_by_cookie(line, name, now));
            told.last().unwrap_or_default()
        }
        Follows::Header => {
            let name = pool.settings.affinity.header.as_ref()?.name.as_bytes();
            let is_named = head.fields.called(name).any(|value| !value.is_empty());
            if is_named { Told::Named } else { Told::Nothing }
        }
    };
    let choice = choice_now(pool, target)?;
    let (outcome, marker) = marker::follow(pool, &request.claim.found, choice, told, request.claim.fresh, now);
    let marked = match (told, follows) {
        // A program may have several sessions on one connection, and begin another one without a word of those.
        (_, Follows::Header) => None,
        (Told::Deleted, Follows::Beside | Follows::Cookie) => Some(false),
        (Told::Named | Told::Nothing, Follows::Beside | Follows::Cookie) => marker.is_some().then_some(true),
    };
    let (mut set_cookie, mut token) = (Vec::new(), None);
    match (&marker, follows) {
        (Some(marker), Follows::Beside) => marker::write(pool, marker, &mut set_cookie),
        (Some(Marker::Sealed { token: sealed }), Follows::Cookie | Follows::Header) => {
            let mut text = [0; SEALED_LEN];
            pool.keys.as_ref()?.seal(sealed, &mut text);
            token = Some(text);
        }
        (Some(Marker::Plain { .. } | Marker::Deleted) | None, _) => {}
    }
    let binds = (pool.settings.affinity.marks() && request.claim.found.may_mark) || token.is_some();
    Some(Followed { outcome, binds, marked, set_cookie, token })
}

/// What carries the name of a pool's sessions together with a token.
pub(super) fn carrier(pool: &PoolTable) -> Option<Carrier<'_>> {
    match pool.settings.affinity.follows()? {
        Follows::Beside => None,
        Follows::Cookie => pool.app_cookie.as_ref().map(Carrier::Cookie),
        Follows::Header => Some(Carrier::Header(pool.settings.affinity.header.as_ref()?.name.as_bytes())),
    }
}

/// The choice as the table of this moment has it: indexes are of one table, slots of all.
fn choice_now(pool: &PoolTable, target: &Target) -> Option<Choice> {
    let index = |slot: u32| {
        let at = pool.backends.iter().position(|backend| backend.slot == slot)?;
        u16::try_from(at).ok()
    };
    let from = target.from.and_then(index);
    let outcome = match (target.outcome, from) {
        (Outcome::Spilled { cause, .. }, Some(from)) => Outcome::Spilled { from, cause },
        (Outcome::Released { .. }, Some(from)) => Outcome::Released { from },
        (Outcome::Spilled { .. } | Outcome::Released { .. }, None) => {
            Outcome::Repinned { from: None, cause: Cause::Removed }
        }
        (Outcome::Repinned { cause, .. }, from) => Outcome::Repinned { from, cause },
        (outcome @ (Outcome::Free | Outcome::New | Outcome::Pinned | Outcome::Lost), _) => outcome,
    };
    Some(Choice { backend: index(target.slot)?, outcome })
}
