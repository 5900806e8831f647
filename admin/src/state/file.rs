//! What the configuration file changes, at start and at a reload. Pure.

use super::plan::{Plan, after, leads_to, membership, other_settings};
use crate::store::{Section, Sections};
use control::{
    config::{Config, Source},
    desired::{Change, Desired, Member, PoolState, SEED_INCARNATION},
    spec::{Listener, Pool},
};
use std::collections::{BTreeMap, BTreeSet};

/// From what is desired to what the file says. Where REST or etcd is the source, `incarnation` is for members of pools that
/// come back after they were deleted.
pub(crate) fn plan(desired: &Desired, sections: &Sections, config: &Config, incarnation: u32) -> Plan {
    let mut plan = match config.membership.source {
        Source::File => file_alone(desired, config).into(),
        Source::Api => seeds(desired, sections, config, incarnation, Sections::new()),
        // Other nodes' files may have others.
        Source::Etcd => seeds(desired, sections, config, incarnation, sections.clone()),
    };
    if desired.listeners != config.listeners {
        plan.changes.push(Change::Listeners { listeners: config.listeners.clone() });
    }
    plan
}

/// The file is all there is.
fn file_alone(desired: &Desired, config: &Config) -> Vec<Change> {
    let names: BTreeSet<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let gone = desired.pools.keys().filter(|name| !names.contains(name.as_str()));
    let mut changes: Vec<_> = gone.map(|name| Change::RemovePool { name: name.clone() }).collect();
    for pool in &config.pools {
        match desired.pools.get(&pool.name) {
            None => changes.push(seed(pool, SEED_INCARNATION)),
            Some(known) => {
                let others = other_settings(known, settings_of(pool));
                let members = after(&known.members, &others);
                changes.extend(others);
                changes.extend(membership(&pool.name, &members, &pool.backends, SEED_INCARNATION));
            }
        }
    }
    changes
}

/// The file seeds what the store has not seen, and says the settings of a pool anew where what it says of them changed.
/// `seen` are the sections that stay without this file.
fn seeds(desired: &Desired, sections: &Sections, config: &Config, incarnation: u32, mut seen: Sections) -> Plan {
    let mut changes = Vec::new();
    for pool in &config.pools {
        let mut now = Section { said: pool.clone(), deleted: false };
        let before = sections.get(&pool.name);
        match (desired.pools.get(&pool.name), before) {
            (None, None) => changes.push(seed(pool, SEED_INCARNATION)),
            (None, Some(before)) => {
                let wanted = config.listeners.iter().any(|listener| leads_to(listener, &pool.name));
                if !before.deleted || before.said != *pool || wanted {
                    changes.push(seed(pool, incarnation));
                } else {
                    now.deleted = true;
                }
            }
            (Some(known), before) => {
                if before.is_none_or(|before| settings_of(&before.said) != settings_of(pool)) {
                    changes.extend(other_settings(known, settings_of(pool)));
                }
            }
        }
        seen.insert(pool.name.clone(), now);
    }
    Plan { changes, sections: (seen != *sections).then_some(seen), ..Plan::default() }
}

fn seed(pool: &Pool, incarnation: u32) -> Change {
    Change::PutPool { name: pool.name.clone(), pool: Box::new(PoolState::seed(pool.clone(), incarnation)) }
}

/// What was noticed of members before a start, as far as the file still has them: those that names led to, and who the
/// others turned out to be.
pub(crate) fn noticed(config: &Config, noticed: BTreeMap<String, BTreeMap<String, Member>>) -> Vec<Change> {
    let mut changes = Vec::new();
    for pool in &config.pools {
        for (name, member) in noticed.get(&pool.name).into_iter().flatten() {
            let wanted = pool.backends.iter().find(|backend| backend.name == *name);
            let member = match (&member.found, wanted) {
                (Some(found), None) if pool.discover.iter().any(|each| each.name == found.by) => member.clone(),
                (None, Some(wanted)) if wanted.address == member.address => {
                    let Member { incarnation, instance, .. } = member.clone();
                    Member { instance, ..Member::new(wanted, incarnation) }
                }
                _ => continue,
            };
            changes.push(Change::PutMember { pool: pool.name.clone(), name: name.clone(), member });
        }
    }
    changes
}

fn settings_of(pool: &Pool) -> Pool {
    Pool { backends: Vec::new(), ..pool.clone() }
}

/// Listeners whose sockets have to be bound, let go of or moved: a few words for each.
pub(crate) fn moved(known: &[Listener], wanted: &[Listener]) -> Vec<String> {
    let binds = |listeners: &[Listener]| -> BTreeMap<String, String> {
        listeners.iter().map(|listener| (listener.name.clone(), listener.bind.clone())).collect()
    };
    let (known, wanted) = (binds(known), binds(wanted));
    let gone = known.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("`{name}` is gone"));
    let other = wanted.iter().filter_map(|(name, bind)| match known.get(name) {
        None => Some(format!("`{name}` is new")),
        Some(known) if known != bind => Some(format!("`{name}` moves from {known} to {bind}")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Keys of the file that changed and take effect at the next start alone.
pub(crate) fn waits_for_restart(running: &Config, read: &Config) -> Vec<String> {
    let tables = [
        ("global", running.global != read.global),
        ("admin", running.admin != read.admin),
        ("membership", running.membership != read.membership),
    ];
    let changed = tables.into_iter().filter(|(_, changed)| *changed);
    let restarts = changed.map(|(table, _)| format!("[{table}] changed, which takes effect at the next start"));
    let upgrades = (running.access_log != read.access_log).then(|| {
        "[access_log] changed, which takes effect with the next data plane: `steadfast ctl upgrade`".to_owned()
    });
    restarts.chain(upgrades).collect()
}
