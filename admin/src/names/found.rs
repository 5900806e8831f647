//! From what a name leads to, to the members that there are to be. Pure.

use super::source::{Place, Places, Question};
use crate::state::plan::{Current, Plan};
use control::{
    check::MAX_BACKENDS,
    desired::{AdminState, Change, Drain, Found, Left, Member, PoolState, Snapshot, Then},
    spec::Discover,
};
use std::{collections::BTreeMap, sync::Arc};

/// What the name of a `discover` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) pool: Arc<str>,
    /// Of the `discover`.
    pub(super) name: Arc<str>,
    pub(super) question: Question,
    /// At least one.
    pub(super) places: Places,
}

pub(super) fn plan(current: &Current<'_>, answers: &[Answer]) -> Plan {
    let changes = answers.iter().flat_map(|answer| changes(current.snapshot, answer, current.now));
    changes.collect::<Vec<_>>().into()
}

/// What an answer changes, `now` being Unix milliseconds. Nothing where it is to a question that nobody asks any more.
pub(super) fn changes(snapshot: &Snapshot, answer: &Answer, now: u64) -> Vec<Change> {
    let Some(pool) = snapshot.desired.pools.get(&*answer.pool) else { return Vec::new() };
    let asks = |discover: &&Discover| {
        *discover.name == *answer.name && Question::of(discover, &pool.settings.names) == answer.question
    };
    let Some(discover) = pool.settings.discover.iter().find(asks) else { return Vec::new() };
    let places = answer.places.iter().map(|(own, place)| (format!("{}-{own}", discover.name), *place));
    let places: BTreeMap<_, _> = places.collect();
    let own = pool.members.iter().filter(|(_, member)| is_of(member, discover));
    let gone = own.filter(|(name, _)| !places.contains_key(*name));
    let gone: Vec<_> = gone.filter_map(|(name, member)| leave(&answer.pool, pool, (name, member), now)).collect();
    let mut room = MAX_BACKENDS.saturating_sub(pool.members.len());
    let came = places.iter().filter_map(|(name, place)| match pool.members.get(name) {
        Some(known) => stay(known, discover, *place).map(|member| (name, member)),
        None => {
            room = room.checked_sub(1)?;
            let found = Member::found(discover, place.at);
            let (weight, backup) = (place.weight.unwrap_or(found.weight), place.backup.unwrap_or(found.backup));
            Some((name, Member { weight, backup: backup || found.backup, ..found }))
        }
    });
    let came = came.map(|(name, member)| put(&answer.pool, name, member));
    came.chain(gone).collect()
}

fn is_of(member: &Member, discover: &Discover) -> bool {
    member.found.as_ref().is_some_and(|found| found.by == discover.name)
}

fn put(pool: &str, name: &str, member: Member) -> Change {
    Change::PutMember { pool: pool.to_owned(), name: name.to_owned(), member }
}

/// A member that is there by the source too, where anything of it changes. One of that name that somebody made stays theirs, and
/// so does what somebody commanded of one, but for a weight that the source says again.
fn stay(known: &Member, discover: &Discover, Place { at, weight, backup }: Place) -> Option<Member> {
    let found = known.found.as_ref().filter(|_| is_of(known, discover))?;
    let now = Found { at, left: None, ..found.clone() };
    let Member { address, .. } = Member::found(discover, at);
    let weight = weight.unwrap_or(known.weight);
    let backup = backup.map_or(known.backup, |backup| backup || discover.backup);
    let mut member = Member { address, weight, backup, found: Some(now), ..known.clone() };
    let drains_away = known.drain.is_some() && found.left.is_some_and(|left| left.drain == known.drain);
    if known.admin_state == AdminState::Draining && drains_away {
        (member.admin_state, member.drain) = (AdminState::Active, None);
    }
    (member != *known).then_some(member)
}

/// What becomes of a member whose address the name no longer has: its sessions stay for a while, and it goes with the last
/// of them. What somebody drains or has in maintenance stays as they told, and theirs to remove.
fn leave(pool_name: &str, pool: &PoolState, (name, member): (&String, &Member), now: u64) -> Option<Change> {
    let linger = pool.settings.names.linger.as_millis();
    let found = member.found.as_ref().filter(|found| found.left.is_none())?;
    let with = |left| Member { found: Some(Found { left: Some(left), ..found.clone() }), ..member.clone() };
    let left = match member.admin_state {
        AdminState::Active if linger == 0 => {
            return Some(Change::RemoveMember { pool: pool_name.to_owned(), name: name.clone() });
        }
        AdminState::Active => {
            let deadline = Some(now.saturating_add(linger));
            let drain = Some(Drain { since: now, deadline, then: Some(Then::Remove), ..Drain::default() });
            Member { admin_state: AdminState::Draining, drain, ..with(Left { drain }) }
        }
        AdminState::Draining | AdminState::Maintenance => with(Left { drain: None }),
    };
    Some(put(pool_name, name, left))
}
