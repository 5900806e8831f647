//! How well a drain says how long it will still take, where sessions end as the estimate supposes and where they don't.

use crate::{
    Report, Scale,
    plot::{Axes, Line, lines},
    random::Random,
    table::Markdown,
};
use affinity::decay::{Sample, Series};
use std::error::Error;

/// Of what kind the lengths of sessions are.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    Exponential,
    LogNormal,
    Pareto,
}

const KINDS: [(Lengths, &str); 3] = [
    (Lengths::Exponential, "exponential, mean 10 min"),
    (Lengths::LogNormal, "log-normal, median 10 min, sigma 1"),
    (Lengths::Pareto, "Pareto, alpha 1.5, 2 min to 24 h"),
];

/// What is left, in seconds, of a session that is there when the drain begins: long ones are met more often, and at any
/// moment of theirs.
fn left(lengths: Lengths, random: &mut Random) -> f64 {
    match lengths {
        Lengths::Exponential => random.exponential(600.0),
        Lengths::LogNormal => random.unit() * 600.0 * (1.0 + random.normal()).exp(),
        Lengths::Pareto => random.unit() * random.pareto(0.5, 120.0, 86_400.0),
    }
}

/// The error of the estimate for 99 %, as a share of the time that it will really take, when `ended` of the sessions have.
fn error(ends: &[f64], ended: f64) -> Option<f64> {
    let at = |share: f64| ends[((ends.len() - 1) as f64 * share) as usize];
    let (now, until) = (at(ended), at(0.99));
    let every = (now / 200.0).max(1.0);
    let mut series = Series::default();
    let mut second = 0.0;
    while second <= now {
        let live = ends.len() - ends.partition_point(|end| *end <= second);
        series.push(Sample { at: (second * 1e3) as u64, live: live as u64 });
        second += every;
    }
    let estimate = series.estimate(ends.len() as u64).ok()?;
    Some((estimate.p99 - (until - now)).abs() / (until - now).max(1.0))
}

fn errors(lengths: Lengths, sessions: usize, drains: u64, ended: f64, seed: u64) -> Vec<f64> {
    let mut errors: Vec<_> = (0..drains)
        .filter_map(|drain| {
            let mut random = Random::new(seed ^ (drain << 32));
            let mut ends: Vec<_> = (0..sessions).map(|_| left(lengths, &mut random)).collect();
            ends.sort_by(f64::total_cmp);
            error(&ends, ended)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    errors
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (sessions, drains) = if scale == Scale::Full { (10_000, 200) } else { (2_000, 20) };
    let mut table = Markdown::new(&["sessions end", "50 % have ended", "75 %", "90 %", "90 %: worst of ten"]);
    let mut plot = Vec::new();
    for (lengths, name) in KINDS {
        let shares = [0.3, 0.5, 0.6, 0.75, 0.9, 0.95];
        let of = |ended| errors(lengths, sessions, drains, ended, report.seed);
        let medians: Vec<_> = shares.iter().map(|share| (*share, of(*share))).collect();
        let median = |at: usize| medians[at].1.get(medians[at].1.len() / 2).copied().unwrap_or(f64::NAN);
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let tenth = medians[4].1.get(medians[4].1.len() * 9 / 10).copied().unwrap_or(f64::NAN);
        table.row(&[name, &percent(median(1)), &percent(median(3)), &percent(median(4)), &percent(tenth)]);
        let points = (0..shares.len()).map(|at| (100.0 * shares[at], 100.0 * median(at)));
        plot.push(Line { name: name.to_owned(), points: points.collect() });
        if matches!(lengths, Lengths::Exponential) {
            report.check(median(3) < 0.1, || format!("estimates are {} wrong", percent(median(3))));
        }
    }
    let text = format!(
        "{drains} drains of {sessions} sessions each; the error is that of the estimate until 99 % have ended, by the time that it really takes. \
         The estimate supposes that sessions end with the same chance at any moment. Where some last far longer than others, it is too early \
         for the last of them, most of all at the begin: give such a drain a deadline."
    );
    let axes = Axes {
        title: "Error of a drain's estimate until 99 % have ended, median",
        x: "sessions that have ended, %",
        y: "error, %",
        log_x: false,
        log_y: false,
    };
    report.section("drains", &text, &table, |path| lines(path, axes, &plot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_end_by_chance_are_foreseen() {
        let errors = errors(Lengths::Exponential, 2_000, 20, 0.75, 1);
        assert_eq!(errors.len(), 20, "each drain says something by then");
        assert!(errors[10] < 0.1, "{errors:?}");
    }
}
