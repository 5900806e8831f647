use crate::state::refusal::{NotShared, Refusal};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use control::check;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// A name for this kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:steadfast:problem:wrong")]
    kind: Kind,
    title: &'static str,
    status: u16,
    /// This very case, for people.
    detail: String,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldProblem>,
    /// In seconds, for the field of that name.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<u64>,
}

/// The last part of a problem's type.
#[derive(Clone, Copy, Debug)]
struct Kind(&'static str);

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:steadfast:problem:{}", self.0))
    }
}

/// One field of a request that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// Where in the body, or in the configuration file (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// The path or query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    pub(crate) detail: String,
    pub(crate) right: String,
}

impl From<&check::Problem> for FieldProblem {
    fn from(problem: &check::Problem) -> Self {
        Self {
            pointer: Some(problem.path.to_pointer()),
            parameter: None,
            detail: problem.wrong.clone(),
            right: problem.right.clone(),
        }
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        Self {
            kind: Kind(kind),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after,
        }
    }

    /// In seconds.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Fields that are wrong: 422.
    pub(crate) fn wrong(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer.as_ref().or(one.parameter.as_ref()).map_or("", |at| at), one.detail),
            errors => format!("{} fields are wrong", errors.len()),
        };
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong", "Something in the request is wrong", detail)
        }
    }

    pub(crate) fn parameter(name: &str, detail: impl Into<String>, right: impl Into<String>) -> Self {
        let parameter = Some(name.to_owned());
        Self::wrong(vec![FieldProblem { pointer: None, parameter, detail: detail.into(), right: right.into() }])
    }

    pub(crate) fn field(pointer: impl Into<String>, detail: impl Into<String>, right: impl Into<String>) -> Self {
        let pointer = Some(pointer.into());
        Self::wrong(vec![FieldProblem { pointer, parameter: None, detail: detail.into(), right: right.into() }])
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not now", detail)
    }

    /// All that is wrong with what a check found, or none.
    pub(crate) fn of(problems: &[check::Problem]) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self::wrong(problems.iter().map(FieldProblem::from).collect())) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = |kind, title, detail| Self::new(StatusCode::CONFLICT, kind, title, detail);
        match refusal {
            Refusal::NoPool { pool, known } => {
                let detail = format!("there is no pool `{pool}`{}", those_there_are("pools", &known));
                Self::new(StatusCode::NOT_FOUND, "no-such-pool", "No such pool", detail)
            }
            Refusal::NoBackend { pool, backend, known } => {
                let there = those_there_are("backends", &known);
                let detail = format!("there is no backend `{backend}` in pool `{pool}`{there}");
                Self::new(StatusCode::NOT_FOUND, "no-such-backend", "No such backend", detail)
            }
            Refusal::NoListener { listener, known } => {
                let detail = format!("there is no listener `{listener}`{}", those_there_are("listeners", &known));
                Self::new(StatusCode::NOT_FOUND, "no-such-listener", "No such listener", detail)
            }
            Refusal::NoRelease { pool } => {
                let detail = format!("pool `{pool}` has no release; PUT begins one");
                Self::new(StatusCode::NOT_FOUND, "no-release", "No release", detail)
            }
            Refusal::NoKey { key, known } => {
                let detail = format!("there is no key `{key}`{}", those_there_are("keys", &known));
                Self::new(StatusCode::NOT_FOUND, "no-such-key", "No such key", detail)
            }
            Refusal::KeyInUse(reason) => conflict("key-in-use", "The key is in use", reason),
            Refusal::Precondition { current } => {
                let detail = current.map_or_else(
                    || "it is not there".to_owned(),
                    |tag| format!("its ETag is \"{tag}\" now: read it again, then decide"),
                );
                Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "It is not what you saw", detail)
            }
            Refusal::FileIsSource => conflict(
                "file-is-source",
                "The configuration file decides",
                "membership.source is `file`: change the file and reload it, or set membership.source to `api`"
                    .to_owned(),
            ),
            Refusal::InUse { pool, listeners } => {
                let detail = format!(
                    "pool `{pool}` is where these listeners lead: {}; change the configuration file first",
                    quoted(&listeners)
                );
                conflict("in-use", "The pool is in use", detail)
            }
            Refusal::Found { pool, backend, by, address } => {
                let detail = format!(
                    "`{address}` leads to backend `{backend}`, which would come back with the next look-up: put it into \
                     maintenance, or take its address out of the name or the list, or `{by}` out of `discover` of pool `{pool}`"
                );
                conflict("found", "A name leads to the backend", detail)
            }
            Refusal::CantDrain(detail) => conflict("cant-drain", "The backend can't drain like that", detail),
            Refusal::CantRebalance(detail) => conflict("cant-rebalance", "The pool can't be rebalanced", detail),
            Refusal::CantRelease(detail) => conflict("cant-release", "The pool can't release its sessions", detail),
            Refusal::CantLoad(problems) => {
                let errors = problems.iter().map(FieldProblem::from).collect();
                let detail = certificates::words(&problems);
                Self { errors, ..conflict("cant-load", "The files of its TLS can't be used", detail) }
            }
            Refusal::Wrong(problems) => Self::wrong(problems.iter().map(FieldProblem::from).collect()),
            Refusal::NeedsRestart(listeners) => {
                let detail = "listeners changed whose sockets are bound at start: ".to_owned() + &listeners.join(", ");
                conflict("needs-restart", "This needs a restart", detail + "; restart to apply this")
            }
            Refusal::NotUpgraded(why) => conflict("not-upgraded", "The data plane serves on as it was", why),
            Refusal::NotShared(reason) => reason.into(),
            Refusal::Failed(error) => Self::unavailable(error.to_string()),
            Refusal::Stopping => Self::unavailable("this process is about to stop"),
        }
    }
}

impl From<NotShared> for Problem {
    fn from(reason: NotShared) -> Self {
        match reason {
            NotShared::Away(detail) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "etcd-away", "Not now", detail),
            NotShared::Contended => {
                let detail = "others write the same all the time; nothing has changed: try again";
                Self::new(StatusCode::CONFLICT, "contended", "Others were faster", detail)
            }
            NotShared::Partly => {
                let detail = "a part of this was carried out before others changed what it is about: read it again, and \
                              send it again for the rest";
                Self::new(StatusCode::CONFLICT, "partly-written", "Others came between", detail)
            }
        }
    }
}

fn those_there_are(what: &str, known: &[String]) -> String {
    const SHOWN: usize = 16;
    let more = if known.len() > SHOWN { format!(" and {} more", known.len() - SHOWN) } else { String::new() };
    if known.is_empty() {
        return format!("; there are no {what}");
    }
    format!("; the {what} are {}{more}", quoted(&known[..known.len().min(SHOWN)]))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// One line, for the log.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        for FieldProblem { pointer, parameter, detail, right } in &self.errors {
            let at = pointer.as_ref().or(parameter.as_ref()).map_or("", String::as_str);
            write!(f, "; {at}: {detail}; {right}")?;
        }
        Ok(())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was made from one");
        let body = serde_json::to_vec(&self).expect("problems have string keys and no failing parts");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let token = (status == StatusCode::UNAUTHORIZED)
            .then(|| (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        let wait = self.retry_after.map(|seconds| (header::RETRY_AFTER, seconds.into()));
        response.headers_mut().extend(token.into_iter().chain(wait));
        response
    }
}
