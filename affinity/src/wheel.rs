//! The order of round robin, and drawing by weight.

use crate::hash::mix64;
use std::iter;

/// The longest turn of the wheel that is laid out, in entries.
const MAX_TURN: u64 = 1 << 16;

/// The order of round robin: one turn has each backend as often as its weight says, spread evenly over it, and the sums
/// of the weights for drawing at random.
#[derive(Clone, Debug, Default)]
pub struct Wheel {
    turn: Vec<u16>,
    sums: Vec<u64>,
}

/// What a worker remembers of a pool from one request to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn(pub(crate) u32);

/// How often drawing at random tries before it looks who is usable.
const DRAWS: u64 = 8;

impl Wheel {
    /// By weights in the order of the pool's backends. Weights whose sum is above 65,536 are scaled down, none to zero.
    pub fn new(weights: impl Iterator<Item = u32> + Clone) -> Self {
        let total: u64 = weights.clone().map(u64::from).sum();
        let mut sum = 0;
        let sums = weights.clone().map(|weight| {
            sum += u64::from(weight);
            sum
        });
        let sums = sums.collect();
        let divisor = weights.clone().filter(|weight| *weight > 0).fold(0, |a, b| gcd(a, u64::from(b))).max(1);
        let scale = |weight: u32| {
            let share = u64::from(weight) / divisor;
            let length = total / divisor;
            if length <= MAX_TURN || weight == 0 { share } else { (share * MAX_TURN / length).max(1) }
        };
        // The k-th of w entries stands at (2k + 1) / 2w of the turn, as exact fractions of one common length.
        let mut places: Vec<(u64, u16)> = Vec::new();
        for (index, weight) in (0..u16::MAX).zip(weights) {
            let count = scale(weight);
            places.extend((0..count).map(|k| (((2 * k + 1) << 32) / (2 * count), index)));
        }
        places.sort_unstable();
        Self { turn: places.into_iter().map(|(_, index)| index).collect(), sums }
    }

    /// By weight, from a random number; `None` without any weight.
    fn draw_any(&self, random: u64) -> Option<u16> {
        let total = *self.sums.last().filter(|total| **total > 0)?;
        let at = below(total, random);
        u16::try_from(self.sums.partition_point(|sum| *sum <= at)).ok()
    }

    /// The same among the `usable` alone; looks at all.
    fn draw_usable(&self, random: u64, usable: impl Fn(u16) -> bool) -> Option<u16> {
        let weights = || {
            let befores = iter::once(0).chain(self.sums.iter().copied());
            let weights = self.sums.iter().zip(befores).map(|(sum, before)| sum - before);
            (0..u16::MAX).zip(weights).filter(|(index, _)| usable(*index))
        };
        let mut left = below(weights().map(|(_, weight)| weight).sum(), random);
        for (index, weight) in weights() {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Some(index),
            }
        }
        None
    }

    /// The next in turn that is usable. Where none is, the turn stays as it was: others may be asked after these, in the
    /// same turn.
    pub fn next(&self, turn: &mut Turn, usable: impl Fn(u16) -> bool) -> Option<u16> {
        let mut next = *turn;
        let found = self.next_of(&mut next, self.turn.len(), usable)?;
        *turn = next;
        Some(found)
    }

    /// The same, where at most so many places are looked at. Where none of these is usable, but others may be, the turn goes
    /// on behind them.
    pub fn next_of(&self, turn: &mut Turn, most: usize, usable: impl Fn(u16) -> bool) -> Option<u16> {
        let length = self.turn.len();
        let from = if (turn.0 as usize) < length { turn.0 as usize } else { 0 };
        let place = (from..length).chain(0..from).take(most).find(|place| usable(self.turn[*place]));
        let next = match place {
            Some(place) => place + 1,
            None if most < length => (from + most) % length,
            // It stays whose turn it is: the wheel of the backups goes by the same count.
            None => return None,
        };
        turn.0 = u32::try_from(next).unwrap_or(0);
        place.map(|place| self.turn[place])
    }

    /// One of the usable, drawn by weight.
    pub fn draw(&self, random: u64, usable: impl Fn(u16) -> bool) -> Option<u16> {
        let number = |n| mix64(random.wrapping_add(n));
        let drawn = (0..DRAWS).find_map(|n| self.draw_any(number(n)).filter(|backend| usable(*backend)));
        drawn.or_else(|| self.draw_usable(number(DRAWS), usable))
    }
}

/// A number below `total` from one that is uniform over all 64 bits.
pub fn below(total: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(total)) >> 64) as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_each_as_often_as_it_weighs_and_spreads_them() {
        let turn = |weights: &[u32]| Wheel::new(weights.iter().copied()).turn;
        assert_eq!(turn(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turn(&[100, 100]), [0, 1]);
        assert_eq!(turn(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(turn(&[0, 2]), [1]);
        assert_eq!(turn(&[]), Vec::<u16>::new());
        assert_eq!(turn(&[5, 1, 1]), [0, 0, 0, 1, 2, 0, 0]);
        let heavy = turn(&vec![997; 1000].into_iter().chain([1]).collect::<Vec<_>>());
        assert!(heavy.len() <= 70_000 && heavy.contains(&1000));
    }

    #[test]
    fn turns_skip_the_unusable_without_doubling_their_neighbour() {
        let wheel = Wheel::new([1, 1, 1].into_iter());
        let mut turn = Turn::default();
        let picks: Vec<_> = (0..6).filter_map(|_| wheel.next(&mut turn, |index| index != 1)).collect();
        assert_eq!(picks, [0, 2, 0, 2, 0, 2]);
        for (wheel, at) in [(&wheel, 2), (&wheel, 7), (&Wheel::default(), 5)] {
            let mut turn = Turn(at);
            assert_eq!((wheel.next(&mut turn, |_| false), turn.0), (None, at), "it stays whose turn it is");
        }
        let before = turn.0;
        assert_eq!(wheel.next(&mut turn, |_| false), None);
        assert_eq!(Wheel::default().next(&mut turn, |_| true), None);
        assert_eq!(turn.0, before, "where nobody is usable, nobody has had a turn");
        assert_eq!((wheel.next_of(&mut turn, 2, |_| false), turn.0), (None, (before + 2) % 3));
    }

    #[test]
    fn draws_follow_the_weights() {
        let wheel = Wheel::new([1, 0, 3].into_iter());
        let mut counts = [0; 3];
        for n in 0..40_000u64 {
            counts[usize::from(wheel.draw(mix64(n), |_| true).unwrap())] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((29_000..31_000).contains(&counts[2]), "{counts:?}");
        assert_eq!(wheel.draw(7, |index| index == 0), Some(0));
        assert_eq!(wheel.draw(7, |index| index == 1), None, "without weight nobody is drawn");
        assert_eq!(Wheel::default().draw(7, |_| true), None);
    }
}
