//! What the sessions of pools with a release have shown.

use crate::worker::Seen;
use affinity::{release::record::Record, table::Table};
use ahash::AHashMap;
use control::{desired::Snapshot, status::ReleaseStats};

/// By pool slot.
#[derive(Debug, Default)]
pub(super) struct Releases(AHashMap<u32, Record>);

impl Releases {
    /// Follows the releases that there are: what was seen of one that is gone, or of the one before, is forgotten.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, table: &Table) {
        let mut there = AHashMap::new();
        for pool in &table.pools {
            let Some(release) = snapshot.desired.releases.get(&pool.name) else { continue };
            let known = self.0.remove(&pool.slot).filter(|record| record.id() == release.id);
            there.insert(pool.slot, known.unwrap_or_else(|| Record::new(release.id)));
        }
        self.0 = there;
    }

    pub(super) fn note(&mut self, seen: &[Seen]) {
        for (pool, sighting) in seen {
            if let Some(record) = self.0.get_mut(pool) {
                record.note(sighting);
            }
        }
    }

    pub(super) fn stats(&self, pool: u32) -> Option<ReleaseStats> {
        self.0.get(&pool).map(Record::stats)
    }
}
