//! What differs between a table and the one before it that concerns more than the next request.

use affinity::{
    drain,
    sessions::Sessions,
    table::{Backend, Table},
};
use ahash::AHashSet;
use std::sync::Arc;

/// The slots of backends that have begun another life and still have sessions of the one before, which ended with it.
pub(super) fn new_lives(before: Option<&Table>, table: &Table, sessions: &Sessions) -> AHashSet<u32> {
    changed(before, table, |was, backend| {
        was.is_none_or(|was| was.incarnation != backend.incarnation) && sessions.live(backend.slot) > 0
    })
}

/// The slots of backends whose drain has just ended, and was to close what is open. What a rule sends there later on is not
/// cut by every change of the pool.
pub(super) fn just_closed(before: Option<&Table>, table: &Table) -> AHashSet<u32> {
    changed(before, table, |was, backend| {
        drain::closes(backend)
            && was.is_none_or(|was| (was.admin_state, was.drain) != (backend.admin_state, backend.drain))
    })
}

/// The slots of backends of which something is news, given what the backend was in the table before.
fn changed(
    before: Option<&Table>,
    table: &Table,
    is_news: impl Fn(Option<&Backend>, &Backend) -> bool,
) -> AHashSet<u32> {
    let mut found = AHashSet::new();
    for pool in &table.pools {
        let old = before.and_then(|before| before.pool(&pool.name));
        if old.is_some_and(|old| Arc::ptr_eq(old, pool)) {
            continue;
        }
        for backend in &pool.backends {
            let was = old.and_then(|old| Some(&old.backends[usize::from(old.by_name(backend.name.as_bytes())?)]));
            if is_news(was, backend) {
                found.insert(backend.slot);
            }
        }
    }
    found
}
