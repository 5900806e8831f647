//! What a change would move and lose, before it is made.

use super::{
    Shared,
    admin_state::DrainBody,
    drain_view::EstimateView,
    explain::decide::{NoSlots, alone},
    json,
    pools::{PoolPath, check_name},
    problem::Problem,
    request::{Json, Path, given},
};
use crate::{
    clock,
    control_server::peers::figures,
    state::{
        View,
        drain_plan::{self, Ended, Over, Wish},
        plan::{self, Command, Current, Patch, Plan},
        precondition::Precondition,
        refusal::Refusal,
    },
};
use affinity::{
    preview::{Fate, hashed, pinned, shares_of_new},
    table::{Dirty, PoolTable, Table},
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    check,
    desired::{DrainMode, Share, Snapshot, Then},
    spec::{Backend, Span},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// One change, by its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preview {
    Drain(DrainQuestion),
    /// The name of a backend.
    Remove(String),
    /// The name of a backend.
    Maintenance(String),
    /// The name of a backend.
    Activate(String),
    Weight(WeightQuestion),
    Add(AddQuestion),
}

/// A drain, as its own call takes it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainQuestion {
    name: String,
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "given")]
    mode: Option<DrainMode>,
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "given")]
    deadline: Option<Span>,
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 1)]
    #[serde(default, deserialize_with = "given")]
    share: Option<Share>,
    #[schema(nullable = false)]
    #[serde(default, deserialize_with = "given")]
    then: Option<Then>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WeightQuestion {
    name: String,
    #[schema(maximum = 1000)]
    weight: u32,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddQuestion {
    name: String,
    /// `host:port`; the host is an address or a name.
    address: String,
    #[schema(maximum = 1000)]
    #[serde(default = "default_weight")]
    weight: u32,
    #[serde(default)]
    backup: bool,
}

fn default_weight() -> u32 {
    Backend::default().weight
}

/// What a change would do, if no session ended by itself before. Counts are rounded, and `null` where nobody knows the
/// sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewView {
    /// Sessions that would go to another backend.
    moved: Option<u64>,
    /// Sessions whose state would be gone: those that move, those that get 503, and those that are ended.
    lost: Option<u64>,
    backends: Vec<LoadView>,
    /// Of a drain in mode `persist`: how long its sessions would take to end; `null` where their ages are not known.
    estimate: Option<EstimateView>,
    /// What to know of it.
    notes: Vec<&'static str>,
}

/// A backend before the change and after it.
#[derive(Debug, Default, Serialize, ToSchema)]
struct LoadView {
    name: String,
    sessions_before: Option<u64>,
    sessions_after: Option<u64>,
    /// The share of the new sessions that it gets by weight, 0 to 1.
    new_share_before: f64,
    new_share_after: f64,
}

/// What a change would move and lose. Changes nothing.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/preview", tag = "backends", params(PoolPath), request_body = Preview,
    responses((status = 200, body = PreviewView))
)]
pub(super) async fn preview(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    Json(question): Json<Preview>,
) -> Result<Response, Problem> {
    question.check()?;
    let view = app.state.view();
    plan::pool(&view.snapshot.desired, &path.pool)?;
    // Two rings are built, and a sample of keys walked.
    let told = tokio::task::spawn_blocking(move || tell(&view, &path.pool, &question, clock::unix_millis())).await;
    let told = told.map_err(|_| Problem::unavailable("this process is about to stop"))?;
    Ok(json(StatusCode::OK, &told?))
}

impl Preview {
    fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Drain(drain) => drain.body().check("/drain"),
            Self::Remove(_) | Self::Maintenance(_) | Self::Activate(_) => Ok(()),
            Self::Weight(WeightQuestion { weight, .. }) => check_backend("/weight", None, *weight),
            Self::Add(AddQuestion { name, address, weight, .. }) => {
                check_name("/add/name", name)?;
                check_backend("/add", Some(address), *weight)
            }
        }
    }

    /// What the change changes.
    fn plan(&self, current: &Current<'_>, pool: &str) -> Result<Plan, Refusal> {
        let any = Precondition::default();
        match self {
            Self::Drain(drain) => {
                let DrainBody { mode, deadline, share, then } = drain.body();
                let wish = Command::Drain(Wish { mode, deadline, share, then });
                plan::command(current, (pool, &drain.name), wish, &any)
            }
            Self::Remove(name) => plan::remove_backend(current, (pool, name), &any),
            Self::Maintenance(name) => plan::command(current, (pool, name), Command::Maintain, &any),
            Self::Activate(name) => plan::command(current, (pool, name), Command::Activate, &any),
            Self::Weight(WeightQuestion { name, weight }) => {
                let patch = Patch { weight: Some(*weight), ..Patch::default() };
                plan::patch_backend(current, (pool, name), &patch, None, &any)
            }
            Self::Add(AddQuestion { name, address, weight, backup }) => {
                let (name, address) = (name.clone(), address.clone());
                let backend = Backend { name, address, weight: *weight, backup: *backup };
                plan::put_backend(current, pool, &backend, None, &any)
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Drain(DrainQuestion { name, .. })
            | Self::Weight(WeightQuestion { name, .. })
            | Self::Add(AddQuestion { name, .. })
            | Self::Remove(name)
            | Self::Maintenance(name)
            | Self::Activate(name) => name,
        }
    }
}

impl DrainQuestion {
    fn body(&self) -> DrainBody {
        DrainBody { mode: self.mode, deadline: self.deadline, share: self.share, then: self.then }
    }
}

fn check_backend(pointer: &str, address: Option<&str>, weight: u32) -> Result<(), Problem> {
    let address = address.unwrap_or("10.0.0.7:8080").to_owned();
    let problems = check::backend(&Backend { address, weight, ..Backend::default() });
    problems.first().map_or(Ok(()), |problem| {
        let pointer = format!("{pointer}{}", problem.path.to_pointer());
        Err(Problem::field(pointer, problem.wrong.clone(), problem.right.clone()))
    })
}

fn apply(current: &Current<'_>, plan: Plan) -> Snapshot {
    let mut snapshot = current.snapshot.clone();
    plan.changes.iter().for_each(|change| snapshot.apply(change));
    snapshot
}

fn table(snapshot: &Snapshot, pool: &str) -> Arc<PoolTable> {
    let table = Table::build(snapshot, None, &Dirty::All, &mut NoSlots, 0);
    Arc::clone(table.pool(pool).expect("the table was made of it"))
}

/// `now` in Unix milliseconds.
fn tell(view: &View, pool: &str, question: &Preview, now: u64) -> Result<PreviewView, Refusal> {
    let (sections, mut snapshot) = (BTreeMap::new(), alone(&view.snapshot, pool));
    // Whom a release lets go is told by another call.
    snapshot.desired.releases.clear();
    let incarnation = u32::MAX;
    let shared = view.etcd.is_some();
    let current = Current { snapshot: &snapshot, sections: &sections, incarnation, now, shared };
    let mut changed = apply(&current, question.plan(&current, pool)?);
    let drain = changed.desired.pools[pool].members.get(question.name()).and_then(|member| member.drain);
    let (mut notes, mut at) = (Vec::new(), now);
    if let (Preview::Drain(_), Some(drain)) = (question, drain) {
        if let Some(deadline) = drain.deadline {
            notes.push("as it is at the deadline, if no session ends by itself before");
            at = deadline;
            let ended = Ended { id: (pool.to_owned(), question.name().to_owned()), drain, over: Over::Deadline };
            let current = Current { snapshot: &changed, now: at, ..current };
            changed = apply(&current, drain_plan::end(&current, &[ended]));
        }
        if drain.mode == DrainMode::Retire {
            notes.push("all sessions are ended by their time limits and begin anew elsewhere");
        }
    }
    let (before, after) = (table(&snapshot, pool), table(&changed, pool));
    let seconds = u32::try_from(at / 1_000 + 1).unwrap_or(u32::MAX);
    let affinity = &before.settings.affinity;
    let fates: Vec<Option<Fate>> = if affinity.hashes() {
        hashed(&before, &after, seconds).into_iter().map(Some).collect()
    } else {
        let home = after.by_name(question.name().as_bytes());
        let of = |name: &str| (name == question.name()).then(|| pinned(&after, home, seconds));
        before.backends.iter().map(|backend| of(&backend.name)).collect()
    };
    let knows = affinity.has_sessions();
    let live = |name: &str| figures(&view.peers, pool, name).live_sessions.filter(|_| knows);
    let mut told = loads(&before, &after, &fates, live);
    if drain.is_some_and(|drain| drain.mode == DrainMode::Retire) && matches!(question, Preview::Drain(_)) {
        told.lost = live(question.name());
    }
    if drain.is_some_and(|drain| drain.mode == DrainMode::Persist) && matches!(question, Preview::Drain(_)) {
        let figures = figures(&view.peers, pool, question.name());
        let known = figures.session_ages.zip(figures.live_sessions).filter(|_| knows);
        told.estimate = known.map(|(ages, live)| EstimateView::foretold(ages, live));
    }
    if !knows {
        told.notes.push("nobody knows the sessions of this pool");
    }
    told.notes.extend(notes);
    Ok(told)
}

/// Each backend with its sessions before and after.
fn loads(
    before: &PoolTable,
    after: &PoolTable,
    fates: &[Option<Fate>],
    live: impl Fn(&str) -> Option<u64>,
) -> PreviewView {
    let mut loads: BTreeMap<&str, LoadView> = BTreeMap::new();
    let mut exact: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut moved, mut lost, mut known) = (0.0, 0.0, false);
    for (backend, share) in before.backends.iter().zip(shares_of_new(before)) {
        let load = loads.entry(&backend.name).or_default();
        (load.sessions_before, load.new_share_before) = (live(&backend.name), share);
    }
    for (backend, share) in after.backends.iter().zip(shares_of_new(after)) {
        loads.entry(&backend.name).or_default().new_share_after = share;
    }
    for (backend, fate) in before.backends.iter().zip(fates) {
        let Some(sessions) = live(&backend.name).map(float) else { continue };
        known = true;
        let fate = fate.clone().unwrap_or_default();
        let leaves = fate.moved() + fate.refused;
        (moved, lost) = (moved + sessions * fate.moved(), lost + sessions * leaves);
        *exact.entry(&backend.name).or_default() += sessions * (1.0 - leaves);
        for (share, to) in fate.to.iter().zip(&after.backends) {
            *exact.entry(&to.name).or_default() += sessions * share;
        }
    }
    let backends = loads.into_iter().map(|(name, load)| {
        let there = after.by_name(name.as_bytes()).is_some();
        let sessions_after = (known && there).then(|| round(exact.get(name).copied().unwrap_or(0.0)));
        LoadView { name: name.to_owned(), sessions_after, ..load }
    });
    PreviewView {
        moved: known.then(|| round(moved)),
        lost: known.then(|| round(lost)),
        backends: backends.collect(),
        estimate: None,
        notes: Vec::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sessions are far below 53 bits")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a number of sessions")]
fn round(sessions: f64) -> u64 {
    sessions.round() as u64
}
