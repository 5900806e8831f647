//! What became of sessions in the last minutes, and how that holds against the pool's target.

use super::stickiness::ReturningView;
use crate::{
    history::{PoolHistory, PoolSums, returning, told, windows::Window},
    state::{State, View},
};
use affinity::burn::{PAGE, burns};
use control::{
    counters::{PoolCount, Tells},
    desired::PoolState,
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What became of a pool's sessions in the last minutes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WindowView {
    /// The last 1, 5 or 60 minutes.
    minutes: u64,
    /// How many seconds of these this process has followed.
    seconds: u64,
    requests: u64,
    /// Requests without a marker, which begin a session.
    unpinned: u64,
    /// The share of these, 0 to 1; `null` without requests.
    unpinned_share: Option<f64>,
    returning: ReturningView,
    /// Why markers that came counted as none, by cause.
    refused: BTreeMap<String, u64>,
    /// Why requests did not reach their pin, by cause.
    left: BTreeMap<String, u64>,
}

/// How the returning requests hold against the target.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetView {
    /// The share of them that is to reach their pin.
    share: f64,
    /// How many times faster than that allows they miss it, over the last 5 minutes; `null` where nobody returned.
    burn_rate_5m: Option<f64>,
    /// The same over the last hour.
    burn_rate_1h: Option<f64>,
    /// Both are so high that somebody has to look now.
    burns: bool,
}

/// Each window of a pool's past.
pub(super) fn windows(history: &PoolHistory) -> Vec<WindowView> {
    Window::ALL.into_iter().zip(&history.sums).map(|(window, sums)| view(window, sums, history.followed)).collect()
}

fn view(window: Window, sums: &PoolSums, followed: u64) -> WindowView {
    let count = |what: PoolCount| sums.counts.get(what.name()).copied().unwrap_or_default();
    let (requests, unpinned) = (count(PoolCount::Requests), count(PoolCount::Unpinned));
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    let unpinned_share = (requests > 0).then(|| unpinned as f64 / requests as f64);
    WindowView {
        minutes: window.minutes(),
        seconds: followed.min(window.minutes() * 60),
        requests,
        unpinned,
        unpinned_share,
        returning: ReturningView::of(returning(&sums.counts)),
        refused: told(&sums.counts, Tells::Refused),
        left: told(&sums.counts, Tells::Left),
    }
}

/// How a pool that has a target does.
pub(super) fn target(pool: &PoolState, history: &PoolHistory) -> Option<TargetView> {
    let share = pool.settings.affinity.target?;
    let [now, long] = [Window::FiveMinutes, Window::Hour].map(|window| history.returning(window));
    let (burn_rate_5m, burn_rate_1h) = (now.burn_rate(share), long.burn_rate(share));
    Some(TargetView { share, burn_rate_5m, burn_rate_1h, burns: burns(now, long, share) })
}

/// A sentence for each pool that burns.
pub(super) fn burning(state: &State, view: &View) -> Vec<String> {
    let pools = view.snapshot.desired.pools.iter().filter_map(|(name, pool)| {
        let target = target(pool, &state.history(name))?;
        target.burns.then(|| burns_by(name, &target))
    });
    pools.collect()
}

fn burns_by(name: &str, target: &TargetView) -> String {
    let rate = |rate: Option<f64>| format!("{:.1}", rate.unwrap_or_default());
    format!(
        "sessions of pool `{name}` miss their pins {} times as often in the last 5 minutes, and {} times in the last \
         hour, as its target of {} allows; {PAGE} is where to look at once: see `ctl stickiness {name}`",
        rate(target.burn_rate_5m),
        rate(target.burn_rate_1h),
        target.share
    )
}
