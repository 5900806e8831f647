//! From rules of others to routes of ours: there the first rule may win, here the most specific host does and then the
//! longest path, so that where two rules meet a route of its own may have to say who wins.

use super::{
    draft::Noted,
    report::{Ledger, Place, Verdict},
};
use control::spec::{Listener, Route};
use std::collections::{BTreeMap, BTreeSet};

/// How a path is compared where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// As here: whole segments.
    Segments,
    /// All that is below it, but not itself.
    Below,
    /// All that begins so, wherever a segment ends.
    Start,
    /// It alone.
    Exact,
}

impl Compared {
    /// How a prefix is compared that is written so.
    pub(crate) fn of_prefix(written: &str) -> Self {
        match written {
            "/" => Self::Segments,
            _ if written.ends_with('/') => Self::Below,
            _ => Self::Start,
        }
    }

    /// How a route with this path differs.
    pub(crate) fn differs(self, path: &str) -> Option<String> {
        match self {
            Self::Segments => None,
            Self::Below => Some(format!("`{path}` itself leads there as well")),
            Self::Start => Some(format!("whole segments count here: `{path}` and `{path}/1`, and not `{path}x`")),
            Self::Exact => Some(format!("what is below `{path}` leads there as well")),
        }
    }
}

/// Which hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    #[default]
    Any,
    /// All below a name, at any depth.
    Below(String),
    Exact(String),
}

impl Host {
    /// As it is written in a route: `shop.example.com`, `*.example.com`.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(name) => Self::Below(name.to_owned()),
            None => Self::Exact(text),
        }
    }

    /// Whether each host of `other` is one of these.
    fn holds(&self, other: &Self) -> bool {
        let below = |name: &str, of: &str| name.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(own), Self::Below(name)) => own == name || below(name, own),
            (Self::Below(own), Self::Exact(name)) => below(name, own),
            (Self::Exact(own), Self::Exact(name)) => own == name,
            (Self::Below(_) | Self::Exact(_), Self::Any) | (Self::Exact(_), Self::Below(_)) => false,
        }
    }

    /// The hosts that are both; `None` where there are none.
    pub(crate) fn narrower(&self, other: &Self) -> Option<Self> {
        match (self.holds(other), other.holds(self)) {
            (true, _) => Some(other.clone()),
            (false, true) => Some(self.clone()),
            (false, false) => None,
        }
    }

    fn written(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Below(name) => Some(format!("*.{name}")),
            Self::Exact(name) => Some(name.clone()),
        }
    }

    /// The more specific is the greater.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Below(name) => (1, name.len()),
            Self::Exact(name) => (2, name.len()),
        }
    }
}

/// What leads to a pool: hosts, and paths below a prefix in whole segments, without a slash at its end; the empty one has all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) host: Host,
    pub(crate) path: String,
    pub(crate) pool: String,
    pub(crate) place: Place,
}

/// More of them would be a mistake rather than a configuration.
const MOST: usize = 20_000;

/// The routes that lead each request to the pool of the first rule that it matches, with where each came from. `None` where
/// that would take more routes than anybody would read.
pub(crate) fn by_order(rules: &[Rule]) -> Option<Vec<(Route, Place)>> {
    lay_out(rules, |host, path| rules.iter().find(|rule| rule.host.holds(host) && is_below(path, &rule.path)))
}

/// The same where the most specific host is chosen first, and nothing but its rules counts then; of these the longest path.
pub(crate) fn by_host(rules: &[Rule]) -> Option<Vec<(Route, Place)>> {
    lay_out(rules, |host, path| {
        let chosen =
            rules.iter().map(|rule| &rule.host).filter(|own| own.holds(host)).max_by_key(|host| host.rank())?;
        let own = rules.iter().filter(|rule| rule.host == *chosen && is_below(path, &rule.path));
        own.max_by_key(|rule| rule.path.len())
    })
}

fn lay_out<'r>(rules: &'r [Rule], winner: impl Fn(&Host, &str) -> Option<&'r Rule>) -> Option<Vec<(Route, Place)>> {
    let mut hosts: Vec<_> = rules.iter().map(|rule| &rule.host).collect::<BTreeSet<_>>().into_iter().collect();
    hosts.sort_by_key(|host| host.rank());
    let mut paths: Vec<_> = rules.iter().map(|rule| &rule.path).collect::<BTreeSet<_>>().into_iter().collect();
    paths.sort_by_key(|path| path.len());
    if hosts.len().saturating_mul(paths.len()) > MOST {
        return None;
    }
    // From the general to the specific: what is there already is what a request falls back to.
    let mut made: BTreeMap<&Host, Vec<(&str, &Rule)>> = BTreeMap::new();
    let mut order = Vec::new();
    for host in hosts {
        for path in &paths {
            let Some(rule) = winner(host, path) else { continue };
            if found(&made, host, path).is_none_or(|fallback| fallback.pool != rule.pool) {
                made.entry(host).or_default().push((path, rule));
                order.push((host, path.as_str(), rule));
            }
        }
    }
    let routes = order.into_iter().map(|(host, path, rule)| {
        let path = (!path.is_empty()).then(|| path.to_owned());
        (Route { host: host.written(), path, pool: rule.pool.clone(), affinity: true }, rule.place)
    });
    Some(routes.collect())
}

/// What these routes lead to: the most specific host that has a path for it.
fn found<'r>(made: &BTreeMap<&Host, Vec<(&str, &'r Rule)>>, host: &Host, path: &str) -> Option<&'r Rule> {
    let mut holding: Vec<_> = made.iter().filter(|(own, _)| own.holds(host)).collect();
    holding.sort_by_key(|(own, _)| std::cmp::Reverse(own.rank()));
    holding.into_iter().find_map(|(_, paths)| {
        let fitting = paths.iter().filter(|(own, _)| is_below(path, own));
        fitting.max_by_key(|(own, _)| own.len()).map(|(_, rule)| *rule)
    })
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path as routes compare it: `/cart/` is `/cart`.
pub(crate) fn prefix(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// Whether it can stand in a route.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?".contains(&byte))
}

/// Whether it can stand in a route, `*.` in front included.
pub(crate) fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.map_or_else(|| name.split('.').all(is_label), |address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Has a listener lead by the routes that were made of these rules, where they could be.
pub(crate) fn lead(
    ledger: &mut Ledger,
    listener: &mut Noted<Listener>,
    rules: &[Rule],
    made: Option<Vec<(Route, Place)>>,
) {
    let Some(made) = made else {
        let why = "hosts and paths meet in more ways than routes could say";
        return rules.iter().for_each(|rule| ledger.remark(rule.place, Verdict::not_taken(why)));
    };
    for (route, place) in made {
        if route.host.is_none() && route.path.is_none() {
            listener.is.pool = Some(route.pool);
            listener.note("", place);
            continue;
        }
        let path = format!("route.{}", listener.is.routes.len());
        if let Err(why) = listener.set(&path, place, |listener| listener.routes.push(route)) {
            ledger.remark(place, Verdict::not_taken(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule((host, path, pool): (&str, &str, &str)) -> Rule {
        let host = if host.is_empty() { Host::Any } else { Host::of(host) };
        Rule { host, path: prefix(path), pool: pool.to_owned(), place: Place { file: 0, line: 1 } }
    }

    fn shown(routes: Option<Vec<(Route, Place)>>) -> Vec<String> {
        let show = |(route, _): &(Route, Place)| {
            let (host, path) = (route.host.as_deref().unwrap_or("*"), route.path.as_deref().unwrap_or("/"));
            format!("{host} {path} {}", route.pool)
        };
        routes.unwrap().iter().map(show).collect()
    }

    #[test]
    fn where_two_rules_meet_the_first_wins() {
        let api_first = [("", "/api", "api"), ("shop.test", "", "shop")].map(rule);
        assert_eq!(shown(by_order(&api_first)), ["* /api api", "shop.test / shop", "shop.test /api api"]);
        let shop_first = [("shop.test", "", "shop"), ("", "/api", "api")].map(rule);
        assert_eq!(shown(by_order(&shop_first)), ["* /api api", "shop.test / shop"]);
        let longest = [("", "/a", "one"), ("", "/a/b", "two")].map(rule);
        assert_eq!(shown(by_order(&longest)), ["* /a one"], "the second never wins");
        let wide = [("*.test", "", "wide"), ("a.test", "/x", "narrow")].map(rule);
        assert_eq!(shown(by_order(&wide)), ["*.test / wide"]);
    }

    #[test]
    fn a_host_of_its_own_shuts_out_the_rules_of_others() {
        let rules = [("", "", "rest"), ("", "/api", "api"), ("shop.test", "", "shop"), ("*.test", "/img", "img")];
        let routes = shown(by_host(&rules.map(rule)));
        assert_eq!(routes, ["* / rest", "* /api api", "*.test /img img", "shop.test / shop"]);
    }

    /// What the routes do is what the rules say, for each host and path there is.
    #[test]
    fn routes_do_what_the_rules_say() {
        let hosts = ["", "*.test", "*.a.test", "a.test", "b.a.test"];
        let paths = ["", "/x", "/x/y", "/z"];
        let mut seed = 7u64;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..500 {
            let count = 1 + draw(7);
            let rules: Vec<_> =
                (0..count).map(|_| rule((hosts[draw(5)], paths[draw(4)], ["p", "q", "r"][draw(3)]))).collect();
            let routes = by_order(&rules).unwrap();
            let made = routes.iter().map(|(route, place)| Rule {
                host: route.host.as_deref().map_or(Host::Any, Host::of),
                path: route.path.clone().unwrap_or_default(),
                pool: route.pool.clone(),
                place: *place,
            });
            let made: Vec<_> = made.collect();
            for host in ["other", "test", "a.test", "b.a.test", "c.b.a.test", "q.test"] {
                for path in ["/", "/x", "/x/1", "/x/y", "/x/y/2", "/z", "/xy"] {
                    let host = Host::of(host);
                    let wanted = rules.iter().find(|rule| rule.host.holds(&host) && is_below(path, &rule.path));
                    let mut by_host = BTreeMap::new();
                    for rule in &made {
                        by_host.entry(&rule.host).or_insert_with(Vec::new).push((rule.path.as_str(), rule));
                    }
                    let got = found(&by_host, &host, path);
                    assert_eq!(got.map(|rule| &rule.pool), wanted.map(|rule| &rule.pool), "{rules:?} {host:?} {path}");
                }
            }
        }
    }
}
