//! What stickiness costs a pool over all nodes that etcd lists. Each is asked for its part, all at once; a node that does not
//! answer is told, and the answer is of the others.

use super::{Scope, StickinessView, parts::PartsView, report};
use crate::{
    call::{self, Failure},
    clock,
    control_server::peers::Peer,
    etcd::{
        Etcd,
        nodes::{Listed, Own},
    },
    history::PoolHistory,
    rest::{App, guard::PARTS, problem::Problem},
    state::{drains::Drains, plan},
};
use affinity::sketch::Merged;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use control::{config::Source, status::Stats};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::timeout;
use utoipa::ToSchema;

/// How long a node may take to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Far more than the figures of the most backends take.
const MAX_ANSWER: usize = 32 << 20;

/// A node that etcd lists.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeView {
    name: String,
    /// Where its admin API is reached; `null` where what etcd has of it can't be used.
    address: Option<String>,
    version: Option<String>,
    /// Its own, of which some may have come by other nodes too; `null` where it has not answered, or knows of none.
    live_sessions: Option<u64>,
    /// Whether its figures are in the answer.
    answered: bool,
    /// Why not, or what of them is missing.
    reason: Option<String>,
}

/// The live sessions of a pool over several nodes, each once.
pub(super) struct Live<'s> {
    merged: Merged<'s>,
    by_backend: BTreeMap<&'s str, u64>,
    /// Some have told theirs.
    known: bool,
}

impl<'s> Live<'s> {
    fn of(parts: impl Iterator<Item = &'s PartsView> + Clone) -> Self {
        let sketches = parts.flat_map(|parts| &parts.dataplanes).filter_map(|plane| plane.sketch.as_ref());
        let merged = Merged::of(sketches.clone());
        Self { by_backend: merged.by_backend(), known: sketches.count() > 0, merged }
    }

    pub(super) fn all(&self) -> Option<u64> {
        self.known.then(|| self.merged.count())
    }

    pub(super) fn at(&self, backend: &str) -> Option<u64> {
        self.known.then(|| self.by_backend.get(backend).copied().unwrap_or(0))
    }
}

/// # Errors
/// The nodes are not known, and what to set so that they are; there is no such pool.
pub(super) async fn report_of_all(app: &App, name: &str) -> Result<StickinessView, Problem> {
    let no_cluster =
        |detail: String| Problem::new(StatusCode::CONFLICT, "no-cluster", "The other nodes are not known", detail);
    let etcd = app.state.etcd.as_ref().ok_or_else(|| no_cluster(no_etcd(app.state.source())))?;
    let own = etcd.own().map_err(|why| no_cluster(why.to_owned()))?;
    plan::pool(&app.state.view().snapshot.desired, name)?;
    let listed = etcd.nodes().await;
    let clash = listed.iter().find_map(|listed| own.clash(&listed.name, listed.node.as_ref()?));
    let others = listed.into_iter().filter(|listed| listed.name != own.name);
    let asked = futures_util::future::join_all(others.map(|listed| ask(app, etcd, listed, name)));
    let (own_parts, mut answers) = tokio::join!(PartsView::of(app, name), asked);
    let own_parts = own_parts?;
    answers.push((own_view(app, own, &own_parts, clash), Some(own_parts)));
    answers.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    merged(app, name, answers)
}

fn merged(app: &App, name: &str, answers: Vec<(NodeView, Option<PartsView>)>) -> Result<StickinessView, Problem> {
    let (nodes, parts): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let mut history =
        PoolHistory { followed: u64::MAX, lived: app.state.history(name).lived, ..PoolHistory::default() };
    parts.iter().for_each(|parts| parts.add_to(&mut history));
    let mut view = app.state.view();
    view.peers = parts
        .iter()
        .flat_map(|parts| &parts.dataplanes)
        .map(|plane| {
            let stats = Stats { pools: [(name.to_owned(), plane.stats.clone())].into(), ..Stats::default() };
            Peer { pid: plane.pid, stats: Arc::new(stats), ..Peer::default() }
        })
        .collect();
    // How fast a drain ends is known of this node's sessions alone.
    view.drains = Drains::default();
    let pool = plan::pool(&view.snapshot.desired, name)?;
    let live = Live::of(parts.iter());
    let all = report(&app.state, &view, (name, pool), &history, Some(&live));
    Ok(StickinessView { scope: Scope::Cluster, nodes: Some(nodes), ..all })
}

fn no_etcd(source: Source) -> String {
    let source = match source {
        Source::Api => "api",
        Source::File => "file",
        Source::Etcd => "etcd",
    };
    format!(
        "membership.source is `{source}`, and the other nodes are known by etcd alone: set it to `etcd` with `advertise` in \
         [membership.etcd], or ask each node by `ctl --nodes`"
    )
}

fn own_view(app: &App, own: &Own, parts: &PartsView, clash: Option<String>) -> NodeView {
    let reasons: Vec<_> = parts.missing().into_iter().chain(clash).collect();
    NodeView {
        name: own.name.clone(),
        address: Some(own.admin.clone()),
        version: Some(app.version.to_owned()),
        live_sessions: parts.live_sessions(),
        answered: true,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
}

/// Asks another node for its part.
async fn ask(app: &App, etcd: &Etcd, listed: Listed, pool: &str) -> (NodeView, Option<PartsView>) {
    let Listed { name, node, away } = listed;
    let (address, version) = node.map(|node| (node.admin, node.version)).unzip();
    let answer = match (away, &address) {
        (Some(why), _) => Err(why),
        (None, None) => Err("not asked: nobody knows where it is".to_owned()),
        (None, Some(address)) => {
            let asked = timeout(LIMIT, parts_of(app, etcd, address, pool)).await;
            asked.unwrap_or_else(|_| Err(format!("it did not answer within {} s", LIMIT.as_secs())))
        }
    };
    let (parts, reason) = match answer {
        Ok(parts) => {
            let missing = parts.missing();
            (Some(parts), missing)
        }
        Err(why) => (None, Some(why)),
    };
    let live_sessions = parts.as_ref().and_then(PartsView::live_sessions);
    // The row may be from before an upgrade.
    let version = parts.as_ref().map(|parts| parts.version.clone()).or(version);
    let answered = parts.is_some();
    (NodeView { name, address, version, live_sessions, answered, reason }, parts)
}

async fn parts_of(app: &App, etcd: &Etcd, address: &str, pool: &str) -> Result<PartsView, String> {
    let path = format!("/v1/pools/{pool}{PARTS}");
    let mut request = Request::get(&path);
    if let Some(proof) = app.guard.proof(&path, clock::unix_millis() / 1_000) {
        request = request.header(header::AUTHORIZATION, proof);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let told = |failure: Failure| failure.reason().to_owned();
    let (status, body) = call::send(address, &etcd.trust, request).await.map_err(told)?;
    let text = call::whole(body, MAX_ANSWER).await.map_err(told)?;
    if status != StatusCode::OK {
        return Err(refusal(status, &text));
    }
    let parts = serde_json::from_slice(&text).ok().filter(PartsView::is_whole);
    parts.ok_or_else(|| "it answers what this version can't read: run the same version at all nodes".to_owned())
}

/// Why a node refuses, with the mend.
fn refusal(status: StatusCode, text: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        r#type: String,
        detail: String,
    }
    let Problem { r#type: kind, detail } = serde_json::from_slice(text).unwrap_or_default();
    let detail: String = detail.chars().take(200).collect();
    match (status, kind.rsplit(':').next().unwrap_or_default()) {
        (StatusCode::UNAUTHORIZED, _) => {
            "it does not take this node's token (401): all nodes need the same one in admin.token_file, and clocks that \
             agree within 2 minutes"
                .to_owned()
        }
        (_, "no-such-path") => "it is of a version that can't tell its part (404): upgrade it".to_owned(),
        _ => format!("it answers {}: {detail}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_node_refuses_is_told_with_the_mend() {
        for (status, text, told) in [
            (401, "{}", "the same one in admin.token_file"),
            (404, r#"{"type": "urn:steadfast:problem:no-such-path", "detail": "x"}"#, "upgrade it"),
            (
                404,
                r#"{"type": "urn:steadfast:problem:no-such-pool", "detail": "there is no pool `shop`"}"#,
                "no pool `shop`",
            ),
            (502, "<html>", "it answers 502"),
        ] {
            let why = refusal(StatusCode::from_u16(status).unwrap(), text.as_bytes());
            assert!(why.contains(told), "{why}");
        }
    }
}
