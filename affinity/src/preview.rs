//! What a change would do to the sessions, before it is made: the choices that the workers would make, for a sample of
//! session keys that is always the same.

use crate::{
    balance::Calm,
    choose::{Asked, Choice, Outcome, Pin, choose},
    hash::mix64,
    table::PoolTable,
    wheel::Turn,
};
use control::{desired::AdminState, status::Health};

/// Session keys that stand for all: the standard error of a share is under 0.4 %.
const SAMPLE: u64 = 1 << 14;
/// The same where keys have to fall on each backend by themselves.
const HASHED_SAMPLE: u64 = 1 << 17;

/// What becomes of the sessions of one backend, in shares of them from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fate {
    /// Where they go that do not stay, by index.
    pub to: Vec<f64>,
    /// Those that get 503.
    pub refused: f64,
}

impl Fate {
    pub fn moved(&self) -> f64 {
        self.to.iter().sum()
    }
}

/// What becomes in `pool` of sessions that are pinned to this backend, or to one that is gone, at `now` in Unix seconds.
pub fn pinned(pool: &PoolTable, home: Option<u16>, now: u32) -> Fate {
    let pin = home.map_or(Pin::Gone, |backend| Pin::At { backend, incarnation: None });
    let mut counts = vec![0u64; pool.backends.len()];
    let mut refused = 0;
    for key in (0..SAMPLE).map(mix64) {
        let asked = Asked { pin, key, random: key, now, force: false, together: false, idle: None };
        match choose(pool, &asked, &mut Turn::default(), &Calm::default()) {
            Ok(Choice { outcome: Outcome::Pinned | Outcome::Released { .. }, .. }) => {}
            Ok(choice) => counts[usize::from(choice.backend)] += 1,
            Err(_) => refused += 1,
        }
    }
    fate(&counts, refused, SAMPLE)
}

/// What becomes of the sessions of each backend of `before`, by index, where keys alone say where they go.
pub fn hashed(before: &PoolTable, after: &PoolTable, now: u32) -> Vec<Fate> {
    let mut counts = vec![vec![0u64; after.backends.len()]; before.backends.len()];
    let mut refused = vec![0; before.backends.len()];
    let mut totals = vec![0; before.backends.len()];
    for key in (0..HASHED_SAMPLE).map(mix64) {
        let asked = Asked { pin: Pin::Hashed, key, random: key, now, force: false, together: false, idle: None };
        let Ok(home) = choose(before, &asked, &mut Turn::default(), &Calm::default()) else { continue };
        let home = usize::from(home.backend);
        totals[home] += 1;
        match choose(after, &asked, &mut Turn::default(), &Calm::default()) {
            Ok(choice) if after.backends[usize::from(choice.backend)].name == before.backends[home].name => {}
            Ok(choice) => counts[home][usize::from(choice.backend)] += 1,
            Err(_) => refused[home] += 1,
        }
    }
    counts.iter().zip(refused).zip(totals).map(|((counts, refused), total)| fate(counts, refused, total)).collect()
}

/// The share of the new sessions that each backend gets by its weight, by index; 0 for all where nobody takes any.
pub fn shares_of_new(pool: &PoolTable) -> Vec<f64> {
    let shares = |backup: bool| {
        let weights = pool.backends.iter().map(|backend| {
            let is_usable = backend.health != Health::Down && backend.address.is_some();
            let takes = backend.backup == backup && backend.admin_state == AdminState::Active && is_usable;
            if takes { u64::from(backend.weight) } else { 0 }
        });
        let weights: Vec<u64> = weights.collect();
        let total = weights.iter().sum();
        weights.into_iter().map(|weight| share(weight, total)).collect::<Vec<_>>()
    };
    let primaries = shares(false);
    if primaries.iter().any(|share| *share > 0.0) { primaries } else { shares(true) }
}

fn fate(counts: &[u64], refused: u64, total: u64) -> Fate {
    Fate { to: counts.iter().map(|count| share(*count, total)).collect(), refused: share(refused, total) }
}

#[expect(clippy::cast_precision_loss, reason = "samples and weights are far below 53 bits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pool;
    use control::{
        desired::{Drain, DrainMode, Share},
        spec::{Mode, OnDown, Pool},
    };

    fn close(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.02);
        assert!(found.len() == expected.len() && near, "{found:?} {expected:?}");
    }

    #[test]
    fn sessions_that_have_to_leave_spread_by_weight() {
        let mut pool = pool(Pool::default(), &[("a", 1), ("b", 1), ("c", 3)]);
        assert_eq!(pinned(&pool, Some(0), 0), Fate { to: vec![0.0; 3], refused: 0.0 });
        close(&pinned(&pool, None, 0).to, &[0.2, 0.2, 0.6]);
        close(&shares_of_new(&pool), &[0.2, 0.2, 0.6]);
        let watch = control::release::Watch::default();
        pool.release = Some(crate::release::ReleaseTable { id: 1, share: 10_000, watch, session_cookie: None });
        assert_eq!(pinned(&pool, Some(0), 0), Fate { to: vec![0.0; 3], refused: 0.0 }, "released is not moved");
        pool.backends[0].admin_state = AdminState::Maintenance;
        close(&pinned(&pool, Some(0), 0).to, &[0.0, 0.25, 0.75]);
        close(&shares_of_new(&pool), &[0.0, 0.25, 0.75]);
        pool.settings.affinity.on_down = OnDown::Fail;
        assert_eq!(pinned(&pool, Some(0), 0), Fate { to: vec![0.0; 3], refused: 1.0 });
        for backend in &mut pool.backends {
            backend.admin_state = AdminState::Maintenance;
        }
        assert_eq!(shares_of_new(&pool), [0.0; 3]);
    }

    #[test]
    fn a_migration_moves_its_share() {
        let mut pool = pool(Pool::default(), &[("a", 1), ("b", 1), ("c", 3)]);
        pool.backends[0].admin_state = AdminState::Draining;
        let drain = Drain { mode: DrainMode::Migrate, deadline: Some(1_000), ..Drain::default() };
        pool.backends[0].drain = Some(Drain { share: Share::new(0.4), ..drain });
        close(&pinned(&pool, Some(0), 2).to, &[0.0, 0.1, 0.3]);
        close(&pinned(&pool, Some(0), 0).to, &[0.0; 3]);
    }

    #[test]
    fn hashed_sessions_move_to_whoever_joins() {
        let mut settings = Pool::default();
        settings.affinity.mode = Mode::SourceIp;
        let before = pool(settings.clone(), &[("b", 1), ("c", 1)]);
        let after = pool(settings, &[("a", 2), ("b", 1), ("c", 1)]);
        let fates = hashed(&before, &after, 0);
        close(&fates[0].to, &[0.5, 0.0, 0.0]);
        close(&fates[1].to, &[0.5, 0.0, 0.0]);
        let back = hashed(&after, &before, 0);
        close(&back[0].to, &[0.5, 0.5]);
        assert_eq!((back[1].moved(), back[2].moved()), (0.0, 0.0));
    }
}
