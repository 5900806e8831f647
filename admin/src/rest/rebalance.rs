use super::{
    App, Shared, json,
    pools::PoolPath,
    problem::Problem,
    request::{MaybeJson, Path, Query, given},
    views::Receipt,
};
use crate::{
    clock,
    state::{
        Written,
        plan::pool,
        rebalance::{Stage, Watched, Wish, bearers, left, max_over_mean},
    },
};
use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How to rebalance.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RebalanceBody {
    /// The most sessions that may move in a second; 50 unless given.
    #[schema(nullable = false, minimum = 1, maximum = 1_000_000)]
    #[serde(deserialize_with = "given")]
    sessions_per_second: Option<u32>,
    /// Sessions that were not seen for long move first; needs an `idle_timeout` or a `max_age`. False unless given.
    idle_first: bool,
    /// It ends once no backend has more sessions, by weight, than so many times the mean; 1.1 unless given.
    #[schema(nullable = false, minimum = 1.01, maximum = 10)]
    #[serde(deserialize_with = "given")]
    target_imbalance: Option<f64>,
}

/// How far a rebalance is; times are Unix milliseconds. `null` where there was none since this process started.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RebalanceView {
    stage: Option<Stage>,
    since: Option<u64>,
    sessions_per_second: Option<u32>,
    idle_first: Option<bool>,
    target_imbalance: Option<f64>,
    /// Sessions that have moved.
    moved: u64,
    /// The most sessions, by weight, that a backend has, over the mean of all; `null` without sessions.
    imbalance: Option<f64>,
    /// Sessions that still have to move, for this target or the one that was asked about.
    left: Option<u64>,
    /// At the pace so far, or where nothing has moved yet, at the rate that was asked for.
    estimate_seconds: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RebalanceReceipt {
    #[serde(flatten)]
    receipt: Receipt,
    rebalance: RebalanceView,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RebalanceQuery {
    /// For which target `left` is told: before one is begun, what it would move.
    #[param(nullable = false, minimum = 1.01, maximum = 10)]
    target_imbalance: Option<f64>,
}

/// What a target may be.
const TARGETS: std::ops::RangeInclusive<f64> = 1.01..=10.0;

impl RebalanceBody {
    fn wish(&self) -> Result<Wish, Problem> {
        let sessions_per_second = self.sessions_per_second.unwrap_or(50);
        let target = self.target_imbalance.unwrap_or(1.1);
        if !(1..=1_000_000).contains(&sessions_per_second) {
            let detail = format!("{sessions_per_second} is out of range");
            return Err(Problem::field("/sessions_per_second", detail, "write 1 to 1000000"));
        }
        if !TARGETS.contains(&target) {
            let detail = format!("{target} is out of range");
            return Err(Problem::field("/target_imbalance", detail, "write 1.01 to 10, as in 1.1"));
        }
        Ok(Wish { sessions_per_second, idle_first: self.idle_first, target })
    }
}

/// Moves sessions from backends that have more than their share to those that have less, at their next requests. It goes
/// on until the target is reached, it is cancelled, or the pool changes.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/rebalance", tag = "pools", params(PoolPath), request_body = Option<RebalanceBody>,
    responses((status = 200, body = RebalanceReceipt))
)]
pub(super) async fn begin(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    MaybeJson(body): MaybeJson<RebalanceBody>,
) -> Result<Response, Problem> {
    let wish = body.wish()?;
    let generation = app.state.begin_rebalance(&path.pool, wish)?;
    app.rebalance_receipt(&path.pool, generation).await
}

/// How far the last rebalance is.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/rebalance", tag = "pools", params(PoolPath, RebalanceQuery),
    responses((status = 200, body = RebalanceView))
)]
pub(super) async fn read(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    Query(query): Query<RebalanceQuery>,
) -> Result<Response, Problem> {
    let target = query.target_imbalance;
    if let Some(target) = target.filter(|target| !TARGETS.contains(target)) {
        let detail = format!("{target} is out of range");
        return Err(Problem::parameter("target_imbalance", detail, "write 1.01 to 10, as in 1.1"));
    }
    Ok(json(StatusCode::OK, &app.rebalance_view(&path.pool, target)?))
}

/// Ends a rebalance; what has moved stays where it is.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}/rebalance", tag = "pools", params(PoolPath),
    responses((status = 200, body = RebalanceReceipt))
)]
pub(super) async fn cancel(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    let generation = app.state.cancel_rebalance(&path.pool)?;
    app.rebalance_receipt(&path.pool, generation).await
}

impl App {
    async fn rebalance_receipt(&self, name: &str, generation: u64) -> Result<Response, Problem> {
        let written = Written { generation, changed: true, created: false };
        let receipt = self.receipt(written).await;
        Ok(json(StatusCode::OK, &RebalanceReceipt { receipt, rebalance: self.rebalance_view(name, None)? }))
    }

    fn rebalance_view(&self, name: &str, target: Option<f64>) -> Result<RebalanceView, Problem> {
        let view = self.state.view();
        pool(&view.snapshot.desired, name)?;
        let watched = self.state.rebalance(name);
        let bearers = bearers(&view.snapshot, view.peers.iter(), name).unwrap_or_default();
        let wish = watched.as_ref().map(|watched| watched.wish);
        let left = target.or(wish.map(|wish| wish.target)).map(|target| left(&bearers, target));
        let running = watched.as_ref().filter(|watched| watched.stage == Stage::Running).zip(left);
        Ok(RebalanceView {
            stage: watched.as_ref().map(|watched| watched.stage),
            since: watched.as_ref().map(|watched| watched.since),
            sessions_per_second: wish.map(|wish| wish.sessions_per_second),
            idle_first: wish.map(|wish| wish.idle_first),
            target_imbalance: wish.map(|wish| wish.target),
            moved: watched.as_ref().map_or(0, |watched| watched.moved),
            imbalance: max_over_mean(&bearers),
            left,
            estimate_seconds: running.map(|(watched, left)| estimate(watched, left, clock::unix_millis())),
        })
    }
}

/// How many seconds `left` will take.
fn estimate(watched: &Watched, left: u64, now: u64) -> u64 {
    match watched.moved {
        0 => left.div_ceil(watched.wish.sessions_per_second.into()),
        moved => (left * now.saturating_sub(watched.since) / moved).div_ceil(1_000),
    }
}
