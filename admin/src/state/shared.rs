use super::{drains::Drains, keyring::Added, rebalance::Watched};
use crate::{
    control_server::peers::{Peers, figures},
    events::Kind,
    health::board::Board,
    history::History,
    names::schedule::Schedule,
};
use control::{
    desired::{Change, Observed, Snapshot},
    message::{ToDataplane, to_line},
    release::ReleaseState,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What this process knows at this moment. Behind one lock that is never held while waiting.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) peers: Peers,
    pub(crate) board: Board,
    pub(crate) names: Schedule,
    pub(crate) drains: Drains,
    /// The last one of each pool.
    pub(crate) rebalances: BTreeMap<String, Watched>,
    pub(crate) history: History,
    pub(crate) added: Added,
    /// The store knows that generations up to here may have been given out.
    pub(crate) bound: u64,
    /// Why the last write to the store failed; absent where it did not.
    pub(crate) store_problem: Option<String>,
    /// When the data planes were last asked for a report, by the board's clock.
    pub(crate) reports_asked: Option<u64>,
}

/// A change for those who follow along.
pub(crate) type Told = (Kind, Value);

impl Shared {
    /// `began` is when this process did, in Unix milliseconds.
    pub(crate) fn new(generation: u64, bound: u64, began: u64) -> Self {
        Self {
            snapshot: Arc::new(Snapshot { generation, ..Snapshot::default() }),
            peers: Peers::default(),
            board: Board::default(),
            names: Schedule::default(),
            drains: Drains::default(),
            rebalances: BTreeMap::new(),
            history: History::new(began),
            added: Added::new(),
            bound,
            store_problem: None,
            reports_asked: None,
        }
    }

    /// Makes the next generation of `changes` and sends it to every data plane. `now` is the board's clock. What is to be
    /// told of it. It is `commanded` where somebody waits for it: see [`ToDataplane::Delta`].
    pub(crate) fn publish(&mut self, changes: Vec<Change>, commanded: bool, now: u64) -> Vec<Told> {
        let base = self.snapshot.generation;
        let generation = base + 1;
        let mut step =
            Step { shared: self, generation, now, done: Vec::with_capacity(changes.len()), told: Vec::new() };
        let mut touched = BTreeSet::new();
        for change in changes {
            step.shared.touched_by(&change, &mut touched);
            let moved = step.shared.moves(&change);
            step.take(change);
            if let Some((pool, name)) = moved {
                step.take(Change::Observe { pool, name, observed: Observed::default() });
            }
        }
        // Where the board begins anew with a backend, what was observed of it is out of date.
        for (pool, name) in touched {
            let observed = step.shared.snapshot.observed(&pool, &name);
            let (health, _) = step.shared.board.health(&pool, &name);
            if observed.health != health {
                step.take(Change::Observe { pool, name, observed: Observed { health, ..observed } });
            }
        }
        let Step { done, told, .. } = step;
        Arc::make_mut(&mut self.snapshot).generation = generation;
        let line = to_line(&ToDataplane::Delta { base, generation, changes: done, commanded });
        self.send(&line.into());
        told
    }

    /// Continues at a higher generation than anybody has seen.
    pub(crate) fn raise(&mut self, generation: u64) {
        let base = self.snapshot.generation;
        if generation > base {
            Arc::make_mut(&mut self.snapshot).generation = generation;
            let line = to_line(&ToDataplane::Delta { base, generation, changes: Vec::new(), commanded: false });
            self.send(&line.into());
        }
    }

    pub(crate) fn send(&mut self, line: &Arc<[u8]>) {
        for peer in self.peers.broadcast(line) {
            tracing::warn!(pid = peer.pid, "a data plane does not read what it is sent and is cut off");
        }
    }

    /// Whether the change gives a member that is there another address.
    fn moves(&self, change: &Change) -> Option<(String, String)> {
        let Change::PutMember { pool, name, member } = change else { return None };
        let known = self.snapshot.desired.pools.get(pool)?.members.get(name)?;
        let other = known.address != member.address || known.endpoint(None) != member.endpoint(None);
        other.then(|| (pool.clone(), name.clone()))
    }

    /// The members that are there already and whose health the change may begin anew.
    fn touched_by(&self, change: &Change, touched: &mut BTreeSet<(String, String)>) {
        match change {
            Change::PutMember { pool, name, .. } | Change::Observe { pool, name, .. } => {
                touched.insert((pool.clone(), name.clone()));
            }
            Change::PutSettings { name: pool, .. } => {
                let members = self.snapshot.desired.pools.get(pool).map(|pool| pool.members.keys());
                touched.extend(members.into_iter().flatten().map(|name| (pool.clone(), name.clone())));
            }
            Change::RemoveMember { pool, name } => drop(touched.remove(&(pool.clone(), name.clone()))),
            Change::RemovePool { name } => touched.retain(|(pool, _)| pool != name),
            Change::PutPool { .. }
            | Change::Rebalance { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. } => {}
        }
    }

    fn describe(&self, change: &Change, generation: u64) -> Option<Told> {
        let known =
            |pool: &str, name: &str| self.snapshot.desired.pools.get(pool).and_then(|pool| pool.members.get(name));
        let membership = |pool: &str, name: Option<&str>, change: &str| {
            let data = json!({ "pool": pool, "backend": name, "change": change, "generation": generation });
            (Kind::Membership, data)
        };
        Some(match change {
            Change::PutPool { name, .. } => membership(name, None, "added"),
            Change::RemovePool { name } => membership(name, None, "removed"),
            Change::RemoveMember { pool, name } => membership(pool, Some(name), "removed"),
            Change::PutMember { pool, name, member } => match known(pool, name) {
                None => membership(pool, Some(name), "added"),
                Some(known) if (known.admin_state, known.drain) != (member.admin_state, member.drain) => {
                    let data = json!({
                        "pool": pool, "backend": name, "admin_state": member.admin_state, "drain": member.drain,
                        "generation": generation,
                    });
                    (Kind::AdminState, data)
                }
                Some(known) if known.incarnation != member.incarnation => {
                    let data = json!({
                        "pool": pool, "backend": name, "change": "incarnation", "incarnation": member.incarnation,
                        "instance": member.instance, "generation": generation,
                    });
                    (Kind::Membership, data)
                }
                Some(_) => membership(pool, Some(name), "changed"),
            },
            Change::PutSettings { name, .. } => (Kind::Settings, json!({ "pool": name, "generation": generation })),
            Change::Keys { keys } => (Kind::Keys, json!({ "keys": keys.len(), "generation": generation })),
            Change::Observe { pool, name, observed } => {
                if self.snapshot.observed(pool, name).health == observed.health {
                    return None;
                }
                let (_, reason) = self.board.health(pool, name);
                let data = json!({
                    "pool": pool, "backend": name, "health": observed.health, "reason": reason.as_deref(),
                    "generation": generation,
                });
                (Kind::Health, data)
            }
            Change::PutRelease { pool, release } => {
                let known = self.snapshot.desired.releases.get(pool).filter(|known| known.id == release.id);
                let change = match release.state {
                    ReleaseState::Stopped => "stopped",
                    ReleaseState::Finished => "finished",
                    ReleaseState::Running if known.is_some() => "stepped",
                    ReleaseState::Running => "began",
                };
                let data = json!({
                    "pool": pool, "change": change, "percent": f64::from(release.basis_points()) / 100.0,
                    "reason": release.stopped.as_ref().map(|stopped| &stopped.reason), "generation": generation,
                });
                (Kind::Release, data)
            }
            Change::RemoveRelease { pool } => {
                (Kind::Release, json!({ "pool": pool, "change": "ended", "generation": generation }))
            }
            Change::Listeners { .. } | Change::Rebalance { .. } => return None,
        })
    }
}

/// One generation in the making.
struct Step<'s> {
    shared: &'s mut Shared,
    generation: u64,
    now: u64,
    done: Vec<Change>,
    told: Vec<Told>,
}

impl Step<'_> {
    fn take(&mut self, change: Change) {
        let shared = &mut *self.shared;
        self.told.extend(shared.describe(&change, self.generation));
        Arc::make_mut(&mut shared.snapshot).apply(&change);
        shared.board.follow(&change, &shared.snapshot, self.now);
        shared.names.follow(&change, &shared.snapshot, self.now);
        shared.history.follow(&change, self.now);
        match &change {
            Change::RemovePool { name } => shared.peers.forget(name, None),
            Change::RemoveMember { pool, name } => shared.peers.forget(pool, Some(name)),
            Change::PutPool { .. }
            | Change::PutMember { .. }
            | Change::PutSettings { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => {}
        }
        let sessions = |pool: &str, name: &str| figures(shared.peers.iter(), pool, name).live_sessions;
        shared.drains.follow(&change, &shared.snapshot, self.generation, sessions);
        self.done.push(change);
    }
}
