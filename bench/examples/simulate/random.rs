//! Numbers that follow from a seed, and the distributions that users are drawn from.

use affinity::hash::{GOLDEN, mix64};

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix64(seed))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix64(self.0)
    }

    /// Above 0, up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Pareto from `least` up to `most`, cut off there: of the values above any x, the share above 2x is 2^-alpha.
    pub(crate) fn pareto(&mut self, alpha: f64, least: f64, most: f64) -> f64 {
        let (from, to) = (least.powf(-alpha), most.powf(-alpha));
        (to + self.unit() * (from - to)).powf(-1.0 / alpha)
    }
}

/// Places drawn in the manner of Zipf (1949): the n-th is n times as rare as the first.
#[derive(Debug)]
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    pub(crate) fn new(places: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=places).map(|place| {
            sum += 1.0 / place as f64;
            sum
        });
        Self(sums.collect())
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let end = self.0.last().copied().unwrap_or_default();
        let at = random.unit() * end;
        self.0.partition_point(|sum| *sum < at)
    }
}
