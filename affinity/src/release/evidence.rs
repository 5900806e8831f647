//! The sequential test. Were the backends stateless, whether a session shows something would have nothing to do with its
//! cohort: of the sessions that do, each would be a released one with the probability of the share that is released.
//! Against that stand the alternatives that a released session is so many times as likely to show it.
//!
//! The likelihood ratio of an alternative against that is a martingale that begins at 1, and so is the mean over several.
//! It is above `1 / p` at any time with a probability of `p` at most (Ville 1939), so that it may be looked at after every
//! session, for as long as one likes: see Johari, Pekelis and Walsh, "Always Valid Inference", 2015, and Howard et al.,
//! "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021.

/// How many times as likely a released session may be to show what is looked for.
const RATIOS: [f64; 8] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

/// Sessions that showed something while one share, 0 to 1, was released.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    pub share: f64,
    pub released: f64,
    pub control: f64,
}

/// The logarithm of the evidence that released sessions show it more often. A stage without a control group, or without
/// anybody released, tells nothing.
pub fn log_evidence(stages: impl Iterator<Item = Shown> + Clone) -> f64 {
    log_mean_exp(RATIOS.map(|ratio| {
        let tells = |stage: &Shown| stage.share > 0.0 && stage.share < 1.0 && stage.released + stage.control > 0.0;
        let told = stages.clone().filter(tells);
        let logs = told.map(|Shown { share, released, control }| {
            released * ratio.ln() - (released + control) * (ratio * share + 1.0 - share).ln()
        });
        logs.sum()
    }))
}

/// The logarithm of the mean of what these are the logarithms of: again evidence, of whatever kind each is, and however
/// they depend on each other. 0, which is none, where there are none.
pub fn log_mean_exp(logs: impl IntoIterator<Item = f64, IntoIter: Clone>) -> f64 {
    let logs = logs.into_iter();
    let (most, count) = logs.clone().fold((f64::NEG_INFINITY, 0.0), |(most, count), log| (most.max(log), count + 1.0));
    if count == 0.0 {
        return 0.0;
    }
    most + (logs.map(|log| (log - most).exp()).sum::<f64>() / count).ln()
}

/// How likely mere luck is to look as bad in any of so many tests at any time, at most (Bonferroni).
pub fn p_value(log_evidence: f64, tests: usize) -> f64 {
    (log_bound(tests) - log_evidence).exp().min(1.0)
}

/// What the evidence has to reach for a ramp to be stopped that may be so with a probability of `alpha` by mere luck.
pub fn bar(alpha: f64, tests: usize) -> f64 {
    log_bound(tests) - alpha.ln()
}

#[expect(clippy::cast_precision_loss, reason = "tests are some dozens")]
fn log_bound(tests: usize) -> f64 {
    (tests as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(share: f64, released: f64, control: f64) -> f64 {
        log_evidence([Shown { share, released, control }].into_iter())
    }

    proptest! {
        /// What makes the test valid: a further session that shows it is expected to change the evidence by nothing.
        #[test]
        fn evidence_is_a_martingale(share in 0.001..0.999, released in 0u8..60, control in 0u8..60) {
            let (released, control) = (f64::from(released), f64::from(control));
            let next = share * one(share, released + 1.0, control).exp()
                + (1.0 - share) * one(share, released, control + 1.0).exp();
            let now = one(share, released, control).exp();
            prop_assert!((next / now - 1.0).abs() < 1e-9, "{now} {next}");
        }

        #[test]
        fn more_released_sessions_are_more_evidence_and_more_of_the_others_are_less(
            share in 0.001..0.999, released in 0u8..60, control in 0u8..60
        ) {
            let (released, control) = (f64::from(released), f64::from(control));
            let now = one(share, released, control);
            prop_assert!(one(share, released + 1.0, control) > now && one(share, released, control + 1.0) < now);
        }
    }

    #[test]
    fn known_counts_are_known_evidence() {
        assert!(one(0.1, 0.0, 0.0).abs() < 1e-12);
        // All released or nobody: nothing to compare.
        assert!(one(1.0, 50.0, 0.0).abs() < 1e-12 && one(0.0, 0.0, 50.0).abs() < 1e-12);
        // Five of five at a tenth.
        assert!((one(0.1, 5.0, 0.0) - 9.0).abs() < 0.5, "{}", one(0.1, 5.0, 0.0));
        // As many as there should be.
        assert!(one(0.1, 10.0, 90.0) < 0.0);
        // Stages of the same share are one stage.
        let parts = [(2.0, 3.0), (4.0, 1.0)].map(|(released, control)| Shown { share: 0.25, released, control });
        assert!((log_evidence(parts.into_iter()) - one(0.25, 6.0, 4.0)).abs() < 1e-9);
    }

    #[test]
    fn p_values_are_probabilities() {
        assert!((p_value(0.0, 30) - 1.0).abs() < 1e-12 && (p_value(-50.0, 30) - 1.0).abs() < 1e-12);
        assert!((p_value(bar(0.01, 30), 30) - 0.01).abs() < 1e-12);
        assert!(log_mean_exp([]).abs() < 1e-12 && (log_mean_exp([2.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((log_mean_exp([800.0, 0.0]) - (800.0 - 2.0f64.ln())).abs() < 1e-9, "large ones don't overflow");
    }
}
