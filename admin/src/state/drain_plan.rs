//! How drains begin and end. Pure.

use super::{
    plan::{Current, Plan, member},
    refusal::Refusal,
};
use control::{
    desired::{AdminState, Change, Drain, DrainMode, Member, Share, Then},
    spec::{Affinity, Mode, Span, TokenKind},
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

/// The drain of `known` at `now`, in Unix milliseconds; another mode than before begins anew.
pub(super) fn begin(pool: &str, affinity: &Affinity, known: &Member, wish: &Wish, now: u64) -> Result<Drain, Refusal> {
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
    why_not(affinity, &drain)
        .map_or(Ok(drain), |(what, mend)| Err(Refusal::CantDrain(format!("{what} in pool `{pool}`; {mend}"))))
}

/// What this drain can't do with the sessions of such a pool, and what can be done instead.
fn why_not(affinity: &Affinity, drain: &Drain) -> Option<(&'static str, &'static str)> {
    let cookie = &affinity.cookie;
    let marked = match affinity.mode {
        Mode::Cookie => true,
        Mode::SourceIp | Mode::None => false,
    };
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
        _ if ends_by_empty && !knows_sessions(affinity) => Some((
            "`then` without a deadline waits for the last session to end, and nobody knows the sessions",
            "give a deadline",
        )),
        DrainMode::Persist | DrainMode::Retire | DrainMode::Migrate => None,
    }
}

/// Whether the data planes can tell how many sessions are live.
pub(crate) fn knows_sessions(affinity: &Affinity) -> bool {
    match affinity.mode {
        Mode::Cookie => affinity.cookie.token == TokenKind::Sealed,
        Mode::SourceIp => true,
        Mode::None => false,
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
            Then::Maintenance => {
                // Sessions that are left find there why they have to leave.
                let drain = known.drain.filter(|_| *over == Over::Deadline);
                let member = Member { admin_state: AdminState::Maintenance, drain, ..known.clone() };
                Some(Change::PutMember { pool, name, member })
            }
        }
    });
    changes.collect::<Vec<_>>().into()
}
