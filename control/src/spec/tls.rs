use super::Span;
use crate::Endpoint;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};
use std::{fmt, path::PathBuf};

/// How a listener's clients are spoken to: `tls = "self-signed"`, or a `[listener.tls]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// With a certificate made at start, for trials: no client has a reason to trust it.
    SelfSigned,
    With(Box<TlsSettings>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The first is shown to clients that ask for a name that none has, or for none.
    #[serde(rename = "certificate")]
    pub certificates: Vec<Certificate>,
    pub min_version: TlsVersion,
    /// For how long browsers are told to come over TLS alone (RFC 6797), in whole seconds; zero tells nothing.
    pub hsts: Span,
    pub clients: ClientCertificates,
}

/// A chain of certificates with its key, both PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certificate {
    /// The server's certificate, and behind it those that lead to one which clients trust. It serves the names that it has.
    pub chain: PathBuf,
    pub key: PathBuf,
    /// The OCSP response that goes with it, in DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// What clients have to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificates {
    pub verify: ClientVerify,
    /// The authorities whose certificates are taken, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The field in which backends are told the subject of the client's certificate; never passed on from a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_header: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientVerify {
    /// None is asked for.
    #[default]
    Off,
    /// One that is shown must be right.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// How the backends of a pool are spoken to: a `[pool.tls]` table, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PoolTls {
    /// A backend has to show a certificate for its name. Without that anybody between here and there can read and change all.
    pub verify: bool,
    /// The authorities whose certificates are taken, a PEM file; those of this machine unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ca: Option<PathBuf>,
    /// The name that backends are asked for and have to show; the host in the address of each unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What backends are shown that ask for a certificate, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub chain: Option<PathBuf>,
    /// Its key, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub key: Option<PathBuf>,
}

impl PoolTls {
    /// The name that a backend with this address has to show a certificate for; a Unix socket is on this host.
    pub fn name_for<'a>(&'a self, address: &'a str) -> &'a str {
        if Endpoint::is_unix(address) {
            return self.server_name.as_deref().unwrap_or("localhost");
        }
        let host = || address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        self.server_name.as_deref().unwrap_or_else(host)
    }
}

impl Default for PoolTls {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None, chain: None, key: None }
    }
}

const SELF_SIGNED: &str = "self-signed";

impl Tls {
    /// The settings, with the defaults where there are none.
    pub fn settings(&self) -> TlsSettings {
        match self {
            Self::SelfSigned => TlsSettings::default(),
            Self::With(settings) => (**settings).clone(),
        }
    }

    /// The field in which backends are told whom a client's certificate names.
    pub fn subject_header(&self) -> Option<&str> {
        match self {
            Self::With(settings) => settings.clients.subject_header.as_deref(),
            Self::SelfSigned => None,
        }
    }

    /// For how long browsers are told to come over TLS alone, in seconds.
    pub fn hsts(&self) -> Option<u32> {
        match self {
            Self::With(settings) if settings.hsts.as_millis() > 0 => Some(settings.hsts.as_secs_u32()),
            Self::With(_) | Self::SelfSigned => None,
        }
    }
}

impl Serialize for Tls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::SelfSigned => serializer.serialize_str(SELF_SIGNED),
            Self::With(settings) => settings.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;
        impl<'de> de::Visitor<'de> for WordOrTable {
            type Value = Tls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"self-signed\" or a table with a `certificate`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tls, E> {
                match text {
                    SELF_SIGNED => Ok(Tls::SelfSigned),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<Tls, M::Error> {
                TlsSettings::deserialize(MapAccessDeserializer::new(map)).map(|settings| Tls::With(Box::new(settings)))
            }
        }
        deserializer.deserialize_any(WordOrTable)
    }
}
