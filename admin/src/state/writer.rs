use super::plan::Plan;
use crate::{
    error::Error,
    store::{Batch, Sections, Store},
};
use control::{
    config::{Config, Source},
    desired::{Change, Snapshot},
};
use std::{io, path::PathBuf};

/// Generations that are reserved in the store at once.
pub(super) const BLOCK: u64 = 1_024;

/// What only one write at a time may use.
#[derive(Debug)]
pub(super) struct Writer {
    /// Absent after a failed write: what the file then holds is not known, and the next write makes it anew.
    store: Option<Store>,
    path: PathBuf,
    source: Source,
    pub(super) sections: Sections,
}

impl Writer {
    pub(super) fn new(store: Store, config: &Config, sections: Sections) -> Self {
        Self { store: Some(store), path: config.global.store_path(), source: config.membership.source, sections }
    }

    /// Whether there is anything in a plan for the store: not in one of listeners, keys and health alone, nor where the
    /// file is the source.
    pub(super) fn keeps(&self, plan: &Plan) -> bool {
        let kept = |change: &Change| {
            !matches!(
                change,
                Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } | Change::Rebalance { .. }
            )
        };
        self.source == Source::Api && (plan.sections.is_some() || plan.changes.iter().any(kept))
    }

    /// Stores a plan made at `generation`. Returns the bound that the store now has.
    pub(super) fn persist_now(&mut self, plan: &Plan, generation: u64) -> Result<u64, Error> {
        let batch = self.batch(plan, generation);
        if let Some(store) = &self.store {
            store.commit(&batch)?;
        }
        Ok(self.stored(plan, &batch))
    }

    /// As [`Self::persist_now`], off the runtime's workers. On disk when it returns.
    pub(super) async fn persist(&mut self, plan: &Plan, snapshot: &Snapshot) -> Result<u64, Error> {
        let mut batch = self.batch(plan, snapshot.generation);
        let store = self.store.take();
        if store.is_none() && self.source == Source::Api {
            let pools = snapshot.desired.pools.iter();
            let whole = pools.map(|(name, pool)| Change::PutPool { name: name.clone(), pool: Box::new(pool.clone()) });
            let releases = snapshot.desired.releases.iter();
            let releases = releases
                .map(|(pool, release)| Change::PutRelease { pool: pool.clone(), release: Box::new(release.clone()) });
            batch.changes = whole.chain(releases).chain(batch.changes).collect();
            batch.clear = true;
            batch.sections.get_or_insert_with(|| self.sections.clone());
        }
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let store = store.map_or_else(|| Store::open(&path), Ok)?;
            store.commit(&batch)?;
            Ok((store, batch))
        });
        let stopped = |_| Error::File { path: self.path.clone(), source: io::Error::other("the writer stopped") };
        let (store, batch) = written.await.map_err(stopped).flatten()?;
        self.store = Some(store);
        Ok(self.stored(plan, &batch))
    }

    /// What a failed write leads to.
    #[cfg(test)]
    pub(super) fn lose_store(&mut self) {
        self.store = None;
    }

    fn batch(&self, plan: &Plan, generation: u64) -> Batch {
        let kept = self.source == Source::Api;
        Batch {
            clear: false,
            changes: if kept { plan.changes.clone() } else { Vec::new() },
            sections: plan.sections.clone().filter(|_| kept),
            bound: Some(generation + BLOCK),
        }
    }

    fn stored(&mut self, plan: &Plan, batch: &Batch) -> u64 {
        if let Some(sections) = &plan.sections {
            self.sections.clone_from(sections);
        }
        batch.bound.unwrap_or_default()
    }
}
