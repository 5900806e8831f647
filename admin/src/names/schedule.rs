//! Which names are to be looked up, and when. Pure: times are milliseconds of one clock that only goes forward.

use super::source::Question;
use crate::health::board::Id;
use control::{
    desired::{Change, PoolState, Snapshot},
    spec::{Family, Names},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// A look-up that failed is tried again after so long, in milliseconds.
const AGAIN: u64 = 5_000;

/// In whose address a name stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    Backend(Id),
    /// A pool and the name of its `discover`.
    Discover(Id),
}

impl Owner {
    pub(crate) fn backend(pool: &str, name: &str) -> Self {
        Self::Backend((Arc::from(pool), Arc::from(name)))
    }

    pub(crate) fn discover(pool: &str, name: &str) -> Self {
        Self::Discover((Arc::from(pool), Arc::from(name)))
    }

    pub(crate) const fn id(&self) -> &Id {
        match self {
            Self::Backend(id) | Self::Discover(id) => id,
        }
    }
}

/// Which life of which entry a look-up belongs to: the result of one that is gone is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) owner: Owner,
    serial: u64,
}

/// A look-up that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) ticket: Ticket,
    pub(crate) question: Question,
    pub(crate) family: Family,
}

/// A name whose last look-up failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// Since when, in milliseconds.
    pub(crate) since: u64,
    pub(crate) reason: Arc<str>,
}

/// What a look-up changed in how a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Same,
    Fails(Arc<str>),
    Resolves,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    question: Question,
    names: Names,
    /// Absent while it is being looked up.
    due: Option<u64>,
    /// Look-ups so far, which vary the jitter.
    rounds: u64,
    failing: Option<Failing>,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    entries: BTreeMap<Owner, Entry>,
    queue: BTreeSet<(u64, Owner)>,
    serials: u64,
}

impl Schedule {
    /// Follows a change that `snapshot` already has.
    pub(crate) fn follow(&mut self, change: &Change, snapshot: &Snapshot, now: u64) {
        let pool = |name: &str| snapshot.desired.pools.get(name);
        match change {
            Change::PutPool { name, .. } | Change::RemovePool { name } | Change::PutSettings { name, .. } => {
                self.follow_pool(name, pool(name), now);
            }
            Change::PutMember { pool: pool_name, name, .. } | Change::RemoveMember { pool: pool_name, name } => {
                let member = pool(pool_name).and_then(|pool| Some((pool, pool.members.get(name)?)));
                let named = member.filter(|(_, member)| member.is_named());
                let wanted = named.map(|(pool, member)| (Question::Name(member.address.clone()), pool.settings.names));
                self.set(Owner::backend(pool_name, name), wanted, now);
            }
            Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => {}
        }
    }

    fn follow_pool(&mut self, name: &str, pool: Option<&PoolState>, now: u64) {
        let mut wanted = BTreeMap::new();
        if let Some(pool) = pool {
            let named = pool.members.iter().filter(|(_, member)| member.is_named());
            wanted.extend(
                named.map(|(member, state)| (Owner::backend(name, member), Question::Name(state.address.clone()))),
            );
            let discovers = pool.settings.discover.iter();
            wanted.extend(
                discovers.map(|each| (Owner::discover(name, &each.name), Question::of(each, &pool.settings.names))),
            );
        }
        let known = self.entries.keys().filter(|owner| *owner.id().0 == *name);
        let gone: Vec<_> = known.filter(|owner| !wanted.contains_key(owner)).cloned().collect();
        for owner in gone {
            self.set(owner, None, now);
        }
        let names = pool.map(|pool| pool.settings.names).unwrap_or_default();
        for (owner, question) in wanted {
            self.set(owner, Some((question, names)), now);
        }
    }

    fn set(&mut self, owner: Owner, wanted: Option<(Question, Names)>, now: u64) {
        let Some((question, names)) = wanted else {
            if let Some(Entry { due: Some(due), .. }) = self.entries.remove(&owner) {
                self.queue.remove(&(due, owner));
            }
            return;
        };
        if let Some(known) = self.entries.get_mut(&owner).filter(|known| known.question == question) {
            let other = known.names.family != names.family;
            if other {
                // One that is under way asks for what nobody wants to know any more.
                self.serials += 1;
                known.serial = self.serials;
            }
            let soonest = if other { now } else { now + known.question.interval(names.interval.as_millis()) };
            known.names = names;
            let due = known.due.map_or(soonest, |due| due.min(soonest));
            if other || known.due.is_some() {
                self.plan(&owner, due);
            }
            return;
        }
        self.set(owner.clone(), None, now);
        self.serials += 1;
        let entry = Entry { serial: self.serials, question, names, due: None, rounds: 0, failing: None };
        self.entries.insert(owner.clone(), entry);
        self.plan(&owner, now);
    }

    fn plan(&mut self, owner: &Owner, due: u64) {
        let Some(entry) = self.entries.get_mut(owner) else { return };
        if let Some(before) = entry.due.replace(due) {
            self.queue.remove(&(before, owner.clone()));
        }
        self.queue.insert((due, owner.clone()));
    }

    /// A look-up that is due.
    ///
    /// # Errors
    /// When the next one is; absent where nothing is to be looked up.
    pub(crate) fn take_due(&mut self, now: u64) -> Result<Lookup, Option<u64>> {
        let next = self.queue.first().map(|(due, _)| *due);
        if next.is_none_or(|next| next > now) {
            return Err(next);
        }
        let (_, owner) = self.queue.pop_first().expect("it was there a line ago");
        let entry = self.entries.get_mut(&owner).expect("the queue holds what the entries hold");
        entry.due = None;
        let ticket = Ticket { owner, serial: entry.serial };
        Ok(Lookup { ticket, question: entry.question.clone(), family: entry.names.family })
    }

    /// Takes the end of a look-up, `failure` being why it found nothing, and plans the next one. None where it belongs to
    /// a name that is gone.
    pub(crate) fn looked_up(&mut self, ticket: &Ticket, failure: Option<Arc<str>>, now: u64) -> Option<Turn> {
        let owner = &ticket.owner;
        let entry = self.entries.get_mut(owner).filter(|entry| entry.serial == ticket.serial)?;
        entry.rounds += 1;
        let interval = entry.question.interval(entry.names.interval.as_millis());
        let pause = if failure.is_some() { interval.min(AGAIN) } else { interval };
        let due = now + pause + spread(owner, entry.rounds) % (pause / 10).max(1);
        let turn = match (&entry.failing, &failure) {
            (None, Some(reason)) => Turn::Fails(Arc::clone(reason)),
            (Some(_), None) => Turn::Resolves,
            (None, None) | (Some(_), Some(_)) => Turn::Same,
        };
        let since = entry.failing.as_ref().map_or(now, |failing| failing.since);
        entry.failing = failure.map(|reason| Failing { since, reason });
        if entry.due.is_none() {
            self.plan(owner, due);
        }
        Some(turn)
    }

    /// Looks up again soon what came to nothing here.
    pub(crate) fn again(&mut self, owner: &Owner, now: u64) {
        self.plan(owner, now + AGAIN);
    }

    /// Every name, and where its last look-up failed, since when, by a clock that was at `zero` when this one began.
    pub(crate) fn all(&self, zero: u64) -> BTreeMap<Owner, Option<Failing>> {
        let failing = |failing: &Failing| Failing { since: zero + failing.since, ..failing.clone() };
        let entries = self.entries.iter();
        entries.map(|(owner, entry)| (owner.clone(), entry.failing.as_ref().map(failing))).collect()
    }
}

/// A number that is always the same for a name and a round of its look-ups.
fn spread(owner: &Owner, round: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (owner, round).hash(&mut hasher);
    hasher.finish()
}
