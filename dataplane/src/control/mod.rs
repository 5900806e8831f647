//! The control thread: hears the admin process, builds tables, hands them to the workers, reports what they count.

mod changes;
mod hot;
mod kept;
mod ledger;
mod lines;
mod link;
mod memory;
mod plane;
mod releases;
mod report;
#[cfg(feature = "simulation")]
pub(crate) mod simulation;
mod slots;
mod snapshot;

use crate::{
    Error,
    access_log::Log,
    tunnel::CLOSING,
    worker::{FromWorker, Handed, Parting, SPREAD},
};
use control::{
    config::Global,
    message::{ToAdmin, ToDataplane},
    spec::Span,
    status::{Sandbox, Stats},
};
use crossbeam_channel::{Receiver, Sender, never, select, tick};
use kept::Mark;
use link::{Link, LinkEvent};
use memory::{LOOK, Memory};
use plane::Plane;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// What the control thread works with.
pub(crate) struct Parts {
    pub(crate) global: Global,
    pub(crate) version: &'static str,
    pub(crate) sandbox: Sandbox,
    pub(crate) workers: Vec<std::sync::Arc<crate::worker::Mailbox>>,
    pub(crate) shared: std::sync::Arc<crate::worker::Shared>,
    pub(crate) events: Receiver<FromWorker>,
    pub(crate) handed: Receiver<Handed>,
    pub(crate) signals: Receiver<Parting>,
    pub(crate) ready: Box<dyn FnOnce() + Send>,
}

/// How often figures are reported and what was only observed is written into the snapshot.
const REPORT: Duration = Duration::from_secs(1);
/// The same in reports.
const MINUTE: u32 = 60;
/// How often it is looked how old the sessions are, in ticks: it is work of milliseconds, and ages change slowly.
const GAUGED_EVERY: u32 = 10;
/// How long a start waits for the admin process before it serves by its last snapshot.
const ADMIN_FIRST: Duration = Duration::from_secs(2);

/// Runs until all workers have drained.
///
/// # Errors
/// Where a second signal, or the deadline of the drain, ended it before.
pub(crate) fn run(parts: Parts) -> Result<(), Error> {
    let (events, handed, signals) = (parts.events.clone(), parts.handed.clone(), parts.signals.clone());
    let mut control = Control::new(parts);
    let looks = if control.memory.level.most > 0 { tick(LOOK) } else { never() };
    let (heard, mut hears) = crossbeam_channel::bounded(64);
    link::keep_connecting(control.global.control_socket(), heard);
    let ticks = tick(REPORT);
    let start = crossbeam_channel::after(ADMIN_FIRST);
    let mut farewell = Farewell::default();
    loop {
        select! {
            recv(events) -> event => {
                let Ok(event) = event else { return Ok(()) };
                control.hear_worker(event);
                if control.may_end() {
                    return Ok(());
                }
            }
            recv(hears) -> event => match event {
                Ok(event) => control.hear_admin(event),
                Err(_) => hears = never(),
            },
            recv(handed) -> handed => handed.into_iter().for_each(|handed| control.take(handed)),
            recv(ticks) -> _ => {
                control.tick();
                if control.may_end() {
                    return Ok(());
                }
            }
            recv(looks) -> _ => control.memory.look(),
            recv(start) -> _ => control.serve_by_snapshot(),
            recv(farewell.tunnels) -> _ => control.plane.stop_tunnels(farewell.over),
            recv(farewell.end) -> _ => return Err(Error::DrainDeadline),
            recv(signals) -> parting => match (control.plane.parting(), parting.unwrap_or(Parting::Stop)) {
                (Some(Parting::Stop), Parting::Stop) => return Err(Error::Ended),
                (Some(_), Parting::Replaced) => {}
                (None | Some(Parting::Replaced), parting) => farewell = control.part(parting),
            }
        }
    }
}

/// When a data plane that is to end tells its tunnels so, and when it is over.
struct Farewell {
    tunnels: Receiver<Instant>,
    /// Within so long they are told, one after the other.
    over: Span,
    end: Receiver<Instant>,
}

impl Default for Farewell {
    /// It goes on.
    fn default() -> Self {
        Self { tunnels: never(), over: Span::default(), end: never() }
    }
}

impl Farewell {
    fn within(timeout: Span) -> Self {
        let (after, over) = last_words(timeout);
        let [tunnels, end] = [after, timeout].map(|span| crossbeam_channel::after(span.to_std()));
        Self { tunnels, over, end }
    }
}

/// After how long tunnels are told, and within how long all of them: as late as leaves them the time that it takes, and no
/// earlier than half of `timeout`.
fn last_words(timeout: Span) -> (Span, Span) {
    let all = timeout.as_millis();
    let (spread, closing) = (SPREAD.as_millis(), CLOSING.as_millis());
    let kept = (spread + closing).min(all / 2);
    (Span::from_millis(all - kept), Span::from_millis(kept * spread / (spread + closing)))
}

struct Control {
    plane: Plane,
    link: Option<Link>,
    ready: Option<Box<dyn FnOnce() + Send>>,
    version: &'static str,
    sandbox: Sandbox,
    count: u16,
    /// Unix milliseconds.
    started: u64,
    global: Global,
    handed: Receiver<Handed>,
    /// Something that was observed is not in the snapshot on disk yet.
    unsaved: bool,
    /// The last attempt to write the snapshot failed, and that was told.
    unwritable: bool,
    /// Another data plane keeps the snapshot from now on.
    is_replaced: bool,
    leaves: Leaves,
    all_ended: bool,
    ticks: u32,
    memory: Memory,
    /// The admin process has asked for figures, which wait for the workers to hand over theirs.
    reporting: bool,
    /// The pools of which it has asked for a sketch, which wait likewise.
    sketching: BTreeSet<String>,
}

/// What becomes of the live sessions of a data plane that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// They are its own.
    Nothing,
    /// They are to be left to another, once the workers have handed over what they have seen.
    Gathered,
    /// Another one is there and may take them from that file, for which there are so many ticks.
    ToTake(Mark, u32),
    /// They are followed by another.
    Taken,
}

/// How long the next data plane has to take the live sessions, in ticks.
const TO_TAKE: u32 = 5;

impl Control {
    fn new(parts: Parts) -> Self {
        let Parts { global, version, sandbox, workers, shared, events: _, handed, signals: _, ready } = parts;
        let count = u16::try_from(workers.len()).unwrap_or(u16::MAX);
        let memory = Memory::new(std::sync::Arc::clone(&shared), global.memory_bytes);
        Self {
            plane: Plane::new(workers, shared),
            link: None,
            ready: Some(ready),
            version,
            sandbox,
            count,
            started: plane::unix_millis(),
            global,
            handed,
            unsaved: false,
            unwritable: false,
            is_replaced: false,
            leaves: Leaves::Nothing,
            all_ended: false,
            reporting: false,
            sketching: BTreeSet::new(),
            ticks: 0,
            memory,
        }
    }

    /// Whether all is done: nothing moves any more, and the live sessions count somewhere else by now.
    fn may_end(&mut self) -> bool {
        if self.all_ended && (self.leaves == Leaves::Gathered || !self.is_replaced) {
            // What was seen while it drained too.
            self.leave_sessions();
        }
        self.all_ended && !matches!(self.leaves, Leaves::ToTake(..))
    }

    /// Takes live sessions from the data plane before this one; or, where this one was replaced, sees whether its own were taken.
    fn pass_sessions_on(&mut self) {
        let path = self.global.sessions_path();
        match self.leaves {
            Leaves::Nothing if self.plane.parting().is_some() => {}
            Leaves::Nothing => match self.plane.take_sessions(&path) {
                Ok(None) => {}
                Ok(Some(count)) => tracing::info!(count, "live sessions taken over"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "live sessions of before can't be read"),
            },
            Leaves::ToTake(mark, _) if !mark.is_at(&path) => {
                self.leaves = Leaves::Taken;
                self.plane.forget_sessions();
            }
            Leaves::ToTake(_, 0) => self.leaves = Leaves::Nothing,
            Leaves::ToTake(mark, ticks) => self.leaves = Leaves::ToTake(mark, ticks - 1),
            Leaves::Gathered | Leaves::Taken => {}
        }
    }

    fn hear_worker(&mut self, event: FromWorker) {
        match event {
            FromWorker::Applied { worker, generation, before } => {
                drop(before);
                if let Some(generation) = self.plane.applied(worker, generation) {
                    self.send(&ToAdmin::Applied { generation });
                    if let Some(ready) = self.ready.take() {
                        ready();
                    }
                }
            }
            FromWorker::Flushed { worker } => {
                let all = self.plane.flushed(worker);
                if all && std::mem::take(&mut self.reporting) {
                    self.report();
                }
                if all {
                    self.tell_sketches();
                }
                if all && self.leaves == Leaves::Gathered {
                    self.leave_sessions();
                }
            }
            FromWorker::Failing { pool, backend, reason } => {
                tracing::warn!(%pool, %backend, %reason, "traffic fails at this backend");
                self.send(&ToAdmin::Failing { pool, backend, reason });
            }
            FromWorker::Ended { worker } => self.all_ended = self.plane.ended(worker),
        }
    }

    fn hear_admin(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Connected(mut link) => {
                let hello = ToAdmin::Hello {
                    protocol: control::message::PROTOCOL,
                    version: self.version.to_owned(),
                    pid: std::process::id(),
                    workers: self.count,
                    generation: self.plane.generation(),
                    started: self.started,
                    sketches: true,
                    sandbox: Some(self.sandbox.clone()),
                };
                if link.send(&hello) {
                    self.plane.tell_anew();
                    self.link = Some(link);
                }
            }
            LinkEvent::Heard { link, message } if self.link.as_ref().is_some_and(|own| own.id() == link) => {
                self.obey(*message)
            }
            LinkEvent::Lost { link, reason } if self.link.as_ref().is_some_and(|own| own.id() == link) => {
                tracing::warn!(%reason, "the admin process is gone; serving on with what is known");
                self.link = None;
            }
            LinkEvent::Heard { .. } | LinkEvent::Lost { .. } => {}
        }
    }

    fn obey(&mut self, message: ToDataplane) {
        match message {
            ToDataplane::Hello { .. } => {}
            ToDataplane::Snapshot { snapshot } => {
                if snapshot.generation < self.plane.generation() {
                    // It will learn our generation from `hello` and continue above it.
                    tracing::warn!(
                        offered = snapshot.generation,
                        have = self.plane.generation(),
                        "older snapshot refused"
                    );
                    self.hang_up();
                    return;
                }
                self.plane.replace(*snapshot);
                self.save();
                self.publish();
            }
            ToDataplane::Delta { base, generation, changes, commanded } => {
                match self.plane.change(base, generation, &changes) {
                    Ok(only_observed) => {
                        if only_observed && !commanded {
                            self.unsaved = true
                        } else {
                            self.save()
                        }
                        self.publish();
                    }
                    Err(reason) => {
                        tracing::warn!(%reason, "asking for a snapshot");
                        self.hang_up();
                    }
                }
            }
            ToDataplane::Report => {
                self.reporting = true;
                self.plane.flush();
            }
            ToDataplane::Sketch { pool } => {
                self.sketching.insert(pool);
                self.plane.flush();
            }
        }
    }

    fn publish(&mut self) {
        if let Err(reason) = self.plane.publish() {
            tracing::error!(%reason, "the desired state can't be applied; serving on with the one before");
            self.send(&ToAdmin::Rejected { generation: self.plane.generation(), reason });
        }
    }

    /// A dropped link is connected anew, and begins with a snapshot.
    fn hang_up(&mut self) {
        self.link = None;
    }

    fn tick(&mut self) {
        self.pass_sessions_on();
        self.plane.expire_sessions();
        self.plane.look_at_certificates();
        if self.ticks.is_multiple_of(GAUGED_EVERY) {
            self.plane.gauge_sessions();
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(MINUTE) {
            self.plane.hottest.turn();
        }
        if self.unsaved {
            self.save();
        }
        if self.link.is_some() {
            self.report();
        }
    }

    fn take(&mut self, handed: Handed) {
        match handed {
            Handed::Seen(_) if self.leaves == Leaves::Taken => {}
            Handed::Seen(touches) => touches.into_iter().for_each(|touch| self.plane.sessions.touch(touch)),
            Handed::Sampled(samples) => samples.into_iter().for_each(|sample| self.plane.hottest.add(sample)),
            Handed::Sighted(seen) => self.plane.releases.note(&seen),
            Handed::Moved(moves) => moves.into_iter().for_each(|(moved, count)| self.plane.ledger.add(moved, count)),
        }
    }

    /// What the workers handed over before they said so may still be in the channel.
    fn take_handed(&mut self) {
        while let Ok(handed) = self.handed.try_recv() {
            self.take(handed);
        }
    }

    fn report(&mut self) {
        self.take_handed();
        self.memory.look();
        if let Some(stats) = self.plane.report() {
            let (memory, memory_most) = (self.memory.level.used, self.memory.level.most);
            let stats = Stats { memory, memory_most, ..stats };
            self.send(&ToAdmin::Stats { stats: Box::new(stats) });
        }
    }

    /// Sends the sketches that the admin process has asked for.
    fn tell_sketches(&mut self) {
        self.take_handed();
        for pool in std::mem::take(&mut self.sketching) {
            let sketch = Box::new(self.plane.sketch(&pool));
            self.send(&ToAdmin::Sketch { pool, sketch });
        }
    }

    fn send(&mut self, message: &ToAdmin) {
        if self.link.as_mut().is_some_and(|link| !link.send(message)) {
            self.link = None;
        }
    }

    /// Begins to end.
    fn part(&mut self, parting: Parting) -> Farewell {
        let timeout = match parting {
            Parting::Stop => self.global.drain_timeout,
            Parting::Replaced => self.global.upgrade_timeout,
        };
        tracing::info!(deadline = %timeout, "{}", if parting == Parting::Stop { "draining" } else { "replaced, draining" });
        self.save();
        // What the one before has left may still lie there.
        self.pass_sessions_on();
        if !self.is_replaced {
            self.leaves = Leaves::Gathered;
            self.plane.flush();
        }
        self.is_replaced |= parting == Parting::Replaced;
        self.plane.drain(parting);
        Farewell::within(timeout)
    }

    fn leave_sessions(&mut self) {
        self.take_handed();
        let path = self.global.sessions_path();
        self.leaves = Leaves::Nothing;
        match self.plane.leave_sessions(&path) {
            Ok(Some(mark)) if self.is_replaced => self.leaves = Leaves::ToTake(mark, TO_TAKE),
            // The next takes them when it comes.
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "live sessions can't be left to the next data plane");
            }
        }
    }

    /// Writes the snapshot before anything is acknowledged: a data plane that restarts must not know less than it said.
    fn save(&mut self) {
        if self.plane.generation() == 0 || self.is_replaced {
            // Nothing was heard yet, and what is on disk is all that there is; or it is another's.
            return;
        }
        let path = self.global.snapshot_path();
        match snapshot::write(&path, self.plane.snapshot()) {
            Ok(()) => {
                self.unsaved = false;
                if std::mem::take(&mut self.unwritable) {
                    tracing::info!("the snapshot can be written again");
                }
            }
            Err(error) => {
                self.unsaved = true;
                // Once for each outage: it is tried again every second.
                if std::mem::replace(&mut self.unwritable, true) {
                    return;
                }
                tracing::error!(path = %path.display(), %error, "the snapshot can't be written; a restart without the admin process would fall back to an older one");
            }
        }
    }

    /// Where the admin process does not answer, what was known last is better than nothing.
    fn serve_by_snapshot(&mut self) {
        if self.plane.generation() > 0 || self.plane.parting().is_some() {
            return;
        }
        let path = self.global.snapshot_path();
        match snapshot::read(&path) {
            Ok(Some(snapshot)) => {
                tracing::warn!(generation = snapshot.generation, "no admin process; serving by the last snapshot");
                self.plane.replace(snapshot);
                self.publish();
            }
            Ok(None) => {
                tracing::warn!(socket = %self.global.control_socket().display(), "waiting for the admin process: there is no snapshot to serve by")
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "waiting for the admin process: the snapshot can't be read")
            }
        }
    }
}

/// Signals as a channel: each SIGTERM or SIGINT is a wish to stop, SIGUSR2 says that another data plane has taken over.
/// SIGUSR1 has the access log opened anew.
///
/// # Errors
/// Where the handlers can't be set.
pub(crate) fn signals(log: Option<Log>) -> std::io::Result<Receiver<Parting>> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGUSR2])?;
    spawn("signals", move || relay(&mut signals, log.as_ref(), &sender))?;
    Ok(receiver)
}

fn relay(signals: &mut signal_hook::iterator::Signals, log: Option<&Log>, sender: &Sender<Parting>) {
    for signal in signals.forever() {
        if signal == SIGUSR1 {
            log.into_iter().for_each(Log::reopen);
            continue;
        }
        let parting = if signal == SIGUSR2 { Parting::Replaced } else { Parting::Stop };
        if sender.send(parting).is_err() {
            return;
        }
    }
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_closed_as_late_as_leaves_them_their_time() {
        for (timeout, after, over) in [(30_000, 21_000, 5_000), (18_000, 9_000, 5_000), (1_800, 900, 500), (0, 0, 0)] {
            let found = last_words(Span::from_millis(timeout));
            assert_eq!((found.0.as_millis(), found.1.as_millis()), (after, over), "{timeout}");
        }
    }
}
