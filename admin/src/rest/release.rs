//! The exit ramp of a pool.

use super::{
    Shared, json,
    pools::PoolPath,
    problem::Problem,
    release_view::{ReleaseReceipt, ReleaseView},
    request::{MaybeJson, Path, given},
    tagged,
    views::Receipt,
};
use crate::{
    clock,
    state::{
        plan::Current,
        precondition::{Precondition, tag},
        release_plan,
    },
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    check,
    release::{Percent, RampPlan, Watch},
    spec::Span,
};
use serde::Deserialize;
use utoipa::ToSchema;

/// How much is released when, and what makes it stop. All has a default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReleaseBody {
    /// One share of the sessions alone, in percent, in place of `steps`.
    #[schema(value_type = f64, required = false, minimum = 0.01, maximum = 99.99)]
    #[serde(deserialize_with = "given")]
    percent: Option<Percent>,
    /// The shares that are released one after the other, in percent and growing: 1, 5, 10, 25, 50, 100 unless given.
    #[schema(value_type = Vec<f64>, required = false)]
    #[serde(deserialize_with = "given")]
    steps: Option<Vec<Percent>>,
    /// How long each step is held at least, `10m` unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    hold: Option<Span>,
    /// The share of the released sessions that may come to harm unseen: a step is left only once its traffic would have
    /// shown more. 0.1 unless given.
    #[schema(nullable = false, minimum = 0.005, maximum = 1)]
    #[serde(deserialize_with = "given")]
    harm: Option<f64>,
    /// How likely it may stop by mere luck, 0.01 unless given.
    #[schema(nullable = false, minimum = 0.0001, maximum = 0.2)]
    #[serde(deserialize_with = "given")]
    alpha: Option<f64>,
    /// A redirect to it, or below it, says that a session is not known.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    login_path: Option<String>,
    /// The application's session cookie: a response that sets another value than the request had begins another session.
    /// The one of the pool's affinity unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    session_cookie: Option<String>,
    /// The response header that tells whether a cache was hit.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    cache_header: Option<String>,
    /// What that header has where one was, in any case; `HIT` unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    cache_hit: Option<String>,
}

const STEPS: [f64; 6] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0];
const HOLD: Span = Span::from_secs(600);
const HARM: f64 = 0.1;
const ALPHA: f64 = 0.01;
const HIT: &str = "HIT";

impl ReleaseBody {
    fn plan(self) -> Result<RampPlan, Problem> {
        let Self { percent, steps, hold, harm, alpha, login_path, session_cookie, cache_header, cache_hit } = self;
        if percent.is_some() && steps.is_some() {
            return Err(Problem::field("/percent", "says what `steps` say too", "leave one of them out"));
        }
        if cache_hit.is_some() && cache_header.is_none() {
            return Err(Problem::field("/cache_hit", "belongs to a `cache_header`", "name that, or leave it out"));
        }
        let default = || STEPS.iter().filter_map(|step| Percent::new(*step)).collect();
        let (alone, cache_hit) = (percent.map(|percent| vec![percent]), cache_hit.unwrap_or_else(|| HIT.to_owned()));
        let watch = Watch { login_path, session_cookie, cache_header, cache_hit };
        let plan = RampPlan {
            steps: alone.or(steps).unwrap_or_else(default),
            hold: hold.unwrap_or(HOLD),
            harm: harm.unwrap_or(HARM),
            alpha: alpha.unwrap_or(ALPHA),
            watch,
        };
        let mut problems = plan.check();
        for problem in problems.iter_mut().filter(|problem| percent.is_some() && problem.path.to_pointer() == "/steps")
        {
            problem.path = check::Path::default().key("percent");
        }
        Problem::of(&problems)?;
        if plan.grows() {
            return Ok(plan);
        }
        // What no schema can say.
        let detail = "each of the steps releases more than the one before: write them in that order, as [1, 10, 100]";
        Err(Problem::new(StatusCode::CONFLICT, "steps-dont-grow", "The steps don't grow", detail))
    }
}

/// How much of a pool's sessions is released, and what that has shown.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/release", tag = "release", params(PoolPath),
    responses((status = 200, body = ReleaseView))
)]
pub(super) async fn read(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    // Whoever looks again sees what has come meanwhile.
    app.state.ask_for_reports();
    let view = app.state.view();
    let release = release_plan::release(&view.snapshot.desired, &path.pool)?;
    Ok(tagged(StatusCode::OK, &tag(release), &view.release(&path.pool, release, clock::unix_millis())))
}

/// Begins to release a share of the sessions, or a growing one. The same again goes on with what there is; anything else
/// begins anew, and so does the same after it has stopped.
#[utoipa::path(
    put, path = "/v1/pools/{pool}/release", tag = "release", params(PoolPath), request_body = Option<ReleaseBody>,
    responses((status = 200, body = ReleaseReceipt), (status = 201, description = "It is new", body = ReleaseReceipt))
)]
pub(super) async fn put(
    State(app): Shared,
    Path(PoolPath { pool }): Path<PoolPath>,
    precondition: Precondition,
    MaybeJson(body): MaybeJson<ReleaseBody>,
) -> Result<Response, Problem> {
    let (plan, name) = (body.plan()?, pool.clone());
    let planned = move |current: &Current<'_>| release_plan::begin(current, &name, &plan, &precondition);
    let written = app.state.write(planned).await?;
    let receipt = app.receipt(written).await;
    let view = app.state.view();
    let release = release_plan::release(&view.snapshot.desired, &pool)?;
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let shown = view.release(&pool, release, clock::unix_millis());
    Ok(tagged(status, &tag(release), &ReleaseReceipt { receipt, release: shown }))
}

/// Ends the release: its sessions are back on their pins, and what was found is forgotten.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}/release", tag = "release", params(PoolPath),
    responses((status = 200, body = Receipt))
)]
pub(super) async fn remove(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    let planned = move |current: &Current<'_>| release_plan::end(current, &path.pool, &precondition);
    let written = app.state.write(planned).await?;
    Ok(json(StatusCode::OK, &app.receipt(written).await))
}
