//! What comes in: bodies, parameters and preconditions, each with a problem that says what would be right.

use super::{
    document::Document,
    problem::{FieldProblem, Problem},
};
use crate::state::precondition::{Precondition, Tags};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use serde_path_to_error::Segment;
use std::time::Duration;

/// The longest body, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, which must be there.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON body that may be left out, or `null`.
#[derive(Debug)]
pub(crate) struct MaybeJson<T>(pub(crate) T);

/// A body in which nothing can be said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = read(request, state).await?;
        if body.is_empty() {
            let detail = "the request has no body, and needs one in JSON";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "no-body", "A body is missing", detail));
        }
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = read(request, state).await?;
        let value = if body.is_empty() { None } else { parse::<Option<T>>(&body)? };
        Ok(Self(value.unwrap_or_default()))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let json = is_json(request.headers());
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await.map_err(|_| {
        let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long", detail)
    })?;
    let body = body.map_err(|rejection| match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(status, "too-large", "The body is too large", format!("at most {MAX_BODY} bytes"))
        }
        status => Problem::new(status, "broken-body", "The body can't be read", rejection.body_text()),
    })?;
    if !body.is_empty() && !json {
        let detail = "send the body as JSON, with `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "not-json", "The body is of another type", detail));
    }
    Ok(body)
}

/// `application/json`, and what is written as it: merge patches.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/merge-patch+json"].iter().any(|json| kind.eq_ignore_ascii_case(json))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let document: Document = serde_json::from_slice(body).map_err(|error| wrong_json(String::new(), &error))?;
    let value = serde_path_to_error::deserialize(&document.0).map_err(|error| {
        let pointer: String = error.path().iter().filter_map(step).collect();
        wrong_json(pointer, error.inner())
    })?;
    match list_in(&document.0, "") {
        Some(pointer) => Err(Problem::field(pointer, "is a list", "write an object: { … }")),
        None => Ok(value),
    }
}

/// The lists that a body may hold.
const LISTS: [&str; 7] =
    ["/affinity/adopt", "/affinity/force", "/affinity/ignore", "/backend", "/discover", "/steps", "/upgrades"];

/// Where `value` holds another list. serde would take one for a struct, its fields in order.
fn list_in(value: &Value, pointer: &str) -> Option<String> {
    match value {
        Value::Array(values) if LISTS.contains(&pointer) => {
            (0..).zip(values).find_map(|(index, value)| list_in(value, &format!("{pointer}/{index}")))
        }
        Value::Array(_) => Some(pointer.to_owned()),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| list_in(value, &format!("{pointer}/{key}"))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Tells a field that is left out from one that is `null`, which is refused.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn step(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } | Segment::Enum { variant: key } => {
            Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
        }
        Segment::Unknown => None,
    }
}

fn wrong_json(pointer: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if error.classify() != Category::Data {
        let detail = format!("{text} at line {}, column {}", error.line(), error.column());
        return Problem::new(StatusCode::BAD_REQUEST, "broken-json", "The body is no JSON", detail);
    }
    let (detail, right) = match text.split_once(", expected ") {
        Some((detail, expected)) => (detail, format!("expected {expected}")),
        None => text
            .split_once(": write ")
            .map_or((text, String::new()), |(detail, right)| (detail, format!("write {right}"))),
    };
    let right = if right.is_empty() { "see /openapi.json".to_owned() } else { right };
    Problem::wrong(vec![FieldProblem { pointer: Some(pointer), parameter: None, detail: detail.to_owned(), right }])
}

/// Parameters of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|path| Self(path.0)).map_err(|rejection| {
            let status = rejection.status();
            let detail = rejection.body_text();
            drop(rejection.into_response());
            Problem::new(status, "broken-path", "The path can't be read", detail)
        })
    }
}

/// Parameters of the query. None is passed over: a slip must not be taken for a wish.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let found = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        found.map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, text)| text);
            let (detail, right) = text.split_once(", expected ").unwrap_or((text, "what /openapi.json says"));
            Problem::parameter("query", detail, format!("expected {right}"))
        })
    }
}

/// `If-Match` and `If-None-Match`.
impl<S: Send + Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = |name: header::HeaderName| -> Result<_, Problem> {
            let values: Vec<_> = parts.headers.get_all(&name).iter().map(|value| value.to_str()).collect();
            if values.is_empty() {
                return Ok(None);
            }
            let text = values.into_iter().collect::<Result<Vec<_>, _>>().ok().map(|values| values.join(","));
            let tags = text.and_then(|text| Tags::parse(&text)).ok_or_else(|| {
                let detail = format!("`{name}` holds no entity tags: write them in quotes, or `*`");
                Problem::new(StatusCode::BAD_REQUEST, "broken-precondition", "The precondition can't be read", detail)
            })?;
            Ok(Some(tags))
        };
        Ok(Self { matches: read(header::IF_MATCH)?, differs: read(header::IF_NONE_MATCH)? })
    }
}
