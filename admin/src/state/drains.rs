use control::desired::{Change, Drain, Snapshot};
use std::collections::BTreeMap;

/// A drain as this process has followed it. Not stored: what was seen before a restart is gone with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) drain: Drain,
    /// Live sessions when it began, or when they were first reported after that.
    pub(crate) sessions_at_start: Option<u64>,
    /// The generation that commanded it: older reports say nothing about it.
    pub(crate) generation: u64,
    /// Nothing was left of it, and that was told.
    pub(crate) finished: bool,
}

/// Every drain under way, by pool and backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drains(pub(crate) BTreeMap<(String, String), Watched>);

impl Drains {
    /// Follows a change that `snapshot` already has, as part of `generation`. `sessions` tells a backend's live sessions now.
    pub(crate) fn follow(
        &mut self,
        change: &Change,
        snapshot: &Snapshot,
        generation: u64,
        sessions: impl Fn(&str, &str) -> Option<u64>,
    ) {
        match change {
            Change::PutPool { name, pool } => {
                self.0.retain(|(pool, _), _| pool != name);
                for (member, state) in &pool.members {
                    self.set(name, member, state.drain, generation, &sessions);
                }
            }
            Change::RemovePool { name } => self.0.retain(|(pool, _), _| pool != name),
            Change::PutMember { pool, name, member } if snapshot.desired.pools.contains_key(pool) => {
                self.set(pool, name, member.drain, generation, &sessions);
            }
            Change::RemoveMember { pool, name } => drop(self.0.remove(&(pool.clone(), name.clone()))),
            Change::PutMember { .. }
            | Change::PutSettings { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::Observe { .. } => {}
        }
    }

    fn set(
        &mut self,
        pool: &str,
        name: &str,
        drain: Option<Drain>,
        generation: u64,
        sessions: impl Fn(&str, &str) -> Option<u64>,
    ) {
        let id = (pool.to_owned(), name.to_owned());
        let Some(drain) = drain else {
            self.0.remove(&id);
            return;
        };
        let fresh = || Watched { drain, sessions_at_start: sessions(pool, name), generation, finished: false };
        let watched = self.0.entry(id).or_insert_with(fresh);
        if watched.drain.since != drain.since {
            *watched = fresh();
        }
        watched.drain = drain;
    }

    /// The earliest deadline, in Unix milliseconds.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.0.values().filter_map(|watched| watched.drain.deadline).min()
    }

    pub(crate) fn expired(&self, now: u64) -> Vec<(String, String)> {
        let over = |watched: &Watched| watched.drain.deadline.is_some_and(|deadline| deadline <= now);
        self.0.iter().filter(|(_, watched)| over(watched)).map(|(id, _)| id.clone()).collect()
    }
}
