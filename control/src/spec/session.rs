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
    /// A second cookie of ours beside it does, set when the backend sets the application's and gone when that goes.
    Follow,
    /// A token of ours in front of its value does, taken off before the backend sees it.
    Prefix,
    /// It ends in `.` and the name of the backend, as the application has written it (`jvmRoute`).
    Suffix,
}

/// The request header that names a session; gRPC metadata is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AffinityHeader {
    pub name: String,
    pub style: HeaderStyle,
    /// What a request is answered whose session is gone: 400, 404, 410 or 503. Read in style `follow`.
    pub gone_status: u16,
}

impl Default for AffinityHeader {
    fn default() -> Self {
        Self { name: String::new(), style: HeaderStyle::default(), gone_status: 404 }
    }
}

/// How the header says where its session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HeaderStyle {
    /// The hash of its value does.
    #[default]
    Hash,
    /// A token of ours in front of the value that the backend gave it does (`Mcp-Session-Id`). Such a session can't move.
    Follow,
}

/// What of ours goes with a session that the application begins and names: what a response says of it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// A cookie beside the application's.
    Beside,
    /// A token in front of the application's cookie.
    Cookie,
    /// A token in front of a header.
    Header,
}

/// Requests that are not treated as their pool's others: those for which all holds that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AffinityRule {
    /// A prefix in whole segments, as that of a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Compared exactly, upper and lower case apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A header that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What the header says, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The query argument whose hash says where a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AffinityQuery {
    pub name: String,
}
