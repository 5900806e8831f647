//! The keys of the affinity tokens: which there are, what was seen of them, and their coming and going.

use super::{
    Shared, json,
    problem::Problem,
    request::{MaybeJson, Nothing, Path, Query},
    tagged,
    views::Receipt,
};
use crate::{
    clock,
    history::windows::Window,
    keys::MAX_KEYS,
    state::{
        State as Owner,
        keyring::{Judged, judge, tag_of},
        precondition::Precondition,
    },
};
use axum::{extract::State, http::StatusCode, response::Response};
use control::{spec::Key, status::Counts, token_age::TokenAge};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct KeyPath {
    /// What the key is called: four hexadecimal digits that follow from it, the same on every node.
    #[param(pattern = "^[0-9a-f]{4}$", example = "3fa2")]
    key: String,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RemoveQuery {
    /// Also where tokens of it may be left: their sessions begin anew.
    force: bool,
}

/// A key of the affinity tokens, without its secret. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyView {
    key: String,
    /// It is the first and seals; the others open.
    seals: bool,
    /// When it was made, where the keys file says so.
    added: Option<u64>,
    /// Since when it seals nothing, as far as this process knows; `null` while it seals.
    rests_since: Option<u64>,
    /// When the last of its tokens came, as far as this process knows.
    last_seen: Option<u64>,
    tokens: TokensView,
    /// Of `since_start`, by how long ago the session began: `under_1h`, `under_1d`, `under_7d`, `older`.
    ages: Counts,
    /// The oldest of these of which any came.
    oldest: Option<&'static str>,
    /// It rests, and no token of it came, for longer than a token can stay away.
    may_go: bool,
    why: String,
}

/// Requests with a token that the key opened and that was not over.
#[derive(Debug, Serialize, ToSchema)]
struct TokensView {
    /// In the last minute, 5 minutes and hour, of this process's life.
    last_1m: u64,
    last_5m: u64,
    last_1h: u64,
    /// Summed over the connected data planes since these started.
    since_start: u64,
}

/// The keys, in the order in which they are tried: the first seals, all open.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, body = [KeyView])))]
pub(super) async fn list(State(app): Shared) -> Response {
    let (keys, views) = views(&app.state);
    tagged(StatusCode::OK, &tag_of(&keys), &views)
}

fn views(state: &Owner) -> (Vec<Key>, Vec<KeyView>) {
    let (now, unix) = (state.clock.millis(), clock::unix_millis());
    let shared = state.lock();
    let desired = &shared.snapshot.desired;
    let view = |(index, Judged { key, may_go, why }): (usize, Judged)| {
        let told = || shared.peers.iter().filter_map(|peer| peer.stats.keys.get(&key));
        let of_age = |age: TokenAge| told().filter_map(|stats| stats.ages.get(age.name())).sum::<u64>();
        let watched = shared.history.keys.find(&key);
        let seen = |window| watched.map_or(0, |watched| watched.seen(window, now));
        KeyView {
            seals: index == 0,
            added: shared.added.get(&key).map(|seconds| seconds * 1_000),
            rests_since: watched
                .and_then(|watched| Some(unix.saturating_sub(now.saturating_sub(watched.rests_since?)))),
            last_seen: watched.and_then(|watched| Some(u64::from(watched.last_seen?) * 1_000)),
            tokens: TokensView {
                last_1m: seen(Window::Minute),
                last_5m: seen(Window::FiveMinutes),
                last_1h: seen(Window::Hour),
                since_start: TokenAge::ALL.into_iter().map(of_age).sum(),
            },
            ages: TokenAge::ALL.into_iter().map(|age| (age.name().to_owned(), of_age(age))).collect(),
            oldest: TokenAge::ALL.into_iter().rfind(|age| of_age(*age) > 0).map(TokenAge::name),
            may_go,
            why,
            key,
        }
    };
    (desired.keys.clone(), judge(&shared, now, unix).into_iter().enumerate().map(view).collect())
}

/// What to keep when keys rotate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RotateBody {
    /// Keys in all, the new one among them. With 1, every session of today ends at once.
    #[schema(minimum = 1, maximum = 16)]
    keep: usize,
    /// It seals at once. With false it stands behind the one that seals and opens alone, until all nodes have it and it is
    /// put first.
    seals: bool,
}

impl Default for RotateBody {
    fn default() -> Self {
        Self { keep: 3, seals: true }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RotateReceipt {
    #[serde(flatten)]
    receipt: Receipt,
    /// Keys that open tokens now.
    keys: usize,
    /// Keys that no longer do.
    dropped: usize,
}

/// Puts a new random key first: it seals from now on, and the ones before it still open. Keys are never shown.
#[utoipa::path(
    post, path = "/v1/keys/rotate", tag = "keys", request_body = Option<RotateBody>,
    responses((status = 200, body = RotateReceipt))
)]
pub(super) async fn rotate(State(app): Shared, MaybeJson(body): MaybeJson<RotateBody>) -> Result<Response, Problem> {
    if !(1..=MAX_KEYS).contains(&body.keep) {
        let right = format!("write 1 to {MAX_KEYS}");
        return Err(Problem::field("/keep", format!("{} is out of range", body.keep), right));
    }
    if body.keep == 1 && !body.seals {
        let right = "write 2 or more, or let it seal";
        return Err(Problem::field("/keep", "1 leaves no room behind the key that seals", right));
    }
    let (written, keys, dropped) = app.state.rotate_keys(body.keep, body.seals).await?;
    let receipt = app.receipt(written).await;
    Ok(json(StatusCode::OK, &RotateReceipt { receipt, keys, dropped }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyReceipt {
    #[serde(flatten)]
    receipt: Receipt,
    /// Keys that open tokens now.
    keys: usize,
}

/// Puts a key first: it seals from now on, and the one that did opens.
#[utoipa::path(
    post, path = "/v1/keys/{key}/seal", tag = "keys", params(KeyPath),
    responses((status = 200, body = KeyReceipt))
)]
pub(super) async fn seal(
    State(app): Shared,
    Path(path): Path<KeyPath>,
    precondition: Precondition,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Response, Problem> {
    let (written, keys) = app.state.seal_with(path.key, precondition).await?;
    let receipt = app.receipt(written).await;
    Ok(json(StatusCode::OK, &KeyReceipt { receipt, keys }))
}

/// Takes a key away: its tokens open no more. Refused for the key that seals, and without `force` while its tokens come.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", tag = "keys", params(KeyPath, RemoveQuery),
    responses((status = 200, body = KeyReceipt))
)]
pub(super) async fn remove(
    State(app): Shared,
    Path(path): Path<KeyPath>,
    Query(query): Query<RemoveQuery>,
    precondition: Precondition,
) -> Result<Response, Problem> {
    let (written, keys) = app.state.remove_key(path.key, query.force, precondition).await?;
    let receipt = app.receipt(written).await;
    Ok(json(StatusCode::OK, &KeyReceipt { receipt, keys }))
}
