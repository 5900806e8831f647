//! The desired state, and the changes from one generation of it to the next.

pub use crate::drain::{Drain, DrainMode, Share, Then};
use crate::{
    endpoint::Endpoint,
    rebalance::Rebalance,
    release::Release,
    spec::{Backend, Discover, Key, Listener, Pool},
    status::Health,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};

/// What operators want. Health is no part of it: it is each node's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub listeners: Vec<Listener>,
    pub pools: BTreeMap<String, PoolState>,
    /// The first seals, all open.
    pub keys: Vec<Key>,
    /// By pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub releases: BTreeMap<String, Release>,
}

/// A pool with its members. `settings.backends` is empty: members are kept here, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    pub settings: Pool,
    pub members: BTreeMap<String, Member>,
}

/// A backend with what operators command of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub address: String,
    pub weight: u32,
    /// It gets new sessions only while no other member can take any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    pub admin_state: AdminState,
    /// Kept in maintenance where a drain's deadline led there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Which life of the backend this is. Seeds from a file are 1; one added later has the generation at
    /// which it was added, or with etcd one that follows from its revision: a number that no life before it had.
    pub incarnation: u32,
    /// The instance that the last successful check of it named, where its pool has checks ask for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where it is an address of a name, and no backend that somebody named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// How a member came to be that a name led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The `name` of its [`Discover`].
    pub by: String,
    /// Its own of the name's addresses.
    pub at: SocketAddr,
    /// The name's last answer no longer had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
}

/// That the name of a member leads elsewhere by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The drain that began with that; none where somebody had commanded something of the member before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// What the operator commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AdminState {
    #[default]
    Active,
    /// Its own sessions only.
    Draining,
    /// Nothing.
    Maintenance,
}

/// The incarnation of a backend that came with the file.
pub const SEED_INCARNATION: u32 = 1;

impl Member {
    pub fn new(backend: &Backend, incarnation: u32) -> Self {
        Self {
            address: backend.address.clone(),
            weight: backend.weight,
            backup: backend.backup,
            admin_state: AdminState::Active,
            drain: None,
            incarnation,
            instance: None,
            found: None,
        }
    }

    /// A backend at one of the addresses that a name leads to. It is the same life wherever and whenever it is found, so
    /// that nodes that look up by themselves decide alike.
    pub fn found(discover: &Discover, at: SocketAddr) -> Self {
        let Discover { name, address, file, srv, weight, backup } = discover.clone();
        // Of a list, each is asked for by its own address.
        let address = if file.is_some() || srv.is_some() { at.to_string() } else { address };
        let backend = Backend { name: String::new(), address, weight, backup };
        Self { found: Some(Found { by: name, at, left: None }), ..Self::new(&backend, SEED_INCARNATION) }
    }

    /// Where it is connected to, `resolved` being what the name in its address has last led to. None where that is not
    /// known yet.
    pub fn endpoint(&self, resolved: Option<SocketAddr>) -> Option<Endpoint> {
        match &self.found {
            Some(found) => Some(Endpoint::Inet(found.at)),
            None => self.address.parse().ok().or(resolved.map(Endpoint::Inet)),
        }
    }

    /// Whether its address has a name that is to be looked up for it alone.
    pub fn is_named(&self) -> bool {
        self.endpoint(None).is_none()
    }
}

impl PoolState {
    /// A pool as a file or a request body describes it, all members active.
    pub fn seed(mut pool: Pool, incarnation: u32) -> Self {
        let backends = std::mem::take(&mut pool.backends);
        let members =
            backends.iter().map(|backend| (backend.name.clone(), Member::new(backend, incarnation))).collect();
        Self { settings: pool, members }
    }
}

/// What a node sees of a member by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    #[serde(default)]
    pub health: Health,
    /// What the host in the member's address resolved to; absent where it is an address, or has never resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<SocketAddr>,
}

/// All that a data plane routes by, at one generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub generation: u64,
    pub desired: Desired,
    /// By pool and backend; what is absent is `unknown`.
    #[serde(default)]
    pub observed: BTreeMap<String, BTreeMap<String, Observed>>,
    /// By pool. Not stored: it ends with the admin process, and with a change of its pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rebalances: BTreeMap<String, Rebalance>,
}

/// One step from a generation to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Listeners {
        listeners: Vec<Listener>,
    },
    Keys {
        keys: Vec<Key>,
    },
    PutPool {
        name: String,
        pool: Box<PoolState>,
    },
    RemovePool {
        name: String,
    },
    /// The settings alone; members stay.
    PutSettings {
        name: String,
        settings: Box<Pool>,
    },
    PutMember {
        pool: String,
        name: String,
        member: Member,
    },
    RemoveMember {
        pool: String,
        name: String,
    },
    Observe {
        pool: String,
        name: String,
        observed: Observed,
    },
    /// A round of rebalancing begins, or all of it ends.
    Rebalance {
        pool: String,
        round: Option<Rebalance>,
    },
    PutRelease {
        pool: String,
        release: Box<Release>,
    },
    RemoveRelease {
        pool: String,
    },
}

impl Desired {
    /// Applies a change. One that names a pool that is not there changes nothing, and neither does `Observe`.
    pub fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Listeners { listeners } => self.listeners = listeners,
            Change::Keys { keys } => self.keys = keys,
            Change::PutPool { name, pool } => drop(self.pools.insert(name, *pool)),
            Change::RemovePool { name } => {
                self.pools.remove(&name);
                self.releases.remove(&name);
            }
            Change::PutRelease { pool, release } => {
                if self.pools.contains_key(&pool) {
                    self.releases.insert(pool, *release);
                }
            }
            Change::RemoveRelease { pool } => drop(self.releases.remove(&pool)),
            Change::PutSettings { name, settings } => {
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.settings = *settings;
                }
            }
            Change::PutMember { pool, name, member } => {
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.members.insert(name, member);
                }
            }
            Change::RemoveMember { pool, name } => {
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.members.remove(&name);
                }
            }
            Change::Observe { .. } | Change::Rebalance { .. } => {}
        }
    }
}

impl Snapshot {
    /// Applies a change; what was observed of members that go is forgotten, so that it can't fall on a namesake.
    pub fn apply(&mut self, change: &Change) {
        self.desired.apply(change);
        self.end_rebalance(change);
        match change {
            Change::Rebalance { pool, round: Some(round) } if self.desired.pools.contains_key(pool) => {
                self.rebalances.insert(pool.clone(), round.clone());
            }
            Change::Rebalance { .. } => {}
            Change::Observe { pool, name, observed } => {
                self.observed.entry(pool.clone()).or_default().insert(name.clone(), *observed);
            }
            Change::RemoveMember { pool, name } => {
                if let Some(members) = self.observed.get_mut(pool) {
                    members.remove(name);
                }
            }
            Change::RemovePool { name } => drop(self.observed.remove(name)),
            Change::PutPool { name, pool } => {
                if let Some(members) = self.observed.get_mut(name) {
                    members.retain(|member, _| pool.members.contains_key(member));
                }
            }
            Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::PutSettings { .. }
            | Change::PutMember { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. } => {}
        }
    }

    /// It was planned for the pool as it was.
    fn end_rebalance(&mut self, change: &Change) {
        match change {
            Change::PutPool { name: pool, .. }
            | Change::RemovePool { name: pool }
            | Change::PutSettings { name: pool, .. }
            | Change::PutMember { pool, .. }
            | Change::RemoveMember { pool, .. }
            // It would be seen in one cohort alone.
            | Change::PutRelease { pool, .. }
            | Change::Rebalance { pool, round: None } => drop(self.rebalances.remove(pool)),
            Change::Rebalance { .. } | Change::RemoveRelease { .. } | Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } => {}
        }
    }

    pub fn observed(&self, pool: &str, backend: &str) -> Observed {
        self.observed.get(pool).and_then(|members| members.get(backend)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member::new(&Backend { address: "127.0.0.1:1".into(), ..Backend::default() }, 7)
    }

    #[test]
    fn changes_build_up_and_take_down_a_state() {
        let mut state = Snapshot::default();
        let pool = PoolState::seed(Pool { name: "shop".into(), ..Pool::default() }, SEED_INCARNATION);
        let down = Observed { health: Health::Down, resolved: None };
        state.apply(&Change::PutPool { name: "shop".into(), pool: Box::new(pool) });
        state.apply(&Change::PutMember { pool: "shop".into(), name: "a".into(), member: member() });
        state.apply(&Change::Observe { pool: "shop".into(), name: "a".into(), observed: down });
        assert_eq!(state.desired.pools["shop"].members["a"].incarnation, 7);
        assert_eq!(state.observed("shop", "a"), down);
        state.apply(&Change::RemoveMember { pool: "shop".into(), name: "a".into() });
        assert_eq!(state.observed("shop", "a"), Observed::default(), "a namesake must not inherit health");
        state.apply(&Change::RemovePool { name: "shop".into() });
        assert_eq!(state, Snapshot::default());
    }

    #[test]
    fn a_change_to_an_absent_pool_changes_nothing() {
        let mut state = Snapshot::default();
        state.apply(&Change::PutMember { pool: "no".into(), name: "a".into(), member: member() });
        state.apply(&Change::RemoveMember { pool: "no".into(), name: "a".into() });
        assert_eq!(state, Snapshot::default());
    }
}
