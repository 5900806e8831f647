//! What follows from a failure, and what is counted of each attempt.

use super::{Claim, Failure, Kind, Side, Target};
use crate::worker::{FromWorker, RETRY_BURST, Worker};
use affinity::choose::{Outcome, Pin};
use control::{
    counters::{BackendCount, PoolCount},
    spec::OnDown,
};

/// Counts what comes to a pool, and saves up for the retries of all that do.
pub(crate) fn begin(worker: &Worker, claim: &Claim) {
    let (slot, saved) = (claim.pool.slot, claim.pool.retry.budget);
    worker.board().count_pool(slot, PoolCount::Requests);
    worker.with_local(slot, |local| local.retries = (local.retries + saved).min(RETRY_BURST));
}

/// Whether another backend may be tried: as often as the pool allows for one request, and for all of them together.
pub(crate) fn may_retry(worker: &Worker, claim: &Claim, target: &Target, tried: usize) -> bool {
    let slot = claim.pool.slot;
    if tried >= claim.pool.retry.attempts as usize || !may_leave(worker, claim, target) {
        return false;
    }
    let granted = worker.with_local(slot, |local| {
        let granted = local.retries >= 1.0;
        local.retries -= if granted { 1.0 } else { 0.0 };
        granted
    });
    worker.board().count_pool(slot, if granted { PoolCount::Retries } else { PoolCount::RetriesDenied });
    granted
}

/// Counts a failure, and marks the backend down where such have come often enough in a row.
pub(crate) fn note(worker: &Worker, claim: &Claim, slot: u32, failure: Failure) {
    let board = worker.board();
    match (failure.side, failure.kind) {
        (Side::Backend, Kind::Drained) => board.count_backend(slot, BackendCount::ClosedByDrain),
        (Side::Backend, Kind::Timeout) => board.count_backend(slot, BackendCount::Timeouts),
        (Side::Backend, Kind::Closed | Kind::CutShort) => board.count_backend(slot, BackendCount::Resets),
        (Side::Backend | Side::Client, _) => {}
    }
    let until = worker.after(claim.pool.passive_hold);
    if failure.marks() && worker.backends.failed(slot, claim.pool.passive_failures, until) {
        let table = worker.table.borrow();
        let pool = table.pools.iter().find(|pool| pool.slot == claim.pool.slot);
        let backend = pool.and_then(|pool| pool.backends.iter().find(|backend| backend.slot == slot));
        if let (Some(pool), Some(backend)) = (pool, backend) {
            let (pool, backend) = (pool.name.clone(), backend.name.clone());
            worker.tell(FromWorker::Failing { pool, backend, reason: failure.reason().to_owned() });
        }
    }
}

/// Counts a request that goes to a backend, and for the one where free balancing would have sent it.
pub(crate) fn count_sent(worker: &Worker, slot: u32, free: Option<u32>, reused: bool) {
    let board = worker.board();
    board.count_backend(slot, BackendCount::Requests);
    if let Some(free) = free {
        board.count_backend(free, BackendCount::FreeRequests);
    }
    if reused {
        board.count_backend(slot, BackendCount::Reused);
    }
}

/// Whether a request that failed there may go to another backend: where its pool's `on_down` is `fail`, only one without a
/// session, or one that a release has let go.
fn may_leave(worker: &Worker, claim: &Claim, target: &Target) -> bool {
    let table = worker.table.borrow();
    let pool = table.pools.iter().find(|pool| pool.slot == claim.pool.slot);
    pool.is_some_and(|pool| {
        let is_free = matches!(claim.found.pin, Pin::Absent | Pin::Free);
        let is_released = matches!(target.outcome, Outcome::Released { .. });
        pool.settings.affinity.on_down != OnDown::Fail || is_free || is_released
    })
}
