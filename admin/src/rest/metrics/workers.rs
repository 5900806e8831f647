//! What each worker does by itself. Workers have the same number in each data plane: where several are connected, as in an
//! upgrade, figures are sums.

use super::{Page, add, counter_name, value};
use crate::state::View;
use control::{counters::WorkerCount, status::WorkerStats};

pub(super) fn figures(page: &mut Page, view: &View) {
    let mut workers: Vec<WorkerStats> = Vec::new();
    for stats in view.counted() {
        for (number, told) in stats.workers.iter().enumerate() {
            if workers.len() <= number {
                workers.push(WorkerStats::default());
            }
            add(&mut workers[number].counts, &told.counts);
        }
    }
    for (sum, told) in view.peers.iter().flat_map(|peer| peer.stats.workers.iter().enumerate()) {
        workers[sum].connections += told.connections;
        workers[sum].idle_connections += told.idle_connections;
    }
    for count in WorkerCount::ALL {
        let (name, unit) = counter_name("worker", count.name());
        page.family(&name, "counter", count.help());
        for (number, sum) in workers.iter().enumerate() {
            let shown = unit.of(value(&sum.counts, count.name()));
            page.sample(&name, format_args!("{{worker=\"{number}\"}}"), shown);
        }
    }
    type Gauge = (&'static str, &'static str, fn(&WorkerStats) -> u64);
    const GAUGES: [Gauge; 2] = [
        ("steadfast_worker_connections", "Open client connections of the worker.", |sum| sum.connections),
        (
            "steadfast_worker_idle_connections",
            "Connections to backends that the worker keeps without a request.",
            |sum| sum.idle_connections,
        ),
    ];
    for (name, help, read) in GAUGES {
        page.family(name, "gauge", help);
        for (number, sum) in workers.iter().enumerate() {
            page.sample(name, format_args!("{{worker=\"{number}\"}}"), read(sum));
        }
    }
}
