//! What has to be so, told by the tables and by what browsers know, without the code that decides.

use crate::{
    browser::Session,
    node::{Node, WORKERS},
};
use affinity::{
    balance::Calm,
    choose::{Outcome, choose},
    marker::{self, Parts},
    table::{Backend, Dirty, PoolTable, RouteName, Slots, Table},
    token::CLOCK_SKEW,
    wheel::Turn,
};
use control::{
    desired::{AdminState, DrainMode, Snapshot},
    spec::Span,
    status::Health,
};
use dataplane::simulation::Sent;
use std::{cell::RefCell, collections::BTreeMap, net::IpAddr};

/// Whether a session's token is one that the pool has to honour.
pub(crate) fn is_valid(table: &Table, pool: &PoolTable, session: &Session, now: u32) -> bool {
    let cookie = &pool.settings.affinity.cookie;
    let over = |since: u32, span: Option<Span>| {
        span.is_some_and(|span| u64::from(now.saturating_sub(since)) * 1_000 >= span.as_millis())
    };
    let latest = now + CLOCK_SKEW;
    table.keys.iter().any(|key| key.id == session.key)
        && session.issued_at <= latest
        && session.seen_at <= latest
        && !over(session.issued_at, cookie.lifetime)
        && !over(session.seen_at, cookie.idle_timeout)
}

/// Whether a backend can be sent what is its own.
fn is_usable(pool: &PoolTable, backend: &Backend, is_marked: bool) -> bool {
    let is_up = backend.health != Health::Down && !is_marked;
    backend.admin_state != AdminState::Maintenance && backend.address.is_some() && (is_up || pool.fails_open)
}

fn takes_new(pool: &PoolTable, backend: &Backend, is_marked: bool) -> bool {
    backend.admin_state == AdminState::Active && backend.weight > 0 && is_usable(pool, backend, is_marked)
}

/// A request was sent: to its session's backend, if that could have it, and else to one that takes new ones.
pub(crate) fn check_sent(
    pool: &PoolTable,
    session: Option<&Session>,
    (tried, was_there): (&[String], bool),
    sent: &Sent,
) {
    // As it was when it was chosen: a mark ends with time, and no choice is made anew for that.
    let is_marked = |slot: u32| sent.marked.contains(&slot);
    let backend = |name: &str| pool.backends.iter().find(|backend| backend.name == name);
    let to = backend(&sent.backend).expect("it is of this table");
    let fails_open = pool.settings.health.fail_open;
    if to.admin_state == AdminState::Maintenance {
        panic!("a request is sent to {}, which is in maintenance", to.name);
    }
    let is_new = matches!(sent.outcome, Outcome::New | Outcome::Lost | Outcome::Repinned { .. });
    if is_new && !takes_new(pool, to, is_marked(to.slot)) && !fails_open {
        panic!("{} takes no new sessions and gets one: {to:?}", to.name);
    }
    let Some(session) = session else {
        assert_eq!(sent.outcome, Outcome::New, "without a token that counts, a session begins");
        return;
    };
    let home = backend(&session.backend);
    match home {
        // Nobody was there when it was looked for.
        _ if !was_there => assert!(matches!(sent.outcome, Outcome::Repinned { .. }), "removed: {sent:?}"),
        None => assert!(matches!(sent.outcome, Outcome::Repinned { .. }), "removed: {sent:?}"),
        Some(home) if home.incarnation != session.incarnation => {
            assert_eq!(sent.outcome, Outcome::Lost, "its state is gone");
        }
        Some(home) => {
            let migrates = home.admin_state == AdminState::Draining
                && home.drain.is_some_and(|drain| drain.mode == DrainMode::Migrate);
            let usable = is_usable(pool, home, is_marked(home.slot)) && !tried.contains(&home.name);
            let holds = (to.name == home.name && sent.outcome == Outcome::Pinned) || !usable || migrates;
            assert!(holds, "{session:?} was sent to {} as {:?}, and {home:?} is usable", to.name, sent.outcome);
        }
    }
}

/// Nobody serves a request: then nobody could have.
pub(crate) fn check_unserved(pool: &PoolTable, tried: &[String], is_marked: impl Fn(u32) -> bool) {
    let could =
        |backend: &&Backend| takes_new(pool, backend, is_marked(backend.slot)) && !tried.contains(&backend.name);
    assert!(!pool.backends.iter().any(|backend| could(&backend)), "{:?} could have served", pool.backends);
}

/// Slots by themselves, for tables that nobody keeps.
#[derive(Default)]
struct Numbers(BTreeMap<String, u32>);

impl Numbers {
    fn of(&mut self, name: String) -> u32 {
        let next = u32::try_from(self.0.len()).expect("there are few");
        *self.0.entry(name).or_insert(next)
    }
}

impl Slots for Numbers {
    fn pool(&mut self, pool: &str) -> u32 {
        self.of(pool.to_owned())
    }

    fn backend(&mut self, pool: &str, backend: &str) -> u32 {
        self.of(format!("{pool}/{backend}"))
    }

    fn route(&mut self, _: &RouteName<'_>) -> Option<u32> {
        None
    }

    fn key(&mut self, id: u16) -> u32 {
        id.into()
    }
}

/// A table made of a snapshot as it is, with nothing of the tables that led to it but rings that were once made for just
/// these names and weights: to make one takes longer than all else here.
pub(crate) fn fresh(snapshot: &Snapshot) -> Table {
    type Spread = Vec<(String, String, u32)>;
    thread_local! {
        static MADE: RefCell<BTreeMap<Spread, Table>> = const { RefCell::new(BTreeMap::new()) };
    }
    const MOST: usize = 64;
    let members = snapshot.desired.pools.iter().flat_map(|(pool, state)| {
        state.members.iter().map(|(name, member)| (pool.clone(), name.clone(), member.weight))
    });
    let build = |before: Option<&Table>| Table::build(snapshot, before, &Dirty::All, &mut Numbers::default(), 0);
    MADE.with_borrow_mut(|made| {
        if made.len() > MOST {
            made.clear();
        }
        let before = made.entry(members.collect()).or_insert_with(|| build(None));
        build(Some(before))
    })
}

/// What a request says of its session: who sends it, and with what cookie.
pub(crate) type Asks = Vec<(IpAddr, Option<Vec<u8>>)>;

/// Where each goes that has a session: by its cookie, and by its address alone. `None` where nobody serves it.
pub(crate) fn decisions(table: &Table, asks: &Asks, now: u32) -> Vec<Option<String>> {
    let mut decided = Vec::new();
    for (client, cookie) in asks {
        let cookies: Vec<&[u8]> = cookie.as_deref().into_iter().collect();
        let parts = Parts::with_cookies(&cookies, *client);
        for name in ["addresses", "shop"] {
            let Some(pool) = table.pool(name) else { continue };
            let found = marker::find(pool, &parts, now, 7);
            let asked = found.asked(found.pin, 7, now);
            let chosen = choose(pool, &asked, &mut Turn::default(), &Calm::default());
            // Balance looks at load and takes turns.
            if !matches!(chosen.map(|choice| choice.outcome), Ok(Outcome::New | Outcome::Lost)) {
                decided.push(chosen.ok().map(|choice| pool.backends[usize::from(choice.backend)].name.clone()));
            } else {
                decided.push(Some("any".to_owned()));
            }
        }
    }
    decided
}

/// Workers of one generation decide alike, and as one who has read the same from a line.
pub(crate) fn check_alike(node: &Node, asks: &Asks, now: u32) -> Option<Vec<Option<String>>> {
    let plane = node.plane.as_ref()?;
    let snapshot = plane.snapshot();
    let has_it = |worker: &usize| plane.table(*worker, |table| table.generation) == snapshot.generation;
    let workers: Vec<usize> = (0..WORKERS).filter(has_it).collect();
    if workers.is_empty() || snapshot.generation == 0 {
        return None;
    }
    let own = decisions(&fresh(&serde_json_of(snapshot)), asks, now);
    for worker in workers {
        let decided = plane.table(worker, |table| decisions(table, asks, now));
        assert_eq!(decided, own, "worker {worker} of generation {}", snapshot.generation);
    }
    Some(own)
}

fn serde_json_of(snapshot: &Snapshot) -> Snapshot {
    use control::message::{ToDataplane, from_line, to_line};
    let line = to_line(&ToDataplane::Snapshot { snapshot: Box::new(snapshot.clone()) });
    match from_line(&line) {
        Ok(ToDataplane::Snapshot { snapshot }) => *snapshot,
        other => panic!("{other:?}"),
    }
}

/// Of the sessions that addresses place, those alone moved whose backend changed, or that went to one that did.
pub(crate) fn check_moves(before: &Table, after: &Table, asks: &Asks, now: u32) {
    let (Some(old), Some(new)) = (before.pool("addresses"), after.pool("addresses")) else { return };
    let find = |pool: &PoolTable, name: &str| {
        let backend = pool.backends.iter().find(|backend| backend.name == name)?;
        Some((backend.weight, backend.admin_state, backend.health, backend.address.is_some()))
    };
    // Where nobody is up, health may count no more, for all of them at once.
    if old.fails_open != new.fails_open || old.settings != new.settings {
        return;
    }
    let decided = decisions(before, asks, now).into_iter().zip(decisions(after, asks, now)).step_by(2);
    for ((client, _), moved) in asks.iter().zip(decided) {
        let (Some(was), Some(is)) = moved else { continue };
        let same = |name: &str| find(old, name) == find(new, name);
        // One that a backend had passed on is of that one's sessions: where that one leaves the ring or gets another weight
        // there, it may move once more, since nobody remembers where it went.
        let spread = |pool: &PoolTable, name: &str| find(pool, name).map_or(0, |(weight, ..)| weight);
        let key = marker::address_key(*client, old.settings.affinity.source_ip);
        let passed_over = |pool: &PoolTable, last: &str| {
            let asked = pool.ring.candidates(key).map(|candidate| pool.backends[usize::from(candidate)].name.as_str());
            asked.take_while(|name| *name != last).any(|name| spread(old, name) != spread(new, name))
        };
        let left = passed_over(old, &was) || passed_over(new, &is);
        let holds = was == is || !same(&was) || !same(&is) || left;
        assert!(holds, "the session of {client} moved from {was} to {is}, neither of which changed");
    }
}
