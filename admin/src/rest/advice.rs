//! Gathers what advice on a pool is made of.

use crate::{
    advice::{Advice, DrainFigures, Figures, advise},
    clock,
    history::{PoolHistory, windows::Window},
    state::{
        State, View,
        drains::Watched,
        keyring::{Judged, judge},
    },
};
use control::{
    desired::{DrainMode, PoolState, Then},
    status::Counts,
};

/// `counts` are those of the pool since the data planes started.
pub(super) fn advice(
    state: &State,
    view: &View,
    (pool_name, pool): (&str, &PoolState),
    counts: &Counts,
    history: &PoolHistory,
) -> Vec<Advice> {
    let now = clock::unix_millis();
    let drains = view.drains.0.iter().filter(|((pool, _), _)| pool == pool_name);
    advise(&Figures {
        affinity: &pool.settings.affinity,
        hour: history.sums(Window::Hour),
        counts,
        followed: history.followed,
        lived: history.lived,
        drains: drains.filter_map(|((_, backend), watched)| drain(backend, watched, now)).collect(),
        spare_keys: spare_keys(state),
    })
}

/// A drain that cuts off at its deadline what is left by then, as far as it is known how fast its sessions end.
fn drain(backend: &str, watched: &Watched, now: u64) -> Option<DrainFigures> {
    let drain = watched.drain;
    if drain.mode == DrainMode::Migrate || drain.at_deadline() == Then::Leave {
        return None;
    }
    let left = drain.deadline?.saturating_sub(now) / 1_000;
    let outlook = watched.outlook()?;
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
    let cut_off = outlook.left_after(left as f64)?;
    let (p99, live) = (outlook.estimate().ok()?.p99, watched.series.last()?);
    Some(DrainFigures { backend: backend.to_owned(), live, left, cut_off, p99 })
}

fn spare_keys(state: &State) -> Vec<(String, String)> {
    let judged = judge(&state.lock(), state.clock.millis(), clock::unix_millis());
    judged.into_iter().filter(|judged| judged.may_go).map(|Judged { key, why, .. }| (key, why)).collect()
}
