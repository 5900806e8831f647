//! What a release looks like.

use super::views::Receipt;
use crate::state::{View, releases::seen};
use affinity::release::{
    judge::{Judged, POWER, Signalled, hits_as_often},
    ramp::{Verdict, verdict},
};
use control::{
    release::{By, Passed, Percent, Release, ReleaseState, Signal, Stopped, TIMES},
    spec::Span,
    status::{Quantiles, ReleaseStats},
};
use serde::Serialize;
use utoipa::ToSchema;

/// How much of a pool's sessions is released, and what the released cohort shows beside the control group. Times are Unix
/// milliseconds, shares 0 to 1.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleaseView {
    pool: String,
    state: ReleaseState,
    /// The share of the sessions that is released now, in percent.
    percent: f64,
    /// Which of the steps it is at, from 1.
    step: usize,
    #[schema(value_type = Vec<f64>)]
    steps: Vec<Percent>,
    hold: Span,
    harm: f64,
    alpha: f64,
    login_path: Option<String>,
    session_cookie: Option<String>,
    cache_header: Option<String>,
    cache_hit: Option<String>,
    since: u64,
    step_since: u64,
    verdict: VerdictView,
    /// What that rests on, a sentence each.
    why: Vec<String>,
    /// How sure it is that released sessions come to harm: one minus the chance that luck looks as bad at any time.
    confidence: f64,
    /// The least share of the released sessions whose loss of state would have been found with a probability of 0.9;
    /// `null` where no harm would.
    detectable: Option<f64>,
    at_step: StepView,
    /// Sessions compared: those that were seen in each cohort.
    sessions: By<u64>,
    requests: By<u64>,
    signals: Vec<SignalView>,
    /// From the request's head to the response's, in milliseconds.
    latency: By<LatencyView>,
    /// By the configured header; `null` without one.
    cache: Option<By<CacheView>>,
    advice: Vec<&'static str>,
    /// One session in so many is followed.
    sampled: u64,
    /// The steps that have passed.
    passed: Vec<Passed>,
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum VerdictView {
    NotEnoughTraffic,
    LooksStateless,
    IsNot,
}

/// The traffic of the present step.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    sessions: By<u64>,
    /// Of the released ones, those that another backend than their own has served.
    elsewhere: u64,
    /// As many of these are needed; `null` where no number will do.
    needed: Option<u64>,
    detectable: Option<f64>,
}

/// What one signal says.
#[derive(Debug, Serialize, ToSchema)]
struct SignalView {
    signal: Signal,
    /// Sessions that showed it.
    sessions: By<u64>,
    shares: By<Option<f64>>,
    /// So many times at least the sessions show it in the test that looks worst.
    worst_times: u8,
    worst_sessions: By<u64>,
    /// The natural logarithm of the evidence that released sessions show it more often: below zero speaks against it.
    log_evidence: f64,
    /// The most likely that mere luck looks as bad in any test at any time.
    p_value: f64,
    detectable: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct LatencyView {
    p50: f64,
    p90: f64,
    p99: f64,
}

/// Responses that tell of a cache, and those where it was hit.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct CacheView {
    lookups: u64,
    hits: u64,
    share: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleaseReceipt {
    #[serde(flatten)]
    pub(super) receipt: Receipt,
    pub(super) release: ReleaseView,
}

impl View {
    /// `now` in Unix milliseconds.
    pub(super) fn release(&self, pool: &str, release: &Release, now: u64) -> ReleaseView {
        let (judged, seen) = (self.judged(pool, release), seen(&self.peers, pool, release.id));
        let verdict = verdict(release, &judged);
        let finding = release.stopped.as_ref().map_or(judged.worst, |stopped| stopped.finding);
        let watch = release.plan.watch.clone();
        let cache = watch.cache_header.is_some().then(|| cache(&seen));
        ReleaseView {
            pool: pool.to_owned(),
            state: release.state,
            percent: f64::from(release.basis_points()) / 100.0,
            step: release.step + 1,
            steps: release.plan.steps.clone(),
            hold: release.plan.hold,
            harm: release.plan.harm,
            alpha: release.plan.alpha,
            login_path: watch.login_path,
            session_cookie: watch.session_cookie,
            cache_hit: watch.cache_header.as_ref().map(|_| watch.cache_hit),
            cache_header: watch.cache_header,
            since: release.since,
            step_since: release.step_since,
            verdict: match verdict {
                Verdict::NotEnoughTraffic => VerdictView::NotEnoughTraffic,
                Verdict::LooksStateless => VerdictView::LooksStateless,
                Verdict::IsNot => VerdictView::IsNot,
            },
            why: why(release, &judged, verdict, !seen.is_empty(), now),
            confidence: finding.map_or(0.0, |finding| 1.0 - finding.p_value),
            detectable: judged.detectable.map(rounded),
            at_step: StepView {
                sessions: judged.at_step.sessions,
                elsewhere: judged.at_step.elsewhere,
                needed: judged.at_step.needed,
                detectable: judged.at_step.detectable.map(rounded),
            },
            sessions: judged.sessions,
            requests: sum(&seen, |stats| stats.requests),
            signals: judged.signals.iter().map(|signalled| signal(signalled, judged.sessions)).collect(),
            latency: latency(&seen),
            cache,
            advice: advice(&seen, verdict),
            sampled: 1 << seen.iter().map(|stats| stats.sampled).max().unwrap_or(0).min(63),
            passed: release.passed.clone(),
            stopped: release.stopped.clone(),
        }
    }
}

fn sum(seen: &[&ReleaseStats], of: fn(&ReleaseStats) -> By<u64>) -> By<u64> {
    seen.iter().fold(By::default(), |mut sum, stats| {
        sum.add(of(stats));
        sum
    })
}

fn signal(signalled: &Signalled, sessions: By<u64>) -> SignalView {
    let shown = signalled.shown[0];
    SignalView {
        signal: signalled.signal,
        sessions: shown,
        shares: By {
            released: share(shown.released, sessions.released),
            control: share(shown.control, sessions.control),
        },
        worst_times: TIMES[signalled.worst],
        worst_sessions: signalled.shown[signalled.worst],
        log_evidence: rounded(signalled.log_evidence),
        p_value: signalled.p_value,
        detectable: signalled.detectable.map(rounded),
    }
}

/// Of the data plane that has seen most.
fn latency(seen: &[&ReleaseStats]) -> By<LatencyView> {
    let most = seen.iter().max_by_key(|stats| stats.requests.released + stats.requests.control);
    let By { released, control } = most.map_or_else(By::default, |stats| stats.latency);
    let millis = |Quantiles { p50, p90, p99 }| {
        let millis = |micros: u64| rounded(float(micros) / 1_000.0);
        LatencyView { p50: millis(p50), p90: millis(p90), p99: millis(p99) }
    };
    By { released: millis(released), control: millis(control) }
}

fn cache(seen: &[&ReleaseStats]) -> By<CacheView> {
    let (cached, hits) = (sum(seen, |stats| stats.cached), sum(seen, |stats| stats.hits));
    let of = |lookups, hits| CacheView { lookups, hits, share: share(hits, lookups) };
    By { released: of(cached.released, hits.released), control: of(cached.control, hits.control) }
}

fn advice(seen: &[&ReleaseStats], verdict: Verdict) -> Vec<&'static str> {
    let as_often = hits_as_often(seen) == Some(true);
    let mut advice = Vec::new();
    if as_often {
        advice.push("affinity buys nothing here: the released cohort hits the cache as often");
    }
    if matches!(verdict, Verdict::LooksStateless) && as_often {
        advice.push("affinity.mode = \"none\" would do");
    }
    advice
}

/// The verdict in sentences.
fn why(release: &Release, judged: &Judged, verdict: Verdict, reported: bool, now: u64) -> Vec<String> {
    let mut why = Vec::new();
    if let Some(stopped) = &release.stopped {
        why.push(stopped.reason.clone());
        why.push("the released sessions are back on their pins".to_owned());
        return why;
    }
    let at = &judged.at_step;
    match judged.detectable {
        _ if verdict == Verdict::IsNot => {
            why.push("released sessions come to harm, and it is about to stop".to_owned())
        }
        Some(harm) => why.push(format!(
            "had {} of the released sessions lost their state, it would have been found with a probability of {:.0} %: \
             nothing was",
            percent(harm),
            POWER * 100.0
        )),
        None if !release.passed.is_empty() => {}
        None if !reported => why.push("no data plane has reported anything of it yet".to_owned()),
        None => why.push("too few sessions have been compared to find any harm".to_owned()),
    }
    why.extend(release.passed.iter().map(|passed| {
        let By { released, control } = passed.sessions;
        let least = percent(passed.detectable);
        format!(
            "{} passed: {released} released sessions beside {control} others, harm to {least} would have shown",
            passed.percent
        )
    }));
    match (release.state, release.basis_points()) {
        (ReleaseState::Finished, 10_000) => {
            why.push("all are released: nobody is left to compare with, and nothing would stop it now".to_owned());
        }
        (ReleaseState::Finished, _) => why.push("its last step has passed, and it goes on to be compared".to_owned()),
        (ReleaseState::Running | ReleaseState::Stopped, _) => {
            let left = (release.step_since + release.plan.hold.as_millis()).saturating_sub(now);
            if left > 0 {
                why.push(format!("this step is held for another {}", Span::from_secs(left.div_ceil(1_000))));
            }
            why.extend(traffic(release, at.needed, at.elsewhere, at.slowest));
        }
    }
    why
}

/// What traffic the present step still needs.
fn traffic(release: &Release, needed: Option<u64>, have: u64, slowest: Option<Signal>) -> Option<String> {
    let harm = percent(release.plan.harm);
    match needed {
        Some(needed) if have < needed => Some(format!(
            "{have} released sessions have been elsewhere at this step, and {needed} or so would show harm to {harm} of them"
        )),
        Some(_) => None,
        None => slowest.map(|signal| {
            let name = signal.name();
            format!("nearly all sessions show `{name}` anyway, so that it can't tell harm: watch something else")
        }),
    }
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e3).ceil() / 10.0)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| rounded(float(part) / float(whole)))
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn float(count: u64) -> f64 {
    count as f64
}
