//! Holds the listening sockets and two children, and does as little else as can be, so that it has no reason to die.

mod backoff;
mod child;
mod events;
mod upgrade;

use crate::{
    config::{self, Purpose},
    failure::Failure,
    folders::{self, Readers},
    log::LogOptions,
    notify::{self, Watchdog},
    sockets::{self, ADMIN, Addresses, Sockets, Wanted},
    user::Account,
};
use child::{Child, Happening, Launch, Role};
use control::{
    config::{Config, Global},
    processes::Processes,
};
use events::Events;
use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{self, ExitStatus},
    rc::Rc,
    time::{Duration, Instant},
};
use upgrade::Upgrades;

/// What the data plane may take beyond `global.drain_timeout`, and the admin process in all, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs until told to end by a signal. `on_ready` is called once, when both children are.
///
/// # Errors
/// The configuration or a port can't be used, a child can't start, or a second signal cut the drain short.
pub(crate) fn run(file: &Path, log: &LogOptions, on_ready: impl FnOnce(&Addresses)) -> Result<(), Failure> {
    let loaded = config::load(file, Purpose::Run)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let global = &loaded.config.global;
    // Children are given another user only by root; for anybody else the key can only name who it is anyway.
    let account = match &global.user {
        Some(name) if rustix::process::geteuid().is_root() => Account::find(name)?,
        _ => None,
    };
    folders::make(global, account.as_ref())?;
    let files = Files::take(global)?;
    // Before anything can be started that would have to be ended.
    let mut events = Events::on(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
    let sockets = sockets::acquire(&loaded.config, Wanted::All)?;
    for (name, address) in &sockets.addresses.listeners {
        tracing::info!(name, address, "listening");
    }
    tracing::info!(name = ADMIN, address = sockets.addresses.admin, "listening");
    // It may hold secrets, such as the keys of other balancers' cookies.
    folders::replace(&files.config, loaded.text.as_bytes(), Readers::One(account.as_ref()))?;
    let (addresses, children) = launch(file, &files, sockets, account, log)?;
    let (file, config, upgrades) = (file.to_owned(), loaded.config, Upgrades::default());
    let mut supervisor = Supervisor { file, config, files, addresses, children, upgrades, phase: Phase::Starting };
    let ended = supervisor.supervise(&mut events, on_ready);
    if ended.is_err() {
        supervisor.kill();
    }
    ended
}

fn launch(
    file: &Path,
    files: &Files,
    sockets: Sockets,
    account: Option<Account>,
    log: &LogOptions,
) -> Result<(Addresses, [Child; 2]), Failure> {
    let Sockets { listeners, admin, addresses } = sockets;
    let account = account.map(Rc::new);
    // Its path and not the running image: what is installed there by then is what a restart starts.
    let program = std::env::current_exe().map_err(Failure::doing("can't find this executable"))?;
    let child = |role: Role, config: &Path, sockets: Vec<(String, OwnedFd)>| {
        let owner = account.as_deref().map(|account| (account.uid, account.gid));
        let ear = notify::Ear::bind(&files.folder.join(format!("{}.notify", role.name())), owner)?;
        let (config, account) = (config.to_owned(), account.clone());
        let launch = Launch { role, program: program.clone(), config, sockets, account, log: log.clone() };
        Child::start(launch, ear).map_err(Failure::doing(format_args!("can't start the {}", role.title())))
    };
    let admin = admin.into_iter().map(|socket| (ADMIN.to_owned(), socket)).collect();
    // The data plane starts anew from the file as it was when its sockets were bound, whatever has become of it since.
    let dataplane = child(Role::Dataplane, &files.config, listeners)?;
    let admin = child(Role::Admin, file, admin)?;
    Ok((addresses, [dataplane, admin]))
}

struct Supervisor {
    file: PathBuf,
    /// What the data plane was started with.
    config: Config,
    files: Files,
    addresses: Addresses,
    /// The data plane, then the admin process: the order in which they end.
    children: [Child; 2],
    upgrades: Upgrades,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not both were ready yet.
    Starting,
    Serving,
    /// The child of that index was told to end, and those before it have ended.
    Stopping {
        index: usize,
        kill_at: Instant,
    },
}

impl Supervisor {
    fn supervise(&mut self, events: &mut Events, on_ready: impl FnOnce(&Addresses)) -> Result<(), Failure> {
        let mut on_ready = Some(on_ready);
        let mut watchdog = Watchdog::of_environment(Instant::now());
        self.write_processes();
        loop {
            watchdog.iter_mut().for_each(|watchdog| watchdog.look(Instant::now()));
            let deadlines = self.children.iter().filter_map(Child::deadline).chain(self.phase.deadline());
            let deadline = deadlines.chain(self.upgrades.deadline()).chain(watchdog.as_ref().map(Watchdog::due)).min();
            let ears: Vec<_> = self.children.iter().map(Child::ear).chain(self.upgrades.ears()).collect();
            for signal in events.wait(&ears, deadline)? {
                self.on_signal(signal)?;
            }
            for index in 0..self.children.len() {
                while let Some(happening) = self.children[index].look(Instant::now())? {
                    self.on_happening(index, happening)?;
                }
            }
            self.follow_upgrades(Instant::now())?;
            if self.phase == Phase::Starting && self.children.iter().all(Child::was_ready) {
                self.phase = Phase::Serving;
                self.serving();
                if let Some(on_ready) = on_ready.take() {
                    on_ready(&self.addresses);
                }
            }
            if self.stopped(Instant::now()) {
                tracing::info!("ended");
                return Ok(());
            }
        }
    }

    fn serving(&self) {
        self.write_addresses();
        notify::say("READY=1");
        tracing::info!("ready");
    }

    fn on_signal(&mut self, signal: i32) -> Result<(), Failure> {
        match (signal, self.phase) {
            (SIGTERM | SIGINT, Phase::Stopping { .. }) => {
                Err(Failure::general("ended by a second signal, before all exchanges had finished"))
            }
            (SIGTERM | SIGINT, Phase::Starting | Phase::Serving) => {
                notify::say("STOPPING=1");
                tracing::info!(drain_timeout = %self.config.global.drain_timeout, "draining");
                self.upgrades.stop();
                self.stop(0, Instant::now());
                Ok(())
            }
            (SIGHUP, _) => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
                notify::say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
                self.children[1].signal(Signal::HUP);
                notify::say("READY=1");
                Ok(())
            }
            (SIGUSR1, _) => {
                // Each that serves has the file open, those too that were replaced.
                self.children.iter().for_each(|child| child.signal(Signal::USR1));
                self.upgrades.signal(Signal::USR1);
                Ok(())
            }
            (SIGUSR2, Phase::Serving) => {
                self.begin_upgrade(Instant::now());
                Ok(())
            }
            (SIGUSR2, _) => {
                tracing::warn!("no upgrade while it starts or stops");
                Ok(())
            }
            // A child has ended or was stopped, which the look at each of them tells.
            _ => Ok(()),
        }
    }

    fn on_happening(&mut self, index: usize, happening: Happening) -> Result<(), Failure> {
        let child = &self.children[index];
        let title = child.role().title();
        match happening {
            Happening::Ready => tracing::debug!("{title} is ready"),
            // Who forwards what strangers send has no say in what is run.
            Happening::Upgrade if child.role() == Role::Admin && self.phase == Phase::Serving => {
                self.begin_upgrade(Instant::now());
            }
            Happening::Upgrade => {}
            Happening::Started => {
                tracing::info!(pid = child.pid(), "{title} was started again");
                self.write_processes();
            }
            Happening::Ended { status, said, restart } => {
                let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                match restart {
                    _ if matches!(self.phase, Phase::Stopping { .. }) => {
                        tracing::info!("{title} ended, {status}{said}")
                    }
                    Some(Duration::ZERO) => tracing::info!("{title} ended, {status}{said}, and is started anew"),
                    Some(pause) => {
                        tracing::error!("{title} ended, {status}{said}; it is started again in {pause:?}");
                    }
                    None => return Err(cannot_start(title, status, &said)),
                }
                self.write_processes();
            }
        }
        Ok(())
    }

    /// Tells the child to end, or the next one where it is not running.
    fn stop(&mut self, index: usize, now: Instant) {
        let patience = if index == 0 { self.config.global.drain_timeout.to_std() + GRACE } else { GRACE };
        self.phase = Phase::Stopping { index, kill_at: now + patience };
        // Those after it are not to be started again any more, but serve on where they run.
        self.children.iter_mut().for_each(Child::let_end);
        self.children[index].signal(Signal::TERM);
    }

    /// Goes on with stopping; whether all have ended.
    fn stopped(&mut self, now: Instant) -> bool {
        let Phase::Stopping { index, kill_at } = self.phase else { return false };
        // Data planes that were replaced end with the one that serves.
        let replaced = self.upgrades.replaced.iter().map(|old| &old.child).filter(|_| index == 0);
        let mut running =
            std::iter::once(&self.children[index]).chain(replaced).filter(|child| child.is_running()).peekable();
        if running.peek().is_some() {
            if now >= kill_at {
                for child in running {
                    tracing::warn!("{} did not end in time and is killed", child.role().title());
                    child.signal(Signal::KILL);
                }
                self.phase = Phase::Stopping { index, kill_at: now + GRACE };
            }
            return false;
        }
        if index + 1 == self.children.len() {
            return true;
        }
        self.stop(index + 1, now);
        self.stopped(now)
    }

    fn kill(&mut self) {
        self.children.iter_mut().for_each(Child::kill);
        self.upgrades.kill();
    }

    fn write_addresses(&self) {
        let addresses = serde_json::to_vec(&self.addresses).expect("addresses are strings by name");
        if let Err(error) = folders::replace(&self.files.addresses, &addresses, Readers::All) {
            tracing::warn!("can't write {}: {error}", self.files.addresses.display());
        }
    }

    fn write_processes(&self) {
        let [dataplane, admin] = self.children.each_ref().map(Child::pid);
        let replaced = self.upgrades.replaced.iter().filter_map(|old| old.child.pid()).collect();
        let upgrade = self.upgrades.last.clone();
        let processes = Processes { supervisor: process::id(), dataplane, admin, replaced, upgrade };
        let text = serde_json::to_vec(&processes).expect("numbers by name");
        if let Err(error) = folders::replace(&self.files.processes, &text, Readers::All) {
            tracing::warn!("can't write {}: {error}", self.files.processes.display());
        }
    }
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Starting | Self::Serving => None,
            Self::Stopping { kill_at, .. } => Some(kill_at),
        }
    }
}

fn cannot_start(title: &str, status: ExitStatus, said: &str) -> Failure {
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Failure::new(code.unwrap_or(crate::failure::GENERAL), format!("the {title} can't start, {status}{said}"))
}

/// What the supervisor keeps in `global.runtime_dir` while it runs.
struct Files {
    folder: PathBuf,
    config: PathBuf,
    /// The same of a data plane that is to take over.
    next_config: PathBuf,
    addresses: PathBuf,
    processes: PathBuf,
    /// Held locked, so that no other supervisor uses the folder.
    _lock: File,
}

impl Files {
    fn take(global: &Global) -> Result<Self, Failure> {
        let folder = global.runtime_dir.clone();
        let path = folder.join("lock");
        // The folder may be the children's user's: what a link there leads to is not opened.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(&path);
        let lock = lock.map_err(Failure::doing(format_args!("can't open {}", path.display())))?;
        let locked = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|error| {
            let error = io::Error::from(error);
            if error.kind() == io::ErrorKind::WouldBlock {
                Failure::general(format!(
                    "another Steadfast runs with global.runtime_dir = {}; give each its own state_dir and runtime_dir",
                    folder.display()
                ))
            } else {
                Failure::general(format!("can't lock {}: {error}", path.display()))
            }
        })?;
        let [config, next_config, addresses] =
            ["config.toml", "config-next.toml", "addresses.json"].map(|name| folder.join(name));
        let files = Self { folder, config, next_config, addresses, processes: global.processes_path(), _lock: lock };
        // What one that was killed left behind would be taken for ours.
        files.remove();
        Ok(files)
    }

    fn remove(&self) {
        for file in [&self.config, &self.next_config, &self.addresses, &self.processes] {
            drop(std::fs::remove_file(file));
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove();
    }
}
