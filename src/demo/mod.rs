//! The whole product on one machine, to be tried out: three backends, the supervisor with its two children, one folder.

pub(crate) mod backend;
mod carts;
mod guide;

use crate::{cli, failure::Failure, log, supervisor};
use guide::Guide;
use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

/// Runs until Ctrl-C, and leaves nothing behind.
pub(crate) fn run(arguments: &cli::Demo) -> Result<(), Failure> {
    let options = arguments.log.options("warn");
    log::start("supervisor", &options);
    let folder = Folder::make().map_err(Failure::doing("can't make a folder for the demo"))?;
    let carts = arguments.shared_carts.then(|| folder.0.join("carts"));
    let start = |number| Backend::start(format!("cart-{number}"), carts.as_deref());
    let backends = (1..=4).map(start).collect::<io::Result<Vec<_>>>();
    let backends = backends.map_err(Failure::doing("can't start the demo's backends"))?;
    // The last one is for the user to add.
    let (spare, members) = backends.split_last().expect("four were started");
    let (file, command) = (folder.0.join("steadfast.toml"), env::current_exe()?);
    fs::write(&file, configuration(arguments, &folder.0, members))?;
    supervisor::run(&file, &options, |addresses| {
        let (proxy, admin) = (addresses.listeners["web"].as_str(), addresses.admin.as_str());
        let shared = arguments.shared_carts;
        let guide = Guide { proxy, admin, members, spare, file: &file, command: &command, shared };
        // The demo runs on where nobody reads along.
        drop(write!(io::stdout(), "{guide}"));
    })
}

fn configuration(arguments: &cli::Demo, folder: &Path, members: &[Backend]) -> String {
    let (state, runtime) = (folder.join("state"), folder.join("run"));
    let mut text = format!(
        r#"[global]
state_dir = {state:?}
runtime_dir = {runtime:?}
drain_timeout = "5s"

[admin]
listen = "127.0.0.1:{}"

[[listener]]
name = "web"
bind = "127.0.0.1:{}"
pool = "shop"

[[pool]]
name = "shop"

[pool.affinity]
mode = "cookie"

[pool.health]
check = "http"
path = "/health"
interval = "1s"
"#,
        arguments.admin_port, arguments.port
    );
    for Backend { name, address, .. } in members {
        write!(text, "\n[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n").expect("a String takes all");
    }
    text
}

/// A folder that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("steadfast-demo-{}", process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("can't remove {}: {error}", self.0.display());
        }
    }
}

/// A backend that runs; it ends with its value.
struct Backend {
    name: String,
    address: String,
    process: process::Child,
}

impl Backend {
    fn start(name: String, carts: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["demo-backend", "--name", &name]);
        if let Some(carts) = carts {
            command.arg("--carts").arg(carts);
        }
        // It ends when its standard input does, however this process dies; and Ctrl-C leaves it to finish what it serves.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut backend = Self { name, address: String::new(), process: command.spawn()? };
        let output = backend.process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut backend.address)?;
        backend.address.truncate(backend.address.trim_end().len());
        if backend.address.is_empty() {
            return Err(io::Error::other(format!("{} did not say where it listens", backend.name)));
        }
        Ok(backend)
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Both fail only where the user has killed it already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
