//! Numbers for pools, backends and keys under which workers keep what outlives a table.

use crate::counters::MAX_SLOTS;
use affinity::table::{Slots, Table};
use std::collections::BTreeMap;

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
}

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

    fn key(&mut self, id: u16) -> u32 {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        *self.keys.entry(id).or_insert(next)
    }
}

// There are fewer ids of keys than slots.
const _: () = assert!(MAX_SLOTS > u16::MAX as u32);

impl SlotBook {
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
