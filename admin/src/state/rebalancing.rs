//! Carries rebalances out: begins them, follows the reports, plans round after round, and ends them.

use super::{
    State,
    plan::pool,
    rebalance::{Stage, Watched, Wish, bearers, round, why_not},
    refusal::Refusal,
    shared::Shared,
};
use crate::{clock, events::Kind, history::PlaneId};
use control::{counters::PoolCount, desired::Change, rebalance::Rebalance};
use serde_json::json;
use std::sync::Arc;

impl State {
    /// Begins to rebalance a pool, anew where that is under way. The generation that has it.
    ///
    /// # Errors
    /// There is no such pool, its sessions can't be moved, or nobody knows them yet.
    pub(crate) fn begin_rebalance(&self, name: &str, wish: Wish) -> Result<u64, Refusal> {
        let now = clock::unix_millis();
        let mut shared = self.lock();
        let desired = &shared.snapshot.desired;
        let affinity = &pool(desired, name)?.settings.affinity;
        let refused = |what: &str, mend: &str| Refusal::CantRebalance(format!("{what} in pool `{name}`; {mend}"));
        if let Some((what, mend)) = why_not(affinity, desired.releases.get(name), &wish) {
            return Err(refused(what, mend));
        }
        let Some(bearers) = bearers(&shared.snapshot, shared.peers.iter(), name) else {
            return Err(refused("no data plane has told yet how many sessions there are", "try again in a second"));
        };
        let next = round(&wish, &bearers, now);
        let generation = shared.snapshot.generation + 1;
        let mut watched = Watched::new(wish, now, generation, counted(&shared, name));
        if next.is_none() {
            watched.stage = Stage::Even;
        }
        self.tell_rebalance(name, &watched);
        let was_running = shared.rebalances.insert(name.to_owned(), watched).is_some_and(is_running);
        let changes = (next.is_some() || was_running).then(|| change(name, next));
        Ok(self.publish(shared, changes.into_iter().collect()))
    }

    /// Ends the rebalance of a pool, where there is one under way. The generation that has it.
    ///
    /// # Errors
    /// There is no such pool.
    pub(crate) fn cancel_rebalance(&self, name: &str) -> Result<u64, Refusal> {
        let mut shared = self.lock();
        pool(&shared.snapshot.desired, name)?;
        let mut changes = Vec::new();
        if let Some(watched) = shared.rebalances.get_mut(name).filter(|watched| watched.stage == Stage::Running) {
            watched.stage = Stage::Cancelled;
            self.tell_rebalance(name, watched);
            changes.push(change(name, None));
        }
        Ok(self.publish(shared, changes))
    }

    /// The last rebalance of a pool.
    pub(crate) fn rebalance(&self, name: &str) -> Option<Watched> {
        self.lock().rebalances.get(name).cloned()
    }

    /// Follows the reports for as long as this process lives.
    pub(crate) async fn keep_rebalancing(self: Arc<Self>) {
        let mut reports = self.planes.subscribe();
        while reports.changed().await.is_ok() {
            self.follow_rebalances(clock::unix_millis());
        }
    }

    /// Counts what has moved, and ends the rebalances that are done or plans their next round.
    pub(crate) fn follow_rebalances(&self, now: u64) {
        let mut shared = self.lock();
        let snapshot = Arc::clone(&shared.snapshot);
        let mut watched = std::mem::take(&mut shared.rebalances);
        watched.retain(|name, _| snapshot.desired.pools.contains_key(name));
        let mut changes = Vec::new();
        for (name, watched) in &mut watched {
            // Also when it is over: sessions move until the workers have heard so.
            let knows = watched.count(counted(&shared, name));
            if watched.stage != Stage::Running {
                continue;
            }
            let running = snapshot.rebalances.get(name);
            let Some(running) = running.filter(|_| knows) else {
                watched.stage = Stage::Changed;
                self.tell_rebalance(name, watched);
                changes.extend(running.map(|_| change(name, None)));
                continue;
            };
            let is_fresh = shared.peers.iter().all(|peer| peer.stats.generation >= watched.generation);
            let Some(bearers) = bearers(&snapshot, shared.peers.iter(), name).filter(|_| is_fresh) else { continue };
            let next = round(&watched.wish, &bearers, now);
            if next.is_none() {
                watched.stage = Stage::Even;
                self.tell_rebalance(name, watched);
            } else if now < running.until {
                continue;
            }
            changes.push(change(name, next));
            watched.generation = snapshot.generation + 1;
        }
        shared.rebalances = watched;
        if !changes.is_empty() {
            self.publish(shared, changes);
        }
    }

    fn tell_rebalance(&self, name: &str, watched: &Watched) {
        self.events.emit(Kind::Rebalance, &json!({ "pool": name, "stage": watched.stage, "moved": watched.moved }));
    }
}

fn is_running(watched: Watched) -> bool {
    watched.stage == Stage::Running
}

fn change(pool: &str, round: Option<Rebalance>) -> Change {
    Change::Rebalance { pool: pool.to_owned(), round }
}

/// Sessions that each data plane has moved for an even load, by what it reports.
fn counted(shared: &Shared, pool: &str) -> impl Iterator<Item = (PlaneId, u64)> {
    shared.peers.iter().map(move |peer| {
        let counts = peer.stats.pools.get(pool).map(|pool| &pool.counts);
        let moved = counts.and_then(|counts| counts.get(PoolCount::RepinnedRebalance.name()));
        (peer.plane(), moved.copied().unwrap_or(0))
    })
}
