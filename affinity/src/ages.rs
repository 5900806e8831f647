//! What the ages of live sessions tell of how long they will still last.
//!
//! Where sessions come and go evenly, as many have been there for longer than some time as will stay for longer than it:
//! age and what is left of a session are distributed alike (the equilibrium distribution of renewal theory, Cox 1962,
//! section 5.4). That holds for sessions of any kind of length, also where some last far longer than others.

use control::status::{AGE_SHARES, Ages};

#[cfg(test)]
mod tests;

/// The fewest sessions whose ages are worth telling.
const FEWEST: usize = 20;
/// What was foreseen is stretched or pressed by what has been seen since, half way for so many sessions.
const HALF_TRUSTED: f64 = 20.0;
/// By so much at most, either way.
const MOST_STRETCHED: f64 = 8.0;

/// The ages of sessions, in seconds and in any order; `None` where there are too few.
pub fn ages(of: &mut [u32]) -> Option<Ages> {
    if of.len() < FEWEST {
        return None;
    }
    of.sort_unstable();
    Some(Ages(AGE_SHARES.map(|share| of[place(of.len(), share)])))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place below the length")]
fn place(len: usize, share: f64) -> usize {
    ((float(len as u64) * share).ceil() as usize).clamp(1, len) - 1
}

/// What the ages at one moment of a drain that takes no new sessions say of the time after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    pub ages: Ages,
    /// How many sessions there were then.
    pub live: u64,
    /// When that was, in Unix milliseconds.
    pub at: u64,
    /// When the drain began, in Unix milliseconds.
    pub since: u64,
}

impl Forecast {
    /// Seconds from `now`, at which `left` sessions are left, until no more than `target` are, or the last has ended where
    /// that is less than one. `None` where that ought to have come by now, and the ages know no more.
    pub fn until(&self, target: f64, left: u64, now: u64) -> Option<f64> {
        if float(left) <= target || left == 0 {
            return Some(0.0);
        }
        let since = seconds(now.saturating_sub(self.at));
        let foreseen = self.time_at(self.depth(target)) * self.pace(left, since);
        Some(foreseen - since).filter(|until| *until > 0.0)
    }

    /// How many of `left` sessions will still be there so many seconds after `now`. `None` where the last ought to have ended
    /// by then.
    pub fn left_after(&self, seconds_more: f64, left: u64, now: u64) -> Option<f64> {
        let since = seconds(now.saturating_sub(self.at));
        let depth = self.depth_at((since + seconds_more) / self.pace(left, since));
        (depth < self.depth(0.0)).then(|| (float(self.live) * (-depth).exp()).min(float(left)))
    }

    /// How much slower sessions end than was foreseen: 1 where they do so in time, and as long as few have had to.
    fn pace(&self, left: u64, since: f64) -> f64 {
        let live = float(self.live);
        let ended = live - float(left.min(self.live));
        let expected = live * -(-self.depth_at(since)).exp_m1();
        let weight = ended.max(expected) / (ended.max(expected) + HALF_TRUSTED);
        // Half a session more, so that none at all is not endlessly slow.
        let foreseen = self.time_at(self.depth(live - (ended + 0.5).min(live)));
        let seen = (since / foreseen).clamp(1.0 / MOST_STRETCHED, MOST_STRETCHED);
        if foreseen > 0.0 { seen.powf(weight) } else { 1.0 }
    }

    /// How far sessions are down at `left` of them: the logarithm of how many times fewer they are. The oldest of n has its
    /// median where ln 2 of them are to be expected.
    fn depth(&self, left: f64) -> f64 {
        (float(self.live) / left.max(std::f64::consts::LN_2)).ln().max(0.0)
    }

    /// When sessions were foreseen to be so far down, in seconds.
    fn time_at(&self, depth: f64) -> f64 {
        let (before, after) = self.around(|point| point.0 < depth);
        along(depth, before, after)
    }

    fn depth_at(&self, time: f64) -> f64 {
        let swap = |(depth, time)| (time, depth);
        let (before, after) = self.around(|point| point.1 < time);
        along(time, swap(before), swap(after)).min(self.depth(0.0))
    }

    /// The points of the curve that lie around where `is_before` ends.
    fn around(&self, is_before: impl Fn(&(f64, f64)) -> bool) -> ((f64, f64), (f64, f64)) {
        let points = self.points();
        let after = points.iter().position(|point| !is_before(point)).unwrap_or(points.len() - 1).max(1);
        (points[after - 1], points[after])
    }

    /// Depths with their times, both growing. Who is there at `at` has been for as long as the drain, and what an age has
    /// beyond that is what is foreseen.
    fn points(&self) -> [(f64, f64); AGE_SHARES.len() + 1] {
        let (drained, deepest) = (seconds(self.at.saturating_sub(self.since)), self.depth(0.0));
        let mut points = [(0.0, 0.0); AGE_SHARES.len() + 1];
        for (point, (share, age)) in points[1..].iter_mut().zip(AGE_SHARES.iter().zip(self.ages.0)) {
            *point = (deepest.min(-(1.0 - share).ln()), (f64::from(age) - drained).max(0.0));
        }
        points
    }
}

/// On the line through two points, or at the second of them where there is no line.
fn along(x: f64, (x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> f64 {
    if x1 > x0 { y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).clamp(0.0, 1.0) } else { y1 }
}

fn seconds(millis: u64) -> f64 {
    float(millis) / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}
