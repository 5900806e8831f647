use super::{
    App, Shared, json,
    pools::{PoolPath, check_name, same_name},
    problem::Problem,
    request::{Json, Path, given},
    tagged,
    views::{BackendReceipt, BackendView, Receipt},
};
use crate::{
    names,
    state::{
        Written,
        plan::{self, Current, Patch, Plan},
        precondition::{Precondition, tag},
        refusal::Refusal,
    },
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::Endpoint;
use control::{check, desired::Member, spec::Backend};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use utoipa::{IntoParams, ToSchema};

/// How long a write waits for a backend's name to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Deserialize, IntoParams)]
pub(super) struct BackendPath {
    /// A pool's name.
    #[param(
        pattern = "^([A-Za-z0-9_-]|[.][A-Za-z0-9_-]|[.][.][A-Za-z0-9._-])[A-Za-z0-9._-]*$",
        max_length = 128,
        example = "shop"
    )]
    pub(super) pool: String,
    /// A backend's name.
    #[param(
        pattern = "^([A-Za-z0-9_-]|[.][A-Za-z0-9_-]|[.][.][A-Za-z0-9._-])[A-Za-z0-9._-]*$",
        max_length = 128,
        example = "app-1"
    )]
    pub(super) name: String,
}

impl BackendPath {
    pub(super) fn id(&self) -> (&str, &str) {
        (&self.pool, &self.name)
    }
}

/// A backend as it should be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendBody {
    #[schema(ignore)]
    name: String,
    /// `host:port`; the host is an address or a name.
    #[schema(required = true)]
    address: String,
    /// 0 gets no new sessions.
    #[schema(maximum = 1000)]
    weight: u32,
    /// It gets new sessions only while none of the others can take any.
    backup: bool,
}

impl Default for BackendBody {
    fn default() -> Self {
        let Backend { name, address, weight, backup } = Backend::default();
        Self { name, address, weight, backup }
    }
}

/// What should change of a backend (RFC 7396): `null` gives weight and backup their default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendPatch {
    #[serde(deserialize_with = "given")]
    #[schema(value_type = String, required = false)]
    address: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>, required = false, maximum = 1000)]
    weight: Option<Option<u32>>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<bool>, required = false)]
    backup: Option<Option<bool>>,
}

/// The backends of a pool.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/backends", tag = "backends", params(PoolPath),
    responses((status = 200, body = [BackendView]))
)]
pub(super) async fn list(State(app): Shared, Path(path): Path<PoolPath>) -> Result<Response, Problem> {
    let view = app.state.view();
    let pool = plan::pool(&view.snapshot.desired, &path.pool)?;
    Ok(tagged(StatusCode::OK, &tag(&pool.members), &view.backends(&path.pool, pool)))
}

/// A backend.
#[utoipa::path(
    get, path = "/v1/pools/{pool}/backends/{name}", tag = "backends", params(BackendPath),
    responses((status = 200, body = BackendView))
)]
pub(super) async fn read(State(app): Shared, Path(path): Path<BackendPath>) -> Result<Response, Problem> {
    let view = app.state.view();
    let member = plan::member(&view.snapshot.desired, &path.pool, &path.name)?;
    Ok(tagged(StatusCode::OK, &tag(member), &view.backend(&path.pool, &path.name, member)))
}

/// Adds a backend, or sets address, weight and backup of one: its admin state and incarnation stay.
#[utoipa::path(
    put, path = "/v1/pools/{pool}/backends/{name}", tag = "backends", params(BackendPath), request_body = BackendBody,
    responses((status = 200, body = BackendReceipt), (status = 201, description = "It is new", body = BackendReceipt))
)]
pub(super) async fn put(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    Json(body): Json<BackendBody>,
) -> Result<Response, Problem> {
    check_name("name", &path.name)?;
    same_name(&body.name, &path.name)?;
    let BackendBody { name: _, address, weight, backup } = body;
    let backend = Backend { name: path.name.clone(), address, weight, backup };
    Problem::of(&check::backend(&backend))?;
    let (resolved, warning) = app.lookup(&path, &backend.address).await;
    let pool = path.pool.clone();
    let planned = move |current: &Current<'_>| plan::put_backend(current, &pool, &backend, resolved, &precondition);
    app.answer(&path, app.write_backend(&path, planned).await?, warning).await
}

/// Changes address, weight, backup, or several of them.
#[utoipa::path(
    patch, path = "/v1/pools/{pool}/backends/{name}", tag = "backends", params(BackendPath), request_body = BackendPatch,
    responses((status = 200, body = BackendReceipt))
)]
pub(super) async fn patch(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
    Json(body): Json<BackendPatch>,
) -> Result<Response, Problem> {
    if body.address == Some(None) {
        return Err(Problem::field("/address", "a backend has an address", "write \"host:port\", or leave it out"));
    }
    let patch = Patch {
        address: body.address.flatten(),
        weight: body.weight.map(|weight| weight.unwrap_or(Backend::default().weight)),
        backup: body.backup.map(Option::unwrap_or_default),
    };
    let (resolved, warning) = match &patch.address {
        Some(address) if check_address(address) => app.lookup(&path, address).await,
        Some(_) | None => (None, None),
    };
    let id = path.clone();
    let planned = move |current: &Current<'_>| plan::patch_backend(current, id.id(), &patch, resolved, &precondition);
    app.answer(&path, app.write_backend(&path, planned).await?, warning).await
}

fn check_address(address: &str) -> bool {
    check::backend(&Backend { address: address.to_owned(), ..Backend::default() }).is_empty()
}

/// Removes a backend. Its sessions go elsewhere; a namesake that comes later has a new incarnation.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}/backends/{name}", tag = "backends", params(BackendPath),
    responses((status = 200, body = Receipt))
)]
pub(super) async fn remove(
    State(app): Shared,
    Path(path): Path<BackendPath>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    let planned = move |current: &Current<'_>| plan::remove_backend(current, path.id(), &precondition);
    let written = app.state.write(planned).await?;
    Ok(json(StatusCode::OK, &app.receipt(written).await))
}

impl App {
    /// Where a new address leads, if its host is a name; and a warning where that leads nowhere.
    async fn lookup(&self, path: &BackendPath, address: &str) -> (Option<SocketAddr>, Option<String>) {
        let desired = &self.state.view().snapshot.desired;
        let same = plan::member(desired, &path.pool, &path.name).is_ok_and(|member| member.address == address);
        if same || address.parse::<Endpoint>().is_ok() {
            return (None, None);
        }
        let family = plan::pool(desired, &path.pool).map(|pool| pool.settings.names.family).unwrap_or_default();
        match names::first(address, family, RESOLVE_TIMEOUT).await {
            Ok(resolved) => (Some(resolved), None),
            Err(reason) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let until = "and the backend gets nothing until it does";
                (None, Some(format!("`{host}` does not resolve ({reason}), {until}")))
            }
        }
    }

    /// Has a plan for one backend carried out, and remembers what that made of it.
    pub(super) async fn write_backend<P>(&self, path: &BackendPath, plan: P) -> Result<(Written, Member), Problem>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync + 'static,
    {
        let made = Arc::new(Mutex::new(Member::new(&Backend::default(), 0)));
        let (id, making) = (path.clone(), Arc::clone(&made));
        let planned = move |current: &Current<'_>| {
            let plan = plan(current)?;
            let member =
                plan.member(id.id()).or_else(|| plan::member(&current.snapshot.desired, &id.pool, &id.name).ok());
            if let Some(member) = member {
                making.lock().unwrap_or_else(PoisonError::into_inner).clone_from(member);
            }
            Ok(plan)
        };
        let written = self.state.write(planned).await?;
        let made = made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((written, made))
    }

    /// What a write of a backend is answered with.
    pub(super) async fn answer(
        &self,
        path: &BackendPath,
        (written, made): (Written, Member),
        warning: Option<String>,
    ) -> Result<Response, Problem> {
        let mut receipt = self.receipt(written).await;
        if let Some(warning) = warning {
            receipt.warn(warning);
        }
        let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.backend_receipt(path, status, (receipt, made), None))
    }

    /// `made` is what the write made of the backend, which is shown where the backend is gone by now: its drain may have been
    /// to end with that, and the write was carried out all the same.
    pub(super) fn backend_receipt(
        &self,
        path: &BackendPath,
        status: StatusCode,
        (mut receipt, made): (Receipt, Member),
        empty: Option<bool>,
    ) -> Response {
        let view = self.state.view();
        let member = plan::member(&view.snapshot.desired, &path.pool, &path.name).unwrap_or_else(|_| {
            receipt.warn("the backend has been removed since, and is shown as this left it".to_owned());
            &made
        });
        let backend = view.backend(&path.pool, &path.name, member);
        tagged(status, &tag(member), &BackendReceipt { receipt, backend, empty })
    }
}
