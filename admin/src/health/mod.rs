//! What is seen of the backends: active checks, and marks from real traffic.

pub(crate) mod board;
mod http2;
mod machine;
mod probe;
#[cfg(test)]
mod tests;
mod trusts;

use crate::{
    gather::{self, gather},
    state::{State, plan},
};
use board::{Due, Id, Job, Ticket};
use control::{
    desired::{Change, Observed, Snapshot},
    status::Health,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use trusts::Trusts;

/// Checks at once. With the REST connections this stays below the usual limit of 1024 descriptors.
const CHECKS: usize = 512;

/// How a check ended; where it succeeded, with the instance that the backend named.
type Outcome = (Ticket, Result<Option<String>, Arc<str>>);

/// Checks what is due, for ever.
pub(crate) async fn run(state: Arc<State>) {
    let (done, results) = mpsc::channel(gather::MOST);
    tokio::join!(start_jobs(&state, done), take_results(&state, results));
}

async fn start_jobs(state: &Arc<State>, done: mpsc::Sender<Outcome>) {
    let checks = Arc::new(Semaphore::new(CHECKS));
    let trusts = Arc::new(Trusts::default());
    loop {
        let next = match take_due(state) {
            Ok(job) => {
                let place = Arc::clone(&checks).acquire_owned().await.expect("it is never closed");
                let (done, trusts) = (done.clone(), Arc::clone(&trusts));
                tokio::spawn(async move {
                    let Job { ticket, target, address, settings } = job;
                    let outcome = probe::check(target, &address, &settings, &trusts).await;
                    drop(place);
                    // Nobody takes it only where this process stops.
                    drop(done.send((ticket, outcome)).await);
                });
                continue;
            }
            Err(next) => next,
        };
        tokio::select! {
            () = state.due.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// The next job, or when to look again.
pub(crate) fn take_due(state: &State) -> Result<Job, Instant> {
    loop {
        let mut shared = state.lock();
        let now = state.clock.millis();
        let snapshot = Arc::clone(&shared.snapshot);
        match shared.board.take_due(&snapshot, now) {
            Some(Due::Job(job)) => return Ok(job),
            Some(Due::Over(changed)) => {
                drop(snapshot);
                if let Some((id, health)) = changed {
                    let change = with_health(&shared.snapshot, &id, health);
                    state.publish(shared, vec![change]);
                }
            }
            None => return Err(state.clock.at(shared.board.next_due().unwrap_or(u64::MAX))),
        }
    }
}

async fn take_results(state: &Arc<State>, mut results: mpsc::Receiver<Outcome>) {
    let mut gathered = Vec::new();
    while gather(&mut results, &mut gathered).await {
        let seen = take(state, gathered.drain(..));
        if !seen.is_empty() {
            let state = Arc::clone(state);
            // Checks don't wait for the store.
            tokio::spawn(async move {
                let written = state.note(move |current| Ok(plan::instances(current, &seen))).await;
                if let Err(error) = written
                    && !error.is_told()
                {
                    tracing::error!(?error, "another instance answers a check and that can't be stored");
                }
            });
        }
    }
}

/// Takes results over; the pools and backends of which another instance answered than is stored, and which.
pub(crate) fn take(state: &State, outcomes: impl Iterator<Item = Outcome>) -> Vec<(String, String, String)> {
    let mut shared = state.lock();
    let shared_now = &mut *shared;
    let now = state.clock.millis();
    let mut observed: BTreeMap<Id, Observed> = BTreeMap::new();
    let mut instances = Vec::new();
    for (ticket, outcome) in outcomes {
        if let Ok(Some(instance)) = &outcome
            && shared_now.board.is_current(&ticket)
        {
            let (pool, name) = &ticket.id;
            let known = shared_now.snapshot.desired.pools.get(&**pool).and_then(|pool| pool.members.get(&**name));
            if known.is_some_and(|known| known.instance.as_ref() != Some(instance)) {
                instances.push((pool.to_string(), name.to_string(), instance.clone()));
            }
        }
        if let Some(health) = shared_now.board.checked(&ticket, outcome.map(drop), now) {
            let (pool, name) = &ticket.id;
            let before = shared_now.snapshot.observed(pool, name);
            observed.insert(ticket.id, Observed { health, ..before });
        }
    }
    let changes = observed.into_iter().map(|(id, observed)| observe(&id, observed)).collect();
    state.publish(shared, changes);
    instances
}

/// A worker of a data plane marked a backend.
pub(crate) fn failing(state: &State, pool: &str, name: &str, reason: &str) {
    let mut shared = state.lock();
    let id: Id = (Arc::from(pool), Arc::from(name));
    let changed = shared.board.failing(&id, Arc::from(reason), state.clock.millis());
    if changed.is_some() {
        tracing::info!(pool, backend = name, reason, "traffic fails at a backend: it is marked down");
    }
    let changes = changed.map(|health| with_health(&shared.snapshot, &id, health)).into_iter().collect();
    state.publish(shared, changes);
}

/// Says what a backend's health is; `None` gives it back to checks and traffic. The generation that has it, and
/// whether that is a new one.
pub(crate) fn push(state: &State, pool: &str, name: &str, health: Option<Health>) -> (u64, bool) {
    let mut shared = state.lock();
    let id: Id = (Arc::from(pool), Arc::from(name));
    let changed = shared.board.push(&id, health);
    let changes = changed.map(|health| with_health(&shared.snapshot, &id, health)).into_iter().collect();
    (state.publish_commanded(shared, changes), changed.is_some())
}

fn with_health(snapshot: &Snapshot, id: &Id, health: Health) -> Change {
    observe(id, Observed { health, ..snapshot.observed(&id.0, &id.1) })
}

pub(crate) fn observe((pool, name): &Id, observed: Observed) -> Change {
    Change::Observe { pool: pool.to_string(), name: name.to_string(), observed }
}
