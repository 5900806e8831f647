//! The table: what a worker routes by, made from one generation of the desired state. Built whole, swapped whole.

use crate::{
    cookie::CookieName,
    former::Former,
    ring::Ring,
    route::Router,
    set_cookie::CookieText,
    token::{MasterKey, PoolKeys},
    wheel::Wheel,
};
use ahash::AHashMap;
use control::{
    desired::{AdminState, Drain, PoolState, Snapshot},
    spec::{HealthCheck, Key, Listener, Pool, Route},
    status::Health,
};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

#[cfg(test)]
mod tests;

/// All that one worker routes by. The reference counts are touched where tables are built and freed, on the control
/// thread, and never by a request; what they point at belongs to one worker alone ([`Table::copy`]).
/// A clone shares it all, for whoever builds the next table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub generation: u64,
    pub listeners: Vec<ListenerTable>,
    pub pools: Vec<Arc<PoolTable>>,
}

#[derive(Clone, Debug)]
pub struct ListenerTable {
    pub settings: Listener,
    pub router: Router,
    /// The slots of its routes that are counted.
    pub routes: Vec<u32>,
}

/// One pool. A backend is known by its index here, in the order of names.
#[derive(Debug)]
pub struct PoolTable {
    pub name: String,
    pub settings: Pool,
    pub slot: u32,
    pub backends: Vec<Backend>,
    pub ring: Arc<Ring>,
    pub wheel: Wheel,
    /// So few are up that health counts no more; see `fail_open_below`.
    pub fails_open: bool,
    /// The weights of those that take new sessions, as far as checks know.
    pub usable_weight: u64,
    /// Absent where the affinity has no cookie.
    pub cookie: Option<CookieName>,
    pub cookie_text: CookieText,
    /// The application's cookie; absent where the affinity has none.
    pub app_cookie: Option<CookieName>,
    /// Absent where nothing is sealed.
    pub keys: Option<PoolKeys>,
    /// For each key, the backends by their refs under it.
    refs: Vec<AHashMap<u64, u16>>,
    names: AHashMap<Box<[u8]>, u16>,
    pub(crate) former: Former,
    generation: u64,
    ring_generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub name: String,
    /// Absent while the name in the address has not resolved.
    pub address: Option<SocketAddr>,
    pub weight: u32,
    pub admin_state: AdminState,
    /// How it drains; in maintenance, which drain led there.
    pub drain: Option<Drain>,
    pub health: Health,
    pub incarnation: u32,
    /// Where workers keep what outlives a table: counters, idle connections.
    pub slot: u32,
}

/// Numbers for pools and backends that stay the same from table to table, for as long as these exist.
pub trait Slots {
    fn pool(&mut self, pool: &str) -> u32;
    fn backend(&mut self, pool: &str, backend: &str) -> u32;
    /// `None` where it is not to be counted.
    fn route(&mut self, route: &RouteName<'_>) -> Option<u32>;
}

/// What tells a route from others: where it leads, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteName<'a> {
    pub pool: &'a str,
    pub listener: &'a str,
    pub host: Option<&'a str>,
    pub path: Option<&'a str>,
}

/// What differs from the table before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    All,
    Pools(BTreeSet<String>),
}

impl Dirty {
    fn has(&self, pool: &str) -> bool {
        match self {
            Self::All => true,
            Self::Pools(pools) => pools.contains(pool),
        }
    }
}

impl Table {
    /// Takes from `before` the pools that are not dirty, and the rings of those whose members and weights are the same:
    /// a change of health or admin state rebuilds no ring.
    pub fn build(snapshot: &Snapshot, before: Option<&Self>, dirty: &Dirty, slots: &mut impl Slots) -> Self {
        let desired = &snapshot.desired;
        let pools: Vec<_> = desired
            .pools
            .iter()
            .map(|(name, state)| {
                let old = before.and_then(|table| table.pool(name));
                match old {
                    Some(pool) if !dirty.has(name) => Arc::clone(pool),
                    _ => Arc::new(PoolTable::build(name, state, snapshot, old.map(AsRef::as_ref), slots)),
                }
            })
            .collect();
        let index = |name: &str| position(&pools, name).and_then(|at| u32::try_from(at).ok());
        let listeners = desired
            .listeners
            .iter()
            .map(|listener| {
                let mut routes = Vec::new();
                let slot = |route: Option<&Route>, pool: &str| {
                    let (host, path) =
                        route.map_or((None, None), |route| (route.host.as_deref(), route.path.as_deref()));
                    let slot = slots.route(&RouteName { pool, listener: &listener.name, host, path });
                    routes.extend(slot);
                    slot
                };
                let router = Router::new(&listener.routes, listener.pool.as_deref(), index, slot);
                ListenerTable { settings: listener.clone(), router, routes }
            })
            .collect();
        Self { generation: snapshot.generation, listeners, pools }
    }

    /// The same table for another worker, with memory of its own except for what it has in `before` already.
    pub fn copy(&self, before: Option<&Self>) -> Self {
        let pools = self.pools.iter().map(|pool| {
            let old = before.and_then(|table| table.pool(&pool.name));
            match old {
                Some(old) if old.generation == pool.generation => Arc::clone(old),
                _ => Arc::new(pool.copy(old.map(AsRef::as_ref))),
            }
        });
        Self { generation: self.generation, listeners: self.listeners.clone(), pools: pools.collect() }
    }

    pub fn pool(&self, name: &str) -> Option<&Arc<PoolTable>> {
        position(&self.pools, name).map(|at| &self.pools[at])
    }
}

fn position(pools: &[Arc<PoolTable>], name: &str) -> Option<usize> {
    pools.binary_search_by(|pool| pool.name.as_str().cmp(name)).ok()
}

impl PoolTable {
    fn build(name: &str, state: &PoolState, snapshot: &Snapshot, old: Option<&Self>, slots: &mut impl Slots) -> Self {
        let backends: Vec<_> = state
            .members
            .iter()
            .map(|(backend, member)| {
                let observed = snapshot.observed(name, backend);
                Backend {
                    name: backend.clone(),
                    address: member.address.parse().ok().or(observed.resolved),
                    weight: member.weight,
                    admin_state: member.admin_state,
                    drain: member.drain,
                    health: observed.health,
                    incarnation: member.incarnation,
                    slot: slots.backend(name, backend),
                }
            })
            .collect();
        let weights: Vec<_> = backends.iter().map(|backend| (backend.name.as_str(), backend.weight)).collect();
        let same_ring = old.filter(|old| old.has_weights(&weights));
        let settings = state.settings.clone();
        let keys = pool_keys(name, &settings, &snapshot.desired.keys);
        let refs = refs(keys.as_ref(), snapshot.desired.keys.len(), &backends);
        let left = old.into_iter().flat_map(|old| &old.backends).map(|backend| (backend.name.as_str(), backend.slot));
        let count = snapshot.desired.keys.len();
        let former = Former::new(
            old.map(|old| &old.former),
            left,
            |name| state.members.contains_key(name),
            keys.as_ref().map(|keys| (keys, count)),
        );
        let cookie = &settings.affinity.cookie;
        let fails_open = fails_open(&settings.health, &backends);
        let usable = |backend: &&Backend| {
            backend.admin_state == AdminState::Active && (fails_open || backend.health != Health::Down)
        };
        let usable_weight = backends.iter().filter(usable).map(|backend| u64::from(backend.weight)).sum();
        Self {
            name: name.to_owned(),
            slot: slots.pool(name),
            fails_open,
            usable_weight,
            ring: same_ring.map_or_else(|| Arc::new(Ring::build(&weights)), |old| Arc::clone(&old.ring)),
            ring_generation: same_ring.map_or(snapshot.generation, |old| old.ring_generation),
            wheel: same_ring
                .map_or_else(|| Wheel::new(weights.iter().map(|(_, weight)| *weight)), |old| old.wheel.clone()),
            cookie: CookieName::new(&cookie.name).filter(|_| settings.affinity.sets_cookie()),
            cookie_text: CookieText::new(cookie),
            app_cookie: settings.affinity.app_cookie.as_ref().and_then(|cookie| CookieName::new(&cookie.name)),
            keys,
            refs,
            former,
            names: (0..u16::MAX)
                .zip(&backends)
                .map(|(index, backend)| (backend.name.as_bytes().into(), index))
                .collect(),
            generation: snapshot.generation,
            settings,
            backends,
        }
    }

    fn copy(&self, old: Option<&Self>) -> Self {
        let same_ring = old.filter(|old| old.ring_generation == self.ring_generation);
        Self {
            name: self.name.clone(),
            settings: self.settings.clone(),
            slot: self.slot,
            backends: self.backends.clone(),
            ring: same_ring.map_or_else(|| Arc::new(Ring::clone(&self.ring)), |old| Arc::clone(&old.ring)),
            wheel: self.wheel.clone(),
            fails_open: self.fails_open,
            usable_weight: self.usable_weight,
            cookie: self.cookie.clone(),
            cookie_text: self.cookie_text.clone(),
            app_cookie: self.app_cookie.clone(),
            keys: self.keys.clone(),
            refs: self.refs.clone(),
            names: self.names.clone(),
            former: self.former.clone(),
            generation: self.generation,
            ring_generation: self.ring_generation,
        }
    }

    /// That of the table for which it was built anew last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn has_weights(&self, weights: &[(&str, u32)]) -> bool {
        self.backends.iter().map(|backend| (backend.name.as_str(), backend.weight)).eq(weights.iter().copied())
    }

    /// The backend that a token names, by the key that opened it.
    pub fn by_ref(&self, key_index: usize, backend_ref: u64) -> Option<u16> {
        self.refs.get(key_index)?.get(&backend_ref).copied()
    }

    pub fn by_name(&self, name: &[u8]) -> Option<u16> {
        self.names.get(name).copied()
    }
}

/// Whether less than the wanted share of the backends that are to take sessions is not down.
#[expect(clippy::cast_precision_loss, reason = "counts of at most 65,535")]
fn fails_open(health: &HealthCheck, backends: &[Backend]) -> bool {
    let wanted = |backend: &&Backend| backend.admin_state == AdminState::Active && backend.weight > 0;
    let all = backends.iter().filter(wanted).count() as f64;
    let up = backends.iter().filter(wanted).filter(|backend| backend.health != Health::Down).count() as f64;
    health.fail_open && up < health.fail_open_below * all
}

fn pool_keys(name: &str, settings: &Pool, keys: &[Key]) -> Option<PoolKeys> {
    if !settings.affinity.seals() {
        return None;
    }
    let keys: Vec<_> = keys.iter().map(|key| MasterKey::new(key.0)).collect();
    PoolKeys::new(name, &keys)
}

fn refs(keys: Option<&PoolKeys>, count: usize, backends: &[Backend]) -> Vec<AHashMap<u64, u16>> {
    let Some(keys) = keys else { return Vec::new() };
    (0..count)
        .map(|key| {
            let backends = (0..u16::MAX).zip(backends);
            backends.map(|(index, backend)| (keys.backend_ref(key, &backend.name), index)).collect()
        })
        .collect()
}
