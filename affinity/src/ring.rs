//! The consistent-hash ring of a pool, laid out as a table of slots that each have one owner.
//!
//! A member takes slots by an endless sequence of arrivals: its k-th comes at a time between k and k + 1 intervals, the
//! interval being inverse to its weight, and at a slot; both follow from its name and k alone. A slot belongs to whoever
//! arrives there first. Until it has arrived, a member's chance to do so at the next moment is proportional to its
//! weight, and so is its share of the slots. Nobody's arrivals depend on the other members, so that a member that joins
//! or gains weight only takes slots, and one that leaves or loses weight only gives slots: none moves between others.

use std::fmt;

use crate::hash::{GOLDEN, mix64, name_hash};

mod claims;
#[cfg(test)]
mod tests;

use claims::Claims;

/// The most members that a ring can have.
pub const MAX_MEMBERS: usize = u16::MAX as usize;

/// How many slots a key tries before all members are compared for it.
pub const ATTEMPTS: u64 = 64;

/// The ring as pools have it: 2^18 slots of two bytes.
#[cfg(not(feature = "simulation"))]
pub type Ring = SlotRing<18>;
/// The same for a few members that change every few steps: to make it is most of what a simulated run would do.
#[cfg(feature = "simulation")]
pub type Ring = SlotRing<10>;

/// A ring of 2^`BITS` slots. It knows members and weights; health, admin state and limits are for the caller to apply.
/// Placement is the same on every machine, in every release and for any order of the members.
#[derive(Clone)]
pub struct SlotRing<const BITS: u32> {
    /// Index of the owner among the members as given, or [`NOBODY`]. Empty if there is no member with any weight.
    owners: Box<[u16]>,
    /// Those with any weight, ordered by seed and name.
    members: Box<[Member]>,
    /// Every slot was taken before this time.
    settled: u64,
}

#[derive(Clone)]
struct Member {
    seed: u64,
    weight: u32,
    owner: u16,
}

const NOBODY: u16 = u16::MAX;

/// How many arrivals there are for each slot, on average, until it is looked again which are still open.
const ROUND: u64 = 1;

impl<const BITS: u32> SlotRing<BITS> {
    /// Builds from names, each different, and weights. A member is spoken of by its index in `members`; weight 0 owns
    /// nothing. Takes milliseconds and is for the control thread, not for workers.
    ///
    /// # Panics
    /// With more than [`MAX_MEMBERS`].
    pub fn build(members: &[(&str, u32)]) -> Self {
        Self::build_in_rounds(members, ROUND)
    }

    /// `arrivals` is how many there are for each slot in one round; it has no influence on the result.
    fn build_in_rounds(members: &[(&str, u32)], arrivals: u64) -> Self {
        Self::settle(in_order(members), Claims::open(), arrivals)
    }

    /// What [`build`](Self::build) makes of these members, faster by as much as they are like the ones before: only the
    /// slots that those who left or lost weight had, and those that the ones who joined or gained may take, are
    /// contested again.
    ///
    /// # Panics
    /// With more than [`MAX_MEMBERS`].
    pub fn changed(&self, members: &[(&str, u32)]) -> Self {
        let members = in_order(members);
        let claims = Claims::left_by(self, &members).unwrap_or_else(Claims::open);
        Self::settle(members, claims, ROUND)
    }

    fn settle(members: Box<[Member]>, claims: Claims<BITS>, arrivals: u64) -> Self {
        if members.is_empty() {
            return Self { owners: Box::default(), members, settled: 0 };
        }
        let (owners, settled) = claims.settle(&members, arrivals);
        Self { owners, members, settled }
    }

    /// Whose the key is. `None` if no member has any weight.
    #[inline]
    pub fn lookup(&self, key: u64) -> Option<u16> {
        self.attempt(key, 0)
    }

    /// Whom the key may go to, in order of preference, each once; not necessarily all members.
    pub fn candidates(&self, key: u64) -> impl Iterator<Item = u16> {
        let mut seen = [NOBODY; ATTEMPTS as usize];
        let mut count = 0;
        (0..ATTEMPTS).filter_map(move |attempt| {
            let owner = self.attempt(key, attempt)?;
            if seen[..count].contains(&owner) {
                return None;
            }
            seen[count] = owner;
            count += 1;
            Some(owner)
        })
    }

    /// The first candidate that is usable, or else the best of all members that are. `None` only if no member with any
    /// weight is usable.
    pub fn first_usable(&self, key: u64, mut usable: impl FnMut(u16) -> bool) -> Option<u16> {
        self.candidates(key).find(|&owner| usable(owner)).or_else(|| self.rendezvous(key, usable))
    }

    /// Weighted rendezvous (Schindelhauer and Schomaker, SPAA 2005, "logarithmic method") over all usable members.
    fn rendezvous(&self, key: u64, mut usable: impl FnMut(u16) -> bool) -> Option<u16> {
        let key = mix64(key);
        let mut best: Option<(u64, &Member)> = None;
        for member in self.members.iter().filter(|member| usable(member.owner)) {
            let draw = exponential(mix64(member.seed ^ key));
            // Whose draw / weight is smaller, without the division. At equality, whoever comes first in order.
            let better = |(least, of): (u64, &Member)| {
                u128::from(draw) * u128::from(of.weight) < u128::from(least) * u128::from(member.weight)
            };
            if best.is_none_or(better) {
                best = Some((draw, member));
            }
        }
        best.map(|(_, member)| member.owner)
    }

    #[inline]
    fn attempt(&self, key: u64, attempt: u64) -> Option<u16> {
        let slot = slot::<BITS>(mix64(key.wrapping_add(attempt.wrapping_mul(GOLDEN))));
        self.owners.get(slot).copied().filter(|&owner| owner != NOBODY)
    }
}

/// The members with any weight in the order that breaks ties, which is the same however they are listed.
fn in_order(members: &[(&str, u32)]) -> Box<[Member]> {
    assert!(members.len() <= MAX_MEMBERS, "a ring has at most {MAX_MEMBERS} members");
    let mut named: Vec<(Member, &str)> = (0..NOBODY)
        .zip(members)
        .filter(|(_, (_, weight))| *weight > 0)
        .map(|(owner, &(name, weight))| (Member { seed: name_hash(name), weight, owner }, name))
        .collect();
    named.sort_unstable_by_key(|(member, name)| (member.seed, *name));
    named.into_iter().map(|(member, _)| member).collect()
}

#[inline]
fn slot<const BITS: u32>(hash: u64) -> usize {
    (hash >> (64 - BITS)) as usize
}

/// The binary logarithm of 2^64 / `hash`, with 32 bits behind the point and right to about 2^-13: if `hash` is uniform,
/// exponentially distributed. In integers, because `f64::ln` differs between platforms.
fn exponential(hash: u64) -> u64 {
    // log2(1 + x) = x + x (1 - x) (A - B x + C x²), with the least greatest error.
    const A: u64 = 0x7050_4D4C;
    const B: u64 = 0x3D32_CF58;
    const C: u64 = 0x1506_6D55;
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let x = (hash << zeros << 1) >> 32;
    let curve = A - ((x * (B - ((x * C) >> 32))) >> 32);
    let bulge = (x * ((1 << 32) - x)) >> 32;
    let log = x + ((bulge * curve) >> 32);
    (u64::from(zeros + 1) << 32) - log
}

impl<const BITS: u32> fmt::Debug for SlotRing<BITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotRing({} slots, {} members)", self.owners.len(), self.members.len())
    }
}
