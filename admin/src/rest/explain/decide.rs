//! Where a request would go, and why: the decisions that the workers make, made here once more. Pure.

use crate::{
    rest::request::given,
    state::{plan, refusal::Refusal},
};
use affinity::{
    balance::Calm,
    choose::{Asked, Cause, Choice, Ended, Outcome, Pin, Unserved, choose},
    hash::mix64,
    marker::{Found, NoPin, Parts, find, fresh_key, is_ignored, marker},
    route::Router,
    table::{Dirty, PoolTable, RouteName, Slots, Table},
    token::{Expiry, Refused},
    wheel::Turn,
};
use control::{
    check::{Path, Problem},
    desired::{Desired, Snapshot},
    spec::{Affinity, Follows, Listener, Mode},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};
use utoipa::ToSchema;

/// Backends that are named where a session may go to any of them.
const NAMED: usize = 32;

/// A request to explain: its pool, or what leads to one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Question {
    /// The pool, where listener and routes don't matter.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) pool: Option<String>,
    /// Needed where there are several listeners.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) listener: Option<String>,
    /// As in the `Host` field.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) host: Option<String>,
    /// With its query, as it stands in the request. `/` unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) path: Option<String>,
    /// `GET` unless given.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) method: Option<String>,
    /// The value of the `Cookie` field.
    #[schema(nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) cookie: Option<String>,
    /// Further fields of the request, by name.
    pub(crate) headers: BTreeMap<String, String>,
    /// The client's address, which makes the session key in mode `source-ip`.
    #[schema(value_type = Option<String>, format = "ipv4", nullable = false)]
    #[serde(deserialize_with = "given")]
    pub(crate) client: Option<IpAddr>,
}

/// Where the request would go.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Explanation {
    listener: Option<String>,
    /// `null` where no route matches.
    pool: Option<String>,
    /// `null` where it is answered 503, or where any of the candidates may get it.
    backend: Option<String>,
    /// Who may get a new session, by the pool's balance policy: the first of them.
    candidates: Vec<String>,
    #[schema(value_type = String, example = "pinned")]
    outcome: &'static str,
    /// Where its session is, by what the request carries.
    pinned_to: Option<String>,
    /// The session key in hexadecimal, where the request has one.
    session_key: Option<String>,
    /// The response carries a marker.
    sets_cookie: bool,
    /// Each step of the decision.
    why: Vec<String>,
}

/// Explains what the workers do with the request at `now`, in Unix seconds. They know more of the load and of failures
/// of this moment.
///
/// # Errors
/// What the question lacks, or names that are not there.
pub(crate) fn decide(snapshot: &Snapshot, question: &Question, now: u32) -> Result<Explanation, Refusal> {
    let mut answer = Explanation::default();
    let Some((pool, has_affinity)) = route(&snapshot.desired, question, &mut answer)? else {
        answer.outcome = "no-route";
        answer.why.push("no route matches, and the listener has no pool for the rest: 503".to_owned());
        return Ok(answer);
    };
    plan::pool(&snapshot.desired, &pool)?;
    let table = Table::build(&alone(snapshot, &pool), None, &Dirty::All, &mut NoSlots, now);
    let pool = table.pool(&pool).expect("the table was made of it");
    let affinity = &pool.settings.affinity;
    if has_affinity && affinity.mode == Mode::SourceIp && question.client.is_none() {
        answer.outcome = "no-client";
        answer.why.push("the client's address is its session key: ask with `client`".to_owned());
        return Ok(answer);
    }
    // A session with a plain token moves by the client's address, and one that stays does not need it.
    let client = question.client.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let cookies: Vec<_> = question.cookie.iter().map(|cookie| cookie.as_bytes()).collect();
    let headers: Vec<_> = question.headers.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
    let target = question.path.as_deref().unwrap_or("/");
    let method = question.method.as_deref().unwrap_or("GET");
    let request = Parts { cookies: &cookies, headers: &headers, target, method, client };
    // Any number will do for a session that would begin, unless the client makes it.
    let fresh = fresh_key(pool, &request, now, mix64(u64::from(now)));
    let mut found = if has_affinity { find(pool, &request, now, fresh) } else { Found::free(fresh) };
    found.together &= question.client.is_some();
    answer.why.extend(rules(has_affinity, is_ignored(pool, &request), &found).map(str::to_owned));
    let asked = found.asked(found.pin, found.key, now);
    let choice = choose(pool, &asked, &mut Turn::default(), &Calm::default());
    if pool.fails_open {
        answer.why.push("fewer backends are up than `fail_open_below` wants: health does not count".to_owned());
    }
    tell_pin(pool, &found, &mut answer);
    tell_choice(pool, &found, choice, now, &mut answer);
    answer.sets_cookie = choice.is_ok_and(|choice| marker(pool, &found, choice, found.key, now).is_some());
    Ok(answer)
}

fn wrong(key: &str, wrong: impl Into<String>, right: impl Into<String>) -> Refusal {
    Refusal::Wrong(vec![Problem { path: Path::default().key(key), wrong: wrong.into(), right: right.into() }])
}

/// The pool that the question names, or the one that its listener leads to, and whether its affinity holds there.
fn route(desired: &Desired, question: &Question, answer: &mut Explanation) -> Result<Option<(String, bool)>, Refusal> {
    let Question { pool, listener, host, path, .. } = question;
    let path = path.as_deref().unwrap_or("/");
    if !path.starts_with('/') {
        return Err(wrong("path", format!("`{}` is not a path", path.escape_debug()), "begin it with `/`"));
    }
    if let Some(pool) = pool {
        if listener.is_some() || host.is_some() {
            let detail = "says where the request goes, and so do listener and host";
            return Err(wrong("pool", detail, "leave the pool out, or the others"));
        }
        answer.pool = Some(pool.clone());
        return Ok(Some((pool.clone(), true)));
    }
    let listener = listener_of(desired, listener.as_deref())?;
    let host = host.as_deref().unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let pools: Vec<_> = desired.pools.keys().collect();
    let index = |name: &str| pools.binary_search_by(|pool| pool.as_str().cmp(name)).ok();
    let index = |name: &str| index(name).and_then(|at| u32::try_from(at).ok());
    let router = Router::new(&listener.routes, listener.pool.as_deref(), index, |_, _| None);
    let lead = router.find(name.as_bytes(), path.as_bytes());
    let found = lead.and_then(|lead| pools.get(lead.pool as usize));
    answer.listener = Some(listener.name.clone());
    answer.pool = found.map(|pool| (*pool).clone());
    if let Some(pool) = found {
        answer.why.push(format!("listener `{}` leads {host}{path} to pool `{pool}`", listener.name));
    }
    Ok(found.zip(lead).map(|(pool, lead)| ((*pool).clone(), lead.affinity)))
}

fn listener_of<'d>(desired: &'d Desired, name: Option<&str>) -> Result<&'d Listener, Refusal> {
    let known = || desired.listeners.iter().map(|listener| listener.name.clone()).collect::<Vec<_>>();
    match (name, desired.listeners.as_slice()) {
        (None, [listener]) => Ok(listener),
        (None, []) => Err(wrong("pool", "is missing, and there is no listener that would lead to one", "name a pool")),
        (None, _) => {
            Err(wrong("listener", "is missing, and there are several", format!("name one of {}", known().join(", "))))
        }
        (Some(name), listeners) => {
            let found = listeners.iter().find(|listener| listener.name == name);
            found.ok_or_else(|| Refusal::NoListener { listener: name.to_owned(), known: known() })
        }
    }
}

/// The snapshot with this pool and no other, so that no ring is built for nothing.
pub(crate) fn alone(snapshot: &Snapshot, pool: &str) -> Snapshot {
    let Snapshot { generation, desired, observed, rebalances } = snapshot;
    let pools = desired.pools.get_key_value(pool);
    let round = rebalances.get_key_value(pool);
    Snapshot {
        generation: *generation,
        desired: Desired {
            listeners: Vec::new(),
            pools: pools.map(|(name, pool)| (name.clone(), pool.clone())).into_iter().collect(),
            keys: desired.keys.clone(),
            releases: desired
                .releases
                .get_key_value(pool)
                .map(|(name, release)| (name.clone(), release.clone()))
                .into_iter()
                .collect(),
        },
        rebalances: round.map(|(name, round)| (name.clone(), round.clone())).into_iter().collect(),
        observed: observed.get_key_value(pool).map(|(name, seen)| (name.clone(), seen.clone())).into_iter().collect(),
    }
}

/// Nothing of a table made here outlives it.
pub(crate) struct NoSlots;

impl Slots for NoSlots {
    fn pool(&mut self, _: &str) -> u32 {
        0
    }

    fn backend(&mut self, _: &str, _: &str) -> u32 {
        0
    }

    fn route(&mut self, _: &RouteName<'_>) -> Option<u32> {
        None
    }

    fn key(&mut self, _: u16) -> u32 {
        0
    }
}

fn name(pool: &PoolTable, backend: u16) -> String {
    pool.backends[usize::from(backend)].name.clone()
}

fn tell_pin(pool: &PoolTable, found: &Found, answer: &mut Explanation) {
    let refused = found.refused.map(|refused| match refused {
        NoPin::Foreign => "the other balancer's cookie names no backend that is here",
        NoPin::Expired(Expiry::Lifetime) => "its token has reached the session's lifetime",
        NoPin::Expired(Expiry::Idle) => "its token was idle for too long",
        NoPin::Refused(Refused::Short | Refused::Long | Refused::Malformed) => "its token is malformed",
        NoPin::Refused(Refused::UnknownKey) => "its token is sealed with a key that is not in the list",
        NoPin::Refused(Refused::BadMac) => "its token is forged, damaged, or another pool's",
        NoPin::OtherPool => "its token is another pool's",
        NoPin::Refused(Refused::Future) => "its token is from the future",
    });
    answer.why.extend(refused.map(|reason| format!("{reason}: it counts as none")));
    let step = match found.pin {
        Pin::Absent if pool.settings.affinity.mode == Mode::None => return,
        Pin::Absent if found.adopted.is_some() => {
            "a cookie that names no backend says by its hash where the session begins".to_owned()
        }
        Pin::Absent | Pin::Free => "it carries no session".to_owned(),
        Pin::Unreadable => "the session that it names can't be told".to_owned(),
        Pin::Gone => "its session was pinned to a backend that is gone".to_owned(),
        Pin::Hashed => format!("the hash of {} is its session key", session_name(pool)),
        Pin::At { backend, incarnation } => {
            let backend = name(pool, backend);
            let life = incarnation.map_or(String::new(), |incarnation| format!(", incarnation {incarnation}"));
            answer.pinned_to = Some(backend.clone());
            match found.adopted.and_then(|index| pool.foreign.get(usize::from(index))) {
                Some(foreign) => format!(
                    "cookie `{}`, read as that of {}, says that its session is at `{backend}`: it is adopted",
                    String::from_utf8_lossy(foreign.cookie.as_bytes()),
                    foreign.from.name()
                ),
                None => format!("its session is pinned to `{backend}`{life}"),
            }
        }
    };
    if !matches!(found.pin, Pin::Absent | Pin::Unreadable | Pin::Free) && found.adopted.is_none() {
        answer.session_key = Some(format!("{:016x}", found.key));
    }
    answer.why.push(step);
}

fn tell_choice(pool: &PoolTable, found: &Found, choice: Result<Choice, Unserved>, now: u32, answer: &mut Explanation) {
    let Choice { backend, outcome } = match choice {
        Ok(choice) => choice,
        Err(unserved) => {
            let (outcome, why) = match unserved {
                Unserved::NoBackend => ("no-backend", "no backend is usable: 503".to_owned()),
                Unserved::Full { .. } => ("full", "nobody has room, and it waits".to_owned()),
                Unserved::PinnedDown(_) => {
                    ("pinned-down", "its backend can't be used, and on_down is `fail`: 503".to_owned())
                }
                Unserved::Ended(ended) => ("ended", over(pool, ended)),
            };
            answer.outcome = outcome;
            answer.why.push(why);
            return;
        }
    };
    let to = name(pool, backend);
    let (outcome, why) = match outcome {
        Outcome::Free => ("free", "nothing pins it: it is balanced by itself".to_owned()),
        Outcome::New => ("new", "a session begins, at a backend that the balance policy chooses".to_owned()),
        Outcome::Lost => {
            ("lost", "that backend lives its next life and the session's state is gone: a session begins".to_owned())
        }
        Outcome::Pinned => ("pinned", format!("`{to}` is usable and gets it")),
        Outcome::Spilled { cause, .. } => {
            ("spilled", format!("{}: `{to}`, the ring's next, gets this request", because(cause)))
        }
        Outcome::Released { .. } => {
            ("released", "a release has let its session go: it is balanced by itself, its pin unchanged".to_owned())
        }
        Outcome::Repinned { cause, .. } => {
            ("repinned", format!("{}: it moves to `{to}`, the ring's next", because(cause)))
        }
    };
    answer.outcome = outcome;
    answer.why.push(why);
    let is_backup = pool.backends[usize::from(backend)].backup && outcome != "pinned";
    answer.why.extend(is_backup.then(|| "only backups take new sessions: none of the others can".to_owned()));
    answer.backend = Some(to);
    let follows = pool.settings.affinity.follows();
    answer.why.extend(follows.filter(|_| outcome == "free").map(begins));
    if matches!(outcome, "free" | "new" | "lost" | "released") {
        if found.together && outcome != "released" {
            if found.adopted.is_none() {
                let together = "coalesce: where depends on the client's address, its User-Agent and the time";
                answer.why.push(together.to_owned());
            }
            answer.candidates = answer.backend.iter().cloned().collect();
            return;
        }
        answer.candidates = candidates(pool, found.key, now);
        answer.backend = answer.backend.take().filter(|_| answer.candidates.len() == 1);
    }
}

/// What is said of a request that is not treated as its pool's others.
fn rules(has_affinity: bool, ignored: bool, found: &Found) -> Option<&'static str> {
    match (has_affinity, ignored) {
        (false, _) => Some("its route has affinity off: nothing is read or set"),
        (true, true) => Some("a rule of affinity.ignore leaves it without affinity: nothing is read or set"),
        (true, false) if found.forced => Some("a rule of affinity.force honours its pin, also where that is down"),
        (true, false) if !found.may_mark => Some("postonly: it is no POST, so no cookie is set"),
        (true, false) => None,
    }
}

/// What names the sessions of a pool that hashes.
fn session_name(pool: &PoolTable) -> String {
    let Affinity { mode, app_cookie, header, query, .. } = &pool.settings.affinity;
    match mode {
        Mode::AppCookie => format!("cookie `{}`", app_cookie.as_ref().map_or("", |cookie| &cookie.name)),
        Mode::Header => format!("header `{}`", header.as_ref().map_or("", |header| &header.name)),
        Mode::Query => format!("argument `{}`", query.as_ref().map_or("", |query| &query.name)),
        Mode::SourceIp | Mode::Cookie | Mode::None => "the client's address".to_owned(),
    }
}

/// How a session begins that the application names.
fn begins(follows: Follows) -> String {
    match follows {
        Follows::Beside | Follows::Cookie => {
            "a session begins if the response sets the application's cookie".to_owned()
        }
        Follows::Header => "a session begins if the response has the header that names it".to_owned(),
    }
}

/// Why a session that can't move has ended, and what the client is told.
fn over(pool: &PoolTable, ended: Ended) -> String {
    let status = pool.settings.affinity.header.as_ref().map_or(0, |header| header.gone_status);
    let why = match ended {
        Ended::Unreadable => "no token of ours opens in it",
        Ended::Incarnation => "its backend lives its next life and the session's state is gone",
        Ended::Left(cause) => because(cause),
    };
    format!("{why}, and it can't move: {status}")
}

fn because(cause: Cause) -> &'static str {
    match cause {
        Cause::Down => "its backend is down",
        Cause::Maintenance => "its backend is in maintenance",
        Cause::Rebalanced => "its backend has more than its share, and the pool is rebalanced",
        Cause::Migrated => "its backend drains, and it is its turn to move",
        Cause::Deadline => "its backend has drained up to its deadline",
        Cause::Removed => "its backend was removed",
        Cause::Draining => "its backend drains, and sessions without a marker can't be told from new ones",
        Cause::Retry => "its backend has just failed",
        Cause::Overload => "its backend has no room",
        Cause::Released => "a release has let it go",
    }
}

/// Any random number will do, but the same for the same question.
fn asked(pin: Pin, key: u64, now: u32) -> Asked {
    Asked { pin, key, random: key, now, force: false, together: false, idle: None }
}

/// Who may get a new session, found by choosing again without those that were chosen.
fn candidates(pool: &PoolTable, key: u64, now: u32) -> Vec<String> {
    let mut others = Calm::default();
    while others.tried.len() < NAMED {
        let next = choose(pool, &asked(Pin::Absent, key, now), &mut Turn::default(), &others);
        let Ok(choice) = next else { break };
        // Backups come when there is nobody else, and not when all others were chosen before.
        let is_backup = |backend: u16| pool.backends[usize::from(backend)].backup;
        let other_tier = others.tried.first().is_some_and(|first| is_backup(*first) != is_backup(choice.backend));
        if other_tier || !others.tried.insert(choice.backend) {
            break;
        }
    }
    others.tried.into_iter().map(|backend| name(pool, backend)).collect()
}
