//! Follows the releases: what the data planes have seen of them, and what is to be done by that.

use super::{
    State, View,
    release_plan::{Due, What, bar, go_on},
};
use crate::{clock, control_server::peers::Peer};
use affinity::release::{
    judge::{Judged, judge},
    ramp::next,
};
use control::{
    release::{Release, ReleaseState},
    status::ReleaseStats,
};
use std::sync::Arc;

/// What each data plane has seen of this release.
pub(crate) fn seen<'p>(peers: &'p [Peer], pool: &str, id: u32) -> Vec<&'p ReleaseStats> {
    let stats = peers.iter().filter_map(|peer| peer.stats.pools.get(pool)?.release.as_ref());
    stats.filter(|stats| stats.id == id).collect()
}

impl View {
    pub(crate) fn judged(&self, pool: &str, release: &Release) -> Judged {
        judge(&release.plan, release.basis_points(), &seen(&self.peers, pool, release.id))
    }

    /// What is to be done now, in Unix milliseconds.
    fn due(&self, now: u64) -> Vec<Due> {
        let desired = &self.snapshot.desired;
        let due = desired.releases.iter().filter_map(|(pool, release)| {
            if release.state == ReleaseState::Stopped {
                return None;
            }
            let affinity = &desired.pools.get(pool)?.settings.affinity;
            let step = || next(release, &self.judged(pool, release), now).map(What::Move);
            let what = bar(affinity).or_else(step)?;
            Some(Due { pool: pool.clone(), id: release.id, step: release.step, what })
        });
        due.collect()
    }
}

impl State {
    /// Steps the releases up as their plans say, and stops those that do harm. Looked at with each report.
    pub(crate) async fn keep_releases(self: Arc<Self>) {
        loop {
            self.releases.notified().await;
            let due = self.view().due(clock::unix_millis());
            if due.is_empty() {
                continue;
            }
            let written = self.write(move |current| Ok(go_on(current, &due))).await;
            if let Err(error) = &written
                && !error.is_told()
            {
                tracing::error!(?error, "a release is to go on or to stop, and that can't be stored");
            }
        }
    }
}
