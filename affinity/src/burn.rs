//! A service level for affinity: the share of returning requests that reach their pin, and how fast what it may miss is used
//! up. Burn rates over two windows as in chapter 5 of Google's "The Site Reliability Workbook".

/// Requests that came with a marker that opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returning {
    pub requests: u64,
    /// Those of them that reached their pin.
    pub pinned: u64,
}

/// The burn rate from which somebody has to look now: at this rate an hour uses up 2 % of what 30 days may miss.
pub const PAGE: f64 = 14.4;

/// The fewest returning requests in the longer window that say anything.
pub const MIN_RETURNING: u64 = 100;

impl Returning {
    /// The share that reached its pin, 0 to 1; `None` where nobody returned.
    pub fn share(self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
        (self.requests > 0).then(|| self.pinned as f64 / self.requests as f64)
    }

    /// How many times faster than `target` allows requests miss their pin: 1 uses up exactly what may be missed. At most
    /// `1 / (1 - target)`. `target` is between 0 and 1, both excluded.
    pub fn burn_rate(self, target: f64) -> Option<f64> {
        self.share().map(|share| (1.0 - share) / (1.0 - target))
    }
}

/// Whether it burns: for long enough to matter, and still now.
pub fn burns(now: Returning, long: Returning, target: f64) -> bool {
    let is_high = |returning: Returning| returning.burn_rate(target).is_some_and(|rate| rate >= PAGE);
    long.requests >= MIN_RETURNING && is_high(long) && is_high(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returning(requests: u64, missed: u64) -> Returning {
        Returning { requests, pinned: requests - missed }
    }

    #[test]
    fn the_rate_is_what_was_missed_over_what_may_be() {
        for (requests, missed, target, rate) in [
            (0, 0, 0.999, None),
            (1_000, 0, 0.999, Some(0.0)),
            (1_000, 1, 0.999, Some(1.0)),
            (10_000, 144, 0.999, Some(14.4)),
            (100, 100, 0.99, Some(100.0)),
            (100, 5, 0.9, Some(0.5)),
        ] {
            let found = returning(requests, missed).burn_rate(target);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
            assert!(found.zip(rate).map_or(found == rate, |(a, b)| near(a, b)), "{requests} {missed}: {found:?}");
        }
    }

    #[test]
    fn it_burns_where_both_windows_do_and_enough_returned() {
        let (calm, hot) = (returning(10_000, 10), returning(10_000, 200));
        for (now, long, expected) in [
            (calm, calm, false),
            (hot, calm, false),
            (calm, hot, false),
            (hot, hot, true),
            (returning(0, 0), hot, false),
            (returning(5, 5), returning(99, 50), false),
            (returning(5, 5), returning(100, 50), true),
        ] {
            assert_eq!(burns(now, long, 0.999), expected, "{now:?} {long:?}");
        }
    }
}
