//! One child: how it is started, what it says of itself, how it ended.

use super::backoff::Backoff;
use crate::{
    log::LogOptions,
    notify::{self, Ear, Word},
    sockets::FIRST_FD,
    user::Account,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{self, Command, ExitStatus, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dataplane,
    Admin,
}

impl Role {
    /// The subcommand.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dataplane => "dataplane",
            Self::Admin => "admin",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Dataplane => "data plane",
            Self::Admin => "admin process",
        }
    }
}

/// What it takes to start a child, again and again.
pub(super) struct Launch {
    pub(super) role: Role,
    pub(super) program: PathBuf,
    pub(super) config: PathBuf,
    pub(super) sockets: Vec<(String, OwnedFd)>,
    /// Whom it runs as, where that is not this process's user.
    pub(super) account: Option<Rc<Account>>,
    pub(super) log: LogOptions,
}

pub(super) struct Child {
    launch: Launch,
    ear: Ear,
    life: Life,
    backoff: Backoff,
    /// Whether it has ever been ready: if not, starting it again would not help.
    was_ready: bool,
    /// The last that it said of itself.
    said: Option<String>,
    /// It has said that another data plane is to take over.
    wishes: bool,
    /// What was installed at the program's path as it started; absent where that could not be told.
    image: Option<Image>,
    /// It was told to end, to be started anew.
    renews: bool,
}

/// Which file a program is: its device, inode, and time of change in nanoseconds.
type Image = (u64, u64, i128);

enum Life {
    Running {
        process: process::Child,
        since: Instant,
    },
    Pausing {
        until: Instant,
    },
    /// Not to be started again once it has ended.
    Ending {
        process: Option<process::Child>,
    },
}

#[derive(Debug)]
pub(super) enum Happening {
    Ready,
    /// Another data plane is to take over.
    Upgrade,
    Started,
    /// `restart` is the pause until it is started again; absent where it won't be.
    Ended {
        status: ExitStatus,
        said: Option<String>,
        restart: Option<Duration>,
    },
}

impl Child {
    pub(super) fn start(launch: Launch, ear: Ear) -> io::Result<Self> {
        let image = launch.image();
        let life = Life::Running { process: launch.spawn(&ear)?, since: Instant::now() };
        let (backoff, was_ready, said, wishes, renews) = (Backoff::default(), false, None, false, false);
        Ok(Self { launch, ear, life, backoff, was_ready, said, wishes, image, renews })
    }

    /// What it was started with.
    pub(super) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// From what file of configuration it is started again.
    pub(super) fn set_config(&mut self, config: PathBuf) {
        self.launch.config = config;
    }

    pub(super) fn role(&self) -> Role {
        self.launch.role
    }

    pub(super) fn was_ready(&self) -> bool {
        self.was_ready
    }

    pub(super) fn ear(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Running { process, .. } | Life::Ending { process: Some(process) } => Some(process.id()),
            Life::Pausing { .. } | Life::Ending { process: None } => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// When to look at it even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Pausing { until } => Some(until),
            Life::Running { .. } | Life::Ending { .. } => None,
        }
    }

    /// One thing that has happened; to be called until nothing has.
    pub(super) fn look(&mut self, now: Instant) -> io::Result<Option<Happening>> {
        // What it said before it ended is heard before its end is seen.
        let ended = match &mut self.life {
            Life::Running { process, .. } | Life::Ending { process: Some(process) } => process.try_wait()?,
            Life::Pausing { .. } | Life::Ending { process: None } => None,
        };
        let mut ready = false;
        for word in self.ear.hear() {
            match word {
                Word::Ready => ready = true,
                Word::Status(text) => self.said = Some(text),
                Word::Upgrade => self.wishes = true,
            }
        }
        if let Some(status) = ended {
            self.was_ready |= ready;
            return Ok(Some(self.ended(status, now)));
        }
        if ready {
            self.was_ready = true;
            return Ok(Some(Happening::Ready));
        }
        if std::mem::take(&mut self.wishes) {
            return Ok(Some(Happening::Upgrade));
        }
        match self.life {
            Life::Pausing { until } if until <= now => Ok(self.start_again(now)),
            Life::Pausing { .. } | Life::Running { .. } | Life::Ending { .. } => Ok(None),
        }
    }

    fn ended(&mut self, status: ExitStatus, now: Instant) -> Happening {
        let restart = match &self.life {
            Life::Running { .. } if std::mem::take(&mut self.renews) => Some(Duration::ZERO),
            Life::Running { since, .. } if self.was_ready => Some(self.backoff.next(now - *since)),
            Life::Running { .. } | Life::Pausing { .. } | Life::Ending { .. } => None,
        };
        self.life = match restart {
            Some(pause) => Life::Pausing { until: now + pause },
            None => Life::Ending { process: None },
        };
        Happening::Ended { status, said: self.said.take(), restart }
    }

    /// Has it end, and starts it again at once, where another program is installed than it runs; whether that is so.
    pub(super) fn renew(&mut self) -> bool {
        self.renews = self.is_running() && self.launch.image() != self.image;
        if self.renews {
            self.signal(Signal::TERM);
        }
        self.renews
    }

    fn start_again(&mut self, now: Instant) -> Option<Happening> {
        self.image = self.launch.image();
        match self.launch.spawn(&self.ear) {
            Ok(process) => {
                self.life = Life::Running { process, since: now };
                Some(Happening::Started)
            }
            Err(error) => {
                // As at want of memory or processes, which pass.
                let pause = self.backoff.next(Duration::ZERO);
                tracing::error!("can't start the {}: {error}; trying again in {pause:?}", self.role().title());
                self.life = Life::Pausing { until: now + pause };
                None
            }
        }
    }

    /// From here on its end is no reason to start it again, and once it stops listening nobody does: who comes then is
    /// refused rather than left to wait.
    pub(super) fn let_end(&mut self) {
        self.launch.sockets.clear();
        let life = std::mem::replace(&mut self.life, Life::Ending { process: None });
        self.life = match life {
            Life::Running { process, .. } => Life::Ending { process: Some(process) },
            Life::Pausing { .. } => Life::Ending { process: None },
            ending @ Life::Ending { .. } => ending,
        };
    }

    /// Does nothing where it does not run.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::warn!("can't send {signal:?} to the {}: {error}", self.role().title());
        }
    }

    /// Ends it at once and waits for that.
    pub(super) fn kill(&mut self) {
        self.let_end();
        self.signal(Signal::KILL);
        if let Life::Ending { process: Some(process) } = &mut self.life {
            drop(process.wait());
        }
        self.life = Life::Ending { process: None };
    }
}

impl Launch {
    /// The same with these sockets, and by another file of configuration.
    pub(super) fn with(&self, sockets: Vec<(String, OwnedFd)>, config: PathBuf) -> Self {
        let Self { role, program, account, log, .. } = self;
        let (program, account, log) = (program.clone(), account.clone(), log.clone());
        Self { role: *role, program, config, sockets, account, log }
    }

    fn image(&self) -> Option<Image> {
        let of = rustix::fs::stat(&self.program).ok()?;
        Some((of.st_dev, of.st_ino, i128::from(of.st_mtime) * 1_000_000_000 + i128::from(of.st_mtime_nsec)))
    }

    fn spawn(&self, ear: &Ear) -> io::Result<process::Child> {
        let first_free = FIRST_FD + RawFd::try_from(self.sockets.len()).map_err(io::Error::other)?;
        // Above the numbers that the child expects its sockets at, so that moving one there can't overwrite the next …
        let moved: Vec<OwnedFd> = self
            .sockets
            .iter()
            .map(|(_, socket)| rustix::io::fcntl_dupfd_cloexec(socket, first_free))
            .collect::<Result<_, _>>()?;
        // … and with those numbers in use, so that nothing that starting a process opens can get one of them.
        let mut fill = vec![File::open("/dev/null")?];
        while fill.last().is_some_and(|last| last.as_raw_fd() < first_free) {
            fill.push(File::open("/dev/null")?);
        }
        let names: Vec<_> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new(&self.program);
        command.args([self.role.name(), "--supervised", "--config"]).arg(&self.config);
        command.args(["--log-format", self.log.format.name(), "--log-level", &self.log.level]).stdin(Stdio::null());
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.env_remove("LISTEN_PID").env(notify::VARIABLE, ear.path());
        // A group of its own: Ctrl-C at a terminal is for the supervisor alone, which then drains.
        command.process_group(0);
        if let Some(account) = &self.account {
            // As root, std drops the supplementary groups with these.
            command.uid(account.uid).gid(account.gid).env("USER", &account.name).env_remove("HOME");
        }
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only system calls are made, nothing is allocated, and descriptors from FIRST_FD
        // on up to `first_free` are the child's to overwrite: `fill` and the parent's sockets stand there.
        unsafe {
            command.pre_exec(move || {
                for (at, socket) in (FIRST_FD..).zip(&moved) {
                    if libc::dup2(socket.as_raw_fd(), at) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                rustix::thread::set_no_new_privs(true)?;
                // Without a supervisor it drains and ends: an orphan would hold the ports against the next start.
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        command.spawn()
    }
}
