//! Which routes' clients come without a marker.

use super::real;
use crate::control_server::peers::add;
use control::{
    cost::RouteStats,
    counters::RouteCount,
    status::{Counts, PoolStats},
};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};
use utoipa::ToSchema;

/// What the clients of a route do with their markers.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct RouteView {
    listener: String,
    /// As the route has it; with no path either, these are the requests that match no route.
    host: Option<String>,
    path: Option<String>,
    requests: u64,
    /// Those without a marker, not even one that counts as none: each begins a session, or is of none.
    unmarked: u64,
    /// Of the requests, 0 to 1.
    unmarked_share: f64,
    /// Unmarked requests on a connection on which a marker had been set before: their clients don't return it.
    ignored: u64,
}

/// How many are shown.
const MOST: usize = 100;

/// Those with the most requests without a marker come first.
pub(super) fn sum<'a>(stats: impl Iterator<Item = &'a PoolStats>) -> Vec<RouteView> {
    let mut sums: BTreeMap<_, Counts> = BTreeMap::new();
    for RouteStats { listener, host, path, counts } in stats.flat_map(|stats| &stats.routes) {
        add(sums.entry((listener, host, path)).or_default(), counts);
    }
    let mut routes: Vec<_> = sums
        .into_iter()
        .map(|((listener, host, path), counts)| {
            let count = |count: RouteCount| counts.get(count.name()).copied().unwrap_or_default();
            let (requests, unmarked) = (count(RouteCount::Requests), count(RouteCount::Unmarked));
            RouteView {
                listener: listener.clone(),
                host: host.clone(),
                path: path.clone(),
                requests,
                unmarked,
                unmarked_share: real(unmarked) / real(requests.max(1)),
                ignored: count(RouteCount::Ignored),
            }
        })
        .collect();
    routes.sort_by_key(|route| Reverse(route.unmarked));
    routes.truncate(MOST);
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_two_data_planes_are_summed_and_the_worst_comes_first() {
        let stats = |path: &str, requests, unmarked| {
            let counts = [("requests".to_owned(), requests), ("unmarked".to_owned(), unmarked)].into();
            let route = RouteStats { listener: "web".into(), host: None, path: Some(path.to_owned()), counts };
            PoolStats { routes: vec![route], ..PoolStats::default() }
        };
        let found = sum([stats("/a", 10, 2), stats("/b", 4, 4), stats("/a", 10, 3)].iter());
        let told: Vec<_> = found
            .iter()
            .map(|route| (route.path.as_deref(), route.requests, route.unmarked, route.unmarked_share))
            .collect();
        assert_eq!(told, [(Some("/a"), 20, 5, 0.25), (Some("/b"), 4, 4, 1.0)]);
    }
}
