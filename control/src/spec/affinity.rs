use super::{
    Adopt, AffinityHeader, AffinityQuery, AffinityRule, AppCookie, AppCookieStyle, Follows, HeaderStyle, Span,
};
use serde::{Deserialize, Serialize};

/// How a pool finds the session key of a request, and what it does when the pinned backend can't be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Affinity {
    pub mode: Mode,
    pub on_down: OnDown,
    pub on_overload: OnOverload,
    /// Requests without a session that one client sends within such a time begin one session together. `1s` to `1m`; not
    /// at all unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "2s"))]
    pub coalesce: Option<Span>,
    /// The share of returning requests that is to reach their pin, between 0 and 1; not in mode `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = 0.999))]
    pub target: Option<f64>,
    /// Read in mode `cookie`.
    pub cookie: Cookie,
    /// Read in mode `source-ip`.
    pub source_ip: SourceIp,
    /// Needed in mode `app-cookie`, and in no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_cookie: Option<AppCookie>,
    /// Needed in mode `header`, and in no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<AffinityHeader>,
    /// Needed in mode `query`, and in no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<AffinityQuery>,
    /// Requests without affinity: no pin is read, and none is set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<AffinityRule>,
    /// Requests that go to their pin though it is down or in maintenance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub force: Vec<AffinityRule>,
    /// Cookies of the balancer that served before. Read in mode `cookie`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adopt: Vec<Adopt>,
}

impl Affinity {
    /// Whether sessions have keys by which they can be told apart and counted.
    pub fn has_sessions(&self) -> bool {
        match self.mode {
            Mode::Cookie => self.cookie.token == TokenKind::Sealed,
            Mode::AppCookie | Mode::Header | Mode::Query | Mode::SourceIp => true,
            Mode::None => false,
        }
    }

    /// Whether the hash of what a request carries says where its session is.
    pub fn hashes(&self) -> bool {
        match self.mode {
            Mode::AppCookie => self.app_cookie.as_ref().is_some_and(|cookie| cookie.style == AppCookieStyle::Hash),
            Mode::Header => self.header.as_ref().is_some_and(|header| header.style == HeaderStyle::Hash),
            Mode::Query | Mode::SourceIp => true,
            Mode::Cookie | Mode::None => false,
        }
    }

    /// Whether a session that moves is marked anew. Where not, what a request says of its session stays as it is, and the
    /// next one comes with the same.
    pub fn marks(&self) -> bool {
        self.sets_cookie()
    }

    /// Whether clients carry what says where their session is.
    pub fn is_carried(&self) -> bool {
        !matches!(self.mode, Mode::None | Mode::SourceIp)
    }

    /// Why a release can let none of its sessions go, and what can be done; `None` where it can.
    pub fn why_not_released(&self) -> Option<(&'static str, &'static str)> {
        match self.mode {
            Mode::None => {
                Some(("it has no affinity, and its requests are balanced freely already", "there is nothing to do"))
            }
            Mode::Cookie if self.cookie.token == TokenKind::Plain => Some((
                "its plain tokens have no session keys by which a cohort could be told",
                "set token = \"sealed\"",
            )),
            Mode::Header if self.follows() == Some(Follows::Header) => Some((
                "its sessions can't be served by another backend than the one that began them",
                "use another affinity",
            )),
            Mode::Cookie | Mode::AppCookie | Mode::Header | Mode::Query | Mode::SourceIp => None,
        }
    }

    /// Whether there is a cookie of ours.
    pub fn sets_cookie(&self) -> bool {
        self.mode == Mode::Cookie || self.follows() == Some(Follows::Beside)
    }

    /// Whether there are sealed tokens, wherever they stand.
    pub fn seals(&self) -> bool {
        (self.mode == Mode::Cookie && self.cookie.token == TokenKind::Sealed) || self.follows().is_some()
    }

    /// Whether a session begins with a cookie that carries our token, which a browser's first requests can't have yet.
    pub fn begins_with_cookie(&self) -> bool {
        self.mode == Mode::Cookie || matches!(self.follows(), Some(Follows::Beside | Follows::Cookie))
    }

    pub fn follows(&self) -> Option<Follows> {
        match self.mode {
            Mode::AppCookie => match self.app_cookie.as_ref()?.style {
                AppCookieStyle::Follow => Some(Follows::Beside),
                AppCookieStyle::Prefix => Some(Follows::Cookie),
                AppCookieStyle::Hash | AppCookieStyle::Suffix => None,
            },
            Mode::Header => (self.header.as_ref()?.style == HeaderStyle::Follow).then_some(Follows::Header),
            Mode::Cookie | Mode::Query | Mode::SourceIp | Mode::None => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Cookie,
    /// By the application's own cookie.
    AppCookie,
    /// By a request header.
    Header,
    /// By an argument in the query.
    Query,
    SourceIp,
    /// Balance every request.
    None,
}

/// Where a session goes whose backend is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OnDown {
    /// To the ring's next backend for its session key, for good, with a new token.
    #[default]
    Repin,
    /// To the ring's next backend, but home again as soon as its own is up: the pin stays.
    Spill,
    /// Nowhere: 503.
    Fail,
}

/// What happens to a session whose backend is over its load bound, or has as many requests as it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OnOverload {
    /// It goes to its backend all the same.
    #[default]
    Stay,
    /// It waits for its backend; see [`Limits`](super::Limits).
    Queue,
    /// To the ring's next backend that has room, for this request alone: the pin stays.
    Spill,
}

/// The affinity cookie. Limits of time are enforced by the proxy and not left to the browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Cookie {
    pub name: String,
    pub token: TokenKind,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    pub secure: bool,
    pub http_only: bool,
    pub same_site: SameSite,
    pub partitioned: bool,
    /// `Max-Age` of the cookie; without it the browser drops the cookie when it closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "12h"))]
    pub max_age: Option<Span>,
    /// A session that was not seen for so long has ended. At least `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "30m"))]
    pub idle_timeout: Option<Span>,
    /// A session that began so long ago has ended, however busy it is. At least `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "24h"))]
    pub lifetime: Option<Span>,
    /// Keep the cookie from the backend.
    pub indirect: bool,
    /// Set it on responses to POST alone, so that others can be cached. Read in mode `cookie`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub postonly: bool,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "lb-affinity".to_owned(),
            token: TokenKind::default(),
            path: "/".to_owned(),
            domain: None,
            secure: false,
            http_only: true,
            same_site: SameSite::default(),
            partitioned: false,
            max_age: None,
            idle_timeout: None,
            lifetime: None,
            indirect: true,
            postonly: false,
        }
    }
}

impl Cookie {
    /// How long a session counts as live after its last request.
    pub fn live_for(&self) -> Span {
        const UNSET: Span = Span::from_secs(30 * 60);
        self.idle_timeout.unwrap_or(UNSET)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Authenticated; tells a client nothing.
    #[default]
    Sealed,
    /// The backend's name, for those who must read it: clients can choose their backend, and no time limit can be held.
    Plain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SameSite {
    Strict,
    #[default]
    Lax,
    /// Needs `secure = true`; browsers drop the cookie otherwise.
    None,
    /// The attribute is not sent.
    Unset,
}

/// How many leading bits of the client's address make the session key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SourceIp {
    /// 0 to 32.
    #[cfg_attr(feature = "openapi", schema(maximum = 32))]
    pub ipv4_prefix: u8,
    /// 0 to 128.
    #[cfg_attr(feature = "openapi", schema(maximum = 128))]
    pub ipv6_prefix: u8,
}

impl Default for SourceIp {
    fn default() -> Self {
        Self { ipv4_prefix: 32, ipv6_prefix: 64 }
    }
}
