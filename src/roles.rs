//! The two processes that do the work, started by the supervisor or by themselves.

use crate::{
    allocator, cli,
    config::{self, Purpose},
    failure::{self, Failure},
    folders, log, notify,
    sockets::{self, Wanted},
};

use control::{config::Config, status::Sandbox};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn dataplane(arguments: &cli::Role) -> Result<(), Failure> {
    let config = begin("dataplane", arguments)?;
    let sockets = sockets::acquire(&config, Wanted::Listeners)?;
    more_descriptors();
    let sandbox = enter(sandbox::Role::Dataplane, &config);
    let options = dataplane::Options {
        config,
        sockets: sockets.listeners,
        version: VERSION,
        sandbox,
        ready: Box::new(ready),
        give_back: allocator::give_back,
    };
    dataplane::run(options).map_err(|error| {
        let code = if let dataplane::Error::Ring(_) = error { failure::UNAVAILABLE } else { failure::GENERAL };
        Failure::new(code, error.to_string())
    })
}

pub(crate) fn admin(arguments: &cli::Role) -> Result<(), Failure> {
    let config = begin("admin", arguments)?;
    let sockets = sockets::acquire(&config, Wanted::Admin)?;
    let file = arguments.file.config.clone();
    folders::make_for_keys(&config.global)?;
    let sandbox = enter(sandbox::Role::Admin, &config);
    let load = move || {
        let loaded = config::load(&file, Purpose::Reload).map_err(config::Refused::into_problems)?;
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(loaded.config)
    };
    let options = admin::Options {
        config,
        load: Box::new(load),
        listener: sockets.admin,
        version: VERSION,
        sandbox,
        upgrade: arguments.supervised.then(|| Box::new(|| notify::say(notify::UPGRADE)) as Box<admin::Ask>),
        ready: Box::new(ready),
    };
    admin::run(options).map_err(|error| Failure::general(error.to_string()))
}

fn ready() {
    notify::say("READY=1");
    tracing::info!("ready");
}

/// What of the sandbox holds from now on. Less of it than there could be keeps nobody from serving.
fn enter(role: sandbox::Role, config: &Config) -> Sandbox {
    if !config.global.sandbox {
        tracing::warn!("global.sandbox is false: this process may do all that its user may");
        // Also where no supervisor has seen to it.
        let no_new_privileges = sandbox::no_new_privileges().is_ok();
        return Sandbox { no_new_privileges, ..Sandbox::default() };
    }
    let (holds, missing) = sandbox::enter(role, &folders::written_by(role, config));
    for missing in missing {
        tracing::warn!("a part of the sandbox can't be had: {missing}");
    }
    let Sandbox { no_new_privileges, seccomp, landlock } = holds;
    tracing::debug!(no_new_privileges, seccomp, landlock, "the sandbox holds");
    holds
}

fn begin(role: &'static str, arguments: &cli::Role) -> Result<Config, Failure> {
    log::start(role, &arguments.log.options("info"));
    report_panics();
    let loaded = config::load(&arguments.file.config, Purpose::Serve)?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    folders::make(&loaded.config.global, None)?;
    Ok(loaded.config)
}

/// A panic ends the process; the supervisor then says in its line what the panic said.
fn report_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        notify::say_status(&panic.to_string());
        print(panic);
        // A worker that is gone would leave its share of the clients waiting; a process that is gone is started again.
        std::process::abort();
    }));
}

/// A connection costs a descriptor, its way to the backend another: take as many as the machine lets us.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("can't raise the limit of open files: {error}");
    }
}
