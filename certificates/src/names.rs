//! Which certificate a client is shown.

use ahash::AHashMap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::sync::Arc;

/// A listener's certificates by the names that they are for.
#[derive(Debug)]
pub(crate) struct Names {
    exact: AHashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what stands behind `*.`.
    wildcards: AHashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Those of the name that the first has.
    default: Vec<Arc<CertifiedKey>>,
}

impl Names {
    /// `certificates` with the names of each, in the order in which they are preferred; the first is the default.
    pub(crate) fn new<'n>(certificates: impl Iterator<Item = (Arc<CertifiedKey>, &'n [String])>) -> Self {
        let mut all = Self { exact: AHashMap::new(), wildcards: AHashMap::new(), default: Vec::new() };
        let mut default: Option<&[String]> = None;
        for (certificate, names) in certificates {
            // One with another kind of key stands in for the first where a client can't use that.
            if *default.get_or_insert(names) == names {
                all.default.push(Arc::clone(&certificate));
            }
            for name in names {
                let (list, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut all.wildcards, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                list.entry(name.to_owned()).or_default().push(Arc::clone(&certificate));
            }
        }
        all
    }

    /// Exact before wildcard, which stands for one label (RFC 6125 section 6.4.3), before the default.
    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.default };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(&name).or_else(|| self.wildcards.get(parent?));
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.of(hello.server_name());
        let usable = candidates.iter().find(|each| each.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.or(candidates.first()).cloned()
    }
}
