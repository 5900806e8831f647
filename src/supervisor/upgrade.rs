//! Another data plane takes over, on the same sockets: the one that serves goes on with what it has and takes nobody new. What
//! changes is the program that is installed, the workers, the listeners. Where the new one does not come up, nothing has changed.

use super::{
    Supervisor,
    child::{Child, Happening},
};
use crate::{
    config::{self, Purpose},
    failure::Failure,
    folders::{self, Readers},
    notify::Ear,
    sockets::{self, Addresses},
};
use control::{
    config::{Config, Global},
    processes::{Upgrade, UpgradeStage},
};
use rustix::process::Signal;
use std::{
    io,
    os::fd::BorrowedFd,
    process::ExitStatus,
    time::{Duration, Instant},
};

/// How long a new data plane may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// Data planes that may go on beside the one that serves. Each holds the memory of what it still serves.
const MOST: usize = 32;

/// A data plane that is to take over, with what becomes the truth when it has.
pub(super) struct Successor {
    child: Child,
    give_up_at: Instant,
    config: Config,
    addresses: Addresses,
}

/// A data plane that was replaced.
pub(super) struct Replaced {
    pub(super) child: Child,
    kill_at: Instant,
}

/// All that is about upgrades.
#[derive(Default)]
pub(super) struct Upgrades {
    next: Option<Successor>,
    pub(super) replaced: Vec<Replaced>,
    pub(super) last: Option<Upgrade>,
}

impl Upgrades {
    pub(super) fn ears(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.next.iter().map(|next| next.child.ear()).chain(self.replaced.iter().map(|old| old.child.ear()))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.iter().map(|next| next.give_up_at).chain(self.replaced.iter().map(|old| old.kill_at)).min()
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.next.iter().for_each(|next| next.child.signal(signal));
        self.replaced.iter().for_each(|old| old.child.signal(signal));
    }

    /// Has all that is left of them end: the next one at once, the others as the one that serves does.
    pub(super) fn stop(&mut self) {
        if let Some(mut next) = self.next.take() {
            next.child.kill();
        }
        self.replaced.iter().for_each(|old| old.child.signal(Signal::TERM));
    }

    pub(super) fn kill(&mut self) {
        self.next.iter_mut().for_each(|next| next.child.kill());
        self.replaced.iter_mut().for_each(|old| old.child.kill());
    }
}

impl Supervisor {
    /// Starts the next data plane, or tells why it can't be.
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        if self.upgrades.next.is_some() {
            return tracing::warn!("an upgrade is wished for while one is under way");
        }
        let number = self.upgrades.last.as_ref().map_or(1, |last| last.number + 1);
        let last = Upgrade { number, stage: UpgradeStage::Starting, why: None };
        self.upgrades.last = Some(last);
        match self.successor(number, now) {
            Ok(next) => {
                tracing::info!(pid = next.child.pid(), "an upgrade has begun: the next data plane starts");
                self.upgrades.next = Some(next);
                self.write_processes();
            }
            // Of a configuration, a line for each mistake.
            Err(failure) => self.fail_upgrade(failure.to_string().trim().replace('\n', "; ")),
        }
    }

    fn successor(&self, number: u64, now: Instant) -> Result<Successor, Failure> {
        if self.upgrades.replaced.len() >= MOST {
            let why = format!(
                "{MOST} data planes that were replaced still serve what they have; wait, or have a shorter global.upgrade_timeout"
            );
            return Err(Failure::general(why));
        }
        let loaded = config::load(&self.file, Purpose::Run)?;
        let dataplane = &self.children[0];
        let keeps = |global: &Global| (global.state_dir.clone(), global.runtime_dir.clone(), global.user.clone());
        if keeps(&loaded.config.global) != keeps(&self.config.global) {
            return Err(Failure::general("global.state_dir, runtime_dir or user changed, which needs a restart"));
        }
        let launch = dataplane.launch();
        let known = (&*self.config.listeners, &self.addresses);
        let sockets::Sockets { listeners, addresses, .. } = sockets::follow(&loaded.config, known, &launch.sockets)?;
        folders::replace(&self.files.next_config, loaded.text.as_bytes(), Readers::One(launch.account.as_deref()))?;
        let owner = launch.account.as_deref().map(|account| (account.uid, account.gid));
        let ear = Ear::bind(&self.files.folder.join(format!("dataplane-{number}.notify")), owner)?;
        let launch = launch.with(listeners, self.files.next_config.clone());
        let child = Child::start(launch, ear).map_err(Failure::doing("can't start the next data plane"))?;
        Ok(Successor { child, give_up_at: now + PATIENCE, config: loaded.config, addresses })
    }

    /// Looks what has become of the next data plane and of those that were replaced.
    pub(super) fn follow_upgrades(&mut self, now: Instant) -> io::Result<()> {
        self.look_at_replaced(now)?;
        let Some(next) = &mut self.upgrades.next else { return Ok(()) };
        match next.child.look(now)? {
            Some(Happening::Ready) => self.take_over(now),
            Some(Happening::Ended { status, said, .. }) => {
                let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                self.fail_upgrade(format!("the next data plane ended, {status}{said}"));
            }
            Some(Happening::Upgrade | Happening::Started) | None if next.give_up_at <= now => {
                self.fail_upgrade(format!("the next data plane did not serve within {PATIENCE:?}"));
            }
            Some(Happening::Upgrade | Happening::Started) | None => {}
        }
        Ok(())
    }

    fn fail_upgrade(&mut self, why: String) {
        if let Some(mut next) = self.upgrades.next.take() {
            next.child.kill();
        }
        drop(std::fs::remove_file(&self.files.next_config));
        tracing::error!("the upgrade has failed, and the data plane serves on: {why}");
        if let Some(last) = &mut self.upgrades.last {
            last.stage = UpgradeStage::Failed;
            last.why = Some(why);
        }
        self.write_processes();
    }

    /// The next data plane serves: from here on the old one takes nobody any more.
    fn take_over(&mut self, now: Instant) {
        let Some(Successor { mut child, config, addresses, .. }) = self.upgrades.next.take() else { return };
        if let Err(error) = std::fs::rename(&self.files.next_config, &self.files.config) {
            return self.fail_upgrade(format!("can't write {}: {error}", self.files.config.display()));
        }
        child.set_config(self.files.config.clone());
        let kill_at = now + self.config.global.upgrade_timeout.to_std() + super::GRACE;
        let mut old = std::mem::replace(&mut self.children[0], child);
        old.let_end();
        old.signal(Signal::USR2);
        tracing::info!(pid = self.children[0].pid(), replaced = old.pid(), "the next data plane serves");
        self.upgrades.replaced.push(Replaced { child: old, kill_at });
        (self.config, self.addresses) = (config, addresses);
        if let Some(last) = &mut self.upgrades.last {
            last.stage = UpgradeStage::Done;
        }
        self.write_addresses();
        self.write_processes();
        if self.children[1].renew() {
            tracing::info!("the admin process starts anew, from the program that is installed");
        }
    }

    fn look_at_replaced(&mut self, now: Instant) -> io::Result<()> {
        let mut ended: Vec<(Option<u32>, ExitStatus)> = Vec::new();
        for old in &mut self.upgrades.replaced {
            let pid = old.child.pid();
            while let Some(happening) = old.child.look(now)? {
                if let Happening::Ended { status, .. } = happening {
                    ended.push((pid, status));
                }
            }
            if old.child.is_running() && old.kill_at <= now {
                tracing::warn!(pid, "a data plane that was replaced did not end in time and is killed");
                old.child.signal(Signal::KILL);
                old.kill_at = now + super::GRACE;
            }
        }
        for (pid, status) in &ended {
            tracing::info!(pid, "a data plane that was replaced has ended, {status}");
        }
        self.upgrades.replaced.retain(|old| old.child.is_running());
        if !ended.is_empty() {
            self.write_processes();
        }
        Ok(())
    }
}
