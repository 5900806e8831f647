//! How well a drain says how long it will still take, where sessions end as the estimate supposes and where they don't.

use crate::{
    Report, Scale,
    plot::{Axes, Line, lines},
    random::Random,
    table::Markdown,
};
use affinity::{
    ages::{Forecast, ages},
    decay::{Outlook, Sample, Series},
};
use std::error::Error;

/// Of what kind the lengths of sessions are.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    Exponential,
    LogNormal,
    Pareto,
    Even,
}

const KINDS: [(Lengths, &str); 4] = [
    (Lengths::Exponential, "exponential, mean 10 min"),
    (Lengths::LogNormal, "log-normal, median 10 min, sigma 1"),
    (Lengths::Pareto, "Pareto, alpha 1.5, 2 min to 24 h"),
    (Lengths::Even, "all after 1 h"),
];

/// How long a session has been there when the drain begins, and how long it still will, in seconds: long ones are met more
/// often, and at any moment of theirs.
fn met(lengths: Lengths, random: &mut Random) -> (f64, f64) {
    let length = match lengths {
        Lengths::Exponential => random.exponential(600.0) + random.exponential(600.0),
        Lengths::LogNormal => 600.0 * (1.0 + random.normal()).exp(),
        Lengths::Pareto => random.pareto(0.5, 120.0, 86_400.0),
        Lengths::Even => 3_600.0,
    };
    let age = random.unit() * length;
    (age, length - age)
}

/// What is known of the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// How many are left.
    Left,
    /// Their ages, too.
    Ages,
}

/// The error of the estimate for 99 %, as a share of the time that it will really take, when `ended` of the sessions have.
fn error(ends: &[f64], forecast: Option<&Forecast>, ended: f64) -> Option<f64> {
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
    let estimate = Outlook { series: &series, forecast, at_start: ends.len() as u64 }.estimate().ok()?;
    Some((estimate.p99 - (until - now)).abs() / (until - now).max(1.0))
}

fn errors(lengths: Lengths, known: Known, sessions: usize, drains: u64, ended: f64, seed: u64) -> Vec<f64> {
    let mut errors: Vec<_> = (0..drains)
        .filter_map(|drain| {
            let mut random = Random::new(seed ^ (drain << 32));
            let (mut so_far, mut ends): (Vec<_>, Vec<_>) =
                (0..sessions).map(|_| met(lengths, &mut random)).map(|(age, left)| (age as u32, left)).unzip();
            ends.sort_by(f64::total_cmp);
            let ages = ages(&mut so_far).filter(|_| known == Known::Ages);
            let forecast = ages.map(|ages| Forecast { ages, live: sessions as u64, at: 0, since: 0 });
            error(&ends, forecast.as_ref(), ended)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// As a share; nothing where no drain said anything.
fn percent(error: Option<&f64>) -> String {
    error.map_or_else(|| "unknown".to_owned(), |error| format!("{:.0} %", 100.0 * error))
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (sessions, drains) = if scale == Scale::Full { (10_000, 200) } else { (2_000, 20) };
    let mut table = Markdown::new(&[
        "sessions end",
        "known",
        "at the begin",
        "50 % have ended",
        "75 %",
        "90 %",
        "90 %: worst of ten",
    ]);
    let mut plot = Vec::new();
    for (lengths, name) in KINDS {
        for (known, what) in [(Known::Left, "how many are left"), (Known::Ages, "ages, too")] {
            let shares = [0.001, 0.1, 0.3, 0.5, 0.6, 0.75, 0.9, 0.95];
            let by_share = shares.map(|share| errors(lengths, known, sessions, drains, share, report.seed));
            let at = |index: usize, part: f64| by_share[index].get((by_share[index].len() as f64 * part) as usize);
            let row = [(0, 0.5), (3, 0.5), (5, 0.5), (6, 0.5), (6, 0.9)].map(|(index, part)| percent(at(index, part)));
            table.row(&[&[name, what], &row.each_ref().map(String::as_str)[..]].concat());
            let points = (0..shares.len()).filter_map(|index| Some((100.0 * shares[index], 100.0 * at(index, 0.5)?)));
            plot.push(Line { name: format!("{name}: {what}"), points: points.collect() });
            let wrong = at(3, 0.5).copied().unwrap_or(f64::INFINITY);
            let foreseen = known == Known::Ages || matches!(lengths, Lengths::Exponential);
            report.check(!foreseen || wrong < 0.15, || format!("{name}, {what}: estimates are {wrong} wrong"));
        }
    }
    let text = format!(
        "{drains} drains of {sessions} sessions each, which began as often before as ever; the error is that of the estimate until 99 % have \
         ended, by the time that it really takes. Without ages it supposes that sessions end with the same chance at any moment, which is too \
         early where some last far longer than others and too late where all last equally long."
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
        let errors = errors(Lengths::Exponential, Known::Left, 2_000, 20, 0.75, 1);
        assert_eq!(errors.len(), 20, "each drain says something by then");
        assert!(errors[10] < 0.1, "{errors:?}");
    }
}
