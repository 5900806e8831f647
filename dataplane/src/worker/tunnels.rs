//! The tunnels of a worker: when each is to end, and that its session is live meanwhile.

use super::Worker;
use affinity::{hash::mix64, sessions::Touch, table::Table};
use ahash::AHashMap;
use control::{desired::AdminState, spec::Span};
use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

/// Over so long the tunnels of a backend are closed that is to have none any more: clients come back at once, and all
/// together would be a herd.
pub(crate) const SPREAD: Span = Span::from_secs(5);

/// Keeps the order in which tunnels are closed apart from other orders by the same keys.
const SALT: u64 = 0x7475_6E6E_656C_735F;

const NEVER: u64 = u64::MAX;

/// Why a tunnel is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// No byte has moved for too long.
    Idle,
    /// Its backend is in maintenance, or removed.
    Drained,
    /// The data plane is to stop.
    Stopped,
}

/// What a tunnel says of itself when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seated {
    /// Slots.
    pub(crate) pool: u32,
    pub(crate) backend: u32,
    /// Which life of the backend: its next one is another backend.
    pub(crate) incarnation: u32,
    /// What its turn to be closed follows from: that of its session, or chance.
    pub(crate) key: u64,
    /// By what its session counts as live, and for how long after it was seen.
    pub(crate) session: Option<Touch>,
    pub(crate) live_for: Span,
    /// How long it may stay open without a byte moving.
    pub(crate) idle: Span,
    /// Its backend came into maintenance, or was removed, while the tunnel was being opened.
    pub(crate) outlived: bool,
}

/// As with deadlines, to note that bytes move is a store, and a sweep by a coarse clock does the rest.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    entries: RefCell<Entries>,
    /// All are to end, between these times of the worker's clock.
    stopping: Cell<Option<(u64, u64)>>,
}

#[derive(Debug, Default)]
struct Entries {
    /// When to look at each again, in milliseconds of the worker's clock. Apart from the rest, so that a sweep reads as
    /// little memory as can be.
    at: Vec<u64>,
    rest: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    open: bool,
    seated: Seated,
    /// When the last byte moved.
    moved: u64,
    idle: u64,
    touch_at: u64,
    /// When it is to end whatever moves, and why.
    end: Option<(u64, Told)>,
    told: Option<Told>,
    /// The task of the tunnel.
    waker: Option<Waker>,
}

impl Entry {
    /// How long a session may go unseen, in milliseconds: it has to be seen again before that has passed.
    fn touch_every(&self) -> u64 {
        (self.seated.live_for.as_millis() / 4).max(1)
    }

    /// When there is something to do for it.
    fn due(&self) -> u64 {
        let end = self.end.map_or(NEVER, |(at, _)| at);
        let touch = if self.seated.session.is_some() { self.touch_at } else { NEVER };
        end.min(self.moved.saturating_add(self.idle)).min(touch)
    }

    fn tell(&mut self, told: Told) {
        self.told = Some(told);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// When a tunnel's turn is to be closed, within so many milliseconds: by its key, so that equal sessions go together and
/// all others apart.
fn turn(key: u64, over: u64) -> u64 {
    let turn = (u128::from(mix64(key ^ SALT)) * u128::from(over)) >> 64;
    u64::try_from(turn).expect("less than `over`")
}

impl Tunnels {
    fn enter(&self, seated: Seated, now: u64) -> Seat<'_> {
        let mut entry = Entry {
            open: true,
            seated,
            moved: now,
            idle: seated.idle.as_millis(),
            touch_at: now,
            end: seated.outlived.then(|| (now + turn(seated.key, SPREAD.as_millis()), Told::Drained)),
            told: None,
            waker: None,
        };
        entry.touch_at += entry.touch_every();
        if let Some((from, until)) = self.stopping.get() {
            entry.end = Some((from.max(now) + turn(seated.key, until.saturating_sub(from.max(now))), Told::Stopped));
        }
        let mut entries = self.entries.borrow_mut();
        let due = entry.due();
        let place = match entries.free.pop() {
            Some(place) => {
                entries.at[place as usize] = due;
                entries.rest[place as usize] = entry;
                place
            }
            None => {
                entries.at.push(due);
                entries.rest.push(entry);
                u32::try_from(entries.rest.len() - 1).expect("fewer connections than 2^32")
            }
        };
        Seat { all: self, place }
    }

    fn is_empty(&self) -> bool {
        let entries = self.entries.borrow();
        entries.rest.len() == entries.free.len()
    }

    /// Does what is due at `now`; `touch` is told the sessions that are to count as seen.
    pub(super) fn sweep(&self, now: u64, mut touch: impl FnMut(Touch)) {
        let mut entries = self.entries.borrow_mut();
        let Entries { at, rest, .. } = &mut *entries;
        for (place, at) in at.iter_mut().enumerate().filter(|(_, at)| **at <= now) {
            let entry = &mut rest[place];
            if let Some((_, why)) = entry.end.filter(|(at, _)| *at <= now) {
                entry.tell(why);
            } else if entry.moved.saturating_add(entry.idle) <= now {
                entry.tell(Told::Idle);
            } else if entry.touch_at <= now {
                entry.seated.session.into_iter().for_each(&mut touch);
                entry.touch_at = now + entry.touch_every();
            }
            *at = if entry.told.is_some() { NEVER } else { entry.due() };
        }
    }

    /// Has the tunnels end whose backend is `lost`, each in its turn, and takes that back for those that `have` theirs again.
    fn follow(&self, now: u64, lost: impl Fn(&Seated) -> bool, have: impl Fn(&Seated) -> bool) {
        let mut entries = self.entries.borrow_mut();
        let Entries { at, rest, .. } = &mut *entries;
        for (at, entry) in at.iter_mut().zip(rest).filter(|(_, entry)| entry.open && entry.told.is_none()) {
            let drained = matches!(entry.end, Some((_, Told::Drained)));
            if lost(&entry.seated) && entry.end.is_none() {
                entry.end = Some((now + turn(entry.seated.key, SPREAD.as_millis()), Told::Drained));
            } else if drained && have(&entry.seated) {
                entry.end = None;
            }
            *at = entry.due();
        }
    }

    /// Has all end within `over`, each in its turn, and those that are still to come too.
    fn stop(&self, now: u64, over: u64) {
        self.stopping.set(Some((now, now + over)));
        let mut entries = self.entries.borrow_mut();
        let Entries { at, rest, .. } = &mut *entries;
        for (at, entry) in at.iter_mut().zip(rest).filter(|(_, entry)| entry.open && entry.told.is_none()) {
            let end = now + turn(entry.seated.key, over);
            if entry.end.is_none_or(|(sooner, _)| end < sooner) {
                entry.end = Some((end, Told::Stopped));
            }
            *at = entry.due();
        }
    }
}

/// A tunnel's place among the others; left when it goes.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    all: &'a Tunnels,
    place: u32,
}

impl Seat<'_> {
    fn with<R>(&self, act: impl FnOnce(&mut Entry) -> R) -> R {
        act(&mut self.all.entries.borrow_mut().rest[self.place as usize])
    }

    /// A byte has moved at `now`.
    pub(crate) fn moved(&self, now: u64) {
        self.with(|entry| entry.moved = now);
    }

    /// From now on it may stay open for no longer than this without a byte moving.
    pub(crate) fn shorten(&self, idle: Span) {
        self.with(|entry| entry.idle = entry.idle.min(idle.as_millis()));
        // To be looked at with the next sweep.
        self.all.entries.borrow_mut().at[self.place as usize] = 0;
    }

    /// Whether it is to end.
    pub(crate) fn told(&self) -> Option<Told> {
        self.with(|entry| entry.told)
    }

    /// Who is woken when it is to end.
    pub(crate) fn wakes(&self, waker: &Waker) {
        self.with(|entry| match &entry.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => entry.waker = Some(waker.clone()),
        });
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut entries = self.all.entries.borrow_mut();
        entries.at[self.place as usize] = NEVER;
        let entry = &mut entries.rest[self.place as usize];
        (entry.open, entry.waker) = (false, None);
        entries.free.push(self.place);
    }
}

impl Worker {
    /// Takes a tunnel in.
    pub(crate) fn seat(&self, seated: Seated) -> Seat<'_> {
        self.tunnels.enter(seated, self.clock.millis())
    }

    /// The incarnation of a backend, unless it is in maintenance or removed.
    pub(crate) fn bearing(&self, slot: u32) -> Option<u32> {
        bearing(&self.table.borrow()).find(|(bearing, _)| *bearing == slot).map(|(_, incarnation)| incarnation)
    }

    pub(super) fn sweep_tunnels(&self) {
        let now = self.clock.unix();
        self.tunnels.sweep(self.clock.millis(), |touch| self.touches.note(Touch { at: now, ..touch }));
    }

    /// Ends the tunnels whose backend has just come into maintenance, or was removed. What a rule has sent to one that is
    /// in maintenance stays.
    pub(super) fn follow_backends(&self, before: &Table) {
        if self.tunnels.is_empty() {
            return;
        }
        let before: AHashMap<_, _> = bearing(before).collect();
        let after: AHashMap<_, _> = bearing(&self.table.borrow()).collect();
        let lost = |seated: &Seated| before.contains_key(&seated.backend) && !after.contains_key(&seated.backend);
        let have = |seated: &Seated| after.get(&seated.backend) == Some(&seated.incarnation);
        self.tunnels.follow(self.clock.millis(), lost, have);
    }

    pub(super) fn stop_tunnels(&self, over: Span) {
        self.tunnels.stop(self.clock.millis(), over.as_millis());
    }
}

/// The slots and incarnations of the backends that bear tunnels: all but those in maintenance.
fn bearing(table: &Table) -> impl Iterator<Item = (u32, u32)> {
    let backends = table.pools.iter().flat_map(|pool| &pool.backends);
    let bearing = backends.filter(|backend| backend.admin_state != AdminState::Maintenance);
    bearing.map(|backend| (backend.slot, backend.incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seated(backend: u32, key: u64) -> Seated {
        let session = Some(Touch { key, backend, ..Touch::default() });
        let (live_for, idle) = (Span::from_secs(4), Span::from_secs(60));
        Seated { pool: 0, backend, incarnation: 1, key, session, live_for, idle, outlived: false }
    }

    fn sweep(all: &Tunnels, now: u64) -> Vec<u64> {
        let mut touched = Vec::new();
        all.sweep(now, |touch| touched.push(touch.key));
        touched
    }

    #[test]
    fn a_tunnel_in_which_nothing_moves_for_too_long_is_told_so() {
        let all = Tunnels::default();
        let (still, busy) = (all.enter(seated(1, 1), 0), all.enter(seated(1, 2), 0));
        busy.moved(30_000);
        sweep(&all, 59_999);
        assert_eq!(still.told(), None);
        sweep(&all, 60_000);
        assert_eq!((still.told(), busy.told()), (Some(Told::Idle), None));
        sweep(&all, 89_999);
        assert_eq!(busy.told(), None, "a byte that moves puts it off");
        busy.shorten(Span::from_secs(1));
        sweep(&all, 90_000);
        assert_eq!(busy.told(), Some(Told::Idle));
    }

    #[test]
    fn a_session_is_seen_again_before_it_would_have_been_idle_for_too_long() {
        let all = Tunnels::default();
        let seat = all.enter(Seated { idle: Span::from_secs(3_600), ..seated(1, 7) }, 500);
        let mut last = 500;
        for now in (500..60_000).step_by(50) {
            if !sweep(&all, now).is_empty() {
                assert!((1_000..=1_050).contains(&(now - last)), "{last} {now}");
                last = now;
            }
        }
        assert!(last > 58_000);
        let without = all.enter(Seated { session: None, ..seated(1, 8) }, 60_000);
        drop(seat);
        assert_eq!(sweep(&all, 90_000), [0; 0]);
        assert_eq!(without.told(), None);
    }

    #[test]
    fn the_tunnels_of_a_lost_backend_end_one_after_the_other_and_stay_if_it_comes_back() {
        let all = Tunnels::default();
        let seats: Vec<_> = (0..1_000).map(|key| all.enter(seated(1, key), 0)).collect();
        let other = all.enter(seated(2, 1), 0);
        let told = || seats.iter().filter(|seat| seat.told() == Some(Told::Drained)).count();
        all.follow(100, |seated| seated.backend == 1, |seated| seated.backend == 2);
        let over = SPREAD.as_millis();
        let mut ended = Vec::new();
        for tenth in 0..5 {
            sweep(&all, 100 + over * tenth / 10);
            ended.push(told());
        }
        assert_eq!(ended[0], 0);
        let steps = ended.windows(2).all(|pair| (60..140).contains(&(pair[1] - pair[0])));
        assert!(steps, "evenly: {ended:?}");
        all.follow(100 + over / 2, |_| false, |_| true);
        sweep(&all, 100 + 2 * over);
        assert_eq!(told(), ended[4], "it has come back");
        all.follow(200 + 2 * over, |seated| seated.backend == 1, |seated| seated.backend == 2);
        sweep(&all, 200 + 3 * over);
        assert_eq!((told(), other.told()), (1_000, None));
    }

    #[test]
    fn a_namesake_in_its_next_life_takes_no_tunnel_back() {
        let all = Tunnels::default();
        let seat = all.enter(seated(1, 1), 0);
        all.follow(0, |_| true, |_| false);
        all.follow(10, |_| false, |seated| seated.incarnation == 2);
        sweep(&all, SPREAD.as_millis());
        assert_eq!(seat.told(), Some(Told::Drained));
    }

    #[test]
    fn a_stop_ends_all_in_its_time_and_those_that_come_late_too() {
        let all = Tunnels::default();
        let early = all.enter(seated(1, 1), 0);
        all.stop(1_000, 2_000);
        let late = all.enter(seated(1, 2), 2_900);
        let later = all.enter(seated(1, 3), 3_500);
        sweep(&all, 999);
        assert_eq!([&early, &late, &later].map(Seat::told), [None; 3]);
        sweep(&all, 3_500);
        assert_eq!([&early, &late, &later].map(Seat::told), [Some(Told::Stopped); 3]);
    }

    #[test]
    fn a_place_that_is_taken_again_inherits_nothing_and_one_that_is_free_does_nothing() {
        let all = Tunnels::default();
        let gone = all.enter(Seated { outlived: true, ..seated(1, 1) }, 0);
        let place = gone.place;
        drop(gone);
        assert!(all.is_empty());
        all.follow(0, |_| true, |_| false);
        assert_eq!(sweep(&all, 30_000), [0; 0]);
        let next = all.enter(seated(1, 2), 30_000);
        assert_eq!(next.place, place);
        sweep(&all, 30_000 + SPREAD.as_millis());
        assert_eq!(next.told(), None);
    }

    #[test]
    fn one_that_outlived_its_backend_ends_as_the_others_do() {
        let all = Tunnels::default();
        let seat = all.enter(Seated { outlived: true, ..seated(1, 1) }, 0);
        sweep(&all, SPREAD.as_millis());
        assert_eq!(seat.told(), Some(Told::Drained));
    }
}
