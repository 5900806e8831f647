//! How a ramp goes on.

use super::judge::Judged;
use control::release::{By, Finding, Passed, Percent, Release, ReleaseState, Stopped};

/// What is to be done with a release.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    Stop(Finding),
    /// The present step has passed.
    Pass(Passed),
}

/// What a release says of the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    NotEnoughTraffic,
    LooksStateless,
    IsNot,
}

/// What is to be done by what was found, at `now` in Unix milliseconds.
pub fn next(release: &Release, judged: &Judged, now: u64) -> Option<Move> {
    match (release.state, judged.worst.filter(|_| judged.harms)) {
        (ReleaseState::Stopped, _) => None,
        (ReleaseState::Running | ReleaseState::Finished, Some(finding)) => Some(Move::Stop(finding)),
        (ReleaseState::Finished, None) => None,
        (ReleaseState::Running, None) => {
            let held = now.saturating_sub(release.step_since) >= release.plan.hold.as_millis();
            let detectable = judged.at_step.detectable.filter(|harm| held && *harm <= release.plan.harm)?;
            let percent = *release.plan.steps.get(release.step)?;
            let detectable = (detectable * 1e4).ceil() / 1e4;
            Some(Move::Pass(Passed { percent, until: now, sessions: judged.at_step.sessions, detectable }))
        }
    }
}

/// The release after a move, at `now` in Unix milliseconds.
pub fn after(release: &Release, step: Move, now: u64) -> Release {
    let mut after = release.clone();
    match step {
        Move::Stop(finding) => {
            after.state = ReleaseState::Stopped;
            after.stopped = Some(Stopped { at: now, reason: reason(&finding), finding: Some(finding) });
        }
        Move::Pass(passed) => {
            after.passed.push(passed);
            match release.plan.steps.get(release.step + 1) {
                Some(next) => {
                    (after.step, after.step_since) = (release.step + 1, now);
                    // Nobody is left there to compare with.
                    if *next == Percent::ALL {
                        after.state = ReleaseState::Finished;
                    }
                }
                None => after.state = ReleaseState::Finished,
            }
        }
    }
    after
}

fn reason(finding: &Finding) -> String {
    let Finding { signal, times, sessions, shown, p_value } = finding;
    let By { released, control } = shown;
    let times = if *times == 1 { String::new() } else { format!(" {times} times") };
    format!(
        "{released} of {} released sessions showed `{}`{times}, and {control} of {} others: by luck at most {} in any ramp",
        sessions.released,
        signal.name(),
        sessions.control,
        chance(*p_value),
    )
}

/// As in `1 in 20,000`.
fn chance(p_value: f64) -> String {
    let times = (1.0 / p_value.max(1e-12)).min(1e12);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to a trillion")]
    let times = times as u64;
    format!("1 in {times}")
}

/// What is known by now. A step that has passed stays passed, also where what it rested on is gone with a data plane.
pub fn verdict(release: &Release, judged: &Judged) -> Verdict {
    if let Some(stopped) = &release.stopped {
        return if stopped.finding.is_some() { Verdict::IsNot } else { Verdict::NotEnoughTraffic };
    }
    let by_now = judged.detectable.is_some_and(|harm| harm <= release.plan.harm);
    match judged.harms {
        true => Verdict::IsNot,
        false if by_now || !release.passed.is_empty() => Verdict::LooksStateless,
        false => Verdict::NotEnoughTraffic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::judge::AtStep;
    use control::{
        release::{RampPlan, Signal, Watch},
        spec::Span,
    };

    const SINCE: u64 = 1_000_000;

    fn release(steps: &[f64]) -> Release {
        let steps = steps.iter().map(|step| Percent::new(*step).unwrap()).collect();
        let plan = RampPlan { steps, hold: Span::from_secs(60), harm: 0.1, alpha: 0.01, watch: Watch::default() };
        Release {
            id: 1,
            plan,
            state: ReleaseState::Running,
            step: 0,
            since: SINCE,
            step_since: SINCE,
            passed: Vec::new(),
            stopped: None,
        }
    }

    fn found(detectable: Option<f64>, harms: bool) -> Judged {
        let finding = Finding {
            signal: Signal::Denied,
            times: 2,
            sessions: By { released: 9, control: 80 },
            shown: By { released: 7, control: 1 },
            p_value: 0.000_05,
        };
        Judged {
            signals: Vec::new(),
            worst: Some(finding),
            harms,
            sessions: finding.sessions,
            detectable,
            at_step: AtStep { detectable, ..AtStep::default() },
        }
    }

    #[test]
    fn a_ramp_steps_up_when_time_and_traffic_suffice_and_ends_where_nobody_is_left_to_compare_with() {
        let (mut ramp, mut now) = (release(&[5.0, 25.0, 100.0]), SINCE);
        let enough = found(Some(0.08), false);
        let mut shares = vec![ramp.basis_points()];
        while ramp.state == ReleaseState::Running {
            assert_eq!(next(&ramp, &enough, now + 59_999), None, "too early");
            now += 60_000;
            assert_eq!(next(&ramp, &found(Some(0.11), false), now), None, "too little traffic");
            assert_eq!(next(&ramp, &found(None, false), now), None);
            let step = next(&ramp, &enough, now).unwrap();
            ramp = after(&ramp, step, now);
            shares.push(ramp.basis_points());
        }
        assert_eq!((shares, ramp.state, ramp.passed.len()), (vec![500, 2_500, 10_000], ReleaseState::Finished, 2));
        assert_eq!(next(&ramp, &enough, now + 9_000_000), None);
        assert_eq!(verdict(&ramp, &found(None, false)), Verdict::LooksStateless, "also after a restart");
    }

    #[test]
    fn one_share_alone_is_held_and_goes_on_to_be_compared() {
        let ramp = release(&[10.0]);
        let passed = after(&ramp, next(&ramp, &found(Some(0.1), false), SINCE + 60_000).unwrap(), SINCE + 60_000);
        assert_eq!((passed.state, passed.basis_points()), (ReleaseState::Finished, 1_000));
        let stop = next(&passed, &found(None, true), SINCE + 60_001).unwrap();
        assert_eq!(after(&passed, stop, 5).basis_points(), 0);
    }

    #[test]
    fn harm_stops_it_at_once_and_for_good() {
        let ramp = release(&[10.0, 100.0]);
        let harm = found(Some(0.01), true);
        let stopped = after(&ramp, next(&ramp, &harm, SINCE + 1).unwrap(), SINCE + 1);
        assert_eq!((stopped.state, stopped.basis_points()), (ReleaseState::Stopped, 0));
        let reason = "7 of 9 released sessions showed `denied` 2 times, and 1 of 80 others: by luck at most 1 in 20000 in any ramp";
        assert_eq!(stopped.stopped.as_ref().map(|stopped| stopped.reason.as_str()), Some(reason));
        assert_eq!(next(&stopped, &harm, SINCE + 90_000), None);
        assert_eq!(verdict(&stopped, &found(Some(0.01), false)), Verdict::IsNot);
    }

    #[test]
    fn a_verdict_needs_traffic() {
        let ramp = release(&[10.0, 100.0]);
        for (judged, wanted) in [
            (found(None, false), Verdict::NotEnoughTraffic),
            (found(Some(0.5), false), Verdict::NotEnoughTraffic),
            (found(Some(0.1), false), Verdict::LooksStateless),
            (found(Some(0.1), true), Verdict::IsNot),
        ] {
            assert_eq!(verdict(&ramp, &judged), wanted);
        }
    }
}
