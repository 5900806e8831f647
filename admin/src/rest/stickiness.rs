//! What stickiness costs a pool: `GET /v1/pools/{pool}/stickiness`.

mod capacity;
mod cluster;
mod hot;
mod ledger;
pub(super) mod parts;
mod routes;

use super::{
    Shared,
    advice::advice,
    json,
    pools::PoolPath,
    problem::Problem,
    request::{Path, Query},
    windows::{TargetView, WindowView, target, windows},
};
use crate::{
    advice::Advice,
    control_server::peers::{Figures, add, figures},
    history::{PoolHistory, returning, told},
    state::{State as Owner, View, plan},
};
use affinity::{
    burn::Returning,
    imbalance::{Load, imbalance},
};
use axum::{extract::State, http::StatusCode, response::Response};
use capacity::CapacitiesView;
use cluster::{Live, NodeView};
use control::{
    cost::Moved,
    counters::{BackendCount, Tells},
    desired::{AdminState, Member, PoolState},
    status::Counts,
};
use hot::HotView;
use routes::RouteView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Whose figures are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StickinessQuery {
    /// `node`, which is this one, unless given; `cluster` is all that etcd lists.
    #[param(inline, value_type = Option<Scope>, nullable = false)]
    scope: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    Node,
    Cluster,
}

impl StickinessQuery {
    fn scope(&self) -> Result<Scope, Problem> {
        match self.scope.as_deref() {
            None | Some("node") => Ok(Scope::Node),
            Some("cluster") => Ok(Scope::Cluster),
            Some(other) => {
                let detail = format!("`{other}` is no scope");
                Err(Problem::parameter("scope", detail, "write `node`, or `cluster` for all nodes that etcd lists"))
            }
        }
    }
}

/// What stickiness costs a pool. Figures are sums over the connected data planes since these started, except those of
/// `windows` and `target`; with the scope `cluster`, over those of all nodes that have answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StickinessView {
    pool: String,
    #[schema(inline)]
    scope: Scope,
    /// Each node that etcd lists, with the scope `cluster` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    nodes: Option<Vec<NodeView>>,
    /// Distinct sessions seen within the idle time; `null` where the pool has none, or no data plane has reported. With the
    /// scope `cluster` each counts once wherever it came: exact up to 4,096 of a data plane, else an estimate with a
    /// standard error of 1.6 %.
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

impl BackendCost {
    fn of(name: &str, member: &Member, figures: &Figures) -> Self {
        let count = |count: BackendCount| value(&figures.counts, count.name());
        Self {
            name: name.to_owned(),
            weight: member.weight,
            live_sessions: figures.live_sessions,
            requests: count(BackendCount::Requests),
            free_requests: count(BackendCount::FreeRequests),
            busy_milliseconds: count(BackendCount::Busy),
            sessions_new: count(BackendCount::SessionsNew),
            sessions_arrived: count(BackendCount::SessionsArrived),
            sessions_lost: count(BackendCount::SessionsLost),
        }
    }
}

/// What stickiness costs a pool: at this node, or over all nodes that etcd lists.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/stickiness", tag = "pools", params(PoolPath, StickinessQuery),
    responses((status = 200, body = StickinessView))
)]
pub(super) async fn read(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    Query(query): Query<StickinessQuery>,
) -> Result<Response, Problem> {
    let (scope, name) = (query.scope()?, &path.pool);
    let answer = match scope {
        Scope::Node => {
            let view = app.state.view();
            let pool = plan::pool(&view.snapshot.desired, name)?;
            report(&app.state, &view, (name, pool), &app.state.history(name), None)
        }
        Scope::Cluster => cluster::report_of_all(&app, name).await?,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// `live` are the live sessions where they are no sum.
fn report(
    state: &Owner,
    view: &View,
    (name, pool): (&str, &PoolState),
    history: &PoolHistory,
    live: Option<&Live<'_>>,
) -> StickinessView {
    let mut counts = Counts::new();
    let stats = view.peers.iter().filter_map(|peer| peer.stats.pools.get(name));
    for stats in stats.clone() {
        add(&mut counts, &stats.counts);
    }
    let figures = |backend: &String| {
        let sum = figures(&view.peers, name, backend);
        Figures { live_sessions: live.map_or(sum.live_sessions, |live| live.at(backend)), ..sum }
    };
    let rows: Vec<_> = pool.members.iter().map(|(backend, member)| (backend, member, figures(backend))).collect();
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
        scope: Scope::Node,
        nodes: None,
        live_sessions: live
            .map_or_else(|| sum_known(rows.iter().map(|(_, _, figures)| figures.live_sessions)), |live| live.all()),
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
        backends: rows.iter().map(|(name, member, figures)| BackendCost::of(name, member, figures)).collect(),
        windows: windows(history),
        target: target(pool, history),
        advice: advice(state, view, (name, pool), &counts, history),
    }
}

/// The sum of those that are known; none where none is.
fn sum_known(of: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    of.flatten().fold(None, |sum, more| Some(sum.unwrap_or(0) + more))
}

fn value(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn real(count: u64) -> f64 {
    count as f64
}
