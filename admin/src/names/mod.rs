//! Where the names in addresses lead: looked up off the path of requests, again and again. A look-up that fails takes
//! nothing away: what the last one found stays.

mod found;
pub(crate) mod schedule;
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
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::timeout,
};

/// Look-ups at once. Each takes a thread, also when nobody waits for it any more.
static PLACES: Semaphore = Semaphore::const_new(32);
const TIMEOUT: Duration = Duration::from_secs(5);

type Addresses = BTreeSet<SocketAddr>;

struct Outcome {
    ticket: Ticket,
    address: String,
    addresses: Result<Addresses, Arc<str>>,
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
                    let Lookup { ticket, address, family } = lookup;
                    let addresses = resolve(&address, family, TIMEOUT, place).await;
                    // Nobody takes it only where this process stops.
                    drop(done.send(Outcome { ticket, address, addresses }).await);
                });
            }
            Err(next) => tokio::select! {
                () = state.names_due.notified() => {}
                () = tokio::time::sleep_until(state.clock.at(next.unwrap_or(u64::MAX))) => {}
            },
        }
    }
}

/// The addresses of a `name:port`, of which there is at least one.
///
/// # Errors
/// Why there is none, in a few words.
async fn resolve(
    address: &str,
    family: Family,
    limit: Duration,
    place: SemaphorePermit<'static>,
) -> Result<Addresses, Arc<str>> {
    let address = address.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let _place = place;
        address.to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    let late = || format!("no answer within {} s", limit.as_secs());
    let found = timeout(limit, asked).await.map_err(|_| late())?;
    let found = found.map_err(|_| "this process stops")?.map_err(|error| reason(&error))?.into_iter();
    let (v4, v6): (Addresses, Addresses) = found.partition(SocketAddr::is_ipv4);
    let counted = match family {
        Family::Either if v4.is_empty() => v6,
        Family::Either | Family::Ipv4 => v4,
        Family::Ipv6 => v6,
        Family::Both => v4.into_iter().chain(v6).collect(),
    };
    if counted.is_empty() { Err(Arc::from("it has no address of the family that is asked for")) } else { Ok(counted) }
}

/// The resolver's own words.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_ascii_lowercase()
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
    for Outcome { ticket, address, addresses } in outcomes {
        let failure = addresses.as_ref().err().cloned();
        let Some(turn) = shared.names.looked_up(&ticket, failure, now) else { continue };
        tell(&ticket.owner, &address, &turn);
        let Ok(addresses) = addresses else { continue };
        match ticket.owner {
            Owner::Discover((pool, name)) => found.push(Answer { pool, name, address, addresses }),
            Owner::Backend(id) => {
                // The least one, so that every look-up of the same records has the same result.
                let resolved = addresses.first().copied();
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

fn tell(owner: &Owner, address: &str, turn: &Turn) {
    let (pool, name) = owner.id();
    match turn {
        Turn::Same => {}
        Turn::Fails(reason) => {
            tracing::warn!(%pool, %name, address, %reason, "a name does not resolve: what is known of it stays");
        }
        Turn::Resolves => tracing::info!(%pool, %name, address, "a name resolves again"),
    }
}

/// Where a name leads to begin with, for whoever adds a backend; and why to nowhere.
pub(crate) async fn first(address: &str, family: Family, limit: Duration) -> Result<SocketAddr, Arc<str>> {
    let place = timeout(limit, PLACES.acquire()).await.map_err(|_| "too many look-ups wait")?;
    let addresses = resolve(address, family, limit, place.expect("it is never closed")).await?;
    Ok(*addresses.first().expect("there is at least one"))
}
