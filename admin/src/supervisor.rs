//! The process above: it binds sockets and starts data planes, and can be asked for another one.

use crate::state::refusal::Refusal;
use control::processes::{Processes, Upgrade, UpgradeStage};
use std::{path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep};

/// Asks the supervisor for another data plane; false where nobody hears that.
pub type Ask = dyn Fn() -> bool + Send + Sync;

/// How long an upgrade is waited for: longer than the supervisor gives a data plane to come up.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Supervisor {
    /// Absent where this process was started by itself.
    ask: Option<Box<Ask>>,
    processes: PathBuf,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("is_there", &self.is_there()).finish_non_exhaustive()
    }
}

impl Supervisor {
    pub(crate) fn new(ask: Option<Box<Ask>>, processes: PathBuf) -> Self {
        Self { ask, processes }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.ask.is_some()
    }

    /// Has another data plane take over, by the configuration file as it is now, and returns when it serves.
    ///
    /// # Errors
    /// There is no supervisor, or it could not be done: the one that serves serves on.
    pub(crate) async fn upgrade(&self) -> Result<Processes, Refusal> {
        let failed = |why: &str| Refusal::NotUpgraded(why.to_owned());
        let Some(ask) = &self.ask else {
            return Err(failed(
                "this process was started by itself and not by `steadfast run`: restart the data plane's unit",
            ));
        };
        let before = self.number();
        if !ask() {
            return Err(failed("the supervisor does not hear this process"));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if let Some((processes, upgrade)) = told.filter(|(_, upgrade)| upgrade.number > before) {
                match upgrade.stage {
                    UpgradeStage::Done => return Ok(processes),
                    UpgradeStage::Failed => return Err(failed(&upgrade.why.unwrap_or_default())),
                    UpgradeStage::Starting => {}
                }
            }
            if Instant::now() > deadline {
                return Err(failed("the supervisor has not said in time what became of it"));
            }
            sleep(LOOK).await;
        }
    }

    /// The number of the last upgrade that is over.
    fn number(&self) -> u64 {
        self.told().map_or(0, |(_, Upgrade { number, stage, .. })| {
            // Of one that is under way, what becomes of it is the answer.
            if stage == UpgradeStage::Starting { number - 1 } else { number }
        })
    }

    fn told(&self) -> Option<(Processes, Upgrade)> {
        let text = std::fs::read(&self.processes).ok()?;
        let processes: Processes = serde_json::from_slice(&text).ok()?;
        let upgrade = processes.upgrade.clone()?;
        Some((processes, upgrade))
    }
}
