//! What an operator commands of a backend, and what its health is said to be.

use super::{
    App, Shared,
    backends::BackendPath,
    problem::Problem,
    request::{Json, MaybeJson, Nothing, Path, Query, given},
    views::{BackendReceipt, Receipt},
};
use crate::{
    clock, health,
    state::{
        Written,
        drain_plan::Wish,
        plan::{self, Command, Current},
        precondition::{Precondition, tag},
    },
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    desired::{DrainMode, Member, Share, Then},
    spec::Span,
    status::Health,
};
use serde::Deserialize;
use std::{pin::pin, time::Duration};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

/// The latest deadline that a drain may have, and the longest that a request may wait.
const MAX_DEADLINE: Span = Span::from_secs(365 * 86_400);
const MAX_WAIT: Span = Span::from_secs(3_600);
/// How often those who wait ask the data planes for figures.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How to drain. What is left out stays as it was, where the backend drains already.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DrainBody {
    /// `persist` unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(super) mode: Option<DrainMode>,
    /// From now, as in `"30m"`: what is left then is dealt with as `then` says.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(super) deadline: Option<Span>,
    /// Of mode `migrate`: how many of the sessions have moved at the deadline, 0 to 1; all of them unless given.
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 1)]
    #[serde(deserialize_with = "given")]
    pub(super) share: Option<Share>,
    /// What to do once nothing is left, or with what is left at the deadline. Unless given, the backend goes into
    /// maintenance at the deadline, and drains on where nothing is left before.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(super) then: Option<Then>,
}

impl DrainBody {
    /// `at` is the pointer to this body.
    pub(super) fn check(&self, at: &str) -> Result<(), Problem> {
        if let Some(deadline) = self.deadline.filter(|deadline| deadline.as_millis() == 0 || *deadline > MAX_DEADLINE) {
            let right = "write a time above zero and of at most \"365d\"; for none at all there is /maintenance";
            return Err(Problem::field(format!("{at}/deadline"), format!("{deadline} is out of range"), right));
        }
        let migrates = self.mode == Some(DrainMode::Migrate);
        if migrates && self.deadline.is_none() {
            let right = "write by when the share is to have moved, as in \"30m\"";
            return Err(Problem::field(
                format!("{at}/deadline"),
                "is missing, and mode `migrate` needs it: there is no default",
                right,
            ));
        }
        if !migrates && self.share.is_some() {
            let right = "leave it out, or write \"mode\": \"migrate\" with a deadline";
            return Err(Problem::field(format!("{at}/share"), "belongs to mode `migrate` alone", right));
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DrainQuery {
    /// `empty` answers once no session, no request and no tunnel is left.
    #[param(inline, nullable = false)]
    wait: Option<Wait>,
    /// How long to wait, `60s` unless given, and `1h` at most.
    #[param(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}(ms|s)$", nullable = false, example = "60s")]
    timeout: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Wait {
    Empty,
}

/// No new session for this backend; its own stay as the mode says.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/backends/{name}/drain", tag = "admin state",
    params(BackendPath, DrainQuery), request_body = Option<DrainBody>,
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn drain(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    Query(query): Query<DrainQuery>,
    precondition: Precondition,
    MaybeJson(body): MaybeJson<DrainBody>,
) -> Result<Response, Problem> {
    body.check("")?;
    let limit = query.timeout.unwrap_or(Span::from_secs(60));
    if limit > MAX_WAIT {
        return Err(Problem::parameter("timeout", format!("{limit} is too long"), "write at most \"1h\""));
    }
    let DrainBody { mode, deadline, share, then } = body;
    let command = Command::Drain(Wish { mode, deadline, share, then });
    let written = app.command(&path, command, precondition).await?;
    match query.wait {
        None => app.answer(&path, written, None).await,
        Some(Wait::Empty) => app.wait_empty(&path, written, limit.to_std()).await,
    }
}

/// Sessions old and new.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/backends/{name}/activate", tag = "admin state", params(BackendPath),
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn activate(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    let written = app.command(&path, Command::Activate, precondition).await?;
    app.answer(&path, written, None).await
}

/// Nothing at all: its sessions go elsewhere.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/backends/{name}/maintenance", tag = "admin state", params(BackendPath),
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn maintenance(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    let written = app.command(&path, Command::Maintain, precondition).await?;
    app.answer(&path, written, None).await
}

/// It was restarted: a new incarnation. Sessions of the old one begin anew, and are counted as lost.
#[utoipa::path(
    post, path = "/v1/pools/{pool}/backends/{name}/reset", tag = "admin state", params(BackendPath),
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn reset(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    let written = app.command(&path, Command::Reset, precondition).await?;
    app.answer(&path, written, None).await
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthBody {
    health: Pushed,
}

/// `auto` gives the health back to checks and traffic.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Pushed {
    Up,
    Down,
    Auto,
}

/// Says what the health is, whatever checks find. It is this node's alone and ends when the admin process does.
#[utoipa::path(
    put, path = "/v1/pools/{pool}/backends/{name}/health", tag = "admin state",
    params(BackendPath), request_body = HealthBody,
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn health(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    Json(body): Json<HealthBody>,
) -> Result<Response, Problem> {
    let member = plan::member(&app.state.view().snapshot.desired, &path.pool, &path.name)?.clone();
    precondition.check(Some(tag(&member)))?;
    let health = match body.health {
        Pushed::Up => Some(Health::Up),
        Pushed::Down => Some(Health::Down),
        Pushed::Auto => None,
    };
    let (generation, changed) = health::push(&app.state, &path.pool, &path.name, health);
    app.answer(&path, (Written { generation, changed, created: false }, member), None).await
}

/// Whether a backend that drained like this and is gone by now is so because nothing was left of it.
fn was_empty(made: &Member, now: u64) -> bool {
    let drain = made.drain.filter(|drain| drain.then == Some(Then::Remove));
    drain.is_some_and(|drain| drain.deadline.is_none_or(|deadline| now < deadline))
}

impl App {
    async fn command(
        &self,
        path: &BackendPath,
        command: Command,
        precondition: Precondition,
    ) -> Result<(Written, Member), Problem> {
        let id = path.clone();
        let planned = move |current: &Current<'_>| plan::command(current, id.id(), command, &precondition);
        self.write_backend(path, planned).await
    }

    /// Answers when the data planes have reported that nothing is left, or time is up.
    async fn wait_empty(
        &self,
        path: &BackendPath,
        (written, made): (Written, Member),
        limit: Duration,
    ) -> Result<Response, Problem> {
        let deadline = Instant::now() + limit;
        let _place = self.waits.try_acquire().map_err(|_| Problem::unavailable("too many requests wait already"))?;
        let receipt: Receipt = self.receipt(written).await;
        let since = clock::unix_millis();
        let mut planes = self.state.planes.subscribe();
        let mut stopped = pin!(self.state.stopped());
        let mut ask = tokio::time::interval(ASK_EVERY);
        let empty = loop {
            planes.mark_unchanged();
            if self.state.left(path.id(), written.generation, since).is_some_and(|left| left.is_none()) {
                break true;
            }
            // Also a removed backend ends the wait.
            if plan::member(&self.state.view().snapshot.desired, &path.pool, &path.name).is_err() {
                break was_empty(&made, clock::unix_millis());
            }
            tokio::select! {
                changed = timeout_at(deadline, planes.changed()) => if changed.is_err() { break false },
                _ = ask.tick() => self.state.ask_for_reports(),
                () = &mut stopped => {
                    return Err(Problem::unavailable("this process is about to stop"));
                }
            }
        };
        Ok(self.backend_receipt(path, StatusCode::OK, (receipt, made), Some(empty)))
    }
}
