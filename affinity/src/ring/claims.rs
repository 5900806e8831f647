//! How slots are settled: who arrives where, and when.

use std::cmp::Ordering;

use super::{Member, NOBODY, SlotRing, slot};
use crate::hash::{GOLDEN, mix64};

/// Time has 2^40 units to the interval of weight 1. Rounds stop when slots have had this many arrivals on average: the
/// chance that one is then left with nobody is below e^-47, and time still fits 64 bits.
pub(super) const MOST_ARRIVALS: u64 = 60;

const UNIT_BITS: u32 = 40;

/// The state of a build: who was first at each slot, and which slots are still contested.
pub(super) struct Claims<const BITS: u32> {
    owners: Box<[u16]>,
    /// When the owner of an open slot arrived.
    times: Box<[u64]>,
    /// A bit for each slot that nobody had at the begin of the round.
    open: Box<[u64]>,
    /// All other slots were taken before this time.
    settled: u64,
}

impl<const BITS: u32> Claims<BITS> {
    const SLOTS: usize = 1 << BITS;

    /// All slots are open.
    pub(super) fn open() -> Self {
        Self {
            owners: vec![NOBODY; Self::SLOTS].into(),
            times: vec![0; Self::SLOTS].into(),
            open: vec![u64::MAX; Self::SLOTS / 64].into(),
            settled: 0,
        }
    }

    /// Open are the slots of members that left `ring` or lost weight, and all where one that joined or gained weight
    /// arrives before the ring was settled; the others keep their owners. `None` where those are so many that to begin
    /// anew is as good.
    pub(super) fn left_by(ring: &SlotRing<BITS>, members: &[Member]) -> Option<Self> {
        let Difference { renamed, gained } = Difference::between(&ring.members, members);
        let arrivals: u64 = gained.iter().map(|member| member.arrivals(ring.settled)).fold(0, u64::saturating_add);
        if ring.owners.is_empty() || arrivals > 1 << (BITS - 1) {
            return None;
        }
        let mut claims = Self {
            owners: ring.owners.iter().map(|&owner| renamed[usize::from(owner)]).collect(),
            times: vec![0; Self::SLOTS].into(),
            open: vec![0; Self::SLOTS / 64].into(),
            settled: ring.settled,
        };
        for member in gained {
            // One that may be in time, and one more for what rounding takes off.
            for k in 0..member.arrivals(ring.settled) + 2 {
                claims.owners[slot::<BITS>(member.hash(k))] = NOBODY;
            }
        }
        for (bits, owners) in claims.open.iter_mut().zip(claims.owners.chunks(64)) {
            *bits = owners.iter().rev().fold(0, |bits, &owner| bits << 1 | u64::from(owner == NOBODY));
        }
        Some(claims)
    }

    /// Who has each slot in the end, and a time before which all were taken.
    ///
    /// All arrivals of one round come before all of the next, so that what a round has settled stands. Within a round
    /// members arrive in their order, and a claim stands unless a later member was strictly earlier: that breaks ties
    /// by order.
    pub(super) fn settle(mut self, members: &[Member], arrivals: u64) -> (Box<[u16]>, u64) {
        const { assert!(MOST_ARRIVALS < 64 && UNIT_BITS + BITS <= 58, "time would not fit") };
        let total: u128 = members.iter().map(|member| u128::from(member.weight)).sum();
        let mut next = vec![0; members.len()];
        let mut due = 0;
        while due < MOST_ARRIVALS && self.open.iter().any(|&bits| bits != 0) {
            due = MOST_ARRIVALS.min(due + arrivals);
            let until = ((u128::from(due) << (UNIT_BITS + BITS)) / total) as u64;
            for (member, next) in members.iter().zip(&mut next) {
                *next = self.arrive(member, *next, until);
            }
            self.close();
            self.settled = self.settled.max(until);
        }
        (self.owners, self.settled)
    }

    /// The member's arrivals from the `k`-th on that are before `until`. Says which is the first that is not.
    fn arrive(&mut self, member: &Member, k: u64, until: u64) -> u64 {
        let (sure, interval) = (member.arrivals(until).max(k), u64::MAX / u64::from(member.weight));
        for k in k..sure {
            let hash = member.hash(k);
            if self.is_open(slot::<BITS>(hash)) {
                self.claim(slot::<BITS>(hash), time(interval, k, hash), member.owner);
            }
        }
        for k in sure.. {
            let hash = member.hash(k);
            let time = time(interval, k, hash);
            if time >= until {
                return k;
            }
            if self.is_open(slot::<BITS>(hash)) {
                self.claim(slot::<BITS>(hash), time, member.owner);
            }
        }
        unreachable!("time goes on")
    }

    #[inline]
    fn is_open(&self, slot: usize) -> bool {
        self.open[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn claim(&mut self, slot: usize, time: u64, owner: u16) {
        if self.owners[slot] == NOBODY || time < self.times[slot] {
            self.times[slot] = time;
            self.owners[slot] = owner;
        }
    }

    /// Closes what has an owner.
    fn close(&mut self) {
        for (bits, owners) in self.open.iter_mut().zip(self.owners.chunks(64)) {
            let mut left = *bits;
            while left != 0 {
                let at = left.trailing_zeros();
                if owners[at as usize] != NOBODY {
                    *bits &= !(1 << at);
                }
                left &= left - 1;
            }
        }
    }
}

/// When the `k`-th arrival is.
#[inline]
fn time(interval: u64, k: u64, hash: u64) -> u64 {
    let ordinal = (k << 32) | (hash & 0xFFFF_FFFF);
    ((u128::from(ordinal) * u128::from(interval)) >> (96 - UNIT_BITS)) as u64
}

impl Member {
    /// Says where the `k`-th arrival is, and when within its interval.
    #[inline]
    fn hash(&self, k: u64) -> u64 {
        mix64(self.seed.wrapping_add(k.wrapping_mul(GOLDEN)))
    }

    /// How many are before `until` whatever their hashes are.
    fn arrivals(&self, until: u64) -> u64 {
        ((u128::from(until) * u128::from(self.weight)) >> UNIT_BITS) as u64
    }
}

/// What became of the members of a ring.
struct Difference<'a> {
    /// By the index that a member had, the one that it has now; [`NOBODY`] of those that left or lost weight.
    renamed: Vec<u16>,
    /// Those that joined or gained weight.
    gained: Vec<&'a Member>,
}

impl<'a> Difference<'a> {
    /// Both are in order. Who has the same seed arrives at the same slots, and is the same.
    fn between(before: &[Member], now: &'a [Member]) -> Self {
        let (mut renamed, mut gained) = (vec![NOBODY; usize::from(NOBODY) + 1], Vec::new());
        let mut before = before.iter().peekable();
        for member in now {
            while before.next_if(|old| old.seed < member.seed).is_some() {}
            let old = before.next_if(|old| old.seed == member.seed);
            match old.map_or(Ordering::Greater, |old| member.weight.cmp(&old.weight)) {
                Ordering::Greater => gained.push(member),
                Ordering::Equal => {}
                Ordering::Less => continue,
            }
            if let Some(old) = old {
                renamed[usize::from(old.owner)] = member.owner;
            }
        }
        Self { renamed, gained }
    }
}
