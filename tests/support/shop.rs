use super::eventually;
use super::process::{Running, steadfast};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The demo's backend: it keeps sessions in its own memory, unless it shares them, and says its name in every answer.
#[derive(Debug)]
pub struct Shop {
    pub name: String,
    pub address: String,
    pub process: Running,
}

impl Shop {
    #[track_caller]
    pub fn start(name: &str) -> Self {
        Self::start_at(name, "0")
    }

    /// On a given port, as that of one which has ended.
    #[track_caller]
    pub fn start_at(name: &str, port: &str) -> Self {
        Self::run(name, steadfast(["demo-backend", "--name", name, "--port", port]))
    }

    /// One that keeps its sessions in a folder, together with all others that do.
    #[track_caller]
    pub fn sharing(name: &str, folder: &Path) -> Self {
        let mut command = steadfast(["demo-backend", "--name", name]);
        command.arg("--carts").arg(folder);
        Self::run(name, command)
    }

    #[track_caller]
    fn run(name: &str, mut command: Command) -> Self {
        // It ends with its standard input, so that it can't outlive the test.
        command.stdin(Stdio::piped());
        let process = Running::start(command);
        let address =
            eventually("the backend says where it listens", || process.stdout().lines().next().map(str::to_owned));
        Self { name: name.to_owned(), address, process }
    }
}
