use control::{
    spec::{Check, HealthCheck},
    status::Health,
};
use std::sync::Arc;

/// One backend's health. Three voices speak, the first of these that says anything is heard: a health that was pushed,
/// checks, marks from real traffic.
///
/// ```text
///            rise successes in a row                    fall failures in a row, or one mark
/// unknown ─────────────────────────────► up  ◄───────►  down
///    ▲                                   rise successes  │
///    └─────────── the mark's hold is over, checks off ◄──┘
/// ```
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    seen: Health,
    pushed: Option<Health>,
    /// Checks in a row that ended like the last one.
    run: u32,
    last_succeeded: bool,
    /// When a mark ends, where no check is there to take it back.
    hold: Option<u64>,
    /// Why `seen` is `down`, or what the last check had to complain of.
    reason: Option<Arc<str>>,
}

impl Machine {
    pub(crate) fn health(&self) -> Health {
        self.pushed.unwrap_or(self.seen)
    }

    /// Why the health is what it is, where there is more to say than that.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        if self.pushed.is_some() { Some(Arc::from("set over REST")) } else { self.reason.clone() }
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.hold
    }

    /// A check ended, well or for the given reason.
    pub(crate) fn checked(&mut self, outcome: Result<(), Arc<str>>, settings: &HealthCheck) {
        let succeeded = outcome.is_ok();
        self.run = if self.last_succeeded == succeeded { self.run.saturating_add(1) } else { 1 };
        self.last_succeeded = succeeded;
        match outcome {
            Ok(()) if self.seen != Health::Up && self.run >= settings.rise => {
                self.seen = Health::Up;
                self.reason = None;
            }
            Ok(()) if self.seen == Health::Up => self.reason = None,
            Ok(()) => {}
            Err(reason) => {
                if self.run >= settings.fall {
                    self.seen = Health::Down;
                }
                self.reason = Some(reason);
            }
        }
    }

    /// Traffic failed so often in a row that a worker marked the backend. `now` in milliseconds.
    pub(crate) fn failing(&mut self, reason: Arc<str>, settings: &HealthCheck, now: u64) {
        if settings.passive.failures == 0 {
            return;
        }
        self.seen = Health::Down;
        self.reason = Some(reason);
        self.run = 0;
        if settings.check == Check::Off {
            self.hold = Some(now.saturating_add(settings.passive.hold.as_millis()));
        }
    }

    /// `None` gives the health back to checks and traffic.
    pub(crate) fn push(&mut self, health: Option<Health>) {
        self.pushed = health;
    }

    /// Ends a mark whose time is over.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.hold.is_some_and(|end| end <= now) {
            self.forget();
        }
    }

    /// What was seen says nothing any more: the address changed, or checks were turned on or off. A pushed health stays.
    pub(crate) fn forget(&mut self) {
        *self = Self { pushed: self.pushed, ..Self::default() };
    }
}
