//! Which pool a request is for: the most specific host wins, then the longest path.

use ahash::AHashMap;
use control::spec::Route;

/// The routes of one listener, made for look-up. A pool is an index into the table's pools.
#[derive(Clone, Debug, Default)]
pub struct Router {
    exact: AHashMap<Box<[u8]>, Paths>,
    /// By what follows the `*.`.
    wildcard: AHashMap<Box<[u8]>, Paths>,
    any_host: Paths,
    default: Option<Lead>,
}

/// Where a request is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    pub pool: u32,
    /// Whether the pool's affinity holds for it.
    pub affinity: bool,
    /// The slot of the route; absent where it is not counted.
    pub route: Option<u32>,
}

/// Path prefixes in whole segments, longest first; `/` is the empty prefix.
#[derive(Clone, Debug, Default)]
struct Paths(Vec<(Box<[u8]>, Lead)>);

impl Router {
    /// `pool` finds the index of a pool by name; routes to a pool that it doesn't know are left out. `slot` gives the slot
    /// of a route to a pool; without a route, of what matches none.
    pub fn new(
        routes: &[Route],
        default: Option<&str>,
        pool: impl Fn(&str) -> Option<u32>,
        mut slot: impl FnMut(Option<&Route>, &str) -> Option<u32>,
    ) -> Self {
        let default = default.and_then(|name| Some((name, pool(name)?)));
        let default = default.map(|(name, pool)| Lead { pool, affinity: true, route: slot(None, name) });
        let mut router = Self { default, ..Self::default() };
        for route in routes {
            let Some(index) = pool(&route.pool) else { continue };
            let prefix = route.path.as_deref().unwrap_or("/").trim_end_matches('/');
            let host = route.host.as_deref().map(str::to_ascii_lowercase);
            let paths = match host.as_deref() {
                None => &mut router.any_host,
                Some(host) => match host.strip_prefix("*.") {
                    Some(suffix) => router.wildcard.entry(suffix.as_bytes().into()).or_default(),
                    None => router.exact.entry(host.as_bytes().into()).or_default(),
                },
            };
            paths.add(
                prefix.as_bytes(),
                Lead { pool: index, affinity: route.affinity, route: slot(Some(route), &route.pool) },
            );
        }
        router
    }

    /// The pool for a host without port, in whatever case, and a path, with or without its query. Paths are compared as
    /// they came: nothing is decoded.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<Lead> {
        if !self.exact.is_empty() || !self.wildcard.is_empty() {
            let mut lower = [0; 255];
            if let Some(lower) = lower.get_mut(..host.len()) {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                if let Some(pool) = self.find_host(lower, path) {
                    return Some(pool);
                }
            }
        }
        self.any_host.find(path).or(self.default)
    }

    fn find_host(&self, host: &[u8], path: &[u8]) -> Option<Lead> {
        // A name may be written with the root's dot at its end.
        let host = host.strip_suffix(b".").unwrap_or(host);
        if let Some(pool) = self.exact.get(host).and_then(|paths| paths.find(path)) {
            return Some(pool);
        }
        let mut rest = host;
        while let Some(dot) = memchr::memchr(b'.', rest).filter(|_| !self.wildcard.is_empty()) {
            rest = &rest[dot + 1..];
            if let Some(pool) = self.wildcard.get(rest).and_then(|paths| paths.find(path)) {
                return Some(pool);
            }
        }
        None
    }
}

impl Paths {
    fn add(&mut self, prefix: &[u8], lead: Lead) {
        let at = self.0.partition_point(|(other, _)| other.len() >= prefix.len());
        self.0.insert(at, (prefix.into(), lead));
    }

    fn find(&self, path: &[u8]) -> Option<Lead> {
        self.0.iter().find(|(prefix, _)| is_below(path, prefix)).map(|(_, lead)| *lead)
    }
}

/// Whether a path, with or without its query, is below a prefix in whole segments; all are below the empty one.
pub(crate) fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?'))) || prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let route = |host: &str, path: &str, pool: &str| Route {
            host: (!host.is_empty()).then(|| host.to_owned()),
            path: (!path.is_empty()).then(|| path.to_owned()),
            pool: pool.to_owned(),
            affinity: pool != "1",
        };
        let routes = [
            route("shop.example.com", "", "0"),
            route("shop.example.com", "/cart", "1"),
            route("shop.example.com", "/cart/old/", "2"),
            route("*.example.com", "", "3"),
            route("*.eu.example.com", "/api", "4"),
            route("", "/static", "5"),
            route("other.org", "", "unknown"),
        ];
        let slot = |route: Option<&Route>, pool: &str| route.and_then(|_| pool.parse::<u32>().ok());
        Router::new(&routes, Some("6"), |name| name.parse().ok(), slot)
    }

    #[test]
    fn the_most_specific_host_wins_then_the_longest_path() {
        for (host, path, pool) in [
            ("shop.example.com", "/", 0),
            ("SHOP.Example.com", "/cart", 1),
            ("shop.example.com.", "/cart?x=1", 1),
            ("shop.example.com", "/cart/1", 1),
            ("shop.example.com", "/cartoon", 0),
            ("shop.example.com", "/cart/old", 2),
            ("shop.example.com", "/cart/old/1", 2),
            ("shop.example.com", "/cart/older", 1),
            ("a.example.com", "/", 3),
            ("a.b.example.com", "/", 3),
            ("example.com", "/", 6),
            ("badexample.com", "/", 6),
            ("a.eu.example.com", "/api/v1", 4),
            ("a.eu.example.com", "/other", 3),
            ("nowhere.org", "/static/x", 5),
            ("nowhere.org", "*", 6),
            ("", "/static", 5),
            ("other.org", "/", 6),
        ] {
            let lead = Lead { pool, affinity: pool != 1, route: (pool != 6).then_some(pool) };
            assert_eq!(router().find(host.as_bytes(), path.as_bytes()), Some(lead), "{host}{path}");
        }
        let long = [b'a'; 300];
        assert_eq!(router().find(&long, b"/static").map(|lead| lead.pool), Some(5));
    }

    #[test]
    fn without_a_default_there_may_be_no_pool() {
        assert_eq!(Router::new(&[], None, |_| Some(1), |_, _| None).find(b"a", b"/"), None);
        assert_eq!(
            Router::new(&[], Some("x"), |_| Some(1), |_, _| None).find(b"a", b"/").map(|lead| lead.pool),
            Some(1)
        );
    }
}
