//! The calls that the audit log tells.

use super::{App, guard::caller};
use crate::audit;
use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Calls that only ask, although they carry a body.
const ASKS: [&str; 2] = ["/preview", "/v1/explain"];
/// Of a path with its query, in bytes.
const MAX_PATH: usize = 512;

/// A layer around everything that may change something, the guard among it.
pub(super) async fn audited(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || ASKS.iter().any(|asks| path.ends_with(asks)) {
        return next.run(request).await;
    }
    let uri: String = request.uri().path_and_query().map_or(path, |uri| uri.as_str()).chars().take(MAX_PATH).collect();
    let fields: [(_, Value); 3] =
        [("from", caller(&request).to_string().into()), ("method", method.as_str().into()), ("path", uri.into())];
    let record = app.state.audit.begin(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
    let response = audit::called(&record, next.run(request)).await;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        // Wrong tokens are counted and told by themselves: whoever guesses must not fill the log.
        record.drop_it();
        return response;
    }
    let (told, response) = told(response).await;
    // As the guard has let them in.
    let shown = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "nobody",
        _ if app.guard.wants_token() => "token",
        _ => "anybody",
    };
    record.answered([("as", shown.into()), ("status", status.as_u16().into())].into_iter().chain(told.fields()));
    response
}

/// What of an answer is told.
#[derive(Debug, Default, Deserialize)]
struct Told {
    generation: Option<u64>,
    applied: Option<bool>,
    warning: Option<String>,
    detail: Option<String>,
}

impl Told {
    fn fields(self) -> impl Iterator<Item = (&'static str, Value)> {
        let Self { generation, applied, warning, detail } = self;
        let numbers = [("generation", generation.map(Value::from)), ("applied", applied.map(Value::from))];
        let texts = [("warning", warning), ("detail", detail)].map(|(name, text)| (name, text.map(Value::from)));
        numbers.into_iter().chain(texts).filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Reads an answer that is there as a whole; of others, whose length is not known, nothing is.
async fn told(response: Response) -> (Told, Response) {
    let (parts, body) = response.into_parts();
    let Some(length) = body.size_hint().exact().and_then(|length| usize::try_from(length).ok()) else {
        return (Told::default(), Response::from_parts(parts, body));
    };
    let bytes = to_bytes(body, length).await.unwrap_or_default();
    (serde_json::from_slice(&bytes).unwrap_or_default(), Response::from_parts(parts, Body::from(bytes)))
}
