//! The API's description. What every call has in common is said here once.

use super::{problem::Problem, schemas};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

/// What routes are added to.
pub(super) fn base(version: &str) -> OpenApi {
    let mut info = Info::new("Steadfast", version);
    info.description = Some("Pools, backends and sessions of one node. Errors are RFC 9457 problems.".to_owned());
    OpenApiBuilder::new().info(info).paths(Paths::new()).build()
}

/// The whole description, as JSON: each call may answer with a problem, and all but the probes want a token where one is
/// set.
pub(super) fn finish(mut api: OpenApi, probes: OpenApi, token: bool) -> Arc<str> {
    let components = api.components.get_or_insert_with(Components::new);
    if token {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.security_schemes.insert("token".to_owned(), scheme.into());
        api.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    }
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    let mut nested = Vec::new();
    Problem::schemas(&mut nested);
    components.schemas.extend(nested);
    api.merge(probes);
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let otherwise = ResponseBuilder::new()
        .description("What went wrong, and what would be right")
        .content("application/problem+json", problem)
        .build();
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(otherwise.clone()));
        }
    }
    let mut api = serde_json::to_value(&api).expect("a description has string keys and no failing parts");
    schemas::refine(&mut api["components"]["schemas"]);
    api.to_string().into()
}

pub(super) fn answer(description: &Arc<str>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], description.to_string()).into_response()
}
