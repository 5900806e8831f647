use crate::state::drains::Watched;
use affinity::decay::Unknown;
use control::desired::{DrainMode, Share, Then};
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

/// Seconds until so many of the sessions that there were when the drain began have ended, if they go on to end as those
/// before them have. All are `null` while too little is known.
#[derive(Debug, Default, Serialize, ToSchema)]
struct EstimateView {
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
    let (Some(at_start), Some(live)) = (watched.sessions_at_start, live) else {
        return unknown("nobody knows how many sessions are live");
    };
    let seconds = |seconds: f64| Some((seconds * 10.0).round() / 10.0);
    match watched.series.estimate(at_start) {
        _ if live == 0 => (None, EstimateView { p95: Some(0.0), p99: Some(0.0), all: Some(0.0), unknown: None }),
        Ok(found) => {
            let (p95, p99, all) = (seconds(found.p95), seconds(found.p99), seconds(found.all));
            (Some((found.per_minute * 1e4).round() / 1e4), EstimateView { p95, p99, all, unknown: None })
        }
        Err(Unknown::TooShort) => unknown("the drain has been followed for too short a time"),
        Err(Unknown::TooFewEnded) => unknown("too few sessions have ended yet"),
        Err(Unknown::NotFalling) => unknown("the sessions have not become fewer"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of sessions needs no more than 53 bits")]
fn share_done(at_start: Option<u64>, now: Option<u64>) -> Option<f64> {
    let (at_start, now) = (at_start?, now?);
    Some(if at_start == 0 { 1.0 } else { at_start.saturating_sub(now) as f64 / at_start as f64 })
}
