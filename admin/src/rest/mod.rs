//! The REST API, its description, and what else is served over HTTP.

mod admin_state;
mod advice;
mod audited;
mod backends;
mod document;
mod drain_view;
pub(crate) mod explain;
mod follow;
pub(crate) mod guard;
mod keys;
mod metrics;
mod openapi;
mod operation;
mod pools;
mod preview;
pub(crate) mod problem;
mod rebalance;
mod release;
#[cfg(test)]
mod release_tests;
mod release_view;
mod request;
mod schemas;
mod stickiness;
#[cfg(test)]
mod tests;
mod views;
mod windows;

use crate::{Load, clock, dashboard, state::State, supervisor::Supervisor};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use control::status::Sandbox;
use guard::Guard;
use problem::Problem;
use request::MAX_BODY;
use std::sync::Arc;
use tokio::{sync::Semaphore, time::Instant};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Requests that may wait for a backend to be empty, each of which holds a connection.
const MAX_WAITS: usize = 128;

/// What requests are answered from.
pub(crate) struct App {
    pub(crate) state: Arc<State>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) load: Arc<Load>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) version: &'static str,
    pub(crate) sandbox: Sandbox,
    pub(crate) started: Instant,
    /// The same in Unix milliseconds.
    pub(crate) started_at: u64,
    pub(crate) waits: Semaphore,
}

impl App {
    pub(crate) fn new(
        state: Arc<State>,
        guard: Guard,
        load: Arc<Load>,
        supervisor: Supervisor,
        (version, sandbox): (&'static str, Sandbox),
    ) -> Arc<Self> {
        let (guard, supervisor, waits) = (Arc::new(guard), Arc::new(supervisor), Semaphore::new(MAX_WAITS));
        let (started, started_at) = (Instant::now(), clock::unix_millis());
        Arc::new(Self { state, guard, load, supervisor, version, sandbox, started, started_at, waits })
    }
}

type Shared = axum::extract::State<Arc<App>>;

/// What there is to call, on whoever's state, with its description.
#[derive(Clone)]
pub(crate) struct Routes {
    guarded: Router<Arc<App>>,
    probes: Router<Arc<App>>,
    description: Arc<str>,
}

impl Routes {
    /// `token` is whether the callers of all but the probes have to show one. To describe them takes milliseconds.
    pub(crate) fn new(version: &'static str, token: bool) -> Self {
        let (guarded, api) = OpenApiRouter::with_openapi(openapi::base(version))
            .routes(routes!(pools::list))
            .routes(routes!(pools::read, pools::put, pools::remove))
            .routes(routes!(stickiness::read))
            .routes(routes!(stickiness::parts::read))
            .routes(routes!(rebalance::read, rebalance::begin, rebalance::cancel))
            .routes(routes!(release::read, release::put, release::remove))
            .routes(routes!(backends::list))
            .routes(routes!(backends::read, backends::put, backends::patch, backends::remove))
            .routes(routes!(admin_state::drain))
            .routes(routes!(admin_state::activate))
            .routes(routes!(admin_state::maintenance))
            .routes(routes!(admin_state::reset))
            .routes(routes!(admin_state::health))
            .routes(routes!(operation::status))
            .routes(routes!(operation::reload))
            .routes(routes!(operation::upgrade))
            .routes(routes!(keys::list))
            .routes(routes!(keys::rotate))
            .routes(routes!(keys::remove))
            .routes(routes!(keys::seal))
            .routes(routes!(explain::explain))
            .routes(routes!(preview::preview))
            .routes(routes!(follow::events))
            .routes(routes!(metrics::metrics))
            .split_for_parts();
        let (probes, probes_api) = OpenApiRouter::with_openapi(openapi::base(version))
            .routes(routes!(operation::healthz))
            .routes(routes!(operation::readyz))
            .split_for_parts();
        Self { guarded, probes, description: openapi::finish(api, probes_api, token) }
    }

    pub(crate) fn on(self, app: Arc<App>) -> Router {
        let Self { guarded, probes, description } = self;
        let dashboard = dashboard::routes()
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn_with_state(Arc::clone(&app.guard), guard::stranger));
        guarded
            .route("/openapi.json", axum::routing::get(move || async move { openapi::answer(&description) }))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
            .layer(middleware::from_fn_with_state(Arc::clone(&app), audited::audited))
            .merge(probes.method_not_allowed_fallback(no_such_method))
            .merge(dashboard)
            .with_state(app)
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    Routes::new(app.version, app.guard.wants_token()).on(app)
}

async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; see /openapi.json for what there is", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", "Nothing is here", detail)
}

async fn no_such_method() -> Problem {
    let detail = "this is not done here; the field `Allow` says what is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "Not done here", detail)
}

/// JSON with the tag of the resource that it shows.
fn tagged(status: StatusCode, tag: &str, body: &impl serde::Serialize) -> Response {
    let tag = HeaderValue::try_from(format!("\"{tag}\"")).expect("tags are hexadecimal");
    ([(header::ETAG, tag)], json(status, body)).into_response()
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers have string keys and no failing parts");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
