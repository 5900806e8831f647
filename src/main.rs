//! The `steadfast` command.

mod allocator;
mod cli;
mod config;
mod ctl;
mod demo;
mod failure;
mod folders;
mod import;
mod log;
mod notify;
mod output;
mod roles;
mod sockets;
mod supervisor;
mod user;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use config::Purpose;
use failure::Failure;
use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
};

// A sanitizer has to see each allocation: `tests/sanitized`.
#[cfg(not(system_allocator))]
#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let supervised = matches!(&cli.command, Command::Dataplane(role) | Command::Admin(role) if role.supervised);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let told = supervised && notify::say_status(&failure.to_string());
            if !told {
                // Nobody is left to tell that standard error is gone.
                drop(writeln!(io::stderr(), "{failure}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DemoBackend(arguments) => demo::backend::run(&arguments),
        Command::Run(arguments) => {
            let log = arguments.log.options("info");
            log::start("supervisor", &log);
            supervisor::run(&arguments.file.config, &log, |_| {})
        }
        Command::Check(arguments) => check(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Dataplane(arguments) => roles::dataplane(&arguments),
        Command::Admin(arguments) => roles::admin(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "steadfast", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Command::Man { folder } => {
            let written = fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(Cli::command(), &folder));
            written.map_err(Failure::doing(format_args!("can't write the manual pages into {}", folder.display())))
        }
    }
}

fn check(arguments: &cli::Check) -> Result<(), Failure> {
    let purpose = if arguments.file_only { Purpose::FileOnly } else { Purpose::Run };
    let file = &arguments.file.config;
    let loaded = config::load(file, purpose)?;
    for warning in &loaded.warnings {
        writeln!(io::stderr(), "{}: warning: {warning}", file.display())?;
    }
    let config = &loaded.config;
    let backends = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let count = |count: usize, noun| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (listeners, pools) = (count(config.listeners.len(), "listener"), count(config.pools.len(), "pool"));
    output::print(&format!("{} is valid: {listeners}, {pools}, {}\n", file.display(), count(backends, "backend")))
}
