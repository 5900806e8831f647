//! What responses show: how long they took; and, of a pool with a release, what its requests are compared by.

use super::{carried::Head, request::Request};
use crate::{
    http1::{Name, ResponseHead},
    pick::Target,
    worker::Worker,
};
use affinity::{
    choose::Pin,
    marker::{Carried, Found},
    release::{
        ReleaseTable, is_released,
        record::Sighting,
        signs::{Signs, begins_another, by_cache, by_status, carried, leads_to},
    },
    table::PoolTable,
};
use control::release::Signal;

/// A request of a session that returns, in a pool with a release.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    /// All but what the response will show.
    sighting: Sighting,
    /// The application's session that it carried.
    carried: Option<u64>,
}

impl Watched {
    /// `None` where nothing is compared: the pool has no release, or the request is of no session yet.
    pub(super) fn begin(pool: &PoolTable, found: &Found, head: &Head<'_, '_>) -> Option<Self> {
        let ReleaseTable { id, share, session_cookie, .. } = pool.release.as_ref()?;
        let may_begin = match found.pin {
            Pin::At { .. } => false,
            Pin::Hashed => true,
            Pin::Absent | Pin::Gone | Pin::Unreadable | Pin::Free => return None,
        };
        let released = is_released(found.key, *share);
        let sighting = Sighting { key: found.key, id: *id, share: *share, released, may_begin, ..Sighting::default() };
        let carried = session_cookie.as_ref().and_then(|cookie| carried(cookie, head.cookies()));
        Some(Self { sighting, carried })
    }
}

/// Notes what a backend has answered.
pub(super) fn answered(worker: &Worker, request: &Request, target: &Target, head: &ResponseHead<'_>) {
    let took = request.answered(worker, head.status, false);
    worker.board().answered(request.claim.pool.slot, head.status, took);
    let Some(watched) = &request.watched else { return };
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == request.claim.pool.slot);
    let release = pool.and_then(|pool| pool.release.as_ref()).filter(|release| release.id == watched.sighting.id);
    if let Some(release) = release {
        let signs = shown(release, watched, head, worker.clock.unix());
        note(worker, request, watched, Shown { took, signs, elsewhere: target.is_elsewhere() });
    }
}

/// Notes what we have answered for want of a backend that did.
pub(super) fn failed(worker: &Worker, request: &Request, status: u16) {
    let took = request.answered(worker, status, true);
    worker.board().answered(request.claim.pool.slot, status, took);
    if let Some(watched) = &request.watched {
        note(worker, request, watched, Shown { took, signs: by_status(status), elsewhere: false });
    }
}

/// What the answer to a request has shown.
struct Shown {
    /// In microseconds.
    took: u64,
    signs: Signs,
    elsewhere: bool,
}

fn note(worker: &Worker, request: &Request, watched: &Watched, Shown { took, signs, elsewhere }: Shown) {
    let micros = u32::try_from(took).unwrap_or(u32::MAX);
    let sighting = Sighting { micros, signs, elsewhere, ..watched.sighting };
    worker.sightings.note(worker.board(), request.claim.pool.slot, sighting);
}

fn shown(release: &ReleaseTable, watched: &Watched, head: &ResponseHead<'_>, now: u32) -> Signs {
    let watch = &release.watch;
    let mut signs = by_status(head.status);
    if let Some(path) = &watch.login_path
        && head.fields.called(b"location").any(|location| leads_to(head.status, location, path))
    {
        signs = signs.with(Signal::Login);
    }
    if let Some(cookie) = &release.session_cookie {
        let mut lines = head.fields.values(Name::SetCookie);
        if lines.any(|line| begins_another(line, cookie.as_bytes(), watched.carried, now)) {
            signs = signs.with(Signal::NewSession);
        }
    }
    if let Some(header) = &watch.cache_header
        && let Some(value) = head.fields.called(header.as_bytes()).next()
    {
        signs = signs.and(by_cache(value, &watch.cache_hit));
    }
    signs
}
