use super::{PATIENCE, eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// The program under test: the one that was built with the tests, or that which `STEADFAST_BINARY` names, as a release.
fn binary() -> OsString {
    std::env::var_os("STEADFAST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_steadfast").into())
}

/// The command under test, with nothing of this process's environment that would change what it does.
pub fn steadfast<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    for name in [
        "RUST_LOG",
        "STEADFAST_ADMIN",
        "STEADFAST_NODES",
        "STEADFAST_TOKEN_FILE",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
    ] {
        command.env_remove(name);
    }
    command
}

/// How a command ended by itself.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs it to its end.
    #[track_caller]
    pub fn of(command: Command) -> Self {
        Self::within(PATIENCE, command)
    }

    /// The same, for one that may take longer than others.
    #[track_caller]
    pub fn within(patience: Duration, command: Command) -> Self {
        let mut running = Running::start(command);
        let status = running.ended_within(patience);
        Self { code: status.code(), stdout: running.stdout(), stderr: running.stderr() }
    }
}

/// A process that runs; it is killed with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    status: Option<ExitStatus>,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Collected::from(child.stdout.take().unwrap());
        let stderr = Collected::from(child.stderr.take().unwrap());
        Self { child, status: None, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn has_ended(&mut self) -> bool {
        self.status = self.status.or_else(|| self.child.try_wait().unwrap());
        self.status.is_some()
    }

    /// Waits for its end and for all that it wrote. What it started may hold its standard error open for a while longer.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE)
    }

    /// The same, for one that may take longer than others.
    #[track_caller]
    pub fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        within(patience, "the command ends", || self.has_ended().then_some(()));
        eventually("its output ends", || (self.stdout.has_ended() && self.stderr.has_ended()).then_some(()));
        self.status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if thread::panicking() {
            eprintln!("--- {} wrote\n{}{}---", self.pid(), self.stdout(), self.stderr());
        }
    }
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

pub fn send_signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// All that comes from a pipe.
#[derive(Debug)]
struct Collected {
    text: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Collected {
    fn from(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                collected.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn has_ended(&self) -> bool {
        self.reader.is_finished()
    }
}
