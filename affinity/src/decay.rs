//! How long a drain will still take: as the ages of its sessions foretell, at the pace that is seen; or else, where ages
//! are not known, as if sessions ended each with the same chance at any moment, so that how many are left falls
//! exponentially.

use crate::ages::Forecast;

/// Live sessions at a moment, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at: u64,
    pub live: u64,
}

/// What was seen of a drain, in bounded memory: where it is full, every second sample goes and the next ones come half as
/// often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    samples: Vec<Sample>,
    /// Milliseconds between two samples.
    every: u64,
}

/// The most samples of a series: the fit compares each with each.
const MAX_SAMPLES: usize = 64;
/// The fewest that say anything, and for how long they have to have been taken, in milliseconds.
const MIN_SAMPLES: usize = 5;
const MIN_SPAN: u64 = 5_000;
/// The fewest sessions that have to have ended: the error of what they say is about one over the root of their number.
const MIN_ENDED: u64 = 5;

/// How fast sessions end, and how long it will take from the last sample until so many have, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The share of the sessions that ends within a minute, 0 to 1; absent before enough have ended.
    pub per_minute: Option<f64>,
    /// Until 95 % of those that there were at the begin have ended.
    pub p95: f64,
    pub p99: f64,
    /// Until the last has ended: as likely earlier as later.
    pub all: f64,
}

/// Why nothing can be said yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It was followed for too short a time.
    TooShort,
    TooFewEnded,
    /// There are as many as before, or more.
    NotFalling,
}

impl Default for Series {
    fn default() -> Self {
        Self { samples: Vec::new(), every: 1_000 }
    }
}

impl Series {
    /// Takes a sample, unless the one before was taken a moment ago.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.last().is_some_and(|last| sample.at < last.at.saturating_add(self.every)) {
            return;
        }
        if self.samples.len() == MAX_SAMPLES {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
        }
        self.samples.push(sample);
    }

    /// The sessions that were live last; `None` before the first sample.
    pub fn last(&self) -> Option<u64> {
        self.samples.last().map(|sample| sample.live)
    }

    /// `at_start` is how many sessions there were when the drain began.
    ///
    /// # Errors
    /// Where too little is known.
    pub fn estimate(&self, at_start: u64) -> Result<Estimate, Unknown> {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else {
            return Err(Unknown::TooShort);
        };
        // What was seen last says most: sessions that left before the drain began count as live for a while.
        let middle = first.at + (last.at - first.at) / 2;
        let from = self.samples.partition_point(|sample| sample.at < middle);
        let recent = &self.samples[from..];
        estimate(if says_enough(recent).is_ok() { recent } else { &self.samples }, at_start)
    }
}

/// What is known of a drain: what the ages foretell and, where they say no more, what was seen.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    pub series: &'a Series,
    pub forecast: Option<&'a Forecast>,
    /// How many sessions there were when the drain began.
    pub at_start: u64,
}

impl Outlook<'_> {
    /// # Errors
    /// Where too little is known.
    pub fn estimate(&self) -> Result<Estimate, Unknown> {
        let seen = self.series.estimate(self.at_start);
        let (Some(forecast), Some(last)) = (self.forecast, self.series.samples.last()) else { return seen };
        let start = float(self.at_start);
        let until = |left: f64, of: fn(&Estimate) -> f64| match (forecast.until(left, last.live, last.at), &seen) {
            (Some(foretold), _) => Ok(foretold),
            (None, Ok(estimate)) => Ok(of(estimate)),
            (None, Err(reason)) => Err(*reason),
        };
        Ok(Estimate {
            per_minute: seen.ok().and_then(|seen| seen.per_minute),
            p95: until(start * 0.05, |seen| seen.p95)?,
            p99: until(start * 0.01, |seen| seen.p99)?,
            all: until(0.0, |seen| seen.all)?,
        })
    }

    /// How many sessions will be left so many seconds after the last sample; `None` where too little is known.
    pub fn left_after(&self, seconds: f64) -> Option<f64> {
        let last = self.series.samples.last()?;
        let foretold = self.forecast.and_then(|forecast| forecast.left_after(seconds, last.live, last.at));
        foretold.or_else(|| {
            let per_minute = self.series.estimate(self.at_start).ok()?.per_minute?;
            Some(float(last.live) * (1.0 - per_minute).powf(seconds / 60.0))
        })
    }
}

fn says_enough(samples: &[Sample]) -> Result<(), Unknown> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Err(Unknown::TooShort) };
    if samples.len() < MIN_SAMPLES || last.at - first.at < MIN_SPAN {
        return Err(Unknown::TooShort);
    }
    if last.live >= first.live {
        return Err(Unknown::NotFalling);
    }
    if first.live - last.live < MIN_ENDED { Err(Unknown::TooFewEnded) } else { Ok(()) }
}

/// The line through the logarithms of the samples by Theil (1950) and Sen (1968): the median of the slopes between all
/// pairs, which stands up to almost three tenths of the samples being wrong.
fn estimate(samples: &[Sample], at_start: u64) -> Result<Estimate, Unknown> {
    says_enough(samples)?;
    let last = samples[samples.len() - 1];
    // Seconds until the last sample, and the logarithm of what was left; one that has none has no logarithm.
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.live > 0)
        .map(|sample| (-float(last.at - sample.at) / 1e3, float(sample.live).ln()))
        .collect();
    let slopes = points
        .iter()
        .enumerate()
        .flat_map(|(index, (x, y))| points[index + 1..].iter().map(move |(later, left)| (left - y) / (later - x)));
    let rate = -median(slopes.collect()).ok_or(Unknown::TooShort)?;
    if rate <= 0.0 || !rate.is_finite() {
        return Err(Unknown::NotFalling);
    }
    let left = median(points.iter().map(|(x, y)| y + rate * x).collect()).ok_or(Unknown::TooShort)?;
    // The median of the last of n exponential ends is where ln 2 of them are expected to be left.
    let end = std::f64::consts::LN_2;
    let until = |target: f64| if last.live == 0 { 0.0 } else { ((left - target.max(end).ln()) / rate).max(0.0) };
    Ok(Estimate {
        per_minute: Some(-(-60.0 * rate).exp_m1()),
        p95: until(float(at_start) * 0.05),
        p99: until(float(at_start) * 0.01),
        all: until(end),
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix64;

    fn series(samples: impl IntoIterator<Item = (u64, u64)>) -> Series {
        let mut series = Series::default();
        for (second, live) in samples {
            series.push(Sample { at: 1_790_000_000_000 + second * 1_000, live });
        }
        series
    }

    #[test]
    fn too_little_says_nothing() {
        for (samples, reason) in [
            (vec![], Unknown::TooShort),
            (vec![(0, 100), (9, 50)], Unknown::TooShort),
            (vec![(0, 100), (1, 90), (2, 80), (3, 70), (4, 60)], Unknown::TooShort),
            (vec![(0, 100), (2, 100), (4, 100), (6, 100), (8, 100)], Unknown::NotFalling),
            (vec![(0, 100), (2, 101), (4, 102), (6, 103), (8, 104)], Unknown::NotFalling),
            (vec![(0, 4), (2, 3), (4, 3), (6, 2), (8, 1)], Unknown::TooFewEnded),
            // It has fallen at the end alone, which may be an accident.
            (vec![(0, 100), (2, 100), (4, 100), (6, 100), (8, 100), (10, 90)], Unknown::NotFalling),
        ] {
            assert_eq!(series(samples.clone()).estimate(100), Err(reason), "{samples:?}");
        }
    }

    #[test]
    fn a_clean_decay_is_continued() {
        // It halves each minute.
        let left = |second: u64| (10_000.0 * 0.5f64.powf(second as f64 / 60.0)).round() as u64;
        let estimate = series((0..=60).step_by(2).map(|second| (second, left(second)))).estimate(10_000).unwrap();
        let halvings = |share: f64| 60.0 * (1.0 / share).log2() - 60.0;
        for (found, expected) in [
            (estimate.per_minute.unwrap(), 0.5),
            (estimate.p95, halvings(0.05)),
            (estimate.p99, halvings(0.01)),
            (estimate.all, halvings(std::f64::consts::LN_2 / 10_000.0)),
        ] {
            assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
        }
        let done = series((0..10).map(|second| (second, 9 - second))).estimate(9).unwrap();
        assert_eq!((done.p95, done.p99, done.all), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_series_is_bounded_and_spans_all_of_the_drain() {
        let series = series((0..100_000).map(|second| (second, 100_000 - second)));
        assert!(series.samples.len() <= MAX_SAMPLES);
        let (first, last) = (series.samples[0], series.samples[series.samples.len() - 1]);
        assert!(first.live == 100_000 && last.live < 4_000, "{first:?} {last:?}");
    }

    /// A number from 0 to 1 that follows from the seed.
    fn uniform(seed: u64) -> f64 {
        (mix64(seed) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Drains of 200 to 10,000 sessions with ends drawn at random, watched for one to two mean lives, every tenth
    /// sample wrong by half or double: rate and time to 99 % are right within a quarter in 95 of 100, half of them within a tenth.
    #[test]
    fn random_drains_are_estimated_well() {
        let mut errors = Vec::new();
        for seed in 0..300u64 {
            let draw = |salt: u64| uniform(mix64(seed) ^ salt);
            let (mean, count) = (60.0 + 3_000.0 * draw(1), (200.0 * 50f64.powf(draw(2))) as u64);
            let ends: Vec<f64> = (0..count).map(|number| -mean * (1.0 - draw(1_000 + number)).ln()).collect();
            let seen = (mean * (1.0 + draw(3))) as u64;
            let samples = (0..=seen).step_by(5).map(|second| {
                let left = ends.iter().filter(|end| **end > second as f64).count() as u64;
                let wrong = draw(50_000 + second);
                (
                    second,
                    if wrong < 0.05 {
                        left / 2
                    } else if wrong < 0.1 {
                        left * 2
                    } else {
                        left
                    },
                )
            });
            let estimate = series(samples).estimate(count).unwrap();
            let rate = -(1.0 - estimate.per_minute.unwrap()).ln() / 60.0;
            let p99 = mean * 100f64.ln() - seen as f64;
            let error = (rate * mean - 1.0).abs().max((estimate.p99 / p99 - 1.0).abs());
            errors.push((error, seed, count));
        }
        errors.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (median, worst) = (errors[errors.len() / 2].0, errors[errors.len() * 95 / 100]);
        assert!(median < 0.1 && worst.0 < 0.25, "{median} {worst:?}");
    }
}
