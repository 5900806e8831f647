//! Numbers for pools, backends and keys under which workers keep what outlives a table.

use crate::counters::MAX_SLOTS;
use affinity::table::{RouteName, Slots, Table};
use std::collections::{BTreeMap, BTreeSet};

/// Hands out slots. A name keeps its slot for the life of the process, so that its counters never run backwards and
/// nothing of one backend can be taken for another's.
#[derive(Debug, Default)]
pub(super) struct SlotBook {
    pools: BTreeMap<String, u32>,
    backends: BTreeMap<(String, String), u32>,
    keys: BTreeMap<u16, u32>,
    next_pool: u32,
    /// Of backends, by their slots.
    names: Vec<String>,
    routes: BTreeMap<Counted, u32>,
}

/// A route, as in [`RouteName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    pub(super) pool: String,
    pub(super) listener: String,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
}

/// Different routes that are counted over the life of a process.
const MAX_ROUTES: usize = 4_096;

impl Slots for SlotBook {
    fn pool(&mut self, pool: &str) -> u32 {
        if let Some(slot) = self.pools.get(pool) {
            return *slot;
        }
        let slot = self.next_pool;
        self.next_pool += 1;
        self.pools.insert(pool.to_owned(), slot);
        slot
    }

    fn backend(&mut self, pool: &str, backend: &str) -> u32 {
        let name = (pool.to_owned(), backend.to_owned());
        if let Some(slot) = self.backends.get(&name) {
            return *slot;
        }
        let slot = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(backend.to_owned());
        self.backends.insert(name, slot);
        slot
    }

    fn route(&mut self, route: &RouteName<'_>) -> Option<u32> {
        let RouteName { pool, listener, host, path } = *route;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (pool, listener) = (pool.to_owned(), listener.to_owned());
        let counted = Counted { pool, listener, host: owned(host), path: owned(path) };
        if let Some(slot) = self.routes.get(&counted) {
            return Some(*slot);
        }
        let slot = u32::try_from(self.routes.len()).ok().filter(|_| self.routes.len() < MAX_ROUTES)?;
        self.routes.insert(counted, slot);
        Some(slot)
    }

    fn key(&mut self, id: u16) -> u32 {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        *self.keys.entry(id).or_insert(next)
    }
}

// There are fewer ids of keys than slots.
const _: () = assert!(MAX_SLOTS > u16::MAX as u32);

impl SlotBook {
    /// The routes of a table's listeners, with their slots.
    pub(super) fn routes<'a>(&'a self, table: &Table) -> impl Iterator<Item = (&'a Counted, u32)> + use<'a> {
        let there: BTreeSet<_> = table.listeners.iter().flat_map(|listener| &listener.routes).copied().collect();
        self.routes.iter().map(|(route, slot)| (route, *slot)).filter(move |(_, slot)| there.contains(slot))
    }

    /// Also of one that is gone.
    pub(super) fn backend_name(&self, slot: u32) -> Option<&str> {
        self.names.get(slot as usize).map(String::as_str)
    }

    /// Whether the table has names beyond what this process can tell apart over its life: [`MAX_SLOTS`] different ones.
    pub(super) fn is_full_for(&self, table: &Table) -> bool {
        let backends = table.pools.iter().flat_map(|pool| &pool.backends).map(|backend| backend.slot);
        let pools = table.pools.iter().map(|pool| pool.slot);
        backends.chain(pools).any(|slot| slot >= MAX_SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_keeps_its_slot_and_so_many_are_counted_and_no_more() {
        let mut slots = SlotBook::default();
        let mut slot =
            |pool: &str, path: &str| slots.route(&RouteName { pool, listener: "web", host: None, path: Some(path) });
        let paths: Vec<_> = (0..MAX_ROUTES).map(|n| format!("/{n}")).collect();
        let found: Vec<_> = paths.iter().map(|path| slot("shop", path)).collect();
        assert!(found.iter().enumerate().all(|(n, slot)| slot.map(|slot| slot as usize) == Some(n)));
        assert_eq!([slot("shop", "/7"), slot("other", "/7"), slot("shop", "/new")], [Some(7), None, None]);
    }
}
