//! What stickiness costs a pool: `GET /v1/pools/{pool}/stickiness`.

mod capacity;
mod hot;
mod ledger;
mod routes;

use super::{
    Shared,
    advice::advice,
    json,
    pools::PoolPath,
    problem::Problem,
    request::Path,
    windows::{TargetView, WindowView, target, windows},
};
use crate::{
    advice::Advice,
    control_server::peers::{Figures, add, figures},
    history::{returning, told},
    state::{State as Owner, View, plan},
};
use affinity::{
    burn::Returning,
    imbalance::{Load, imbalance},
};
use axum::{extract::State, http::StatusCode, response::Response};
use capacity::CapacitiesView;
use control::{
    cost::Moved,
    counters::{BackendCount, Tells},
    desired::{AdminState, Member, PoolState},
    status::Counts,
};
use hot::HotView;
use routes::RouteView;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What stickiness costs a pool. Figures are sums over the connected data planes since these started, except those of
/// `windows` and `target`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StickinessView {
    pool: String,
    /// Distinct sessions seen within the idle time; `null` where the pool has none, or no data plane has reported.
    live_sessions: Option<u64>,
    imbalance: ImbalancesView,
    /// What free balancing would have given on the same requests; `null` where there was nothing to count.
    imbalance_if_free: FreeImbalancesView,
    capacity: CapacitiesView,
    returning: ReturningView,
    /// Why markers that came counted as none, by cause.
    refused: BTreeMap<String, u64>,
    /// Why requests did not reach their pin, by cause.
    left: BTreeMap<String, u64>,
    /// Sessions that did not stay with their pin: how often, why, from where and to where.
    ledger: Vec<Moved>,
    hot: HotView,
    /// At most a hundred, the one with the most requests without a marker first.
    routes: Vec<RouteView>,
    backends: Vec<BackendCost>,
    /// Over the last 1, 5 and 60 minutes.
    windows: Vec<WindowView>,
    /// `null` where the pool has none.
    target: Option<TargetView>,
    /// What the figures say about the pool's settings; empty where they say nothing.
    advice: Vec<Advice>,
}

/// How unevenly the load lies on the backends that are active, per weight; `null` where there is none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImbalancesView {
    sessions: Option<ImbalanceView>,
    requests: Option<ImbalanceView>,
    /// By the time that requests were at the backends.
    busy_time: Option<ImbalanceView>,
}

/// As if each request had been balanced freely.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FreeImbalancesView {
    requests: Option<ImbalanceView>,
    busy_time: Option<ImbalanceView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImbalanceView {
    /// The highest load per weight over the mean: 1 is even.
    max_over_mean: f64,
    /// 0 is even; towards 1, one backend bears all.
    gini: f64,
}

/// The requests that came with a marker that opened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReturningView {
    requests: u64,
    /// Those of them that reached their pin.
    pinned: u64,
    /// The share of these, 0 to 1; `null` where nobody returned.
    share: Option<f64>,
}

impl ReturningView {
    pub(super) fn of(returning: Returning) -> Self {
        Self { requests: returning.requests, pinned: returning.pinned, share: returning.share() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackendCost {
    name: String,
    weight: u32,
    live_sessions: Option<u64>,
    requests: u64,
    /// What free balancing would have sent it of the same requests.
    free_requests: u64,
    /// Time that requests were at the backend, all added up.
    busy_milliseconds: u64,
    sessions_new: u64,
    sessions_arrived: u64,
    sessions_lost: u64,
}

/// What stickiness costs a pool.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/stickiness", tag = "pools", params(PoolPath),
    responses((status = 200, body = StickinessView))
)]
pub(super) async fn read(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    let view = app.state.view();
    let pool = plan::pool(&view.snapshot.desired, &path.pool)?;
    Ok(json(StatusCode::OK, &report(&app.state, &view, &path.pool, pool)))
}

fn report(state: &Owner, view: &View, name: &str, pool: &PoolState) -> StickinessView {
    let mut counts = Counts::new();
    let stats = view.peers.iter().filter_map(|peer| peer.stats.pools.get(name));
    for stats in stats.clone() {
        add(&mut counts, &stats.counts);
    }
    let history = state.history(name);
    let rows: Vec<_> =
        pool.members.iter().map(|(backend, member)| (backend, member, figures(&view.peers, name, backend))).collect();
    let imbalance_by = |load: &dyn Fn(&Figures) -> Option<u64>| {
        // Backups are to be idle.
        let bears = |member: &Member| member.admin_state == AdminState::Active && !member.backup;
        let active = rows.iter().filter(|(_, member, _)| bears(member));
        let loads = active
            .map(|(_, member, figures)| Load { load: real(load(figures).unwrap_or(0)), weight: member.weight.into() });
        imbalance(loads).map(|found| ImbalanceView { max_over_mean: found.max_over_mean, gini: found.gini })
    };
    let by_count = |count: BackendCount| imbalance_by(&|figures| figures.counts.get(count.name()).copied());
    let actual = ImbalancesView {
        sessions: imbalance_by(&|figures| figures.live_sessions),
        requests: by_count(BackendCount::Requests),
        busy_time: by_count(BackendCount::Busy),
    };
    let free = FreeImbalancesView {
        requests: by_count(BackendCount::FreeRequests),
        busy_time: by_count(BackendCount::FreeBusy),
    };
    StickinessView {
        pool: name.to_owned(),
        live_sessions: rows
            .iter()
            .filter_map(|(_, _, figures)| figures.live_sessions)
            .fold(None, |sum, more| Some(sum.unwrap_or(0) + more)),
        capacity: CapacitiesView::new(
            [actual.requests.as_ref(), actual.busy_time.as_ref()],
            [free.requests.as_ref(), free.busy_time.as_ref()],
        ),
        imbalance: actual,
        imbalance_if_free: free,
        returning: ReturningView::of(returning(&counts)),
        refused: told(&counts, Tells::Refused),
        left: told(&counts, Tells::Left),
        ledger: ledger::sum(stats.clone()),
        routes: routes::sum(stats.clone()),
        hot: HotView::new(stats, pool.settings.affinity.mode),
        backends: rows
            .iter()
            .map(|(backend, member, figures)| {
                let count = |count: BackendCount| value(&figures.counts, count.name());
                BackendCost {
                    name: (*backend).clone(),
                    weight: member.weight,
                    live_sessions: figures.live_sessions,
                    requests: count(BackendCount::Requests),
                    free_requests: count(BackendCount::FreeRequests),
                    busy_milliseconds: count(BackendCount::Busy),
                    sessions_new: count(BackendCount::SessionsNew),
                    sessions_arrived: count(BackendCount::SessionsArrived),
                    sessions_lost: count(BackendCount::SessionsLost),
                }
            })
            .collect(),
        windows: windows(&history),
        target: target(pool, &history),
        advice: advice(state, view, (name, pool), &counts, &history),
    }
}

fn value(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn real(count: u64) -> f64 {
    count as f64
}
