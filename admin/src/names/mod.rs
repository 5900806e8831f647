//! Where the names in addresses lead: looked up off the path of requests, again and again. A look-up that fails takes
//! nothing away: what the last one found stays.

mod dns;
mod found;
pub(crate) mod schedule;
pub(crate) mod source;
#[cfg(test)]
mod tests;

use crate::{
    gather::{self, gather},
    health::{board::Id, observe},
    state::State,
};
use control::{desired::Observed, spec::Family};
use found::Answer;
use schedule::{Lookup, Owner, Ticket, Turn};
use source::{Places, Question, Resolver, Source};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

/// Look-ups at once. Each takes a thread, also when nobody waits for it any more.
static PLACES: Semaphore = Semaphore::const_new(32);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Outcome {
    ticket: Ticket,
    question: Question,
    places: Result<Places, Arc<str>>,
}

/// Looks up what is due, for ever.
pub(crate) async fn run(state: Arc<State>) {
    let (done, answers) = mpsc::channel(gather::MOST);
    tokio::join!(ask(&state, done), take_answers(&state, answers));
}

async fn ask(state: &State, done: mpsc::Sender<Outcome>) {
    loop {
        let due = state.lock().names.take_due(state.clock.millis());
        match due {
            Ok(lookup) => {
                let place = PLACES.acquire().await.expect("it is never closed");
                let done = done.clone();
                tokio::spawn(async move {
                    let Lookup { ticket, question, family } = lookup;
                    let places = question.find(family, place).await;
                    // Nobody takes it only where this process stops.
                    drop(done.send(Outcome { ticket, question, places }).await);
                });
            }
            Err(next) => tokio::select! {
                () = state.names_due.notified() => {}
                () = tokio::time::sleep_until(state.clock.at(next.unwrap_or(u64::MAX))) => {}
            },
        }
    }
}

async fn take_answers(state: &Arc<State>, mut answers: mpsc::Receiver<Outcome>) {
    let mut gathered = Vec::new();
    while gather(&mut answers, &mut gathered).await {
        let found = take(state, gathered.drain(..));
        if found.is_empty() {
            continue;
        }
        let owners: Vec<_> = found.iter().map(|answer| Owner::discover(&answer.pool, &answer.name)).collect();
        let written = state.note(move |current| Ok(found::plan(current, &found))).await;
        if let Err(error) = written {
            if !error.is_told() {
                tracing::error!(?error, "a name leads to other addresses and that can't be stored");
            }
            let mut shared = state.lock();
            owners.iter().for_each(|owner| shared.names.again(owner, state.clock.millis()));
            drop(shared);
            state.names_due.notify_one();
        }
    }
}

/// Takes answers over; those that make and remove members are left to be written.
fn take(state: &State, outcomes: impl Iterator<Item = Outcome>) -> Vec<Answer> {
    let mut shared = state.lock();
    let now = state.clock.millis();
    let mut observed: BTreeMap<Id, Observed> = BTreeMap::new();
    let mut found = Vec::new();
    for Outcome { ticket, question, places } in outcomes {
        let failure = places.as_ref().err().cloned();
        let Some(turn) = shared.names.looked_up(&ticket, failure, now) else { continue };
        tell(&ticket.owner, &question, &turn);
        let Ok(places) = places else { continue };
        match ticket.owner {
            Owner::Discover((pool, name)) => found.push(Answer { pool, name, question, places }),
            Owner::Backend(id) => {
                // The least one, so that every look-up of the same records has the same result.
                let resolved = least(&places);
                let before = shared.snapshot.observed(&id.0, &id.1);
                if before.resolved != resolved {
                    observed.insert(id, Observed { resolved, ..before });
                }
            }
        }
    }
    let changes = observed.into_iter().map(|(id, observed)| observe(&id, observed)).collect();
    state.publish(shared, changes);
    // What is as it was is not written.
    let snapshot = Arc::clone(&state.lock().snapshot);
    found.retain(|answer| !found::changes(&snapshot, answer, 0).is_empty());
    found
}

fn least(places: &Places) -> Option<SocketAddr> {
    places.values().map(|place| place.at).min()
}

fn tell(owner: &Owner, question: &Question, turn: &Turn) {
    let (pool, name) = owner.id();
    match (turn, question) {
        (Turn::Same, _) => {}
        (Turn::Fails(reason), Question::Name(address) | Question::Service(address, _)) => {
            tracing::warn!(%pool, %name, address, %reason, "a name does not resolve: what is known of it stays");
        }
        (Turn::Fails(reason), Question::File(_)) => {
            tracing::warn!(%pool, %name, file = %question, %reason, "a list can't be used: what is known of it stays");
        }
        (Turn::Resolves, Question::Name(address) | Question::Service(address, _)) => {
            tracing::info!(%pool, %name, address, "a name resolves again");
        }
        (Turn::Resolves, Question::File(_)) => {
            tracing::info!(%pool, %name, file = %question, "a list can be used again");
        }
    }
}

/// Where a name leads to begin with, for whoever adds a backend; and why to nowhere.
pub(crate) async fn first(address: &str, family: Family, limit: Duration) -> Result<SocketAddr, Arc<str>> {
    let place = timeout(limit, PLACES.acquire()).await.map_err(|_| "too many look-ups wait")?;
    let place = place.expect("it is never closed");
    let places = Resolver { address: address.to_owned(), family, limit, place }.find().await?;
    Ok(least(&places).expect("there is at least one"))
}
