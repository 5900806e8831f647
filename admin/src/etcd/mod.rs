//! Membership from etcd: every change of the desired state, whoever made it, reaches this node as what etcd says, and in
//! etcd's order. A write over REST is a transaction there, and is answered once this node's own watch has told of it.
//!
//! etcd is spoken to by its JSON gateway, see [`client`]. The gateway does not know users by their certificates: those are
//! for the transport, and a user has a password.

mod bring;
mod client;
mod follow;
mod mirror;
pub(crate) mod nodes;
mod rows;
#[cfg(test)]
mod tests;
mod txn;
mod watch;
mod wire;
mod write;

pub(crate) use follow::run;
pub(crate) use mirror::Mirror;

use crate::{call::Trust, clock, store::Sections};
use client::{Client, Failure};
use control::config;
use nodes::Own;
use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch as latest};

/// A start waits for etcd for so long at most, and for no longer than one call may take.
const FIRST: Duration = Duration::from_secs(5);

/// The etcd that the desired state lives in, and what this node has heard of it.
#[derive(Debug)]
pub(crate) struct Etcd {
    client: Client,
    /// Taken before the writer where both are.
    mirror: tokio::sync::Mutex<Mirror>,
    /// One write of this node at a time: they would only get in each other's way.
    turn: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
    /// The revision that this node acts on; 0 before it has heard any.
    heard: latest::Sender<u64>,
    /// Whether what the file says was told to the cluster.
    seeded: latest::Sender<bool>,
    /// Rung when a call failed, so that the watch may be dead as well.
    doubt: Notify,
    restarts: AtomicU64,
    /// How other nodes are verified.
    pub(crate) trust: Trust,
    /// This node as the others know it, or what to set so that they can.
    own: Result<Own, String>,
}

/// How etcd is, by what this node sees of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Why it can't be reached; absent where it can.
    pub(crate) away: Option<String>,
    /// Since when, in Unix milliseconds.
    pub(crate) since: u64,
    /// What somebody has to mend in it, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// The same for those who look at this node.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) status: Status,
    /// The endpoint that is asked first.
    pub(crate) endpoint: String,
    pub(crate) revision: u64,
    /// How often the watch ended and was begun anew.
    pub(crate) restarts: u64,
    /// Calls that failed.
    pub(crate) failures: u64,
}

impl Etcd {
    /// `sections` are as this node last knew them, and `floor` is the highest incarnation that it may have seen.
    pub(crate) fn new(settings: &config::Etcd, sections: &Sections, floor: u64) -> Self {
        let away = Some("it has not answered yet".to_owned());
        Self {
            client: Client::new(settings.clone()),
            mirror: tokio::sync::Mutex::new(Mirror::new(&settings.prefix, sections, floor)),
            turn: tokio::sync::Mutex::default(),
            status: Mutex::new(Status { away, since: clock::unix_millis(), problems: Vec::new() }),
            heard: latest::Sender::new(0),
            seeded: latest::Sender::new(false),
            doubt: Notify::new(),
            restarts: AtomicU64::new(0),
            trust: Trust::default(),
            own: Own::of(settings),
        }
    }

    pub(crate) fn view(&self) -> View {
        View {
            status: self.status().clone(),
            endpoint: self.client.endpoint().to_owned(),
            revision: *self.heard.borrow(),
            restarts: self.restarts.load(Relaxed),
            failures: self.client.failures.load(Relaxed),
        }
    }

    /// Waits until etcd was heard, for a while.
    pub(crate) async fn first(&self) {
        let mut heard = self.heard.subscribe();
        let limit = FIRST.min(self.client.limit());
        // The watch is never dropped before this.
        drop(tokio::time::timeout(limit, heard.wait_for(|revision| *revision > 0)).await);
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("nothing panics while holding it")
    }

    /// Remembers that etcd can't be reached. Told once, however often it is tried.
    fn is_away(&self, failure: &Failure) {
        let (reason, never) = (failure.reason().to_owned(), *self.heard.borrow() == 0);
        let mut status = self.status();
        let before = status.away.replace(reason.clone());
        if before.is_none() {
            status.since = clock::unix_millis();
        }
        if before.is_none() || (never && before.as_ref() != Some(&reason)) {
            tracing::warn!(%reason, "etcd can't be reached: membership stays as this node knows it");
        }
    }

    fn is_here(&self) {
        let mut status = self.status();
        if status.away.take().is_some() {
            status.since = clock::unix_millis();
            tracing::info!(endpoint = self.client.endpoint(), "etcd is watched");
        }
    }

    fn tell_problems(&self, mirror: &Mirror) {
        let mut nodes = mirror.nodes().filter_map(|(name, node)| Some((name, node.ok()?)));
        let clash = self.own.as_ref().ok().and_then(|own| nodes.find_map(|(name, node)| own.clash(name, node)));
        let unnamed = self.own.as_ref().err().filter(|_| self.client.advertises()).cloned();
        self.status().problems = mirror.problems().into_iter().chain(clash).chain(unnamed).collect();
    }
}

impl Status {
    /// In words, where it can't be reached; `now` in Unix milliseconds.
    pub(crate) fn why_away(&self, now: u64) -> Option<String> {
        let reason = self.away.as_ref()?;
        let seconds = now.saturating_sub(self.since) / 1_000;
        Some(format!("etcd can't be reached for {seconds} s: {reason}"))
    }
}
