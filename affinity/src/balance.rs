//! How requests without a pin are spread.

use crate::{
    hash::mix64,
    ring::Ring,
    table::PoolTable,
    wheel::{Turn, Wheel, below},
};
use control::spec::Balance;
use std::{cmp::Ordering, collections::BTreeSet};

#[cfg(test)]
mod tests;

/// What a worker knows of load and failures beyond its table. Backends are indexes of the pool's table.
pub trait View {
    fn in_flight(&self, backend: u16) -> u32;
    /// Requests in flight at all backends of the pool.
    fn pool_in_flight(&self) -> u32;
    /// Whether the backend has as many requests as it may have, or others wait for it already.
    fn is_full(&self, backend: u16) -> bool;
    /// Whether traffic alone speaks against the backend, before health checks do.
    fn is_marked_down(&self, backend: u16) -> bool;
    /// Whether this very request has failed there.
    fn was_tried(&self, backend: u16) -> bool;
}

/// Knows of no load, and of no failures but that a request has failed at `tried`: for those who ask where a request would
/// go and send none.
#[derive(Clone, Debug, Default)]
pub struct Calm {
    pub tried: BTreeSet<u16>,
}

impl View for Calm {
    fn in_flight(&self, _: u16) -> u32 {
        0
    }

    fn pool_in_flight(&self) -> u32 {
        0
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }

    fn is_marked_down(&self, _: u16) -> bool {
        false
    }

    fn was_tried(&self, backend: u16) -> bool {
        self.tried.contains(&backend)
    }
}

/// Whom new sessions are spread over, and by what: the backups of a pool, or all others.
#[derive(Clone, Copy, Debug)]
pub struct Among<'a> {
    pub ring: &'a Ring,
    pub wheel: &'a Wheel,
    pub backup: bool,
}

impl PoolTable {
    /// All that are no backups.
    pub fn primaries(&self) -> Among<'_> {
        Among { ring: &self.ring, wheel: &self.wheel, backup: false }
    }

    pub fn backups(&self) -> Option<Among<'_>> {
        let backups = self.backups.as_ref()?;
        Some(Among { ring: &backups.ring, wheel: &backups.wheel, backup: true })
    }
}

/// One of the backends among these that are `usable`, by the pool's policy. `key` is the session key, for `ring`; `random`
/// is fresh.
pub fn balance(
    pool: &PoolTable,
    among: Among<'_>,
    key: u64,
    random: u64,
    turn: &mut Turn,
    view: &impl View,
    usable: impl Fn(u16) -> bool,
) -> Option<u16> {
    match pool.settings.balance {
        Balance::RoundRobin => among.wheel.next(turn, usable),
        Balance::Random => among.wheel.draw(random, &usable),
        Balance::P2c => {
            let one = among.wheel.draw(random, &usable)?;
            let other = among.wheel.draw(mix64(random), |backend| backend != one && usable(backend));
            let load = |backend| Load::of(pool, backend, view);
            Some(other.filter(|other| load(*other).cmp(load(one)).is_lt()).unwrap_or(one))
        }
        Balance::LeastRequests => {
            let is_among = |index: u16| pool.backends[usize::from(index)].backup == among.backup;
            least_requests(pool, random, view, |index| is_among(index) && usable(index))
        }
        Balance::Ring => among.ring.first_usable(key, usable),
    }
}

/// Of those with the same load, one drawn by weight: so that an idle pool, too, spreads its new sessions by weight.
fn least_requests(pool: &PoolTable, random: u64, view: &impl View, usable: impl Fn(u16) -> bool) -> Option<u16> {
    let mut best: Option<(u16, Load)> = None;
    let mut weight_of_equals = 0;
    for index in (0..u16::MAX).take(pool.backends.len()).filter(|index| usable(*index)) {
        let load = Load::of(pool, index, view);
        match best.map_or(Ordering::Less, |(_, least)| load.cmp(least)) {
            Ordering::Greater => continue,
            Ordering::Less => weight_of_equals = load.weight,
            Ordering::Equal => {
                weight_of_equals += load.weight;
                if below(weight_of_equals, mix64(random.wrapping_add(index.into()))) >= load.weight {
                    continue;
                }
            }
        }
        best = Some((index, load));
    }
    best.map(|(index, _)| index)
}

/// What a backend bears: requests in flight for each unit of weight.
#[derive(Clone, Copy)]
struct Load {
    in_flight: u64,
    weight: u64,
}

impl Load {
    fn of(pool: &PoolTable, backend: u16, view: &impl View) -> Self {
        let weight = pool.backends[usize::from(backend)].weight.max(1);
        Self { in_flight: view.in_flight(backend).into(), weight: weight.into() }
    }

    fn cmp(self, other: Self) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }
}
