//! What the counts of a release say: whether its sessions come to harm, and how much harm would have been found.

use super::evidence::{Shown, bar, log_evidence, log_mean_exp, p_value};
use control::{
    release::{By, Finding, Percent, RampPlan, Signal, TIMES},
    status::{ReleaseStats, StageStats},
};

/// What was found up to now.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Each signal that is looked for.
    pub signals: Vec<Signalled>,
    /// The test that looks worst for the release, where any session has shown anything.
    pub worst: Option<Finding>,
    /// It is worse than luck would make it, by the plan's measure.
    pub harms: bool,
    /// Sessions compared: in each cohort those that were seen in it.
    pub sessions: By<u64>,
    /// The least share of the released sessions, 0 to 1, whose loss of state would have been found with a probability of
    /// [`POWER`]. `None` where no share would.
    pub detectable: Option<f64>,
    /// The same by the present step alone.
    pub at_step: AtStep,
}

/// What one signal says.
#[derive(Clone, Debug, PartialEq)]
pub struct Signalled {
    pub signal: Signal,
    /// By [`TIMES`].
    pub shown: [By<u64>; TIMES.len()],
    /// Of its tests the one that looks worst.
    pub worst: usize,
    pub log_evidence: f64,
    pub p_value: f64,
    /// As [`Judged::detectable`], by this signal.
    pub detectable: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AtStep {
    pub sessions: By<u64>,
    /// Of the released ones, those that another backend than their own has served: they alone can show that it can.
    pub elsewhere: u64,
    pub detectable: Option<f64>,
    /// Such sessions after which the plan's `harm` would be found, if the others go on as they do. `None` where no
    /// number of them will do, for some signal is shown by nearly all.
    pub needed: Option<u64>,
    /// The signal by which they are needed.
    pub slowest: Option<Signal>,
}

/// How likely harm that counts as detectable would have been found.
pub const POWER: f64 = 0.9;
/// The quantile of the standard normal distribution that this leaves below.
const BELOW: f64 = 1.281_551_565_544_8;
/// More sessions than any step has.
const MOST: f64 = 1e12;

/// The tests that a plan makes.
pub fn tests(plan: &RampPlan) -> usize {
    plan.watch.signals().count() * TIMES.len()
}

/// The worst of a plan's tests, by what each data plane has seen. Where there are several they may have seen the same
/// sessions, and so their evidence is averaged rather than added.
pub fn worst(plan: &RampPlan, seen: &[&ReleaseStats]) -> Option<Finding> {
    let signals = plan.watch.signals().map(|signal| signalled(plan, signal, seen));
    let shown = signals.filter(|signalled| signalled.shown[0] != By::default());
    let most = shown.max_by(|one, other| one.log_evidence.total_cmp(&other.log_evidence))?;
    Some(Finding {
        signal: most.signal,
        times: TIMES[most.worst],
        sessions: sessions(seen),
        shown: most.shown[most.worst],
        p_value: most.p_value,
    })
}

/// Judges by what each data plane has seen; `share` is what is released now, in hundredths of a percent.
pub fn judge(plan: &RampPlan, share: u16, seen: &[&ReleaseStats]) -> Judged {
    let power = Power { bar: bar(plan.alpha, tests(plan)) };
    // Where all are released, nobody is left to compare with.
    let compared = |stage: &&StageStats| stage.share < Percent::ALL.basis_points();
    let stages: Vec<&StageStats> = seen.iter().flat_map(|stats| &stats.stages).filter(compared).collect();
    let now: Vec<&StageStats> = stages.iter().copied().filter(|stage| stage.share == share).collect();
    let mut signals: Vec<_> = plan.watch.signals().map(|signal| signalled(plan, signal, seen)).collect();
    let elsewhere = now.iter().map(|stage| stage.elsewhere).sum();
    let mut at_step = AtStep { sessions: sum(&now), elsewhere, detectable: Some(0.0), needed: Some(0), slowest: None };
    for signalled in &mut signals {
        signalled.detectable = power.detectable(signalled.signal, &stages);
        if signalled.signal.tells_of_state() {
            let by_signal = power.detectable(signalled.signal, &now);
            at_step.detectable = at_step.detectable.zip(by_signal).map(|(most, more)| most.max(more));
            let needed = power.needed(signalled.signal, &stages, share, plan.harm);
            if needed.is_none() || needed > at_step.needed && at_step.needed.is_some() {
                (at_step.needed, at_step.slowest) = (needed, Some(signalled.signal));
            }
        }
    }
    let of_state = signals.iter().filter(|signalled| signalled.signal.tells_of_state());
    let detectable = of_state.map(|signalled| signalled.detectable).reduce(|one, other| Some(one?.max(other?)));
    let worst = worst(plan, seen);
    Judged {
        harms: worst.is_some_and(|worst| worst.p_value <= plan.alpha),
        worst,
        signals,
        sessions: sessions(seen),
        detectable: detectable.flatten(),
        at_step,
    }
}

/// Whether the released cohort hits the cache as often as the others, within two in a hundred; `None` where too few
/// sessions tell. The requests of one session may all be alike, and so only as many of them count as there are sessions.
pub fn hits_as_often(seen: &[&ReleaseStats]) -> Option<bool> {
    const SESSIONS: f64 = 100.0;
    const LESS: f64 = 0.02;
    /// The quantile of the standard normal distribution below which are 95 %.
    const SURE: f64 = 1.645;
    let add = |of: fn(&ReleaseStats) -> By<u64>| {
        seen.iter().fold(By::default(), |mut sum, stats| {
            sum.add(of(stats));
            sum
        })
    };
    let (cached, hits, sessions) = (add(|stats| stats.cached), add(|stats| stats.hits), sessions(seen));
    let cohort = |cached: u64, hits: u64, sessions: u64| {
        let count = float(sessions.min(cached));
        let rate = float(hits) / float(cached.max(1));
        (count >= SESSIONS).then_some((rate, rate * (1.0 - rate) / count))
    };
    let (released, error) = cohort(cached.released, hits.released, sessions.released)?;
    let (control, more) = cohort(cached.control, hits.control, sessions.control)?;
    Some(control - released + SURE * (error + more).sqrt() <= LESS)
}

fn sum(stages: &[&StageStats]) -> By<u64> {
    stages.iter().fold(By::default(), |mut sum, stage| {
        sum.add(stage.sessions);
        sum
    })
}

fn sessions(seen: &[&ReleaseStats]) -> By<u64> {
    sum(&seen.iter().flat_map(|stats| &stats.stages).collect::<Vec<_>>())
}

fn shown(stage: &StageStats, signal: Signal, test: usize) -> By<u64> {
    stage.shown.get(&signal).map_or_else(By::default, |shown| shown[test])
}

fn signalled(plan: &RampPlan, signal: Signal, seen: &[&ReleaseStats]) -> Signalled {
    let evidence = |test: usize| {
        let by_plane = seen.iter().map(|stats| {
            let stages = stats.stages.iter().map(|stage| {
                let By { released, control } = shown(stage, signal, test);
                Shown { share: share_of(stage), released: float(released), control: float(control) }
            });
            log_evidence(stages)
        });
        log_mean_exp(by_plane.collect::<Vec<_>>())
    };
    let all = std::array::from_fn::<_, { TIMES.len() }, _>(evidence);
    let (worst, log_evidence) =
        (0..).zip(all).fold((0, f64::NEG_INFINITY), |most, next| if next.1 > most.1 { next } else { most });
    let shown = std::array::from_fn(|test| {
        let stages = seen.iter().flat_map(|stats| &stats.stages);
        stages.fold(By::default(), |mut sum, stage| {
            sum.add(shown(stage, signal, test));
            sum
        })
    });
    let p_value = p_value(log_evidence, tests(plan));
    Signalled { signal, shown, worst, log_evidence, p_value, detectable: None }
}

/// What the test would have found, had there been more to find.
struct Power {
    bar: f64,
}

impl Power {
    /// The least harm that would have been found, by the best of the signal's tests.
    fn detectable(&self, signal: Signal, stages: &[&StageStats]) -> Option<f64> {
        let tests = (0..TIMES.len()).filter_map(|test| {
            let control = float(sum(stages).control);
            let shown_by_control: f64 = stages.iter().map(|stage| float(shown(stage, signal, test).control)).sum();
            let rate = shown_by_control / Some(control).filter(|control| *control > 0.0)?;
            let cohorts: Vec<_> = stages
                .iter()
                .map(|stage| (share_of(stage), float(stage.elsewhere), float(shown(stage, signal, test).control)))
                .collect();
            least(|harm| self.finds(&cohorts, rate, harm))
        });
        tests.min_by(f64::total_cmp)
    }

    /// Released sessions at `share` by which this harm would be found, by the best of the signal's tests; as many of the
    /// others there are as the share says, and they show as much as they have shown.
    fn needed(&self, signal: Signal, stages: &[&StageStats], share: u16, harm: f64) -> Option<u64> {
        let share = f64::from(share) / 10_000.0;
        let tests = (0..TIMES.len()).filter_map(|test| {
            let control = float(sum(stages).control);
            let shown_by_control: f64 = stages.iter().map(|stage| float(shown(stage, signal, test).control)).sum();
            let rate = if control > 0.0 { shown_by_control / control } else { 0.0 };
            let enough = |count: f64| self.finds(&[(share, count, rate * count * (1.0 - share) / share)], rate, harm);
            let above = std::iter::successors(Some(1.0), |count| Some(count * 2.0)).take_while(|count| *count < MOST);
            let above = above.into_iter().find(|count| enough(*count))?;
            let within = least(|part| enough(above * part))?;
            Some(above * within)
        });
        let least = tests.min_by(f64::total_cmp)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to a trillion")]
        Some(least.ceil() as u64)
    }

    /// Whether it would be found that so much of the released sessions that were elsewhere shows what it would not show otherwise, with the
    /// probability of [`POWER`]: by as many as show it then at least, and the others as they are. A cohort is the share,
    /// its released sessions, and the others that showed it. `rate` of the sessions show it anyway.
    fn finds(&self, cohorts: &[(f64, f64, f64)], rate: f64, harm: f64) -> bool {
        let all: f64 = cohorts.iter().map(|(_, released, _)| released).sum();
        if all <= 0.0 {
            return false;
        }
        let rate = (rate + harm * (1.0 - rate)).min(1.0);
        let at_least = (all * rate - BELOW * (all * rate * (1.0 - rate)).sqrt()).floor().max(0.0);
        let stages = cohorts.iter().map(|(share, released, control)| Shown {
            share: *share,
            released: at_least * released / all,
            control: *control,
        });
        log_evidence(stages) >= self.bar
    }
}

/// The least value up to 1 from which on this holds, within a thousandth of it; `None` where it does not even at 1.
fn least(holds: impl Fn(f64) -> bool) -> Option<f64> {
    if !holds(1.0) {
        return None;
    }
    let (mut below, mut above) = (0.0, 1.0);
    while above - below > above / 1_000.0 && above > 1e-9 {
        let middle = f64::midpoint(below, above);
        if holds(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(above)
}

fn share_of(stage: &StageStats) -> f64 {
    f64::from(stage.share) / 10_000.0
}

#[expect(clippy::cast_precision_loss, reason = "sessions are far below 53 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{release::Watch, spec::Span};

    fn plan() -> RampPlan {
        let steps = vec![Percent::new(10.0).unwrap(), Percent::ALL];
        RampPlan { steps, hold: Span::from_secs(1), harm: 0.1, alpha: 0.01, watch: Watch::default() }
    }

    /// One stage, and what it shows of one signal once.
    fn stats(share: u16, sessions: (u64, u64), signal: Signal, shown: (u64, u64)) -> ReleaseStats {
        let by = |(released, control)| By { released, control };
        let mut tests = [By::default(); TIMES.len()];
        tests[0] = by(shown);
        let sessions = by(sessions);
        let shown = [(signal, tests)].into();
        let stage = StageStats { share, sessions, elsewhere: sessions.released, shown };
        ReleaseStats { id: 1, stages: vec![stage], ..ReleaseStats::default() }
    }

    #[test]
    fn harm_is_found_with_its_signal_and_numbers() {
        let seen = stats(1_000, (12, 108), Signal::Denied, (8, 0));
        let judged = judge(&plan(), 1_000, &[&seen]);
        let worst = judged.worst.unwrap();
        assert!(judged.harms && worst.p_value < 0.01, "{worst:?}");
        assert_eq!((worst.signal, worst.times, worst.shown), (Signal::Denied, 1, By { released: 8, control: 0 }));
        let even = judge(&plan(), 1_000, &[&stats(1_000, (100, 900), Signal::Denied, (10, 90))]);
        assert!(!even.harms && even.worst.unwrap().p_value > 0.9);
        assert_eq!(judge(&plan(), 1_000, &[]).worst, None);
        // That the others show it more is no harm.
        assert!(!judge(&plan(), 1_000, &[&stats(1_000, (100, 900), Signal::Denied, (0, 500))]).harms);
    }

    #[test]
    fn one_data_plane_beside_another_does_not_count_twice() {
        let seen = stats(1_000, (12, 108), Signal::Denied, (5, 0));
        let [one, two] = [vec![&seen], vec![&seen, &seen]].map(|seen| judge(&plan(), 1_000, &seen).worst.unwrap());
        assert!((one.p_value / two.p_value - 1.0).abs() < 1e-9, "{one:?} {two:?}");
        assert_eq!(two.shown.released, 10);
    }

    #[test]
    fn power_grows_with_traffic_and_what_all_show_tells_nothing() {
        let at = |sessions| judge(&plan(), 1_000, &[&stats(1_000, sessions, Signal::Denied, (0, 0))]);
        assert_eq!((at((0, 900)).detectable, at((900, 0)).detectable, at((2, 18)).detectable), (None, None, None));
        let found: Vec<_> = [10, 100, 1_000].map(|n| at((n, 9 * n)).detectable.unwrap()).into();
        assert!(found.is_sorted_by(|more, less| more > less), "{found:?}");
        // At a tenth, five sessions of a hundred suffice, and eight of them would show it on average.
        assert!((0.05..0.12).contains(&found[1]), "{found:?}");
        let needed = at((10, 90)).at_step.needed.unwrap();
        let [before, then] = [needed - 5, needed].map(|n| at((n, 9 * n)).at_step.detectable.unwrap());
        assert!(before > 0.1 && then <= 0.1001, "{needed}: {before} {then}");
        let saturated = judge(&plan(), 1_000, &[&stats(1_000, (1_000, 9_000), Signal::Denied, (1_000, 9_000))]);
        let denied = |judged: &Judged| judged.signals.iter().find(|it| it.signal == Signal::Denied).unwrap().detectable;
        assert!(denied(&saturated).is_some(), "nobody shows it twice, and so that would be seen");
        let mut all = stats(1_000, (1_000, 9_000), Signal::Denied, (0, 0));
        all.stages[0].shown.insert(Signal::Denied, [By { released: 1_000, control: 9_000 }; TIMES.len()]);
        let saturated = judge(&plan(), 1_000, &[&all]);
        assert_eq!((denied(&saturated), saturated.detectable, saturated.at_step.needed), (None, None, None));
        assert_eq!(saturated.at_step.slowest, Some(Signal::Denied));
    }

    #[test]
    fn without_a_control_group_nothing_is_found_and_nothing_would_be() {
        let judged = judge(&plan(), 10_000, &[&stats(10_000, (1_000, 0), Signal::Denied, (900, 0))]);
        assert!(!judged.harms && judged.detectable.is_none() && judged.at_step.needed.is_none());
    }

    #[test]
    fn sessions_that_were_nowhere_else_show_nothing() {
        let mut seen = stats(1_000, (1_000, 9_000), Signal::Denied, (0, 0));
        seen.stages[0].elsewhere = 0;
        let judged = judge(&plan(), 1_000, &[&seen]);
        assert_eq!((judged.detectable, judged.at_step.detectable), (None, None));
    }

    #[test]
    fn caches_are_as_good_where_enough_sessions_say_so() {
        let hits = |sessions: (u64, u64), released: u64, control: u64| {
            let cached = By { released: sessions.0 * 10, control: sessions.1 * 10 };
            let stats = stats(5_000, sessions, Signal::Denied, (0, 0));
            hits_as_often(&[&ReleaseStats { cached, hits: By { released, control }, ..stats }])
        };
        assert_eq!(hits((99, 10_000), 900, 90_000), None);
        assert_eq!(hits((10_000, 10_000), 90_000, 90_000), Some(true));
        assert_eq!(hits((10_000, 10_000), 50_000, 90_000), Some(false));
        assert_eq!(hits((200, 200), 1_000, 1_000), Some(false), "that may be luck");
        assert_eq!(hits((200, 200), 2_000, 1_900), Some(true));
    }

    #[test]
    fn power_is_asked_of_lost_state_alone() {
        let slow = |n| stats(1_000, (n, 9 * n), Signal::Slow, (n, 9 * n));
        let mut all = slow(200);
        all.stages[0].shown.insert(Signal::Slow, [By { released: 200, control: 1_800 }; TIMES.len()]);
        let judged = judge(&plan(), 1_000, &[&all]);
        assert!(judged.detectable.is_some_and(|harm| harm < 0.1), "{judged:?}");
    }
}
