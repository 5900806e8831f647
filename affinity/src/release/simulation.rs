//! How often a ramp stops by mere luck, and how soon it stops for a reason. Seeded: the figures are the same each time.
//! `cargo test -p affinity release::simulation -- --nocapture` prints them.

use super::{
    is_released,
    judge::worst,
    record::{Record, Sighting},
    signs::Signs,
};
use crate::hash::{GOLDEN, mix64};
use control::{
    release::{Percent, RampPlan, Signal, Watch},
    spec::Span,
};

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix64(self.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are taken")]
    fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn is(&mut self, probability: f64) -> bool {
        self.real() < probability
    }
}

fn plan(steps: &[f64], alpha: f64) -> RampPlan {
    let watch =
        Watch { login_path: Some("/login".to_owned()), session_cookie: Some("sid".to_owned()), ..Watch::default() };
    let steps = steps.iter().map(|step| Percent::new(*step).unwrap()).collect();
    RampPlan { steps, hold: Span::from_secs(1), harm: 0.1, alpha, watch }
}

/// How the sessions of a site are: users differ in how often each signal comes, and in how fast they are served.
struct Site {
    /// The probability of 401 in a request, for the released sessions and for the others.
    denied: (f64, f64),
    requests: u64,
}

/// Runs a ramp over so many sessions that take turns; the number of sessions seen when it stopped.
fn run(plan: &RampPlan, site: &Site, sessions: u64, seed: u64) -> Option<u64> {
    let (mut chance, mut record) = (Chance(seed), Record::new(1));
    let steps = plan.steps.len() as u64;
    for number in 0..sessions {
        let step = usize::try_from(number * steps / sessions).unwrap();
        let share = plan.steps[step].basis_points();
        let key = chance.next();
        let released = is_released(key, share);
        // One in five users has trouble of his own, and one in ten is far away.
        let trouble = if chance.is(0.2) { 0.3 } else { 0.005 };
        let distance = if chance.is(0.1) { 8.0 } else { 1.0 };
        let denied = if released { site.denied.0 } else { site.denied.1 };
        let before = record.times_shown();
        for _ in 0..1 + chance.next() % site.requests {
            let rates = [
                (Signal::ServerError, trouble * 0.2),
                (Signal::Denied, denied),
                (Signal::Login, trouble * 0.5),
                (Signal::NewSession, trouble),
            ];
            let signs = Signs::of(rates.into_iter().filter(|(_, rate)| chance.is(*rate)).map(|(signal, _)| signal));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is some milliseconds")]
            let micros = (2_000.0 * distance / (0.1 + chance.real())) as u32;
            record.note(&Sighting {
                key,
                id: 1,
                micros,
                share,
                signs,
                released,
                elsewhere: released,
                may_begin: false,
            });
        }
        if record.times_shown() == before {
            continue;
        }
        if worst(plan, &[&record.stats()]).is_some_and(|worst| worst.p_value <= plan.alpha) {
            return Some(number + 1);
        }
    }
    None
}

#[test]
fn stateless_backends_stop_a_ramp_no_more_often_than_was_asked_for() {
    const RAMPS: u32 = 1_000;
    let site = Site { denied: (0.02, 0.02), requests: 30 };
    for (alpha, steps) in [(0.05, &[1.0, 5.0, 10.0, 25.0, 50.0][..]), (0.05, &[10.0])] {
        let plan = plan(steps, alpha);
        let stopped = (0..RAMPS).filter(|seed| run(&plan, &site, 1_000, mix64(u64::from(*seed))).is_some()).count();
        let rate = f64::from(u32::try_from(stopped).unwrap()) / f64::from(RAMPS);
        println!("alpha {alpha}, steps {steps:?}: {stopped} of {RAMPS} ramps of 1,000 sessions stopped falsely");
        // What was asked for, and three standard errors of the measurement.
        let most = alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(RAMPS)).sqrt();
        assert!(rate <= most, "{rate} {most}");
    }
}

#[test]
fn harm_is_found_soon() {
    for (name, harmed, unharmed, steps, most) in [
        ("carts in memory: 4 of 5 requests denied rather than none", 0.8, 0.0, 10.0, 120),
        ("1 of 20 denied rather than 1 of 100", 0.05, 0.01, 10.0, 1_500),
        ("1 of 20 denied rather than 1 of 100", 0.05, 0.01, 50.0, 600),
    ] {
        let (plan, site) = (plan(&[steps], 0.01), Site { denied: (harmed, unharmed), requests: 10 });
        let mut found: Vec<_> =
            (0..100).map(|seed| run(&plan, &site, 20_000, mix64(seed)).unwrap_or(u64::MAX)).collect();
        found.sort_unstable();
        let [half, most_of_them] = [found[50], found[90]];
        println!("{name}, {steps} % released: found after {half} sessions (median), {most_of_them} (9 in 10)");
        assert!(half <= most, "{half}");
    }
}
