use super::drain_plan::{Ended, Over};
use affinity::{
    ages::Forecast,
    decay::{Outlook, Series},
};
use control::desired::{AdminState, Change, Drain, Member, Snapshot, Then};
use std::collections::BTreeMap;

/// A drain as this process has followed it. Not stored: what was seen before a restart is gone with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) drain: Drain,
    /// Live sessions when it began, or when they were first reported after that.
    pub(crate) sessions_at_start: Option<u64>,
    /// The generation that commanded it: older reports say nothing about it.
    pub(crate) generation: u64,
    /// Nothing was left of it, and that was told.
    pub(crate) finished: bool,
    /// Nothing was left of it by the last reports.
    pub(crate) nothing_left: bool,
    /// What was left of it up to now.
    pub(crate) series: Series,
    /// What the ages of its sessions foretell, of a drain that lets them end by themselves.
    pub(crate) forecast: Option<Forecast>,
    /// Nothing is left of it, by data planes that have been there for long enough to know.
    pub(crate) empty: bool,
}

impl Watched {
    /// `None` where nobody knows the sessions.
    pub(crate) fn outlook(&self) -> Option<Outlook<'_>> {
        let at_start = self.sessions_at_start?;
        Some(Outlook { series: &self.series, forecast: self.forecast.as_ref(), at_start })
    }
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
                    self.set(name, member, drain_of(state), generation, &sessions);
                }
            }
            Change::RemovePool { name } => self.0.retain(|(pool, _), _| pool != name),
            Change::PutMember { pool, name, member } if snapshot.desired.pools.contains_key(pool) => {
                self.set(pool, name, drain_of(member), generation, &sessions);
            }
            Change::RemoveMember { pool, name } => drop(self.0.remove(&(pool.clone(), name.clone()))),
            Change::PutMember { .. }
            | Change::PutSettings { .. }
            | Change::PutRelease { .. }
            | Change::RemoveRelease { .. }
            | Change::Listeners { .. }
            | Change::Keys { .. }
            | Change::Observe { .. }
            | Change::Rebalance { .. } => {}
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
        let fresh = || Watched {
            drain,
            sessions_at_start: sessions(pool, name),
            generation,
            finished: false,
            nothing_left: false,
            series: Series::default(),
            forecast: None,
            empty: false,
        };
        let watched = self.0.entry(id).or_insert_with(fresh);
        if watched.drain.since != drain.since {
            *watched = fresh();
        }
        watched.drain = drain;
    }

    /// The earliest deadline at which there is something to do, in Unix milliseconds.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let drains = self.0.values().map(|watched| watched.drain);
        drains.filter(|drain| drain.at_deadline() != Then::Leave).filter_map(|drain| drain.deadline).min()
    }

    /// The drains that are to be ended by now. Where other nodes act on the same (`shared`), by their deadlines alone: they have
    /// sessions that nobody here knows.
    pub(crate) fn ended(&self, now: u64, shared: bool) -> Vec<Ended> {
        let ended = self.0.iter().filter_map(|(id, watched)| {
            let Watched { drain, empty, .. } = watched;
            let over = if drain.at_deadline() == Then::Leave {
                return None;
            } else if drain.then.is_some() && *empty && !shared {
                Over::Empty
            } else if drain.deadline.is_some_and(|deadline| deadline <= now) {
                Over::Deadline
            } else {
                return None;
            };
            Some(Ended { id: id.clone(), drain: *drain, over })
        });
        ended.collect()
    }
}

/// The drain that goes on, and not one that led into maintenance.
fn drain_of(member: &Member) -> Option<Drain> {
    member.drain.filter(|_| member.admin_state == AdminState::Draining)
}
