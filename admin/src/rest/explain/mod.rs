pub(crate) mod decide;

use super::{Shared, json, problem::Problem, request::Json};
use crate::clock;
use axum::{extract::State, http::StatusCode, response::Response};
use decide::{Explanation, Question, decide};

/// Where a request would go, and why. Sends nothing anywhere.
#[utoipa::path(
    post, path = "/v1/explain", tag = "operation", request_body = Question,
    responses((status = 200, body = Explanation))
)]
pub(super) async fn explain(State(app): Shared, Json(question): Json<Question>) -> Result<Response, Problem> {
    let snapshot = app.state.view().snapshot;
    let now = u32::try_from(clock::unix_millis() / 1_000).unwrap_or(u32::MAX);
    // A ring takes milliseconds to build.
    let answer = tokio::task::spawn_blocking(move || decide(&snapshot, &question, now)).await;
    let answer = answer.map_err(|_| Problem::unavailable("this process is about to stop"))?;
    Ok(json(StatusCode::OK, &answer?))
}
