//! What can be typed.

use crate::{
    ctl::args::Ctl,
    import::Import,
    log::{LogFormat, LogOptions},
};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// A load balancer for sites whose users need sticky sessions.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong arguments, 64 wrong configuration, 69 io_uring unavailable.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole product on this machine: three backends with a shopping cart, the data plane and the admin process.
    Demo(Demo),
    /// Run the supervisor: it binds the listeners, starts the data plane and the admin process, restarts what dies.
    ///
    /// SIGTERM or SIGINT drains for up to global.drain_timeout, a second one ends at once; SIGHUP reloads the file;
    /// SIGUSR1 opens the access log and the audit log anew; SIGUSR2 has another data plane take over, of the program that is installed.
    Run(Run),
    /// Tell every mistake of a configuration at once, each with its line and what would be right.
    Check(Check),
    /// Turn another balancer's configuration into one of ours, and tell line by line what does not map.
    ///
    /// Cookies by which it made sessions stick are adopted, so that nobody is logged out at the cut-over.
    Import(Import),
    /// Run the data plane alone. `run` starts it; use this for units or containers of its own.
    Dataplane(Role),
    /// Run the admin process alone. `run` starts it; use this for units or containers of its own.
    Admin(Role),
    /// Ask and command a running Steadfast over its REST API.
    Ctl(Box<Ctl>),
    /// Print a completion script for a shell.
    Completions {
        /// The shell to complete in.
        shell: Shell,
    },
    /// Write the manual pages, one for each command, into a folder.
    Man {
        /// The folder; it is made where it is not there.
        folder: PathBuf,
    },
    #[command(hide = true)]
    DemoBackend(DemoBackend),
}

#[derive(Args, Debug)]
pub(crate) struct ConfigFile {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Judge the file alone, and not whether this machine and user can run it.
    #[arg(long)]
    pub(crate) file_only: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Role {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Started by `run`: what ends this process is told to it and not to standard error.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The port of the proxy on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub(crate) port: u16,
    /// The port of the admin API on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub(crate) admin_port: u16,
    /// The backends keep sessions and carts in a store that they share: they are stateless, and a release finds that out.
    #[arg(long)]
    pub(crate) shared_carts: bool,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Args, Debug)]
pub(crate) struct DemoBackend {
    /// The name that it shows in its answers.
    #[arg(long)]
    pub(crate) name: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// The folder with the sessions that the backends share; each has its own in memory without it.
    #[arg(long)]
    pub(crate) carts: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Log {
    /// The form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// The least that is logged; RUST_LOG overrides it, also by module. [default: info, in the demo warn]
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(crate) log_level: Option<String>,
}

impl Log {
    pub(crate) fn options(&self, level: &str) -> LogOptions {
        LogOptions { format: self.log_format, level: self.log_level.clone().unwrap_or_else(|| level.to_owned()) }
    }
}
