use crate::state::drains::Watched;
use affinity::{
    ages::Forecast,
    decay::{Estimate, Unknown},
};
use control::{
    desired::{DrainMode, Share, Then},
    status::Ages,
};
use serde::Serialize;
use utoipa::ToSchema;

/// How far a drain is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DrainView {
    mode: DrainMode,
    since: u64,
    /// When what is left is dealt with.
    deadline: Option<u64>,
    /// In mode `migrate`, how many of the sessions have moved at the deadline.
    #[schema(value_type = Option<f64>)]
    share: Option<Share>,
    /// What it ends with; where nobody said so, `maintenance` at the deadline alone.
    then: Option<Then>,
    live_sessions: Option<u64>,
    requests_in_flight: u64,
    /// Connections that were upgraded and are open.
    tunnels: u64,
    /// Nothing was left by the last reports, all of which knew of the drain.
    empty: bool,
    /// Live sessions when the drain began, or when this process first heard of them after that.
    sessions_at_start: Option<u64>,
    /// The share of those that is gone, 0 to 1.
    share_done: Option<f64>,
    /// The sessions whose state would be gone if the backend stopped now; `null` where nobody knows them.
    lost_if_stopped_now: Option<u64>,
    /// The share of the sessions that ends within a minute, 0 to 1; `null` while too little is known.
    decay_per_minute: Option<f64>,
    estimate: EstimateView,
}

/// Seconds until so many of the sessions that there were when the drain began have ended, as their ages foretell, or else if
/// they go on to end as those before them have. All are `null` while too little is known.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct EstimateView {
    /// 95 %.
    p95: Option<f64>,
    /// 99 %.
    p99: Option<f64>,
    /// Until the last has ended: as likely earlier as later.
    all: Option<f64>,
    /// Why nothing can be said yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
}

impl DrainView {
    pub(super) fn new(watched: &Watched, live_sessions: Option<u64>, requests_in_flight: u64, tunnels: u64) -> Self {
        let drain = &watched.drain;
        let (decay_per_minute, estimate) = estimate(watched, live_sessions);
        Self {
            mode: drain.mode,
            since: drain.since,
            deadline: drain.deadline,
            share: (drain.mode == DrainMode::Migrate).then(|| drain.share()),
            then: drain.then,
            live_sessions,
            requests_in_flight,
            tunnels,
            empty: watched.nothing_left,
            sessions_at_start: watched.sessions_at_start,
            share_done: share_done(watched.sessions_at_start, live_sessions),
            lost_if_stopped_now: live_sessions,
            decay_per_minute,
            estimate,
        }
    }
}

fn estimate(watched: &Watched, live: Option<u64>) -> (Option<f64>, EstimateView) {
    let unknown = |reason| (None, EstimateView { unknown: Some(reason), ..EstimateView::default() });
    let (Some(outlook), Some(live)) = (watched.outlook(), live) else {
        return unknown("nobody knows how many sessions are live");
    };
    match outlook.estimate() {
        _ if live == 0 => (None, EstimateView::new(0.0, 0.0, 0.0)),
        Ok(Estimate { per_minute, p95, p99, all }) => {
            (per_minute.map(|share| (share * 1e4).round() / 1e4), EstimateView::new(p95, p99, all))
        }
        Err(Unknown::TooShort) => unknown("the drain has been followed for too short a time"),
        Err(Unknown::TooFewEnded) => unknown("too few sessions have ended yet"),
        Err(Unknown::NotFalling) => unknown("the sessions have not become fewer"),
    }
}

impl EstimateView {
    fn new(p95: f64, p99: f64, all: f64) -> Self {
        let [p95, p99, all] = [p95, p99, all].map(|seconds| Some((seconds * 10.0).round() / 10.0));
        Self { p95, p99, all, unknown: None }
    }

    /// Of a drain that begins now, by the ages of its sessions alone.
    pub(super) fn foretold(ages: Ages, live: u64) -> Self {
        let forecast = Forecast { ages, live, at: 0, since: 0 };
        let [p95, p99, all] = [0.05, 0.01, 0.0].map(|left| forecast.until(float(live) * left, live, 0).unwrap_or(0.0));
        Self::new(p95, p99, all)
    }
}

#[expect(clippy::cast_precision_loss, reason = "sessions are far below 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}

fn share_done(at_start: Option<u64>, now: Option<u64>) -> Option<f64> {
    let (at_start, now) = (at_start?, now?);
    Some(if at_start == 0 { 1.0 } else { float(at_start.saturating_sub(now)) / float(at_start) })
}
