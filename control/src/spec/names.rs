//! Names in the addresses of backends.

use super::Span;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{net::SocketAddr, path::PathBuf};

/// How names are looked up: by the system's resolver, by the admin process, off the path of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Names {
    /// Time between two look-ups of a name, with up to a tenth of jitter; `1s` to `1d`. A look-up that failed is tried
    /// again after 5 seconds, or after this where it is less.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "30s"))]
    pub interval: Span,
    pub family: Family,
    /// How long the sessions of a discovered backend may stay once its name has left its address; `0s` to `365d`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "30m"))]
    pub linger: Span,
    /// The DNS server that is asked for SRV records; those of `/etc/resolv.conf` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "127.0.0.1:8600"))]
    pub server: Option<Server>,
}

/// An `address:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub SocketAddr);

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let server = text.parse().ok().filter(|at: &SocketAddr| at.port() > 0).map(Self);
        server.ok_or_else(|| D::Error::custom(format!("`{text}` is no address of a server: write \"127.0.0.1:8600\"")))
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { interval: Span::from_secs(30), family: Family::default(), linger: Span::from_secs(1_800), server: None }
    }
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Those of IPv4 where there are any, those of IPv6 otherwise: a host with both is one backend.
    #[default]
    Either,
    Ipv4,
    Ipv6,
    Both,
}

/// A name of which every address is a backend of its own, called `NAME-ADDRESS` (with `-` for the `:` of IPv6); or a file that
/// lists backends, or the SRV records of a name, which are called `NAME-ADDRESS-PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Discover {
    /// At most 80 bytes.
    pub name: String,
    /// `host:port`; the host is a name. Either this, `srv` or `file`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// A JSON file with a list of `"address:port"`, or of `{"address": "address:port", "weight": 1}`; read again every second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub file: Option<PathBuf>,
    /// `_service._proto.name`, whose SRV records (RFC 2782) say where backends are and what they weigh; those of a priority above
    /// the lowest are backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srv: Option<String>,
    /// Of each backend, 0 to 1000. Each can be given another one later.
    #[cfg_attr(feature = "openapi", schema(maximum = 1000))]
    pub weight: u32,
    /// They get new sessions only while none of the others can take any.
    pub backup: bool,
}

impl Default for Discover {
    fn default() -> Self {
        Self { name: String::new(), address: String::new(), file: None, srv: None, weight: 1, backup: false }
    }
}
