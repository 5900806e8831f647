//! Rebalancing after a scale-up: which backends have more sessions than their share, and what is done about it. Pure.

use crate::{
    control_server::peers::{Peer, figures},
    history::PlaneId,
};
use affinity::imbalance::{Load, imbalance};
use control::{
    desired::{AdminState, Share, Snapshot},
    rebalance::Rebalance,
    release::Release,
    spec::Affinity,
    status::Health,
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[cfg(test)]
mod tests;

/// The shortest round, in milliseconds: reports have to come in between, so that it can end when enough has moved.
const LEAST_ROUND: u64 = 3_000;

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wish {
    pub(crate) sessions_per_second: u32,
    pub(crate) idle_first: bool,
    /// The most sessions per weight that a backend may have, over the mean of all.
    pub(crate) target: f64,
}

/// How far a rebalance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    Running,
    /// The load is as even as was wanted, or as whole sessions allow.
    Even,
    Cancelled,
    /// The pool's settings or backends changed, or a data plane began anew, which ended it.
    Changed,
}

/// A rebalance as this process has followed it; gone with this process.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) wish: Wish,
    pub(crate) stage: Stage,
    /// Unix milliseconds.
    pub(crate) since: u64,
    /// Sessions that have moved.
    pub(crate) moved: u64,
    /// The generation of the last round: older reports say nothing about it.
    pub(crate) generation: u64,
    /// What the data planes have counted, by their last reports, that know how many sessions there are: one that comes
    /// later counts them from zero.
    planes: BTreeMap<PlaneId, u64>,
}

impl Watched {
    /// `planes` are the data planes with what each had counted before.
    pub(crate) fn new(wish: Wish, since: u64, generation: u64, planes: impl Iterator<Item = (PlaneId, u64)>) -> Self {
        Self { wish, stage: Stage::Running, since, moved: 0, generation, planes: planes.collect() }
    }

    /// Notes what the data planes have counted by now; false where not all have been there since it began. One that has
    /// just come back has reported nothing yet.
    pub(crate) fn count(&mut self, planes: impl Iterator<Item = (PlaneId, u64)>) -> bool {
        let mut knows = true;
        for (plane, counted) in planes {
            let Some(before) = self.planes.get_mut(&plane) else {
                knows = false;
                continue;
            };
            self.moved += counted.saturating_sub(*before);
            *before = counted.max(*before);
        }
        knows
    }
}

/// A backend that takes new sessions, and so its share of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) sessions: u64,
}

/// The backends that are to have even loads; `None` where no data plane has told of their sessions.
pub(crate) fn bearers<'p>(
    snapshot: &Snapshot,
    peers: impl Iterator<Item = &'p Peer> + Clone,
    pool: &str,
) -> Option<Vec<Bearer>> {
    let members = &snapshot.desired.pools.get(pool)?.members;
    let (mut bearers, mut known) = (Vec::new(), false);
    for (name, member) in members {
        let is_down = snapshot.observed(pool, name).health == Health::Down;
        if member.admin_state != AdminState::Active || member.backup || member.weight == 0 || is_down {
            continue;
        }
        let sessions = figures(peers.clone(), pool, name).live_sessions;
        known |= sessions.is_some();
        // Who was just added is not in the reports yet.
        bearers.push(Bearer { name: name.clone(), weight: member.weight, sessions: sessions.unwrap_or(0) });
    }
    known.then_some(bearers)
}

/// The highest load per weight over the mean of all; `None` without sessions.
pub(crate) fn max_over_mean(bearers: &[Bearer]) -> Option<f64> {
    let loads = bearers.iter().map(|bearer| Load { load: real(bearer.sessions), weight: bearer.weight.into() });
    imbalance(loads).map(|found| found.max_over_mean)
}

/// How many sessions each has to give away, in the order of `bearers`: as few as bring it to the target, and never so
/// many that it has less than its share.
fn surplus(bearers: &[Bearer], target: f64) -> Vec<u64> {
    let fair = fair(bearers);
    bearers.iter().map(|bearer| has_to_give(bearer, fair(bearer), target)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole sessions, at least none")]
fn has_to_give(bearer: &Bearer, fair: f64, target: f64) -> u64 {
    let has = real(bearer.sessions);
    (has - fair).floor().min((has - target * fair).ceil()).max(0.0) as u64
}

/// How many sessions a round asks of one that has to give some away. Who moves is drawn by the sessions' keys, so a round
/// for just as many falls short every second time, and one for the last of them moves nobody in a third of the cases. Asking
/// for two standard deviations more ends it sooner, and costs little: a round is over once the reports say that it is enough.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole sessions, at least none")]
fn asked_of(bearer: &Bearer, fair: f64, target: f64) -> u64 {
    let (has_to, may) = (has_to_give(bearer, fair, target), (real(bearer.sessions) - fair).max(0.0) as u64);
    (has_to + (2.0 * real(has_to).sqrt()).ceil() as u64).min(may)
}

/// A backend's share of all sessions, by its weight.
fn fair(bearers: &[Bearer]) -> impl Fn(&Bearer) -> f64 {
    let sessions: u64 = bearers.iter().map(|bearer| bearer.sessions).sum();
    let weight: u64 = bearers.iter().map(|bearer| u64::from(bearer.weight)).sum();
    move |of| real(sessions) * f64::from(of.weight) / real(weight.max(1))
}

/// How many sessions still have to move.
pub(crate) fn left(bearers: &[Bearer], target: f64) -> u64 {
    surplus(bearers, target).iter().sum()
}

/// The next round at `now`, in Unix milliseconds; `None` where nothing has to move.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole sessions, of a backend below its share"
)]
pub(crate) fn round(wish: &Wish, bearers: &[Bearer], now: u64) -> Option<Rebalance> {
    let fair = fair(bearers);
    let asked: Vec<_> = bearers.iter().map(|bearer| asked_of(bearer, fair(bearer), wish.target)).collect();
    let all: u64 = asked.iter().sum();
    let giving = bearers.iter().zip(&asked).filter(|(_, asked)| **asked > 0);
    let from = giving.filter_map(|(bearer, asked)| {
        let share = Share::new(real(*asked) / real(bearer.sessions))?;
        Some((bearer.name.clone(), share))
    });
    let to = bearers.iter().filter_map(|bearer| {
        let lacks = (fair(bearer) - real(bearer.sessions)).ceil();
        (lacks > 0.0).then(|| (bearer.name.clone(), lacks as u32))
    });
    let (from, to): (BTreeMap<_, _>, BTreeMap<_, _>) = (from.collect(), to.collect());
    let length = (all * 1_000 / u64::from(wish.sessions_per_second.max(1))).max(LEAST_ROUND);
    let round = Rebalance { since: now, until: now + length, idle_first: wish.idle_first, from, to };
    (!round.from.is_empty() && !round.to.is_empty()).then_some(round)
}

/// Why the sessions of such a pool can't be moved like that, and what can be done.
pub(crate) fn why_not(
    affinity: &Affinity,
    release: Option<&Release>,
    wish: &Wish,
) -> Option<(&'static str, &'static str)> {
    let cookie = &affinity.cookie;
    if !affinity.has_sessions() {
        return Some(("nobody knows the sessions", "there is nothing to move without affinity, or with plain tokens"));
    }
    if affinity.hashes() {
        return Some(("the hash of what a request carries says where its session is", "change weights instead"));
    }
    if !affinity.marks() {
        return Some(("a session can't be bound to another backend", "it ends where it began"));
    }
    if wish.idle_first && cookie.idle_timeout.is_none() && cookie.max_age.is_none() {
        let mend = "set idle_timeout of its cookie, or leave idle_first out";
        return Some(("tokens don't say when a session was last seen", mend));
    }
    // Also after its last step: the cohorts are compared for as long as there are two, and whoever is released moves not.
    if release.is_some_and(|release| release.basis_points() > 0) {
        let why = "sessions are released, and what moves would be seen in one cohort alone";
        return Some((why, "end the release first"));
    }
    None
}

#[expect(clippy::cast_precision_loss, reason = "sessions are far below 53 bits")]
fn real(count: u64) -> f64 {
    count as f64
}
