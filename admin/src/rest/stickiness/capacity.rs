//! What the load that stickiness makes uneven takes of a pool's capacity.

use super::ImbalanceView;
use serde::Serialize;
use utoipa::ToSchema;

/// The share of the pool's capacity that can be used, for the pool is full when its fullest backend is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CapacityView {
    /// With the load as it lies, 0 to 1.
    usable: f64,
    /// The same if each request had been balanced freely.
    usable_if_free: f64,
    /// What stickiness takes of that, 0 to 1.
    taken: f64,
}

/// By requests and by busy time; `null` where there is no load, or nothing is sticky.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CapacitiesView {
    requests: Option<CapacityView>,
    busy_time: Option<CapacityView>,
}

impl CapacitiesView {
    pub(super) fn new(actual: [Option<&ImbalanceView>; 2], free: [Option<&ImbalanceView>; 2]) -> Self {
        let [requests, busy_time] = [0, 1].map(|by: usize| Some(CapacityView::of(actual[by]?, free[by]?)));
        Self { requests, busy_time }
    }
}

impl CapacityView {
    /// All of it can be used where load is even, and else the inverse of how far the fullest is above the mean. Where
    /// chance made the free choice the more uneven one, nothing is taken.
    fn of(actual: &ImbalanceView, free: &ImbalanceView) -> Self {
        Self {
            usable: actual.max_over_mean.recip(),
            usable_if_free: free.max_over_mean.recip(),
            taken: (1.0 - free.max_over_mean / actual.max_over_mean).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_backend_says_what_can_be_used() {
        let at = |max_over_mean| ImbalanceView { max_over_mean, gini: 0.0 };
        let found = CapacitiesView::new([Some(&at(1.6)), None], [Some(&at(1.0)), Some(&at(1.0))]);
        let requests = found.requests.unwrap();
        assert_eq!([requests.usable, requests.usable_if_free], [0.625, 1.0]);
        assert!((requests.taken - 0.375).abs() < 1e-9 && found.busy_time.is_none());
        assert!((CapacityView::of(&at(2.0), &at(1.25)).taken - 0.375).abs() < 1e-9);
        assert_eq!(CapacityView::of(&at(1.1), &at(1.2)).taken.to_bits(), 0.0_f64.to_bits());
    }
}
