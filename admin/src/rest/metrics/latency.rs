//! How long responses take, as Prometheus has histograms: cumulative, by pool and class of status.

use super::Page;
use crate::state::View;
use control::latency::{BOUNDS, BUCKETS, Class};

const NAME: &str = "steadfast_pool_response_seconds";

pub(super) fn histograms(page: &mut Page, view: &View) {
    page.family(
        NAME,
        "histogram",
        "Time from a request's head to its response's head, or to our own answer in its place.",
    );
    for pool in view.snapshot.desired.pools.keys() {
        for class in Class::ALL.map(Class::name) {
            let of = || view.counted().filter_map(|stats| stats.pools.get(pool)?.latency.get(class));
            let mut cumulative = [0; BUCKETS];
            for latency in of() {
                let mut below = 0;
                for (sum, count) in cumulative.iter_mut().zip(&latency.buckets) {
                    below += count;
                    *sum += below;
                }
            }
            let count = cumulative[BUCKETS - 1];
            // A class that never came is no series: most pools have few of them.
            if count == 0 {
                continue;
            }
            let ends = BOUNDS.into_iter().map(|bound| seconds(bound).to_string()).chain(["+Inf".to_owned()]);
            for (le, count) in ends.zip(cumulative) {
                let labels = format_args!("{{pool=\"{pool}\",class=\"{class}\",le=\"{le}\"}}");
                page.sample(&format!("{NAME}_bucket"), labels, count);
            }
            let sum = of().map(|latency| latency.sum).sum();
            page.sample(&format!("{NAME}_sum"), format_args!("{{pool=\"{pool}\",class=\"{class}\"}}"), seconds(sum));
            page.sample(&format!("{NAME}_count"), format_args!("{{pool=\"{pool}\",class=\"{class}\"}}"), count);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 53 bits")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
