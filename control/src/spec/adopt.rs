//! Cookies of the balancer that served before.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroize;

/// A cookie of another balancer that is honoured where a request has no token of ours: the session stays at the backend
/// which it names, and the response has our token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Adopt {
    /// Whose cookie it is, which says how its value names a backend.
    pub from: Option<AdoptFrom>,
    /// Its name.
    pub cookie: String,
    /// The secret of `dynamic-cookie-key`. Needed by `haproxy-dynamic`, and by no other. Shown as `(hidden)`, which in a
    /// body of `PUT` stands for the one that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub key: Option<Secret>,
    /// Namespace, service and port as in `shop-web-80`. Needed by `ingress-nginx-persistent`, and by no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Backends by values that name them beside those that follow from names and addresses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Take it from the client with the response that has our token.
    pub delete: bool,
    /// Where the client has it, so that it can be deleted.
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

impl Default for Adopt {
    fn default() -> Self {
        Self {
            from: None,
            cookie: String::new(),
            key: None,
            service: None,
            values: BTreeMap::new(),
            delete: false,
            path: "/".to_owned(),
            domain: None,
        }
    }
}

/// How a cookie's value names a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AdoptFrom {
    /// The backend's name, with the dates of `maxidle` and `maxlife` behind it.
    Haproxy,
    /// A hash of key and address.
    HaproxyDynamic,
    /// The MD5 of the address: `sticky cookie`.
    Nginx,
    /// A place on a ring of the addresses: `affinity-mode: balanced`.
    IngressNginx,
    /// The MD5 of service and address: `affinity-mode: persistent`.
    IngressNginxPersistent,
    /// The server's URL, plain or hashed.
    Traefik,
    /// The address in base64, by itself or in a message.
    Envoy,
    /// It can't be read (`AWSALB`, `AWSELB`), or it names none: the hash of it places the session, wherever that was before.
    Opaque,
}

impl AdoptFrom {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::HaproxyDynamic => "haproxy-dynamic",
            Self::Nginx => "nginx",
            Self::IngressNginx => "ingress-nginx",
            Self::IngressNginxPersistent => "ingress-nginx-persistent",
            Self::Traefik => "traefik",
            Self::Envoy => "envoy",
            Self::Opaque => "opaque",
        }
    }
}

/// A text that is shown to nobody: not by `Debug`, and not by the API.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// What is shown in its place.
    pub const HIDDEN: &str = "(hidden)";

    pub fn hidden() -> Self {
        Self(Self::HIDDEN.to_owned())
    }

    pub fn is_hidden(&self) -> bool {
        self.0 == Self::HIDDEN
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Adopt {
    /// Whether both are of the same cookie.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.from, &self.cookie) == (other.from, &other.cookie)
    }
}

/// The cookies as anybody may see them.
pub fn without_secrets(adopt: &[Adopt]) -> Vec<Adopt> {
    let hidden = |each: &Adopt| Adopt { key: each.key.as_ref().map(|_| Secret::hidden()), ..each.clone() };
    adopt.iter().map(hidden).collect()
}

/// Puts what is in `before` where `adopt` says that a secret is to stay.
pub fn with_secrets_of(before: &[Adopt], adopt: &mut [Adopt]) {
    for each in adopt.iter_mut().filter(|each| each.key.as_ref().is_some_and(Secret::is_hidden)) {
        if let Some(known) = before.iter().find(|known| known.is_same(each)) {
            each.key.clone_from(&known.key);
        }
    }
}
