use super::plan::Plan;
use crate::{
    error::Error,
    off_the_runtime::off_the_runtime,
    store::{Batch, Sections, Store},
};
use control::{
    config::{Config, Source},
    desired::{Change, Member, Snapshot},
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
    /// As [`Batch::lives`].
    lives: Option<u64>,
    /// What the store has is not what was there before: the next write writes all of it.
    anew: bool,
}

impl Writer {
    pub(super) fn new(store: Store, config: &Config, sections: Sections) -> Self {
        Self {
            store: Some(store),
            path: config.global.store_path(),
            source: config.membership.source,
            sections,
            lives: None,
            anew: false,
        }
    }

    /// No life has a number above `lives`; where it is `anew`, the next plan is stored with all that there is besides.
    pub(super) fn heard(&mut self, lives: u64, anew: bool) {
        self.lives = Some(lives);
        self.anew |= anew;
    }

    /// Whether there is anything in a plan for the store: not in one of listeners, keys and health alone.
    pub(super) fn keeps(&self, plan: &Plan) -> bool {
        let sections = self.keeps_all() && plan.sections.is_some();
        self.anew || sections || plan.changes.iter().any(|change| self.is_kept(change))
    }

    /// Whether the store has all that is desired: as its one home, or as this node last heard it from etcd.
    fn keeps_all(&self) -> bool {
        match self.source {
            Source::Api | Source::Etcd => true,
            Source::File => false,
        }
    }

    /// Where the file is the source, what it can't say of members is kept, and no more.
    fn is_kept(&self, change: &Change) -> bool {
        match (self.source, change) {
            (_, Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } | Change::Rebalance { .. }) => {
                false
            }
            (Source::Api | Source::Etcd, _) | (Source::File, Change::RemoveMember { .. }) => true,
            (Source::File, Change::PutMember { member, .. }) => is_noticed(member),
            (Source::File, _) => false,
        }
    }

    /// Stores the plan of a start, made at `generation`. Returns the bound that the store now has.
    pub(super) fn persist_now(&mut self, plan: &Plan, generation: u64) -> Result<u64, Error> {
        // What was noticed of members that are in the file no more is forgotten.
        let batch = Batch { clear: self.source == Source::File, ..self.batch(plan, generation) };
        if let Some(store) = &self.store {
            store.commit(&batch)?;
        }
        Ok(self.stored(plan, &batch))
    }

    /// As [`Self::persist_now`], off the runtime's workers. On disk when it returns.
    pub(super) async fn persist(&mut self, plan: &Plan, snapshot: &Snapshot) -> Result<u64, Error> {
        let mut batch = self.batch(plan, snapshot.generation);
        let store = self.store.take();
        if store.is_none() || self.anew {
            let whole = if self.keeps_all() { everything(snapshot) } else { noticed(snapshot) };
            batch.changes = whole.into_iter().chain(batch.changes).collect();
            batch.clear = true;
            if self.keeps_all() {
                batch.sections.get_or_insert_with(|| self.sections.clone());
            }
        }
        let path = self.path.clone();
        let written = off_the_runtime(move || {
            let store = store.map_or_else(|| Store::open(&path), Ok)?;
            store.commit(&batch)?;
            Ok((store, batch))
        });
        let stopped = |_| Error::File { path: self.path.clone(), source: io::Error::other("the writer stopped") };
        let (store, batch) = written.await.map_err(stopped).flatten()?;
        (self.store, self.anew) = (Some(store), false);
        Ok(self.stored(plan, &batch))
    }

    /// What a failed write leads to.
    #[cfg(test)]
    pub(super) fn lose_store(&mut self) {
        self.store = None;
    }

    fn batch(&self, plan: &Plan, generation: u64) -> Batch {
        Batch {
            clear: false,
            noticed: self.source == Source::File,
            changes: plan.changes.iter().filter(|change| self.is_kept(change)).cloned().collect(),
            sections: plan.sections.clone().filter(|_| self.keeps_all()),
            bound: Some(generation + BLOCK),
            lives: self.lives,
        }
    }

    fn stored(&mut self, plan: &Plan, batch: &Batch) -> u64 {
        if let Some(sections) = &plan.sections {
            self.sections.clone_from(sections);
        }
        batch.bound.unwrap_or_default()
    }
}

/// Whether there is more of a member than a configuration can say: that a name led to it, or which instance it is.
fn is_noticed(member: &Member) -> bool {
    member.found.is_some() || member.instance.is_some()
}

fn everything(snapshot: &Snapshot) -> Vec<Change> {
    let pools = snapshot.desired.pools.iter();
    let pools = pools.map(|(name, pool)| Change::PutPool { name: name.clone(), pool: Box::new(pool.clone()) });
    let releases = snapshot.desired.releases.iter();
    let releases =
        releases.map(|(pool, release)| Change::PutRelease { pool: pool.clone(), release: Box::new(release.clone()) });
    pools.chain(releases).collect()
}

fn noticed(snapshot: &Snapshot) -> Vec<Change> {
    let pools = snapshot.desired.pools.iter();
    let members = pools.flat_map(|(pool, state)| state.members.iter().map(move |(name, member)| (pool, name, member)));
    let noticed = members.filter(|(.., member)| is_noticed(member));
    let put = noticed.map(|(pool, name, member)| Change::PutMember {
        pool: pool.clone(),
        name: name.clone(),
        member: member.clone(),
    });
    put.collect()
}
