use super::{
    Shared, json,
    problem::Problem,
    request::{Json, Path, given},
    tagged,
    views::{PoolReceipt, PoolView, Receipt},
};
use crate::state::{
    Written,
    plan::{self, Plan},
    precondition::{Precondition, tag},
    refusal::Refusal,
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{
    check::{self, MAX_NAME},
    spec::{
        Affinity, Backend, Balance, Discover, HealthCheck, Limits, Names, Pool, PoolTls, ProxyVersion, Retry, Span,
        Timeouts, with_secrets_of,
    },
};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct PoolPath {
    /// A pool's name.
    #[param(
        pattern = "^([A-Za-z0-9_-]|[.][A-Za-z0-9_-]|[.][.][A-Za-z0-9._-])[A-Za-z0-9._-]*$",
        max_length = 128,
        example = "shop"
    )]
    pub(super) pool: String,
}

/// A pool as it should be. What is left out has its default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PoolBody {
    /// May be given, and is the name in the path then.
    #[schema(ignore)]
    #[serde(deserialize_with = "given")]
    name: Option<String>,
    balance: Balance,
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    load_bound: Option<f64>,
    #[schema(value_type = String, required = false)]
    #[serde(deserialize_with = "given")]
    slow_start: Option<Span>,
    /// Protocols to which connections may be upgraded; WebSockets alone where it is left out.
    #[schema(nullable = false, max_items = 16)]
    #[serde(deserialize_with = "given")]
    upgrades: Option<Vec<String>>,
    /// How backends are spoken to over TLS; in clear text where it is left out.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    tls: Option<PoolTls>,
    /// Whether backends are spoken to in HTTP/2.
    http2: bool,
    /// In which version of the PROXY protocol backends are told whose each connection is; not at all where it is left out.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    send_proxy: Option<ProxyVersion>,
    affinity: Affinity,
    health: HealthCheck,
    timeouts: Timeouts,
    limits: Limits,
    retry: Retry,
    /// How names in addresses are looked up.
    names: Names,
    /// Names of which every address is a backend.
    discover: Vec<Discover>,
    /// The members that it should have: those that stay keep admin state and incarnation. Left out, all stay.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    backend: Option<Vec<Backend>>,
}

/// All pools.
#[utoipa::path(get, path = "/v1/pools", tag = "pools", responses((status = 200, body = [PoolView])))]
pub(super) async fn list(State(app): Shared) -> Response {
    let view = app.state.view();
    let pools = &view.snapshot.desired.pools;
    let body: Vec<_> = pools.iter().map(|(name, pool)| view.pool(name, pool)).collect();
    tagged(StatusCode::OK, &tag(pools), &body)
}

/// A pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", tag = "pools", params(PoolPath), responses((status = 200, body = PoolView)))]
pub(super) async fn read(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    let view = app.state.view();
    let pool = plan::pool(&view.snapshot.desired, &path.pool)?;
    Ok(tagged(StatusCode::OK, &tag(pool), &view.pool(&path.pool, pool)))
}

/// Makes a pool, or sets what is there.
#[utoipa::path(
    put, path = "/v1/pools/{pool}", tag = "pools", params(PoolPath), request_body = PoolBody,
    responses((status = 200, body = PoolReceipt), (status = 201, description = "It is new", body = PoolReceipt))
)]
pub(super) async fn put(
    State(app): Shared,
    Path(PoolPath { pool: name }): Path<PoolPath>,
    precondition: Precondition,
    Json(body): Json<PoolBody>,
) -> Result<Response, Problem> {
    check_name("pool", &name)?;
    same_name(body.name.as_deref().unwrap_or_default(), &name)?;
    let PoolBody {
        name: _,
        balance,
        load_bound,
        slow_start,
        upgrades,
        tls,
        http2,
        send_proxy,
        mut affinity,
        health,
        timeouts,
        limits,
        retry,
        names,
        discover,
        backend,
    } = body;
    let given = backend.clone().unwrap_or_default();
    each_once("backend", given.iter().map(|backend| backend.name.as_str()))?;
    each_once("discover", discover.iter().map(|each| each.name.as_str()))?;
    each_cookie_once(&affinity)?;
    if let Some(known) = app.state.view().snapshot.desired.pools.get(&name) {
        with_secrets_of(&known.settings.affinity.adopt, &mut affinity.adopt);
    }
    let mut pool = Pool {
        name: name.clone(),
        balance,
        load_bound,
        slow_start,
        upgrades: upgrades.unwrap_or_else(|| Pool::default().upgrades),
        tls,
        http2,
        send_proxy,
        affinity,
        health,
        timeouts,
        limits,
        retry,
        names,
        discover,
        backends: given,
    };
    Problem::of(&check::pool(&pool))?;
    loads(&pool)?;
    pool.backends.clear();
    let planned = move |current: &plan::Current<'_>| plan::put_pool(current, &pool, backend.as_deref(), &precondition);
    let written = app.state.write(planned).await?;
    let receipt = app.receipt(written).await;
    let view = app.state.view();
    let pool = plan::pool(&view.snapshot.desired, &name)?;
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(tagged(status, &tag(pool), &PoolReceipt { receipt, pool: view.pool(&name, pool) }))
}

/// Removes a pool and its backends.
#[utoipa::path(delete, path = "/v1/pools/{pool}", tag = "pools", params(PoolPath), responses((status = 200, body = Receipt)))]
pub(super) async fn remove(
    State(app): Shared,
    Path(path): Path<PoolPath>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    let planned =
        move |current: &plan::Current<'_>| -> Result<Plan, _> { plan::remove_pool(current, &path.pool, &precondition) };
    let written = app.state.write(planned).await?;
    Ok(json(StatusCode::OK, &app.receipt(written).await))
}

/// That the files which its TLS needs can be used here.
fn loads(pool: &Pool) -> Result<(), Problem> {
    let Some(tls) = &pool.tls else { return Ok(()) };
    let loaded = certificates::trust(tls, &check::Path::default().key("tls"), &[]);
    loaded.map(drop).map_err(|problems| Refusal::CantLoad(problems).into())
}

impl super::App {
    /// Waits for the data planes and says what became of a write.
    pub(super) async fn receipt(&self, written: Written) -> Receipt {
        Receipt::new(written, self.state.applied(written.generation).await)
    }
}

/// A name that is to be given must be one.
pub(super) fn check_name(parameter: &str, name: &str) -> Result<(), Problem> {
    if check::is_name(name) {
        return Ok(());
    }
    let right = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
    Err(Problem::parameter(parameter, format!("`{}` is not a name", name.escape_debug()), right))
}

/// Two of one name contradict each other, which no schema can say.
fn each_once<'n>(what: &str, mut names: impl Iterator<Item = &'n str>) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    let twice = names.find(|name| !name.is_empty() && !seen.insert(*name));
    twice.map_or(Ok(()), |name| {
        let detail = format!("{what} `{}` is there twice: give each a name of its own", name.escape_debug());
        Err(Problem::new(StatusCode::CONFLICT, "repeated-backend", "Two backends have one name", detail))
    })
}

/// And so do two readings of one cookie.
fn each_cookie_once(affinity: &Affinity) -> Result<(), Problem> {
    let all = &affinity.adopt;
    let twice = all.iter().enumerate().find(|(index, each)| all[..*index].iter().any(|before| each.is_same(before)));
    twice.map_or(Ok(()), |(_, each)| {
        let detail =
            format!("cookie `{}` is adopted twice in one way: make one of the two", each.cookie.escape_debug());
        Err(Problem::new(StatusCode::CONFLICT, "repeated-cookie", "One cookie is adopted twice", detail))
    })
}

/// A body may repeat the name that the path gives, and no other.
pub(super) fn same_name(name: &str, in_path: &str) -> Result<(), Problem> {
    if name.is_empty() || name == in_path {
        return Ok(());
    }
    let detail = format!("`{}` is not the name in the path", name.escape_debug());
    Err(Problem::field("/name", detail, format!("leave it out, or write \"{in_path}\"")))
}
