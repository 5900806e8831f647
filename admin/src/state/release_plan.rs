//! How releases begin, go on and end. Pure.

use super::{
    plan::{Current, Plan, pool},
    precondition::{Precondition, tag},
    refusal::Refusal,
};
use affinity::release::{
    known_session_cookie,
    ramp::{Move, after},
};
use control::{
    desired::{Change, Desired},
    release::{RampPlan, Release, ReleaseState, Stopped},
    spec::Affinity,
};

/// The release of a pool.
pub(crate) fn release<'d>(desired: &'d Desired, pool_name: &str) -> Result<&'d Release, Refusal> {
    pool(desired, pool_name)?;
    desired.releases.get(pool_name).ok_or_else(|| Refusal::NoRelease { pool: pool_name.to_owned() })
}

/// A release by this plan, from its first step on; the one that there is goes on where it has the same plan.
pub(crate) fn begin(
    current: &Current<'_>,
    pool_name: &str,
    plan: &RampPlan,
    precondition: &Precondition,
) -> Result<Plan, Refusal> {
    let desired = &current.snapshot.desired;
    let affinity = &pool(desired, pool_name)?.settings.affinity;
    let known = desired.releases.get(pool_name);
    let mut plan = plan.clone();
    precondition.check(known.map(tag))?;
    if let Some((wrong, right)) = affinity.why_not_released() {
        return Err(Refusal::CantRelease(format!("pool `{pool_name}` can't release its sessions: {wrong}; {right}")));
    }
    if plan.watch.session_cookie.is_none() {
        plan.watch.session_cookie = known_session_cookie(affinity).map(str::to_owned);
    }
    if known.is_some_and(|known| known.plan == plan && known.state != ReleaseState::Stopped) {
        return Ok(Plan::default());
    }
    let release = Box::new(Release {
        // A number that no release before it had.
        id: current.incarnation,
        plan,
        state: ReleaseState::Running,
        step: 0,
        since: current.now,
        step_since: current.now,
        passed: Vec::new(),
        stopped: None,
    });
    let changes = vec![Change::PutRelease { pool: pool_name.to_owned(), release }];
    Ok(Plan { changes, created: known.is_none(), ..Plan::default() })
}

pub(crate) fn end(current: &Current<'_>, pool_name: &str, precondition: &Precondition) -> Result<Plan, Refusal> {
    precondition.check(Some(tag(release(&current.snapshot.desired, pool_name)?)))?;
    Ok(vec![Change::RemoveRelease { pool: pool_name.to_owned() }].into())
}

/// What is to be done with a release as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) pool: String,
    pub(crate) id: u32,
    pub(crate) step: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Move(Move),
    /// The pool's affinity can't release any more: it was changed.
    Bar(String),
}

/// Why a release can't go on with the affinity that its pool has by now.
pub(crate) fn bar(affinity: &Affinity) -> Option<What> {
    affinity.why_not_released().map(|(wrong, _)| What::Bar(format!("the pool's settings were changed: {wrong}")))
}

/// Carries out what is due, where the release is still as it was seen.
pub(crate) fn go_on(current: &Current<'_>, due: &[Due]) -> Plan {
    let changes = due.iter().filter_map(|Due { pool, id, step, what }| {
        let known = current.snapshot.desired.releases.get(pool)?;
        if known.id != *id || known.step != *step || known.state == ReleaseState::Stopped {
            return None;
        }
        let next = match what {
            What::Move(step) => after(known, step.clone(), current.now),
            What::Bar(reason) => {
                let stopped = Stopped { at: current.now, reason: reason.clone(), finding: None };
                Release { state: ReleaseState::Stopped, stopped: Some(stopped), ..known.clone() }
            }
        };
        Some(Change::PutRelease { pool: pool.clone(), release: Box::new(next) })
    });
    changes.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        desired::{PoolState, Snapshot},
        release::{By, Finding, Percent, Signal, Watch},
        spec::{AppCookie, Cookie, Mode, Pool, Span, TokenKind},
    };
    use std::collections::BTreeMap;

    fn ramp(steps: &[f64]) -> RampPlan {
        let steps = steps.iter().map(|step| Percent::new(*step).unwrap()).collect();
        RampPlan { steps, hold: Span::from_secs(1), harm: 0.1, alpha: 0.01, watch: Watch::default() }
    }

    fn snapshot(affinity: Affinity) -> Snapshot {
        let settings = Pool { affinity, ..Pool::default() };
        let pools = [("shop".to_owned(), PoolState { settings, ..PoolState::default() })].into();
        Snapshot { desired: Desired { pools, ..Desired::default() }, ..Snapshot::default() }
    }

    /// Applies what a plan changes, as the `id`-th write.
    fn step(snapshot: &mut Snapshot, id: u32, plan: impl FnOnce(&Current<'_>) -> Plan) -> Option<Release> {
        let before = snapshot.clone();
        let current = Current {
            snapshot: &before,
            sections: &BTreeMap::new(),
            incarnation: id,
            now: u64::from(id),
            shared: false,
        };
        plan(&current).changes.iter().for_each(|change| snapshot.apply(change));
        snapshot.desired.releases.get("shop").cloned()
    }

    fn put(snapshot: &mut Snapshot, id: u32, plan: RampPlan) -> Release {
        step(snapshot, id, |current| begin(current, "shop", &plan, &Precondition::default()).unwrap()).unwrap()
    }

    fn stop() -> What {
        let (sessions, shown) = (By { released: 9, control: 90 }, By { released: 8, control: 0 });
        let finding = Finding { signal: Signal::Denied, times: 1, sessions, shown, p_value: 0.001 };
        What::Move(Move::Stop(finding))
    }

    #[test]
    fn the_same_plan_goes_on_and_another_begins_anew() {
        let mut state = snapshot(Affinity::default());
        let first = put(&mut state, 1, ramp(&[10.0]));
        assert_eq!((first.id, first.since, first.state), (1, 1, ReleaseState::Running));
        assert_eq!(put(&mut state, 2, ramp(&[10.0])), first);
        assert_eq!(put(&mut state, 3, ramp(&[20.0])).id, 3);
        let due = Due { pool: "shop".to_owned(), id: 3, step: 0, what: stop() };
        let stopped = step(&mut state, 4, |current| go_on(current, &[due])).unwrap();
        assert_eq!((stopped.state, stopped.basis_points()), (ReleaseState::Stopped, 0));
        let again = put(&mut state, 5, ramp(&[20.0]));
        assert_eq!((again.id, again.stopped), (5, None), "what has stopped begins anew when it is told to");
        assert_eq!(step(&mut state, 6, |current| end(current, "shop", &Precondition::default()).unwrap()), None);
        let current = Current { snapshot: &state, sections: &BTreeMap::new(), incarnation: 7, now: 7, shared: false };
        assert!(matches!(end(&current, "shop", &Precondition::default()), Err(Refusal::NoRelease { .. })));
    }

    #[test]
    fn what_is_due_is_done_once_whoever_found_it() {
        let mut state = snapshot(Affinity::default());
        put(&mut state, 1, ramp(&[10.0, 50.0]));
        let due = |id, step| Due { pool: "shop".to_owned(), id, step, what: stop() };
        let seen = state.clone();
        for other in [due(2, 0), due(1, 1)] {
            step(&mut state, 2, |current| go_on(current, &[other]));
            assert_eq!(state, seen, "it is another release, or another step by now");
        }
        let stopped = step(&mut state, 3, |current| go_on(current, &[due(1, 0)]));
        assert_eq!(step(&mut state, 4, |current| go_on(current, &[due(1, 0)])), stopped);
    }

    #[test]
    fn a_pool_whose_sessions_can_not_be_told_apart_or_moved_is_refused_with_what_would_be_right() {
        let plain = Affinity { cookie: Cookie { token: TokenKind::Plain, ..Cookie::default() }, ..Affinity::default() };
        let none = Affinity { mode: Mode::None, ..Affinity::default() };
        for affinity in [plain.clone(), none] {
            let state = snapshot(affinity);
            let current =
                Current { snapshot: &state, sections: &BTreeMap::new(), incarnation: 1, now: 1, shared: false };
            let refused = begin(&current, "shop", &ramp(&[10.0]), &Precondition::default());
            assert!(matches!(refused, Err(Refusal::CantRelease(_))), "{refused:?}");
        }
        let mut state = snapshot(Affinity::default());
        let begun = put(&mut state, 1, ramp(&[10.0]));
        assert_eq!(bar(&Affinity::default()), None);
        let due = Due { pool: "shop".to_owned(), id: begun.id, step: 0, what: bar(&plain).unwrap() };
        let stopped = step(&mut state, 2, |current| go_on(current, &[due])).unwrap();
        assert!(stopped.stopped.is_some_and(|stopped| stopped.finding.is_none()));
    }

    #[test]
    fn the_cookie_that_the_affinity_knows_is_the_session() {
        let app_cookie = Some(AppCookie { name: "sid".to_owned(), ..AppCookie::default() });
        let mut state = snapshot(Affinity { mode: Mode::AppCookie, app_cookie, ..Affinity::default() });
        let begun = put(&mut state, 1, ramp(&[10.0]));
        assert_eq!(begun.plan.watch.session_cookie.as_deref(), Some("sid"));
    }
}
