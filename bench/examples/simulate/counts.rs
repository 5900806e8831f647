//! How well live sessions are counted in bounded memory.

use crate::{
    Report, Scale,
    plot::{Axes, Line, lines},
    random::Random,
    table::Markdown,
};
use affinity::sessions::{Sessions, Touch};
use std::error::Error;

const BACKENDS: u64 = 16;

/// Errors as shares of what is right: of all sessions of the pool, and of those of the backend that is counted worst.
struct Errors {
    pool: f64,
    worst: f64,
}

/// So many sessions on backends drawn at random, each seen once within the idle time.
fn run(sessions: u64, seed: u64) -> Errors {
    let mut random = Random::new(seed);
    let mut kept = Sessions::new(0);
    let mut right = vec![0u64; BACKENDS as usize];
    for _ in 0..sessions {
        let backend = random.below(BACKENDS);
        right[backend as usize] += 1;
        kept.touch(Touch { key: random.bits(), backend: backend as u32, at: 1, ..Touch::default() });
    }
    let error = |live: u64, right: u64| live.abs_diff(right) as f64 / right.max(1) as f64;
    let live: Vec<_> = (0..BACKENDS).map(|backend| kept.live(backend as u32)).collect();
    let worst = live.iter().zip(&right).map(|(live, right)| error(*live, *right)).fold(0.0, f64::max);
    Errors { pool: error(live.iter().sum(), sessions), worst }
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let sizes: &[u64] = match scale {
        Scale::Short => &[100, 10_000, 1_000_000],
        Scale::Full => &[100, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
    };
    let seeds = if scale == Scale::Full { 10 } else { 3 };
    let mut table = Markdown::new(&["sessions", "pool: median error", "pool: worst", "worst backend of 16, worst"]);
    let (mut pool, mut worst) = (Vec::new(), Vec::new());
    for sessions in sizes {
        let mut runs: Vec<_> = (0..seeds).map(|seed| run(*sessions, report.seed + seed)).collect();
        runs.sort_by(|one, other| one.pool.total_cmp(&other.pool));
        let (median, most) = (runs[runs.len() / 2].pool, runs[runs.len() - 1].pool);
        let backend = runs.iter().map(|run| run.worst).fold(0.0, f64::max);
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        table.row(&[&sessions.to_string(), &percent(median), &percent(most), &percent(backend)]);
        pool.push((*sessions as f64, most * 100.0));
        worst.push((*sessions as f64, backend * 100.0));
        report.check(most <= 0.02, || format!("{sessions} sessions are counted {} wrong", percent(most)));
    }
    let text = format!(
        "A pool of {BACKENDS} backends, each session at one of them by chance and seen once within the idle time; {seeds} seeds per row. \
         Counting is exact up to 262,144 sessions, and a sample by session key beyond (`affinity/src/sessions.rs`)."
    );
    let axes =
        Axes { title: "Error of the count of live sessions", x: "sessions", y: "error, %", log_x: true, log_y: false };
    let of = |name: &str, points| Line { name: name.to_owned(), points };
    let plot = [of("pool, worst seed", pool), of("backend counted worst", worst)];
    report.section("counts", &text, &table, |path| lines(path, axes, &plot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_exact_and_a_million_within_two_in_a_hundred() {
        let few = run(5_000, 1);
        assert!(few.pool == 0.0 && few.worst == 0.0);
        assert!(run(1_000_000, 1).pool <= 0.02);
    }
}
