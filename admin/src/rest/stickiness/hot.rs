//! Who sends most of a pool's requests.

use super::real;
use control::{cost::HotKey, spec::Mode, status::PoolStats};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap};
use utoipa::ToSchema;

/// The sessions and the clients with the most requests of the last minute or two. By a sample of one request in 16, and
/// at least what is told here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HotView {
    /// How many requests were sampled.
    samples: u64,
    /// At most ten with 1 % or more, each in at least five samples.
    sessions: Vec<HotSession>,
    /// The same of the clients' addresses, as trusted proxies tell them where such are in front.
    addresses: Vec<HotAddress>,
    /// What to look at, where one address has a large share.
    warning: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct HotSession {
    /// The session key, as `explain` tells it.
    key: String,
    /// Of the requests, 0 to 1.
    share: f64,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct HotAddress {
    address: String,
    /// Of the requests, 0 to 1.
    share: f64,
}

const SHOWN: usize = 10;
/// Who has less is not shown,
const LEAST: f64 = 0.01;
/// nor who was sampled so rarely that it may be chance.
const LEAST_SAMPLES: u64 = 5;
/// One address with so much of a pool is worth a question,
const SUSPECT: f64 = 0.3;
/// from so many samples on, some thousand requests.
const ENOUGH: u64 = 64;

impl HotView {
    pub(super) fn new<'a>(stats: impl Iterator<Item = &'a PoolStats> + Clone, mode: Mode) -> Self {
        let all = stats.filter_map(|stats| stats.hot.as_ref());
        let samples = all.clone().map(|hot| hot.samples).sum();
        let sessions = shares(all.clone().flat_map(|hot| &hot.sessions), samples);
        let addresses = shares(all.flat_map(|hot| &hot.addresses), samples);
        let suspect = addresses.first().filter(|(_, share)| samples >= ENOUGH && *share >= SUSPECT);
        Self {
            samples,
            warning: suspect.map(|(address, share)| warning(address, *share, mode)),
            sessions: sessions.into_iter().map(|(key, share)| HotSession { key, share }).collect(),
            addresses: addresses.into_iter().map(|(address, share)| HotAddress { address, share }).collect(),
        }
    }
}

fn shares<'a>(keys: impl Iterator<Item = &'a HotKey>, samples: u64) -> Vec<(String, f64)> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for key in keys {
        *sums.entry(&key.key).or_default() += key.samples;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, count)| Reverse(*count));
    let shown = sums.into_iter().filter(|(_, count)| *count >= LEAST_SAMPLES).take(SHOWN);
    let shares = shown.map(|(key, count)| (key.to_owned(), real(count) / real(samples.max(1))));
    shares.filter(|(_, share)| *share >= LEAST).collect()
}

fn warning(address: &str, share: f64, mode: Mode) -> String {
    let follows = match mode {
        Mode::SourceIp => ", and by source-ip they all go to one backend",
        Mode::Cookie | Mode::AppCookie | Mode::Header | Mode::Query | Mode::None => "",
    };
    format!(
        "{:.0} % of the requests come from {address}{follows}: is another balancer in front? Then put its address into \
         the listener's trusted_proxies, so that X-Forwarded-For tells its clients apart",
        share * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::cost::Hot;

    fn stats(samples: u64, addresses: &[(&str, u64)]) -> PoolStats {
        let key = |(key, samples): &(&str, u64)| HotKey { key: (*key).to_owned(), samples: *samples };
        let addresses = addresses.iter().map(key).collect();
        PoolStats { hot: Some(Hot { samples, addresses, sessions: Vec::new() }), ..PoolStats::default() }
    }

    #[test]
    fn shares_are_of_all_data_planes_and_one_address_with_many_is_suspect() {
        let view = |stats: &[PoolStats]| HotView::new(stats.iter(), Mode::SourceIp);
        let both = view(&[
            stats(100, &[("10.0.0.1", 10), ("10.0.0.2", 9)]),
            stats(100, &[("10.0.0.2", 60)]),
            PoolStats::default(),
        ]);
        let address = |address: &str, share| HotAddress { address: address.to_owned(), share };
        assert_eq!((both.samples, both.addresses), (200, vec![address("10.0.0.2", 0.345), address("10.0.0.1", 0.05)]));
        let warning = both.warning.unwrap();
        assert!(warning.starts_with("34 % of the requests come from 10.0.0.2, and by source-ip"), "{warning}");
        assert!(warning.contains("trusted_proxies"), "{warning}");
        for quiet in [stats(1_000, &[("10.0.0.1", 299)]), stats(ENOUGH - 1, &[("10.0.0.1", ENOUGH - 1)]), stats(0, &[])]
        {
            assert_eq!(view(&[quiet]).warning, None);
        }
        assert!(view(&[stats(1_000, &[("10.0.0.1", 9)])]).addresses.is_empty());
    }
}
