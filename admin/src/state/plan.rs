//! What a command changes: from what is there and what is wanted to the changes between them. Pure.

use super::{
    drain_plan::{self, Wish},
    precondition::{Precondition, tag},
    refusal::Refusal,
};
use crate::store::Sections;
use control::{
    check::{self, MAX_BACKENDS, Path, Problem},
    desired::{AdminState, Change, Desired, Member, Observed, PoolState, Snapshot, Then},
    spec::{Backend, Listener, Pool},
    status::Health,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// What a command is planned against.
#[derive(Debug)]
pub(crate) struct Current<'s> {
    pub(crate) snapshot: &'s Snapshot,
    pub(crate) sections: &'s Sections,
    /// For members that begin a life with this command: a number that none had before.
    pub(crate) incarnation: u32,
    /// Unix milliseconds.
    pub(crate) now: u64,
    /// Other nodes act on the same, and have sessions of their own.
    pub(crate) shared: bool,
}

/// What is to be written, or nothing where all is as wanted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) sections: Option<Sections>,
    /// It makes what its command names, rather than changing it.
    pub(crate) created: bool,
    /// Pools whose members were all looked at: it is right only where none has come or changed.
    pub(crate) whole: BTreeSet<String>,
}

impl Plan {
    /// What it makes of a member; `None` where it leaves that as it is.
    pub(crate) fn member(&self, (pool, name): (&str, &str)) -> Option<&Member> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::PutMember { pool: of, name: changed, member }
                if (of.as_str(), changed.as_str()) == (pool, name) =>
            {
                Some(member)
            }
            Change::PutMember { .. }
            | Change::PutPool { .. }
            | Change::RemovePool { .. }
            | Change::PutSettings { .. }
            | Change::RemoveMember { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => None,
        })
    }
}

impl From<Vec<Change>> for Plan {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes, ..Self::default() }
    }
}

/// What may be left out of a backend's new description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) address: Option<String>,
    pub(crate) weight: Option<u32>,
    pub(crate) backup: Option<bool>,
}

/// What an operator wants a backend to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Activate,
    Maintain,
    /// It was restarted: a new incarnation.
    Reset,
    Drain(Wish),
}

pub(crate) fn pool<'d>(desired: &'d Desired, name: &str) -> Result<&'d PoolState, Refusal> {
    desired
        .pools
        .get(name)
        .ok_or_else(|| Refusal::NoPool { pool: name.to_owned(), known: desired.pools.keys().cloned().collect() })
}

pub(crate) fn member<'d>(desired: &'d Desired, pool_name: &str, name: &str) -> Result<&'d Member, Refusal> {
    let pool = pool(desired, pool_name)?;
    pool.members.get(name).ok_or_else(|| Refusal::NoBackend {
        pool: pool_name.to_owned(),
        backend: name.to_owned(),
        known: pool.members.keys().cloned().collect(),
    })
}

/// A pool as `settings` say; its members as `backends` say, where that is given.
pub(crate) fn put_pool(
    current: &Current<'_>,
    settings: &Pool,
    backends: Option<&[Backend]>,
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let name = settings.name.clone();
    let known = current.snapshot.desired.pools.get(&name);
    precondition.check(known.map(tag))?;
    let mut settings = Pool { backends: Vec::new(), ..settings.clone() };
    let problems = check::pool_of(&settings, &current.snapshot.desired.listeners);
    if !problems.is_empty() {
        return Err(Refusal::Wrong(problems));
    }
    let Some(known) = known else {
        settings.backends = backends.unwrap_or_default().to_vec();
        let pool = Box::new(PoolState::seed(settings, current.incarnation));
        let mut sections = current.sections.clone();
        let revived = sections.get_mut(&name).filter(|section| section.deleted).map(|section| section.deleted = false);
        let whole = [name.clone()].into();
        let changes = vec![Change::PutPool { name, pool }];
        return Ok(Plan { changes, sections: revived.map(|()| sections), created: true, whole });
    };
    let mut changes = other_settings(known, settings);
    if let Some(backends) = backends {
        let members = after(&known.members, &changes);
        changes.extend(membership(&name, &members, backends, current.incarnation));
    }
    Ok(Plan { changes, whole: [name].into(), ..Plan::default() })
}

/// From a pool's settings to others, and what that means for members that names led to: they go with their name, and
/// those that were left as it described them follow it.
pub(crate) fn other_settings(known: &PoolState, settings: Pool) -> Vec<Change> {
    if known.settings == settings {
        return Vec::new();
    }
    let pool = settings.name.clone();
    let of = |settings: &Pool, by: &str| settings.discover.iter().find(|discover| discover.name == by).cloned();
    let members = known.members.iter().filter_map(|(name, member)| {
        let by = &member.found.as_ref()?.by;
        let (pool, name) = (pool.clone(), name.clone());
        let Some(now) = of(&settings, by) else { return Some(Change::RemoveMember { pool, name }) };
        let before = of(&known.settings, by)?;
        let mut described = member.clone();
        if member.weight == before.weight {
            described.weight = now.weight;
        }
        if member.backup == before.backup {
            described.backup = now.backup;
        }
        (described != *member).then_some(Change::PutMember { pool, name, member: described })
    });
    let members: Vec<_> = members.collect();
    [Change::PutSettings { name: pool.clone(), settings: Box::new(settings) }].into_iter().chain(members).collect()
}

/// The members of a pool once these changes of it are made.
pub(crate) fn after(members: &BTreeMap<String, Member>, changes: &[Change]) -> BTreeMap<String, Member> {
    let mut members = members.clone();
    for change in changes {
        if let Change::PutMember { name, member, .. } = change {
            members.insert(name.clone(), member.clone());
        } else if let Change::RemoveMember { name, .. } = change {
            members.remove(name);
        }
    }
    members
}

/// From the members that a pool has to those that it should have: those that stay keep their admin state and incarnation,
/// and those that names led to are not told by a list.
pub(crate) fn membership(
    pool: &str,
    members: &BTreeMap<String, Member>,
    wanted: &[Backend],
    incarnation: u32,
) -> Vec<Change> {
    let wanted: BTreeMap<_, _> = wanted.iter().map(|backend| (backend.name.as_str(), backend)).collect();
    let gone = members.iter().filter(|(name, member)| member.found.is_none() && !wanted.contains_key(name.as_str()));
    let gone = gone.map(|(name, _)| Change::RemoveMember { pool: pool.to_owned(), name: name.clone() });
    let put = wanted.iter().filter_map(|(name, backend)| {
        let known = members.get(*name);
        let member = described(known, backend, incarnation);
        (known != Some(&member)).then(|| Change::PutMember { pool: pool.to_owned(), name: (*name).to_owned(), member })
    });
    gone.chain(put).collect()
}

/// A member as `backend` describes it, with the life and the admin state of the one that it was.
fn described(known: Option<&Member>, backend: &Backend, incarnation: u32) -> Member {
    match known {
        None => Member::new(backend, incarnation),
        Some(known) => {
            let Backend { name: _, address, weight, backup } = backend.clone();
            // What a name led to and is given another address is found no more: it is there until somebody removes it.
            let found = known.found.clone().filter(|_| known.address == address);
            Member { address, weight, backup, found, ..known.clone() }
        }
    }
}

pub(crate) fn remove_pool(current: &Current<'_>, name: &str, precondition: &Precondition) -> Result<Plan, Refusal> {
    let desired = &current.snapshot.desired;
    precondition.check(Some(tag(pool(desired, name)?)))?;
    let listeners: Vec<_> =
        desired.listeners.iter().filter(|listener| leads_to(listener, name)).map(|each| each.name.clone()).collect();
    if !listeners.is_empty() {
        return Err(Refusal::InUse { pool: name.to_owned(), listeners });
    }
    let mut sections = current.sections.clone();
    let buried = sections.get_mut(name).map(|section| section.deleted = true);
    Ok(Plan {
        changes: vec![Change::RemovePool { name: name.to_owned() }],
        sections: buried.map(|()| sections),
        created: false,
        whole: [name.to_owned()].into(),
    })
}

pub(crate) fn leads_to(listener: &Listener, pool: &str) -> bool {
    listener.pool.as_deref() == Some(pool) || listener.routes.iter().any(|route| route.pool == pool)
}

/// A backend as described, and where its name leads, if that is known.
pub(crate) fn put_backend(
    current: &Current<'_>,
    pool_name: &str,
    backend: &Backend,
    resolved: Option<SocketAddr>,
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let members = &pool(&current.snapshot.desired, pool_name)?.members;
    let known = members.get(&backend.name);
    precondition.check(known.map(tag))?;
    if known.is_none() && members.len() >= MAX_BACKENDS {
        return Err(Refusal::Wrong(vec![Problem {
            path: Path::default(),
            wrong: format!("pool `{pool_name}` has {MAX_BACKENDS} backends already, which is the most"),
            right: "remove one first".to_owned(),
        }]));
    }
    let member = described(known, backend, current.incarnation);
    if known == Some(&member) {
        return Ok(Plan::default());
    }
    let moved = known.is_none_or(|known| known.address != member.address);
    let mut changes = vec![Change::PutMember { pool: pool_name.to_owned(), name: backend.name.clone(), member }];
    if moved && resolved.is_some() {
        let observed = Observed { health: Health::Unknown, resolved };
        changes.push(Change::Observe { pool: pool_name.to_owned(), name: backend.name.clone(), observed });
    }
    Ok(Plan { changes, created: known.is_none(), ..Plan::default() })
}

pub(crate) fn patch_backend(
    current: &Current<'_>,
    (pool_name, name): (&str, &str),
    patch: &Patch,
    resolved: Option<SocketAddr>,
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let known = member(&current.snapshot.desired, pool_name, name)?;
    let backend = Backend {
        name: name.to_owned(),
        address: patch.address.clone().unwrap_or_else(|| known.address.clone()),
        weight: patch.weight.unwrap_or(known.weight),
        backup: patch.backup.unwrap_or(known.backup),
    };
    let problems = check::backend(&backend);
    if !problems.is_empty() {
        return Err(Refusal::Wrong(problems));
    }
    put_backend(current, pool_name, &backend, resolved, precondition)
}

pub(crate) fn remove_backend(
    current: &Current<'_>,
    (pool, name): (&str, &str),
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let known = member(&current.snapshot.desired, pool, name)?;
    precondition.check(Some(tag(known)))?;
    can_go((pool, name), known)?;
    Ok(vec![Change::RemoveMember { pool: pool.to_owned(), name: name.to_owned() }].into())
}

/// A backend whose name still leads to it would come back with the next look-up.
fn can_go((pool, name): (&str, &str), member: &Member) -> Result<(), Refusal> {
    match &member.found {
        Some(found) if found.left.is_none() => Err(Refusal::Found {
            pool: pool.to_owned(),
            backend: name.to_owned(),
            by: found.by.clone(),
            address: member.address.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn command(
    current: &Current<'_>,
    (pool, name): (&str, &str),
    command: Command,
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let known = member(&current.snapshot.desired, pool, name)?;
    precondition.check(Some(tag(known)))?;
    let (admin_state, drain) = match command {
        Command::Reset => {
            // The next check says which instance it is by now, and begins no other life for that.
            let member = Member { incarnation: current.incarnation, instance: None, ..known.clone() };
            return Ok(vec![Change::PutMember { pool: pool.to_owned(), name: name.to_owned(), member }].into());
        }
        Command::Activate => (AdminState::Active, None),
        Command::Maintain => (AdminState::Maintenance, None),
        Command::Drain(wish) => {
            if wish.then == Some(Then::Remove) {
                can_go((pool, name), known)?;
            }
            let affinity = &self::pool(&current.snapshot.desired, pool)?.settings.affinity;
            (AdminState::Draining, Some(drain_plan::begin((pool, affinity), known, &wish, current)?))
        }
    };
    let member = Member { admin_state, drain, ..known.clone() };
    if member == *known {
        return Ok(Plan::default());
    }
    Ok(vec![Change::PutMember { pool: pool.to_owned(), name: name.to_owned(), member }].into())
}

/// Backends whose checks were answered by these instances: another one than before is a new incarnation.
pub(crate) fn instances(current: &Current<'_>, seen: &[(String, String, String)]) -> Plan {
    let changes = seen.iter().filter_map(|(pool, name, instance)| {
        let known = member(&current.snapshot.desired, pool, name).ok()?;
        let incarnation = match &known.instance {
            Some(before) if before == instance => return None,
            Some(_) => current.incarnation,
            None => known.incarnation,
        };
        let member = Member { instance: Some(instance.clone()), incarnation, ..known.clone() };
        Some(Change::PutMember { pool: pool.clone(), name: name.clone(), member })
    });
    changes.collect::<Vec<_>>().into()
}
