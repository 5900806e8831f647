use super::machine::Machine;
use control::{
    Endpoint,
    desired::{Change, PoolState, Snapshot},
    spec::{Check, HealthCheck, PoolTls, ProxyVersion},
    status::Health,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// A pool and a backend of it.
pub(crate) type Id = (Arc<str>, Arc<str>);

/// What is due for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Task {
    Check,
    /// The end of a mark.
    Hold,
}

/// Which life of which entry a job belongs to: the result of one that is gone is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) id: Id,
    serial: u64,
}

/// How the backends of a pool are checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probing {
    pub(crate) health: HealthCheck,
    /// Absent where they are spoken to in clear text.
    pub(crate) tls: Option<PoolTls>,
    pub(crate) http2: bool,
    pub(crate) send_proxy: Option<ProxyVersion>,
}

/// A check to be done off the lock, its result brought back by the ticket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    /// Absent where the backend's name has never resolved.
    pub(crate) target: Option<Endpoint>,
    pub(crate) address: String,
    pub(crate) settings: Arc<Probing>,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    address: String,
    incarnation: u32,
    /// Absent where the address has a name of the backend's own.
    target: Option<Endpoint>,
    machine: Machine,
    /// Checks so far, which vary the jitter.
    rounds: u64,
    /// What stands in the queue for this entry.
    due: BTreeMap<Task, u64>,
}

#[derive(Debug)]
struct Members {
    settings: Arc<Probing>,
    entries: HashMap<Arc<str>, Entry>,
}

/// The health of every backend, and when which of them is to be checked. All times are milliseconds of
/// one clock that only goes forward.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pools: HashMap<Arc<str>, Members>,
    queue: BTreeSet<(u64, Task, Id)>,
    serials: u64,
}

impl Board {
    /// Follows a change that `snapshot` already has.
    pub(crate) fn follow(&mut self, change: &Change, snapshot: &Snapshot, now: u64) {
        let (name, member) = match change {
            Change::PutPool { name, .. } | Change::RemovePool { name } | Change::PutSettings { name, .. } => {
                (name, None)
            }
            Change::PutMember { pool, name, .. } | Change::RemoveMember { pool, name } => (pool, Some(name)),
            Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => return,
        };
        match (snapshot.desired.pools.get(name), member) {
            (None, _) => self.remove_pool(name),
            (Some(pool), None) => self.follow_pool(name, pool, now),
            (Some(pool), Some(member)) => self.follow_member(name, pool, member, now),
        }
    }

    /// Follows a pool from what was known of it to what it is now.
    fn follow_pool(&mut self, name: &str, pool: &PoolState, now: u64) {
        let gone: Vec<_> = self.pools.get(name).map_or_else(Vec::new, |members| {
            members.entries.keys().filter(|member| !pool.members.contains_key(&***member)).cloned().collect()
        });
        for member in gone {
            self.remove(name, &member);
        }
        self.settle(name, pool, now);
        for member in pool.members.keys() {
            self.follow_member(name, pool, member, now);
        }
    }

    /// Takes a pool's settings over; where they changed, checks start anew with them.
    fn settle(&mut self, name: &str, pool: &PoolState, now: u64) {
        let settings = Probing {
            health: pool.settings.health.clone(),
            tls: pool.settings.tls.clone(),
            http2: pool.settings.http2,
            send_proxy: pool.settings.send_proxy,
        };
        let Some(members) = self.pools.get_mut(name) else {
            let members = Members { settings: Arc::new(settings), entries: HashMap::new() };
            self.pools.insert(Arc::from(name), members);
            return;
        };
        if *members.settings == settings {
            return;
        }
        let turned = (members.settings.health.check == Check::Off) != (settings.health.check == Check::Off);
        members.settings = Arc::new(settings);
        let (pool, _) = self.pools.get_key_value(name).expect("it was there a line ago");
        let pool = Arc::clone(pool);
        let names: Vec<_> = self.pools[name].entries.keys().cloned().collect();
        for member in names {
            let id = (Arc::clone(&pool), member);
            if turned {
                self.with(&id, |entry, _| entry.machine.forget());
            }
            self.schedule(&id, Task::Hold, None);
            self.plan_first(&id, now);
        }
    }

    fn follow_member(&mut self, pool_name: &str, pool: &PoolState, name: &str, now: u64) {
        let Some(member) = pool.members.get(name) else { return self.remove(pool_name, name) };
        self.settle(pool_name, pool, now);
        self.serials += 1;
        let serial = self.serials;
        let (pool_id, members) = self.pools.get_key_value(pool_name).expect("settle put it there");
        let known = members.entries.get_key_value(name);
        let target = member.endpoint(None);
        let same = |entry: &Entry| entry.address == member.address && entry.target == target;
        if known.is_some_and(|(_, entry)| same(entry) && entry.incarnation == member.incarnation) {
            return;
        }
        let machine = known.map(|(_, entry)| {
            let mut machine = entry.machine.clone();
            machine.forget();
            machine
        });
        let id: Id = (Arc::clone(pool_id), known.map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name)));
        self.remove(pool_name, name);
        let entry = Entry {
            serial,
            address: member.address.clone(),
            incarnation: member.incarnation,
            target,
            machine: machine.unwrap_or_default(),
            rounds: 0,
            due: BTreeMap::new(),
        };
        let members = self.pools.get_mut(pool_name).expect("settle put it there");
        members.entries.insert(Arc::clone(&id.1), entry);
        self.plan_first(&id, now);
    }

    /// First checks are spread over the interval, each backend always at the same place in it.
    fn plan_first(&mut self, id: &Id, now: u64) {
        let settings = &self.pools[&id.0].settings;
        let first = (settings.health.check != Check::Off)
            .then(|| now + spread(id, 0) % settings.health.interval.as_millis().max(1));
        self.schedule(id, Task::Check, first);
    }

    fn remove_pool(&mut self, name: &str) {
        let names: Vec<_> = self.pools.get(name).map_or_else(Vec::new, |pool| pool.entries.keys().cloned().collect());
        for member in names {
            self.remove(name, &member);
        }
        self.pools.remove(name);
    }

    fn remove(&mut self, pool: &str, name: &str) {
        let Some((pool, _)) = self.pools.get_key_value(pool) else { return };
        let pool = Arc::clone(pool);
        let members = self.pools.get_mut(&pool).expect("its key was found");
        if let Some((name, entry)) = members.entries.remove_entry(name) {
            for (task, due) in entry.due {
                self.queue.remove(&(due, task, (Arc::clone(&pool), Arc::clone(&name))));
            }
        }
    }

    fn with<T>(&mut self, id: &Id, act: impl FnOnce(&mut Entry, &HealthCheck) -> T) -> Option<T> {
        let members = self.pools.get_mut(&id.0)?;
        Some(act(members.entries.get_mut(&id.1)?, &members.settings.health))
    }

    fn schedule(&mut self, id: &Id, task: Task, due: Option<u64>) {
        let before = self.with(id, |entry, _| match due {
            Some(due) => entry.due.insert(task, due),
            None => entry.due.remove(&task),
        });
        let Some(before) = before else { return };
        if let Some(before) = before {
            self.queue.remove(&(before, task, id.clone()));
        }
        if let Some(due) = due {
            self.queue.insert((due, task, id.clone()));
        }
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.queue.first().map(|(due, ..)| *due)
    }

    /// Takes one thing that is due. What it leads to is a job, or a backend whose health changed.
    pub(crate) fn take_due(&mut self, snapshot: &Snapshot, now: u64) -> Option<Due> {
        if self.next_due()? > now {
            return None;
        }
        let (_, task, id) = self.queue.pop_first()?;
        let members = self.pools.get_mut(&id.0).expect("the queue holds what the pools hold");
        let entry = members.entries.get_mut(&id.1).expect("the queue holds what the pools hold");
        entry.due.remove(&task);
        let address = entry.address.clone();
        let ticket = Ticket { serial: entry.serial, id };
        Some(match task {
            Task::Check => {
                let (pool, name) = &ticket.id;
                let target =
                    entry.target.clone().or_else(|| snapshot.observed(pool, name).resolved.map(Endpoint::Inet));
                Due::Job(Job { target, address, settings: Arc::clone(&members.settings), ticket })
            }
            Task::Hold => {
                let before = entry.machine.health();
                entry.machine.tick(now);
                let after = entry.machine.health();
                Due::Over((before != after).then_some((ticket.id, after)))
            }
        })
    }

    /// Takes the result of a check and plans the next one. The new health, where it changed.
    pub(crate) fn checked(&mut self, ticket: &Ticket, outcome: Result<(), Arc<str>>, now: u64) -> Option<Health> {
        let id = &ticket.id;
        let (before, after, due) = self.with(id, |entry, settings| {
            if entry.serial != ticket.serial || settings.check == Check::Off {
                return None;
            }
            let before = entry.machine.health();
            entry.machine.checked(outcome, settings);
            entry.rounds += 1;
            let interval = settings.interval.as_millis();
            let due = now + interval + spread(id, entry.rounds) % (interval / 10).max(1);
            Some((before, entry.machine.health(), due))
        })??;
        self.schedule(id, Task::Check, Some(due));
        (before != after).then_some(after)
    }

    /// Whether the job of this ticket was about the backend as it is now.
    pub(crate) fn is_current(&mut self, ticket: &Ticket) -> bool {
        self.with(&ticket.id, |entry, _| entry.serial == ticket.serial).unwrap_or(false)
    }

    /// A worker marked the backend. The new health, where it changed.
    pub(crate) fn failing(&mut self, id: &Id, reason: Arc<str>, now: u64) -> Option<Health> {
        let (before, after, hold) = self.with(id, |entry, settings| {
            let before = entry.machine.health();
            entry.machine.failing(reason, settings, now);
            (before, entry.machine.health(), entry.machine.deadline())
        })?;
        if hold.is_some() {
            self.schedule(id, Task::Hold, hold);
        }
        (before != after).then_some(after)
    }

    /// Somebody says what the health is, or that checks say it. The new health, where it changed.
    pub(crate) fn push(&mut self, id: &Id, health: Option<Health>) -> Option<Health> {
        let (before, after) = self.with(id, |entry, _| {
            let before = entry.machine.health();
            entry.machine.push(health);
            (before, entry.machine.health())
        })?;
        (before != after).then_some(after)
    }

    /// Why the health of a backend is what it is, where there is more to say.
    pub(crate) fn reasons(&self) -> BTreeMap<(String, String), Arc<str>> {
        let entries =
            self.pools.iter().flat_map(|(pool, members)| members.entries.iter().map(move |entry| (pool, entry)));
        let reasons = entries
            .filter_map(|(pool, (name, entry))| Some(((pool.to_string(), name.to_string()), entry.machine.reason()?)));
        reasons.collect()
    }

    pub(crate) fn health(&self, pool: &str, name: &str) -> (Health, Option<Arc<str>>) {
        let entry = self.pools.get(pool).and_then(|members| members.entries.get(name));
        entry.map_or((Health::Unknown, None), |entry| (entry.machine.health(), entry.machine.reason()))
    }
}

/// What [`Board::take_due`] took.
#[derive(Debug)]
pub(crate) enum Due {
    Job(Job),
    /// A mark ended; the backend and its health, where that changed.
    Over(Option<(Id, Health)>),
}

/// A number that is always the same for a backend and a round of its checks.
fn spread(id: &Id, round: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, round).hash(&mut hasher);
    hasher.finish()
}
