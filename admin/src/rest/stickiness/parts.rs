//! What a node gives to another that is asked for all of them: figures that can be summed, and sketches that can be merged.

use super::sum_known;
use crate::{
    control_server::peers::add,
    history::{PoolHistory, PoolSums, windows::Window},
    rest::{App, Shared, json, pools::PoolPath, problem::Problem, request::Path},
    state::plan,
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    sketch::Sketch,
    status::{Counts, PoolStats},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node's part of what stickiness costs a pool, as other nodes of its version read it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::rest) struct PartsView {
    pub(super) version: String,
    /// For how many seconds this process has followed the pool.
    followed: u64,
    /// What was counted in the last 1, 5 and 60 minutes.
    windows: Vec<WindowParts>,
    /// One for each connected data plane.
    pub(super) dataplanes: Vec<PlaneParts>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct WindowParts {
    counts: Counts,
    /// Requests with a token that opens, by the age of their session.
    ages: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PlaneParts {
    pub(super) pid: u32,
    /// What it has counted, as it reports it.
    #[schema(value_type = Object)]
    pub(super) stats: PoolStats,
    /// Its live sessions with the lowest hashes; `null` where the pool has none, or it has told none.
    #[schema(value_type = Option<Object>)]
    pub(super) sketch: Option<Sketch>,
    /// Why it has told no live sessions.
    missing: Option<String>,
}

/// This node's part of what stickiness costs a pool: what nodes ask each other for the scope `cluster`.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/stickiness/parts", tag = "pools", params(PoolPath),
    responses((status = 200, body = PartsView))
)]
pub(in crate::rest) async fn read(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &PartsView::of(&app, &path.pool).await?))
}

impl PartsView {
    /// This node's.
    pub(super) async fn of(app: &App, name: &str) -> Result<Self, Problem> {
        let has_sessions = {
            let view = app.state.view();
            plan::pool(&view.snapshot.desired, name)?.settings.affinity.has_sessions()
        };
        let sketches = if has_sessions { app.state.sketches(name).await } else { Vec::new() };
        // After the sketches, which come with a report.
        let (view, history) = (app.state.view(), app.state.history(name));
        let dataplanes = view.peers.iter().map(|peer| {
            let sketched = sketches.iter().find(|sketched| sketched.pid == peer.pid);
            let (sketch, missing) = match sketched.map(|sketched| &sketched.sketch) {
                Some(Ok(sketch)) => (Some(sketch.as_ref().clone()), None),
                Some(Err(why)) => (None, Some(why.clone())),
                None => (None, has_sessions.then(|| "has just connected".to_owned())),
            };
            let stats = peer.stats.pools.get(name).cloned().unwrap_or_default();
            PlaneParts { pid: peer.pid, stats, sketch, missing }
        });
        let windows = history.sums.iter();
        Ok(Self {
            version: app.version.to_owned(),
            followed: history.followed,
            windows: windows
                .map(|PoolSums { counts, ages }| WindowParts { counts: counts.clone(), ages: ages.to_vec() })
                .collect(),
            dataplanes: dataplanes.collect(),
        })
    }

    /// As the node itself tells it.
    pub(super) fn live_sessions(&self) -> Option<u64> {
        let backends = self.dataplanes.iter().flat_map(|plane| plane.stats.backends.values());
        sum_known(backends.map(|backend| backend.live_sessions))
    }

    /// What is not in it, a sentence for all of it.
    pub(super) fn missing(&self) -> Option<String> {
        if self.dataplanes.is_empty() {
            return Some("no data plane is connected to it".to_owned());
        }
        let missing = self.dataplanes.iter().filter_map(|plane| Some((plane.pid, plane.missing.as_ref()?)));
        let missing: Vec<_> =
            missing.map(|(pid, why)| format!("its data plane with pid {pid} {why}, which are left out")).collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// Adds what was counted in the last minutes to that of another node. Together they were followed for as long as the one
    /// that has been followed for less.
    pub(super) fn add_to(&self, history: &mut PoolHistory) {
        for (sums, part) in history.sums.iter_mut().zip(&self.windows) {
            add(&mut sums.counts, &part.counts);
            sums.ages.iter_mut().zip(&part.ages).for_each(|(sum, more)| *sum += more);
        }
        history.followed = history.followed.min(self.followed);
    }

    /// Whether it has all that this version reads.
    pub(super) fn is_whole(&self) -> bool {
        self.windows.len() == Window::ALL.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{status::BackendStats, token_age::TokenAge};

    fn parts(requests: u64, followed: u64, live: &[Option<u64>]) -> PartsView {
        let window = || WindowParts {
            counts: [("requests".to_owned(), requests)].into(),
            ages: vec![requests; TokenAge::COUNT],
        };
        let plane = |live: &Option<u64>| {
            let backend = BackendStats { live_sessions: *live, ..BackendStats::default() };
            let stats = PoolStats { backends: [("a".to_owned(), backend)].into(), ..PoolStats::default() };
            let missing = live.is_none().then(|| "is slow".to_owned());
            PlaneParts { pid: 7, stats, sketch: None, missing }
        };
        let dataplanes = live.iter().map(plane).collect();
        let windows = Window::ALL.iter().map(|_| window()).collect();
        PartsView { version: "1".to_owned(), followed, windows, dataplanes }
    }

    #[test]
    fn windows_are_summed_and_followed_for_as_long_as_all_were() {
        let mut history = PoolHistory { followed: 90, ..PoolHistory::default() };
        for part in [parts(3, 100, &[]), parts(4, 50, &[])] {
            part.add_to(&mut history);
        }
        assert_eq!(history.followed, 50);
        for sums in &history.sums {
            assert_eq!((sums.counts["requests"], sums.ages), (7, [7; TokenAge::COUNT]));
        }
    }

    #[test]
    fn what_is_missing_is_told_and_is_no_zero() {
        assert_eq!(parts(0, 0, &[Some(2), Some(3)]).live_sessions(), Some(5));
        assert_eq!(parts(0, 0, &[Some(2)]).missing(), None);
        let told = parts(0, 0, &[Some(2), None]);
        assert_eq!(told.live_sessions(), Some(2));
        assert_eq!(told.missing().unwrap(), "its data plane with pid 7 is slow, which are left out");
        assert_eq!(parts(0, 0, &[]).missing().unwrap(), "no data plane is connected to it");
        assert_eq!(parts(0, 0, &[None]).live_sessions(), None);
    }

    #[test]
    fn what_is_written_is_read_and_another_layout_is_not_taken_for_it() {
        let text = serde_json::to_string(&parts(1, 2, &[Some(3)])).unwrap();
        let read: PartsView = serde_json::from_str(&text).unwrap();
        assert!(read.is_whole() && read.live_sessions() == Some(3));
        assert!(serde_json::from_str::<PartsView>("{\"pool\": \"shop\"}").is_err());
        let short = PartsView { windows: Vec::new(), ..read };
        assert!(!short.is_whole());
    }
}
