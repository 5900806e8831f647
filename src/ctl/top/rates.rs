//! Rates from counters, as the dashboard makes them: over the last 10 s, for data planes report each second and two looks
//! alone jitter.

use std::collections::{HashMap, VecDeque};

/// Milliseconds since the start.
pub(super) type Millis = u64;

const OVER: Millis = 10_000;
/// What is asked sooner has nothing new.
const LEAST: Millis = 1_000;

/// So much in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    /// Errors of backends, and their responses with status 500 to 599.
    pub(super) failed: f64,
    /// Requests answered 503, since no backend was usable or had room.
    pub(super) unserved: f64,
}

/// Since the data planes started, in the order of [`Rates`].
pub(super) type Counted = [u64; 3];

#[derive(Debug, Default)]
struct History(VecDeque<(Millis, Counted)>);

impl History {
    fn remember(&mut self, at: Millis, counted: Counted) {
        if let Some((last, before)) = self.0.back() {
            if at.saturating_sub(*last) < LEAST {
                return;
            }
            // A data plane that has started again counts from zero.
            if counted.iter().zip(before).any(|(now, before)| now < before) {
                self.0.clear();
            }
        }
        self.0.push_back((at, counted));
        while self.0.len() > 2 && at - self.0[1].0 >= OVER {
            self.0.pop_front();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "what is counted in seconds is far below 53 bits")]
    fn rates(&self) -> Option<Rates> {
        let ((from, first), (to, last)) = (self.0.front()?, self.0.back()?);
        if to == from {
            return None;
        }
        let seconds = (to - from) as f64 / 1_000.0;
        let rate = |at: usize| (last[at] - first[at]) as f64 / seconds;
        Some(Rates { requests: rate(0), failed: rate(1), unserved: rate(2) })
    }
}

/// The pasts of what is counted under a name.
#[derive(Debug, Default)]
pub(super) struct Pasts(HashMap<String, History>);

impl Pasts {
    /// All that is counted now; whatever else there was is forgotten.
    pub(super) fn remember(&mut self, at: Millis, all: impl Iterator<Item = (String, Counted)>) {
        let mut before = std::mem::take(&mut self.0);
        for (name, counted) in all {
            let mut history = before.remove(&name).unwrap_or_default();
            history.remember(at, counted);
            self.0.insert(name, history);
        }
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// `None` until it was looked at twice.
    pub(super) fn rates(&self, name: &str) -> Option<Rates> {
        self.0.get(name)?.rates()
    }
}

/// The rates of all nodes together, if each is known.
pub(super) fn sum(rates: impl Iterator<Item = Option<Rates>>) -> Option<Rates> {
    let rates: Option<Vec<_>> = rates.collect();
    rates.filter(|rates| !rates.is_empty()).map(|rates| {
        rates.iter().fold(Rates::default(), |all, each| Rates {
            requests: all.requests + each.requests,
            failed: all.failed + each.failed,
            unserved: all.unserved + each.unserved,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(seen: &[(Millis, u64)]) -> Option<f64> {
        let mut pasts = Pasts::default();
        for (at, count) in seen {
            pasts.remember(*at, [("x".to_owned(), [*count, 0, 0])].into_iter());
        }
        pasts.rates("x").map(|rates| rates.requests)
    }

    #[test]
    fn a_rate_is_what_was_counted_in_the_last_ten_seconds() {
        for (seen, wanted) in [
            (&[][..], None),
            (&[(0, 100)], None),
            (&[(0, 100), (500, 200)], None),
            (&[(0, 100), (2_000, 110)], Some(5.0)),
            // The first of these is more than ten seconds ago.
            (&[(0, 0), (2_000, 1_000), (12_000, 1_050)], Some(5.0)),
            // Counted anew from zero.
            (&[(0, 1_000), (1_000, 1_010), (2_000, 3)], None),
            (&[(0, 1_000), (1_000, 1_010), (2_000, 3), (3_000, 7)], Some(4.0)),
        ] {
            assert_eq!(requests(seen), wanted, "{seen:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_one_does_not_know_has_no_sum() {
        let mut pasts = Pasts::default();
        pasts.remember(0, [("x".to_owned(), [1, 0, 0])].into_iter());
        pasts.remember(1_000, std::iter::empty());
        pasts.remember(2_000, [("x".to_owned(), [9, 0, 0])].into_iter());
        assert_eq!(pasts.rates("x"), None);
        let rates = Rates { requests: 1.0, failed: 2.0, unserved: 3.0 };
        let twice = Rates { requests: 2.0, failed: 4.0, unserved: 6.0 };
        assert_eq!(sum([Some(rates), Some(rates)].into_iter()), Some(twice));
        assert_eq!((sum([Some(rates), None].into_iter()), sum(std::iter::empty())), (None, None));
    }
}
