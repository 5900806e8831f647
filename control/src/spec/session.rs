//! Where a session is found that the application names itself.

use serde::{Deserialize, Serialize};

/// The cookie in which the application names its session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AppCookie {
    pub name: String,
    pub style: AppCookieStyle,
    /// The path parameter that stands in for the cookie: `jsessionid` for `/cart;jsessionid=…`. Read in the styles `hash`
    /// and `suffix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_parameter: Option<String>,
}

/// How the application's cookie says where its session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AppCookieStyle {
    /// The hash of its value does. Nothing is set or rewritten.
    #[default]
    Hash,
    /// It ends in `.` and the name of the backend, as the application has written it (`jvmRoute`).
    Suffix,
}

/// The request header that names a session; gRPC metadata is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AffinityHeader {
    pub name: String,
    pub style: HeaderStyle,
}

/// How the header says where its session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HeaderStyle {
    /// The hash of its value does.
    #[default]
    Hash,
}

/// The query argument whose hash says where a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AffinityQuery {
    pub name: String,
}
