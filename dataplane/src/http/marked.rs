//! What came of markers, counted.

use super::carried::Head;
use crate::worker::Worker;
use affinity::{
    choose::Pin,
    marker::{Found, NoPin, is_ignored},
    route::Lead,
    table::{PoolTable, Table},
    token::{Expiry, Refused},
};
use control::counters::{PoolCount, RouteCount};

/// A request, as far as its marker goes.
pub(super) struct Came<'a> {
    pub(super) pool: &'a PoolTable,
    pub(super) lead: Lead,
    pub(super) carried: &'a Head<'a, 'a>,
    pub(super) found: &'a Found,
    /// A marker of the pool was set on its connection, which is of its client alone.
    pub(super) own: bool,
}

pub(super) fn count(worker: &Worker, table: &Table, came: &Came<'_>) {
    let Came { pool, found, .. } = *came;
    let board = worker.board();
    if let Some(what) = found.refused.map(refused) {
        board.count_pool(pool.slot, what);
    }
    if let Some((key, issued_at)) = found.opened()
        && let Some(key) = table.keys.get(key)
    {
        board.count_token(pool.slot, key.slot, issued_at, worker.clock.unix());
    }
    if let Some(route) = came.lead.route.filter(|_| came.may_be_marked()) {
        let cells = board.route(route);
        cells[RouteCount::Requests as usize].add(1);
        // What counts as none was returned all the same.
        if matches!(found.pin, Pin::Absent | Pin::Free) && found.refused.is_none() {
            cells[RouteCount::Unmarked as usize].add(1);
            cells[RouteCount::Ignored as usize].add(came.own.into());
        }
    }
}

impl Came<'_> {
    fn may_be_marked(&self) -> bool {
        let is_ignored = || self.found.pin == Pin::Free && is_ignored(self.pool, self.carried);
        self.lead.affinity && self.pool.settings.affinity.is_carried() && !is_ignored()
    }
}

fn refused(why: NoPin) -> PoolCount {
    match why {
        NoPin::Expired(Expiry::Lifetime) => PoolCount::ExpiredLifetime,
        NoPin::Expired(Expiry::Idle) => PoolCount::ExpiredIdle,
        NoPin::Refused(Refused::Short | Refused::Long | Refused::Malformed) => PoolCount::TokenMalformed,
        NoPin::Refused(Refused::UnknownKey) => PoolCount::TokenUnknownKey,
        NoPin::Refused(Refused::BadMac) => PoolCount::TokenBadMac,
        NoPin::Refused(Refused::Future) => PoolCount::TokenFuture,
        NoPin::OtherPool => PoolCount::TokenOtherPool,
        NoPin::Foreign => PoolCount::AdoptUnknown,
    }
}
