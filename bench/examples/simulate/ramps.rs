//! How often a ramp stops by mere luck, and how soon it stops for a reason.

use crate::{
    Report, Scale,
    plot::{Axes, Line, lines},
    random::Random,
    table::Markdown,
};
use affinity::release::{
    is_released,
    judge::worst,
    record::{Record, Sighting},
    signs::Signs,
};
use control::{
    release::{Percent, RampPlan, Signal, Watch},
    spec::Span,
};
use std::error::Error;

fn plan(steps: &[f64], alpha: f64) -> RampPlan {
    let watch =
        Watch { login_path: Some("/login".to_owned()), session_cookie: Some("sid".to_owned()), ..Watch::default() };
    let steps = steps.iter().map(|step| Percent::new(*step).expect("it is a share")).collect();
    RampPlan { steps, hold: Span::from_secs(1), harm: 0.1, alpha, watch }
}

/// A site whose users differ in how often each signal comes, and in how fast they are served.
#[derive(Clone, Copy)]
struct Site {
    /// The probability that a request is denied, for the released sessions and for the others.
    denied: (f64, f64),
    /// The most requests of a session.
    requests: u64,
}

/// Runs a ramp over so many sessions, one after the other; the number of sessions seen when it stopped.
fn run(plan: &RampPlan, site: Site, sessions: u64, seed: u64) -> Option<u64> {
    let (mut random, mut record) = (Random::new(seed), Record::new(1));
    let steps = plan.steps.len() as u64;
    for number in 0..sessions {
        let share = plan.steps[(number * steps / sessions) as usize].basis_points();
        let key = random.bits();
        let released = is_released(key, share);
        // One in five users has trouble of his own, and one in ten is far away.
        let trouble = if random.unit() < 0.2 { 0.3 } else { 0.005 };
        let distance = if random.unit() < 0.1 { 8.0 } else { 1.0 };
        let denied = if released { site.denied.0 } else { site.denied.1 };
        let before = record.times_shown();
        for _ in 0..=random.below(site.requests) {
            let rates = [
                (Signal::ServerError, trouble * 0.2),
                (Signal::Denied, denied),
                (Signal::Login, trouble * 0.5),
                (Signal::NewSession, trouble),
            ];
            let shown = rates.into_iter().filter(|(_, rate)| random.unit() <= *rate);
            let signs = Signs::of(shown.map(|(signal, _)| signal));
            let micros = (2_000.0 * distance / (0.1 + random.unit())) as u32;
            let elsewhere = released;
            record.note(&Sighting { key, id: 1, micros, share, signs, released, elsewhere, may_begin: false });
        }
        let is_news = record.times_shown() != before;
        if is_news && worst(plan, &[&record.stats()]).is_some_and(|worst| worst.p_value <= plan.alpha) {
            return Some(number + 1);
        }
    }
    None
}

fn false_stops(steps: &[f64], alpha: f64, ramps: u64, seed: u64) -> f64 {
    let (plan, site) = (plan(steps, alpha), Site { denied: (0.02, 0.02), requests: 30 });
    let stopped = (0..ramps).filter(|ramp| run(&plan, site, 1_000, seed ^ (ramp << 20)).is_some()).count();
    stopped as f64 / ramps as f64
}

/// What was asked for, and three standard errors of the measurement.
fn most_false_stops(alpha: f64, ramps: u64) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / ramps as f64).sqrt()
}

/// After how many sessions harm was found, in order: `u64::MAX` where it was not.
fn found_after(denied: (f64, f64), percent: f64, ramps: u64, seed: u64) -> Vec<u64> {
    let (plan, site) = (plan(&[percent], 0.01), Site { denied, requests: 10 });
    let mut found: Vec<_> =
        (0..ramps).map(|ramp| run(&plan, site, 50_000, seed ^ (ramp << 20)).unwrap_or(u64::MAX)).collect();
    found.sort_unstable();
    found
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (ramps, searches) = if scale == Scale::Full { (2_000, 100) } else { (200, 20) };
    let mut table = Markdown::new(&["what", "released", "alpha", "result"]);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for (steps, name) in [(&[10.0][..], "10 %"), (&[1.0, 5.0, 10.0, 25.0, 50.0], "1, 5, 10, 25, 50 %")] {
        for alpha in [0.01, 0.05] {
            let stops = false_stops(steps, alpha, ramps, report.seed);
            let result = format!("{} of {ramps} ramps of 1,000 sessions stop", percent(stops));
            table.row(&["no harm", name, &percent(alpha), &result]);
            let most = most_false_stops(alpha, ramps);
            report.check(stops <= most, || format!("{} of ramps stop falsely at alpha {alpha}", percent(stops)));
        }
    }
    let mut plot = Vec::new();
    for share in [1.0, 10.0, 50.0] {
        let mut points = Vec::new();
        for denied in [0.04, 0.06, 0.1, 0.2, 0.4, 0.8] {
            let found = found_after((denied, 0.02), share, searches, report.seed);
            let (half, most) = (found[found.len() / 2], found[found.len() * 9 / 10]);
            let told = |sessions: u64| match sessions {
                u64::MAX => "more than 50,000".to_owned(),
                sessions => sessions.to_string(),
            };
            let what = format!("denied {} of requests rather than 2 %", percent(denied));
            let result = format!("found after {} sessions, in 9 of 10 ramps after {}", told(half), told(most));
            table.row(&[&what, &format!("{share} %"), "1.0 %", &result]);
            if half != u64::MAX {
                points.push((100.0 * denied, half as f64));
            }
        }
        plot.push(Line { name: format!("{share} % released"), points });
    }
    let text = format!(
        "Sites with 401 or 403, server errors, new sessions, logins and slowness, all at once and without harm but for the row's: one user in five has \
         trouble of his own, one in ten is far away. Without harm {ramps} ramps of up to 30 requests per session; with harm {searches}, of up to \
         10. The figures are medians of the sessions seen when the ramp stopped, released or not."
    );
    let axes = Axes {
        title: "Sessions until harm is found, median, alpha 1 %",
        x: "requests denied for released sessions rather than 2 %, in %",
        y: "sessions",
        log_x: true,
        log_y: true,
    };
    report.section("ramps", &text, &table, |path| lines(path, axes, &plot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stateless_backends_stop_a_ramp_no_more_often_than_was_asked_for() {
        let ramps = 300;
        for steps in [&[1.0, 5.0, 10.0, 25.0, 50.0][..], &[10.0]] {
            let rate = false_stops(steps, 0.05, ramps, 1);
            assert!(rate <= most_false_stops(0.05, ramps), "{rate}");
        }
    }

    #[test]
    fn harm_is_found_soon() {
        for (denied, percent, most) in [((0.8, 0.0), 10.0, 120), ((0.05, 0.01), 10.0, 1_500), ((0.05, 0.01), 50.0, 600)]
        {
            let half = found_after(denied, percent, 20, 1)[10];
            assert!(half <= most, "{denied:?} {percent}: {half}");
        }
    }
}
