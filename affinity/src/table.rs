//! The table: what a worker routes by, made from one generation of the desired state. Built whole, swapped whole.

use crate::{
    cookie::CookieName,
    foreign::{Foreign, Known},
    former::Former,
    rebalance::Rebalancing,
    release::ReleaseTable,
    ring::Ring,
    route::Router,
    set_cookie::CookieText,
    token::{MasterKey, PoolKeys},
    warming,
    wheel::Wheel,
};
use ahash::AHashMap;
use control::{
    Endpoint,
    desired::{AdminState, Drain, PoolState, Snapshot},
    spec::{HealthCheck, Key, Listener, Pool, Route},
    status::Health,
};
use std::{collections::BTreeSet, sync::Arc};

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
    /// The keys by their index.
    pub keys: Vec<KeySlot>,
}

/// Where workers keep what they have seen of the tokens of a key. Keys that share an id share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot {
    pub id: u16,
    pub slot: u32,
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
    /// Of all but the backups.
    pub ring: Arc<Ring>,
    pub wheel: Wheel,
    /// Absent where the pool has no backups.
    pub backups: Option<Backups>,
    /// So few are up that health counts no more; see `fail_open_below`.
    pub fails_open: bool,
    /// The weights of those that take new sessions, as far as checks know; without the backups.
    pub usable_weight: u64,
    /// Absent where no session is released.
    pub release: Option<ReleaseTable>,
    /// Some have begun to take new sessions not so long ago that all may be warm by now.
    pub warms: bool,
    /// Absent where no sessions are to move for an even load.
    pub rebalancing: Option<Rebalancing>,
    /// Absent where the affinity has no cookie.
    pub cookie: Option<CookieName>,
    pub cookie_text: CookieText,
    /// The application's cookie; absent where the affinity has none.
    pub app_cookie: Option<CookieName>,
    /// Cookies of other balancers that are adopted.
    pub foreign: Vec<Foreign>,
    /// Absent where nothing is sealed.
    pub keys: Option<PoolKeys>,
    /// For each key, the backends by their refs under it.
    refs: Vec<AHashMap<u64, u16>>,
    names: AHashMap<Box<[u8]>, u16>,
    pub(crate) former: Former,
    generation: u64,
    ring_generation: u64,
}

/// How new sessions spread over the backups: apart from all others, so that a backup that comes or goes moves none of
/// their keys.
#[derive(Clone, Debug)]
pub struct Backups {
    pub ring: Arc<Ring>,
    pub wheel: Wheel,
    /// As that of the pool.
    pub usable_weight: u64,
}

/// What a request of a session reads comes first and shares a cache line: with thousands of backends, each line of each is
/// one that a core has to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Backend {
    pub incarnation: u32,
    pub admin_state: AdminState,
    pub health: Health,
    /// It takes new sessions only while no other backend does.
    pub backup: bool,
    pub weight: u32,
    /// Where workers keep what outlives a table: counters, idle connections.
    pub slot: u32,
    /// Absent while the name in the address has not resolved.
    pub address: Option<Endpoint>,
    /// When it began to take new sessions, in Unix seconds, where it has to start slowly.
    pub warming_since: Option<u32>,
    /// The name that it has to show a certificate for; absent where its pool has no TLS.
    pub server_name: Option<Box<str>>,
    /// How it drains; in maintenance, which drain led there.
    pub drain: Option<Drain>,
    pub name: String,
}

/// Numbers for pools, backends and keys that stay the same from table to table, for as long as these exist.
pub trait Slots {
    fn pool(&mut self, pool: &str) -> u32;
    fn backend(&mut self, pool: &str, backend: &str) -> u32;
    /// `None` where it is not to be counted.
    fn route(&mut self, route: &RouteName<'_>) -> Option<u32>;
    fn key(&mut self, id: u16) -> u32;
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
    /// a change of health or admin state rebuilds no ring. `now`, in Unix seconds, is when those begin to take new sessions
    /// that did not in `before`.
    pub fn build(snapshot: &Snapshot, before: Option<&Self>, dirty: &Dirty, slots: &mut impl Slots, now: u32) -> Self {
        let desired = &snapshot.desired;
        let pools: Vec<_> = desired
            .pools
            .iter()
            .map(|(name, state)| {
                let old = before.and_then(|table| table.pool(name));
                match old {
                    Some(pool) if !dirty.has(name) => Arc::clone(pool),
                    _ => Arc::new(PoolTable::build((name, state), snapshot, old.map(AsRef::as_ref), slots, now)),
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
        let keys = desired.keys.iter().map(|key| {
            let id = MasterKey::new(key.0).id();
            KeySlot { id, slot: slots.key(id) }
        });
        Self { generation: snapshot.generation, listeners, pools, keys: keys.collect() }
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
        let (listeners, keys) = (self.listeners.clone(), self.keys.clone());
        Self { generation: self.generation, listeners, pools: pools.collect(), keys }
    }

    pub fn pool(&self, name: &str) -> Option<&Arc<PoolTable>> {
        position(&self.pools, name).map(|at| &self.pools[at])
    }
}

fn position(pools: &[Arc<PoolTable>], name: &str) -> Option<usize> {
    pools.binary_search_by(|pool| pool.name.as_str().cmp(name)).ok()
}

impl PoolTable {
    fn build(
        (name, state): (&str, &PoolState),
        snapshot: &Snapshot,
        old: Option<&Self>,
        slots: &mut impl Slots,
        now: u32,
    ) -> Self {
        let backends: Vec<_> = state
            .members
            .iter()
            .map(|(backend, member)| {
                let observed = snapshot.observed(name, backend);
                let cold = Backend {
                    name: backend.clone(),
                    address: member.endpoint(observed.resolved),
                    weight: member.weight,
                    backup: member.backup,
                    admin_state: member.admin_state,
                    drain: member.drain,
                    health: observed.health,
                    incarnation: member.incarnation,
                    warming_since: None,
                    server_name: state.settings.tls.as_ref().map(|tls| tls.name_for(&member.address).into()),
                    slot: slots.backend(name, backend),
                };
                Backend { warming_since: warming::since(&state.settings, &cold, old, now), ..cold }
            })
            .collect();
        let weights = weights(&backends, false);
        let same_ring = old.filter(|old| old.is_spread_as(&backends));
        let settings = state.settings.clone();
        let keys = pool_keys(name, &settings, &snapshot.desired.keys);
        let refs = refs(keys.as_ref(), snapshot.desired.keys.len(), &backends);
        let former = former(old, state, keys.as_ref().map(|keys| (keys, snapshot.desired.keys.len())));
        let cookie = &settings.affinity.cookie;
        let fails_open = fails_open(&settings.health, &backends);
        let release = snapshot.desired.releases.get(name);
        Self {
            name: name.to_owned(),
            slot: slots.pool(name),
            fails_open,
            warms: backends.iter().any(|backend| backend.warming_since.is_some()),
            rebalancing: snapshot.rebalances.get(name).map(|round| {
                let longest_idle = settings.affinity.cookie.live_for().as_secs_u32();
                Rebalancing::of(round, &backends, longest_idle)
            }),
            usable_weight: usable_weight(&backends, false, fails_open),
            backups: Backups::of(&backends, old.and_then(|old| old.backups.as_ref()), same_ring.is_some(), fails_open),
            release: release.and_then(|release| ReleaseTable::new(release, &settings.affinity)),
            ring: ring(old.map(|old| &old.ring), same_ring.is_some(), &weights),
            ring_generation: same_ring.map_or(snapshot.generation, |old| old.ring_generation),
            wheel: same_ring.map_or_else(|| wheel(&weights), |old| old.wheel.clone()),
            cookie: CookieName::new(&cookie.name).filter(|_| settings.affinity.sets_cookie()),
            cookie_text: CookieText::new(cookie),
            app_cookie: settings.affinity.app_cookie.as_ref().and_then(|cookie| CookieName::new(&cookie.name)),
            foreign: foreign(state, &backends),
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
            backups: self.backups.as_ref().map(|own| own.copy(same_ring.and_then(|old| old.backups.as_ref()))),
            fails_open: self.fails_open,
            warms: self.warms,
            rebalancing: self.rebalancing.clone(),
            usable_weight: self.usable_weight,
            release: self.release.clone(),
            cookie: self.cookie.clone(),
            cookie_text: self.cookie_text.clone(),
            app_cookie: self.app_cookie.clone(),
            foreign: self.foreign.clone(),
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

    /// Whether these are spread as this pool's backends are: by the same rings and wheels.
    fn is_spread_as(&self, backends: &[Backend]) -> bool {
        let same = |(one, other): (&Backend, &Backend)| {
            one.name == other.name && one.weight == other.weight && one.backup == other.backup
        };
        self.backends.len() == backends.len() && self.backends.iter().zip(backends).all(same)
    }

    /// The backend that a token names, by the key that opened it.
    pub fn by_ref(&self, key_index: usize, backend_ref: u64) -> Option<u16> {
        self.refs.get(key_index)?.get(&backend_ref).copied()
    }

    pub fn by_name(&self, name: &[u8]) -> Option<u16> {
        self.names.get(name).copied()
    }
}

impl Backups {
    fn of(backends: &[Backend], old: Option<&Self>, is_same: bool, fails_open: bool) -> Option<Self> {
        if !backends.iter().any(|backend| backend.backup) {
            return None;
        }
        let usable_weight = usable_weight(backends, true, fails_open);
        if let Some(same) = old.filter(|_| is_same) {
            return Some(Self { usable_weight, ..same.clone() });
        }
        let weights = weights(backends, true);
        Some(Self { ring: ring(old.map(|old| &old.ring), false, &weights), wheel: wheel(&weights), usable_weight })
    }

    /// As [`Table::copy`].
    fn copy(&self, old: Option<&Self>) -> Self {
        let ring = old.map_or_else(|| Arc::new(Ring::clone(&self.ring)), |old| Arc::clone(&old.ring));
        Self { ring, wheel: self.wheel.clone(), usable_weight: self.usable_weight }
    }
}

/// Names and weights in the order of all backends; the weight is 0 where one is no backup, or is one, other than asked.
fn weights(backends: &[Backend], backup: bool) -> Vec<(&str, u32)> {
    let weight = |backend: &Backend| if backend.backup == backup { backend.weight } else { 0 };
    backends.iter().map(|backend| (backend.name.as_str(), weight(backend))).collect()
}

fn ring(old: Option<&Arc<Ring>>, is_same: bool, weights: &[(&str, u32)]) -> Arc<Ring> {
    match old {
        Some(old) if is_same => Arc::clone(old),
        Some(old) => Arc::new(old.changed(weights)),
        None => Arc::new(Ring::build(weights)),
    }
}

fn wheel(weights: &[(&str, u32)]) -> Wheel {
    Wheel::new(weights.iter().map(|(_, weight)| *weight))
}

fn usable_weight(backends: &[Backend], backup: bool, fails_open: bool) -> u64 {
    let usable = |backend: &&Backend| {
        backend.backup == backup
            && backend.admin_state == AdminState::Active
            && (fails_open || backend.health != Health::Down)
    };
    backends.iter().filter(usable).map(|backend| u64::from(backend.weight)).sum()
}

/// Whether less than the wanted share of the backends that are to take sessions is not down, and no backup can help.
#[expect(clippy::cast_precision_loss, reason = "counts of at most 65,535")]
fn fails_open(health: &HealthCheck, backends: &[Backend]) -> bool {
    let wanted = |backend: &&Backend| backend.admin_state == AdminState::Active && backend.weight > 0;
    let is_up = |backend: &&Backend| backend.health != Health::Down;
    let (backups, others): (Vec<_>, Vec<_>) = backends.iter().filter(wanted).partition(|backend| backend.backup);
    let up = others.iter().copied().filter(is_up).count() as f64;
    health.fail_open
        && up < health.fail_open_below * others.len() as f64
        && !backups.iter().any(|backup| is_up(backup) && backup.address.is_some())
}

/// Those that the pool before had, and this one has no more.
fn former(old: Option<&PoolTable>, state: &PoolState, keys: Option<(&PoolKeys, usize)>) -> Former {
    let left = old.into_iter().flat_map(|old| &old.backends).map(|backend| (backend.name.as_str(), backend.slot));
    Former::new(old.map(|old| &old.former), left, |name| state.members.contains_key(name), keys)
}

fn pool_keys(name: &str, settings: &Pool, keys: &[Key]) -> Option<PoolKeys> {
    if !settings.affinity.seals() {
        return None;
    }
    let keys: Vec<_> = keys.iter().map(|key| MasterKey::new(key.0)).collect();
    PoolKeys::new(name, &keys)
}

fn foreign(state: &PoolState, backends: &[Backend]) -> Vec<Foreign> {
    let known = || state.members.values().zip(backends);
    let known = known().map(|(member, backend)| Known {
        name: &backend.name,
        configured: &member.address,
        address: backend.address.as_ref().and_then(Endpoint::inet),
    });
    let adopt = &state.settings.affinity.adopt;
    let known: Vec<_> = known.filter(|_| !adopt.is_empty()).collect();
    adopt.iter().filter_map(|adopt| Foreign::new(adopt, &known)).collect()
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
