//! How drains begin and end. Pure.

use super::{
    plan::{Current, Plan, member},
    refusal::Refusal,
};
use control::{
    desired::{AdminState, Change, Drain, DrainMode, Member, Share, Then},
    spec::{Affinity, Span},
};

/// How an operator wants a backend to drain. What is left out stays as it was, where it drains already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) mode: Option<DrainMode>,
    pub(crate) deadline: Option<Span>,
    pub(crate) share: Option<Share>,
    pub(crate) then: Option<Then>,
}

/// Why a drain is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing is left.
    Empty,
    Deadline,
}

/// A drain that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: (String, String),
    pub(crate) drain: Drain,
    pub(crate) over: Over,
}

/// The drain of `known` from now on; another mode than before begins anew.
pub(super) fn begin(
    (pool, affinity): (&str, &Affinity),
    known: &Member,
    wish: &Wish,
    &Current { now, shared, .. }: &Current<'_>,
) -> Result<Drain, Refusal> {
    let running = known.drain.filter(|_| known.admin_state == AdminState::Draining);
    let mode = wish.mode.or(running.map(|drain| drain.mode)).unwrap_or_default();
    let same = running.filter(|drain| drain.mode == mode);
    let given = wish.deadline.map(|span| now.saturating_add(span.as_millis()));
    let drain = Drain {
        mode,
        since: same.map_or(now, |drain| drain.since),
        deadline: given.or(running.and_then(|drain| drain.deadline)),
        share: wish.share.or(same.and_then(|drain| drain.share)),
        then: wish.then.or(running.and_then(|drain| drain.then)),
    };
    why_not(affinity, &drain, shared)
        .map_or(Ok(drain), |(what, mend)| Err(Refusal::CantDrain(format!("{what} in pool `{pool}`; {mend}"))))
}

/// What this drain can't do with the sessions of such a pool, and what can be done instead.
fn why_not(affinity: &Affinity, drain: &Drain, shared: bool) -> Option<(&'static str, &'static str)> {
    let cookie = &affinity.cookie;
    let marked = affinity.marks();
    let limit = cookie.idle_timeout.or(cookie.lifetime).or(cookie.max_age);
    let ends_by_empty = drain.deadline.is_none() && drain.then.is_some_and(|then| then != Then::Leave);
    match drain.mode {
        DrainMode::Retire if !marked => {
            Some(("mode `retire` needs tokens, and there are none", "drain with mode `persist`"))
        }
        DrainMode::Migrate if !marked => {
            Some(("mode `migrate` needs tokens, and there are none", "drain with mode `persist`"))
        }
        DrainMode::Retire if limit.is_none() && drain.deadline.is_none() => Some((
            "mode `retire` waits for sessions to run into a time limit, and there is none",
            "set idle_timeout or lifetime of its cookie, or give a deadline",
        )),
        _ if ends_by_empty && shared => Some((
            "`then` without a deadline waits for the last session to end, and each node knows its own sessions alone",
            "give a deadline",
        )),
        _ if ends_by_empty && !affinity.has_sessions() => Some((
            "`then` without a deadline waits for the last session to end, and nobody knows the sessions",
            "give a deadline",
        )),
        DrainMode::Persist | DrainMode::Retire | DrainMode::Migrate => None,
    }
}

/// Carries out what these drains are to end with, where they still go on.
pub(crate) fn end(current: &Current<'_>, ended: &[Ended]) -> Plan {
    let changes = ended.iter().filter_map(|Ended { id: (pool, name), drain, over }| {
        let known = member(&current.snapshot.desired, pool, name).ok()?;
        if known.admin_state != AdminState::Draining || known.drain != Some(*drain) {
            return None;
        }
        let (pool, name) = (pool.clone(), name.clone());
        match drain.at_deadline() {
            Then::Leave => None,
            Then::Remove => Some(Change::RemoveMember { pool, name }),
            then @ (Then::Maintenance | Then::Close) => {
                // Sessions that are left find there why they have to leave, and workers that they are to close.
                let drain = known.drain.filter(|_| *over == Over::Deadline || then == Then::Close);
                let member = Member { admin_state: AdminState::Maintenance, drain, ..known.clone() };
                Some(Change::PutMember { pool, name, member })
            }
        }
    });
    changes.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        desired::{Desired, PoolState, Snapshot},
        spec::{Backend, Cookie, Mode, Pool, TokenKind},
    };
    use std::collections::BTreeMap;

    fn member(drain: Option<Drain>) -> Member {
        let admin_state = if drain.is_some() { AdminState::Draining } else { AdminState::Active };
        Member { admin_state, drain, ..Member::new(&Backend::default(), 1) }
    }

    fn at(snapshot: &Snapshot, now: u64) -> Current<'_> {
        static NONE: std::sync::LazyLock<crate::store::Sections> = std::sync::LazyLock::new(BTreeMap::new);
        Current { snapshot, sections: &NONE, incarnation: 7, now, shared: false }
    }

    fn cookie(cookie: Cookie) -> Affinity {
        Affinity { cookie, ..Affinity::default() }
    }

    #[test]
    fn what_is_left_out_stays_and_another_mode_begins_anew() {
        let affinity = Affinity::default();
        let snapshot = Snapshot::default();
        let current = at(&snapshot, 5_000);
        let ask = |drain, wish: Wish| begin(("shop", &affinity), &member(drain), &wish, &current).unwrap();
        let fresh = ask(None, Wish::default());
        assert_eq!(fresh, Drain { since: 5_000, ..Drain::default() });
        let deadline = Some(Span::from_secs(10));
        let migrate =
            Wish { mode: Some(DrainMode::Migrate), deadline, share: Share::new(0.5), then: Some(Then::Remove) };
        let running = Drain { since: 1_000, ..ask(None, migrate) };
        assert_eq!(running.deadline, Some(15_000));
        assert_eq!(ask(Some(running), Wish::default()), running);
        let later = ask(Some(running), Wish { deadline: Some(Span::from_secs(60)), ..Wish::default() });
        assert_eq!(later, Drain { deadline: Some(65_000), ..running });
        // Or else sessions would move at once for the time that passed before.
        let persists = Drain { mode: DrainMode::Persist, share: None, ..running };
        assert_eq!(ask(Some(persists), migrate).since, 5_000);
        assert_eq!(ask(Some(running), Wish { mode: Some(DrainMode::Persist), ..Wish::default() }).share, None);
    }

    #[test]
    fn drains_that_have_no_end_or_no_means_are_refused() {
        let snapshot = Snapshot::default();
        let second = Some(Span::from_secs(1));
        let unlimited = cookie(Cookie::default());
        let plain = cookie(Cookie { token: TokenKind::Plain, ..Cookie::default() });
        let idle = cookie(Cookie { idle_timeout: second, ..Cookie::default() });
        let [hashed, free] = [Mode::SourceIp, Mode::None].map(|mode| Affinity { mode, ..Affinity::default() });
        let [retire, migrate] =
            [DrainMode::Retire, DrainMode::Migrate].map(|mode| Wish { mode: Some(mode), ..Wish::default() });
        let by = |wish: Wish| Wish { deadline: second, ..wish };
        let remove = Wish { then: Some(Then::Remove), ..Wish::default() };
        for (affinity, wish, holds) in [
            (&unlimited, retire, false),
            (&unlimited, by(retire), true),
            (&idle, retire, true),
            (&hashed, by(retire), false),
            (&hashed, by(migrate), false),
            (&free, by(migrate), false),
            (&plain, by(migrate), true),
            (&plain, remove, false),
            (&plain, by(remove), true),
            (&free, remove, false),
            (&hashed, remove, true),
            (&free, Wish { then: Some(Then::Leave), ..Wish::default() }, true),
        ] {
            let asked = |shared| {
                let current = Current { shared, ..at(&snapshot, 0) };
                begin(("shop", affinity), &member(None), &wish, &current).is_ok()
            };
            assert_eq!(asked(false), holds, "{affinity:?} {wish:?}");
            // With other nodes nobody knows when the last session is gone.
            let by_empty = wish.deadline.is_none() && wish.then.is_some_and(|then| then != Then::Leave);
            assert_eq!(asked(true), holds && !by_empty, "{affinity:?} {wish:?}");
        }
    }

    #[test]
    fn a_drain_ends_as_it_was_told_unless_it_is_another_by_now() {
        let end_of = |now: Option<Drain>, then, over| {
            let told = Drain { then, deadline: Some(9), ..Drain::default() };
            let members = [("a".to_owned(), member(now.or(Some(told))))].into();
            let pools = [("shop".to_owned(), PoolState { settings: Pool::default(), members })].into();
            let snapshot = Snapshot { desired: Desired { pools, ..Desired::default() }, ..Snapshot::default() };
            let current =
                Current { snapshot: &snapshot, sections: &BTreeMap::new(), incarnation: 7, now: 10, shared: false };
            let ended = Ended { id: ("shop".to_owned(), "a".to_owned()), drain: told, over };
            (end(&current, &[ended]).changes.pop(), told)
        };
        for (then, over, kept) in [
            (None, Over::Deadline, true),
            (Some(Then::Maintenance), Over::Deadline, true),
            (None, Over::Empty, false),
            (Some(Then::Close), Over::Deadline, true),
            (Some(Then::Close), Over::Empty, true),
        ] {
            let (change, told) = end_of(None, then, over);
            let Some(Change::PutMember { member, .. }) = change else { panic!("{change:?}") };
            let drain = kept.then_some(told);
            assert_eq!((member.admin_state, member.drain), (AdminState::Maintenance, drain));
        }
        let (removed, _) = end_of(None, Some(Then::Remove), Over::Empty);
        assert!(matches!(removed, Some(Change::RemoveMember { .. })), "{removed:?}");
        assert_eq!(end_of(None, Some(Then::Leave), Over::Deadline).0, None);
        let another = Drain { since: 1, ..Drain::default() };
        assert_eq!(end_of(Some(another), Some(Then::Remove), Over::Deadline).0, None);
    }
}
