//! What stands under which key in etcd, and what it means. Pure.

use crate::store::Section;
use control::{
    check::{self, MAX_NAME, is_name},
    desired::{AdminState, Drain, DrainMode, Found, Member, SEED_INCARNATION, Share, Then},
    release::Release,
    spec::{Backend, Listener, Pool},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Which keys there are and what is in them.
pub(super) const FORMAT: &str = "1";

/// What a key below the prefix is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Which layout this is. It is written last by whoever fills an empty prefix, and without it nothing else counts.
    Format,
    /// What revisions are added to for incarnations, so that these never repeat where etcd begins anew.
    Base,
    /// Who fills an empty prefix.
    Claim,
    /// Where a node of the cluster is reached.
    Node(String),
    Pool(String),
    Member(String, String),
    Release(String),
    /// What the configuration file said of a pool.
    Section(String),
}

impl Key {
    pub(crate) fn path(&self, prefix: &str) -> String {
        match self {
            Self::Format => format!("{prefix}/format"),
            Self::Base => format!("{prefix}/base"),
            Self::Claim => format!("{prefix}/claim"),
            Self::Node(node) => format!("{prefix}/nodes/{node}"),
            Self::Pool(pool) => format!("{prefix}/pools/{pool}"),
            Self::Member(pool, name) => format!("{prefix}/members/{pool}/{name}"),
            Self::Release(pool) => format!("{prefix}/releases/{pool}"),
            Self::Section(pool) => format!("{prefix}/sections/{pool}"),
        }
    }

    /// The key that a path of etcd is.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(prefix: &str, path: &str) -> Result<Self, String> {
        let parts: Vec<_> = path.strip_prefix(prefix).unwrap_or_default().split('/').skip(1).collect();
        let name = |name: &str| {
            let why =
                || format!("`{}` is no name: write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`", shown(name));
            if is_name(name) { Ok(name.to_owned()) } else { Err(why()) }
        };
        match parts.as_slice() {
            ["format"] => Ok(Self::Format),
            ["base"] => Ok(Self::Base),
            ["claim"] => Ok(Self::Claim),
            ["nodes", node] => Ok(Self::Node(name(node)?)),
            ["pools", pool] => Ok(Self::Pool(name(pool)?)),
            ["members", pool, member] => Ok(Self::Member(name(pool)?, name(member)?)),
            ["releases", pool] => Ok(Self::Release(name(pool)?)),
            ["sections", pool] => Ok(Self::Section(name(pool)?)),
            _ => Err("there is no such key: write pools/POOL or members/POOL/BACKEND below the prefix".to_owned()),
        }
    }

    /// The pool that it is about.
    pub(super) fn pool(&self) -> Option<&str> {
        match self {
            Self::Pool(pool) | Self::Member(pool, _) | Self::Release(pool) | Self::Section(pool) => Some(pool),
            Self::Format | Self::Base | Self::Claim | Self::Node(_) => None,
        }
    }
}

/// As much of somebody's text as can stand in a line of the log.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 120;
    text.chars().take(MOST).flat_map(char::escape_debug).collect()
}

/// The keys of a pool's members: from the first of these up to, and without, the second.
pub(super) fn members_range(prefix: &str, pool: &str) -> (String, String) {
    // `0` follows `/`.
    (format!("{prefix}/members/{pool}/"), format!("{prefix}/members/{pool}0"))
}

/// All keys below the prefix, as [`members_range`].
pub(super) fn whole_range(prefix: &str) -> (String, String) {
    (format!("{prefix}/"), format!("{prefix}0"))
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Node(Node),
    Pool(Box<Pool>),
    Member(Box<Member>),
    Release(Box<Release>),
    Section(Box<Section>),
}

/// Reads what stands under a key. `listeners` are this node's.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(super) fn parse(key: &Key, value: &[u8], listeners: &[Listener]) -> Result<Value, String> {
    match key {
        Key::Format | Key::Claim => Ok(Value::Text(String::from_utf8_lossy(value).trim().to_owned())),
        Key::Base => {
            let text = str::from_utf8(value).unwrap_or_default().trim();
            text.parse().map(Value::Number).map_err(|_| format!("`{}` is no number", shown(text)))
        }
        Key::Node(_) => node(value).map(Value::Node),
        Key::Pool(name) => {
            let mut pool: Pool = read(value)?;
            if pool.name.is_empty() {
                pool.name.clone_from(name);
            }
            if pool.name != *name {
                return Err(format!("name: is `{}`; leave it out, or write the key's", shown(&pool.name)));
            }
            if !pool.backends.is_empty() {
                return Err("backend: each has a key of its own below members/; leave it out".to_owned());
            }
            let problems = check::pool(&pool).into_iter().chain(check::pool_of(&pool, listeners));
            right(problems).map(|()| Value::Pool(Box::new(pool)))
        }
        Key::Member(_, name) => member(name, value).map(|member| Value::Member(Box::new(member))),
        Key::Release(_) => read(value).map(Value::Release),
        Key::Section(_) => read(value).map(Value::Section),
    }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner().to_string());
        if path == "." { error } else { format!("{path}: {error}") }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(read)
}

fn right(problems: impl IntoIterator<Item = check::Problem>) -> Result<(), String> {
    let problems: Vec<_> = problems.into_iter().map(|problem| problem.to_string()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Where a node is reached, as it tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its admin API: `http://host:port` or `https://host:port`.
    pub(crate) admin: String,
    pub(crate) version: String,
    /// When it was last there, in Unix seconds.
    pub(crate) seen: u64,
}

fn node(value: &[u8]) -> Result<Node, String> {
    let node: Node = read(value)?;
    if check::etcd::is_endpoint(&node.admin) {
        return Ok(node);
    }
    Err(format!("admin: `{}` is no address; write \"http://host:port\" or \"https://host:port\"", shown(&node.admin)))
}

/// A member as anybody may write it: the address alone will do.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MemberRow {
    address: String,
    weight: u32,
    backup: bool,
    admin_state: AdminState,
    drain: Option<DrainRow>,
    incarnation: u32,
    instance: Option<String>,
    found: Option<Found>,
}

impl Default for MemberRow {
    fn default() -> Self {
        Self {
            address: String::new(),
            weight: Backend::default().weight,
            backup: false,
            admin_state: AdminState::Active,
            drain: None,
            incarnation: SEED_INCARNATION,
            instance: None,
            found: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DrainRow {
    mode: DrainMode,
    since: Option<u64>,
    deadline: Option<u64>,
    share: Option<Share>,
    then: Option<Then>,
}

fn member(name: &str, value: &[u8]) -> Result<Member, String> {
    let MemberRow { address, weight, backup, admin_state, drain, incarnation, instance, found } = read(value)?;
    right(check::backend(&Backend { name: name.to_owned(), address: address.clone(), weight, backup }))?;
    let drain = match (admin_state, drain) {
        (AdminState::Active, Some(_)) => {
            return Err("drain: the backend is active; write admin_state `draining`, or leave it out".to_owned());
        }
        (AdminState::Draining, None) => Some(DrainRow::default()),
        (AdminState::Active | AdminState::Draining | AdminState::Maintenance, drain) => drain,
    };
    let drain = drain.map(|drain| {
        let DrainRow { mode, since, deadline, share, then } = drain;
        if mode == DrainMode::Migrate && since.is_none() {
            return Err("drain.since: is missing; mode `migrate` moves sessions from then to the deadline".to_owned());
        }
        Ok(Drain { mode, since: since.unwrap_or_default(), deadline, share, then })
    });
    Ok(Member { address, weight, backup, admin_state, drain: drain.transpose()?, incarnation, instance, found })
}

/// What is written under a key.
pub(super) fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("rows have string keys and no failing parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_nothing_else_is_one() {
        let name = || "a-1_x.Y".to_owned();
        for key in [
            Key::Format,
            Key::Base,
            Key::Claim,
            Key::Node(name()),
            Key::Pool(name()),
            Key::Member("shop".to_owned(), name()),
            Key::Release(name()),
            Key::Section(name()),
        ] {
            for prefix in ["/steadfast", "/edge/a"] {
                assert_eq!(Key::parse(prefix, &key.path(prefix)), Ok(key.clone()));
            }
        }
        for path in [
            "/s",
            "/s/",
            "/s/other",
            "/s/pools",
            "/s/pools/",
            "/s/pools/a/b",
            "/s/pools/a b",
            "/s/members/shop",
            "/s/members/shop/",
            "/s/members/shop/a/b",
            "/s/members/shop/..",
            "/s/format/1",
            "/elsewhere/format",
        ] {
            assert!(Key::parse("/s", path).is_err(), "{path}");
        }
        let (first, end) = members_range("/s", "shop");
        let inside =
            |pool: &str| (first.clone()..end.clone()).contains(&Key::Member(pool.to_owned(), name()).path("/s"));
        assert!(inside("shop") && !inside("shop-2") && !inside("sho") && !inside("shop.x"));
    }

    #[test]
    fn an_address_alone_makes_a_member() {
        let key = Key::Member("shop".to_owned(), "a".to_owned());
        let read = |text: &str| match parse(&key, text.as_bytes(), &[]) {
            Ok(Value::Member(member)) => *member,
            other => panic!("{text}: {other:?}"),
        };
        let backend = Backend { address: "10.0.0.7:8080".to_owned(), ..Backend::default() };
        let seeded = Member::new(&backend, SEED_INCARNATION);
        assert_eq!(read(r#"{"address": "10.0.0.7:8080"}"#), seeded, "as a file's, so that tokens agree");
        let drained = read(r#"{"address": "10.0.0.7:8080", "admin_state": "draining"}"#);
        assert_eq!((drained.admin_state, drained.drain), (AdminState::Draining, Some(Drain::default())));
        let full = Member {
            drain: Some(Drain { since: 5, deadline: Some(9), share: Share::new(0.5), ..Drain::default() }),
            admin_state: AdminState::Draining,
            incarnation: 77,
            instance: Some("x".to_owned()),
            ..seeded
        };
        assert_eq!(read(&to_text(&full)), full, "what is written is read");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_mend() {
        let (pool, member) = (Key::Pool("shop".to_owned()), Key::Member("shop".to_owned(), "a".to_owned()));
        let node = Key::Node("lb-1".to_owned());
        for (key, text, told) in [
            (&member, "", "EOF"),
            (&member, "{}", "address: is missing; write \"host:port\""),
            (&member, r#"{"address": "10.0.0.7"}"#, "is not an address"),
            (&member, r#"{"address": "10.0.0.7:80", "wieght": 3}"#, "unknown field `wieght`"),
            (&member, r#"{"address": "10.0.0.7:80", "weight": 1001}"#, "weight: 1001 is out of range; write 0 to 1000"),
            (&member, r#"{"address": "10.0.0.7:80", "weight": "3"}"#, "weight: invalid type"),
            (&member, r#"{"address": "10.0.0.7:80"} x"#, "trailing characters"),
            (&member, r#"{"address": "10.0.0.7:80", "drain": {}}"#, "write admin_state `draining`"),
            (
                &member,
                r#"{"address": "10.0.0.7:80", "admin_state": "draining", "drain": {"mode": "migrate"}}"#,
                "drain.since: is missing",
            ),
            (&pool, r#"{"name": "other"}"#, "name: is `other`; leave it out"),
            (&pool, r#"{"backend": [{"name": "a", "address": "10.0.0.7:80"}]}"#, "a key of its own"),
            (&pool, r#"{"retry": {"budget": 2}}"#, "retry.budget: 2 is out of range"),
            (&pool, r#"{"blance": "ring"}"#, "unknown field `blance`"),
            (&Key::Base, "x", "`x` is no number"),
            (&node, "{}", "missing field `admin`"),
            (&node, r#"{"admin": "10.0.0.5:9090", "version": "1", "seen": 1}"#, "admin: `10.0.0.5:9090` is no address"),
            (&node, r#"{"admin": "http://a:1", "version": "1", "seen": -1}"#, "seen: invalid value"),
            (&Key::Release("shop".to_owned()), "{}", "missing field"),
        ] {
            let refused = parse(key, text.as_bytes(), &[]).unwrap_err();
            assert!(refused.contains(told), "{text}: {refused}");
        }
    }
}
