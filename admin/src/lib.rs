//! The admin process: REST, health checks, the store, metrics, and the server of the control channel.

mod advice;
mod audit;
mod call;
mod caller;
mod clock;
mod control_server;
mod dashboard;
mod error;
mod etcd;
mod events;
mod gather;
mod health;
mod history;
mod keys;
mod listen;
mod names;
mod off_the_runtime;
mod rest;
mod serve;
#[cfg(feature = "simulation")]
pub mod simulation;
mod state;
mod store;
mod supervisor;
#[cfg(test)]
mod testing;

pub use error::Error;
pub use supervisor::Ask;

use control::{Problem, config::Config, status::Sandbox};
use listen::Listener;
use rest::{
    App,
    guard::{Guard, Token},
};
use serve::tls::Tls;
use state::State;
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};
use supervisor::Supervisor;
use tokio::signal::unix::{SignalKind, signal};

/// Reads the configuration file again: what it says, or all that is wrong with it.
pub type Load = dyn Fn() -> Result<Config, Vec<Problem>> + Send + Sync;

/// What [`run`] needs.
pub struct Options {
    /// Checked already.
    pub config: Config,
    pub load: Box<Load>,
    /// A bound, listening TCP or Unix socket; `config.admin.listen` is bound without one.
    pub listener: Option<OwnedFd>,
    pub version: &'static str,
    /// What it has taken away from itself.
    pub sandbox: Sandbox,
    /// Asks the supervisor for another data plane, where there is one.
    pub upgrade: Option<Box<Ask>>,
    /// Called once all is bound and the state is there.
    pub ready: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("listener", &self.listener)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// REST and the scheduler of checks do little; a second thread keeps one long answer from holding up the other.
const THREADS: usize = 2;

/// Runs the admin process until SIGTERM or SIGINT: requests finish then, and a second signal ends them. SIGHUP reloads.
///
/// # Errors
/// What keeps it from starting: an address, the store, the keys, or the token file.
pub fn run(options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(Error::System)?;
    let ended = runtime.block_on(Box::pin(serve(options)));
    // A look-up or a write that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

async fn serve(options: Options) -> Result<(), Error> {
    let Options { config, load, listener, version, sandbox, upgrade, ready } = options;
    let mut stop = Signals::new()?;
    let token = config.admin.token_file.as_deref().map(Token::load).transpose()?;
    let listener = match listener {
        Some(socket) => Listener::take(socket, token.is_some())?,
        None => Listener::bind(&config.admin.listen, token.is_some()).await?,
    };
    let tls = config.admin.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
    let supervisor = Supervisor::new(upgrade, config.global.processes_path());
    let control_socket = config.global.control_socket();
    let control = control_server::bind(&control_socket).await?;
    let state = tokio::task::block_in_place(|| State::start(config))?;
    tracing::info!(address = listener.name(), control = %control_socket.display(), "the admin process serves");
    let guard = Guard::new(token, listener.is_loopback());
    let app = App::new(Arc::clone(&state), guard, Arc::from(load), supervisor, (version, sandbox));
    let router = rest::router(Arc::clone(&app));
    if let Some(etcd) = &state.etcd {
        tokio::spawn(audit::itself("etcd", etcd::run(Arc::clone(&state), Arc::clone(etcd))));
        etcd.first().await;
    }
    let announced =
        state.etcd.clone().map(|etcd| tokio::spawn(etcd::nodes::keep_announced(Arc::clone(&state), etcd, version)));
    tokio::spawn(audit::itself("checks", health::run(Arc::clone(&state))));
    tokio::spawn(audit::itself("names", names::run(Arc::clone(&state))));
    tokio::spawn(Arc::clone(&state).keep_reserving());
    tokio::spawn(audit::itself("deadline", Arc::clone(&state).keep_deadlines()));
    tokio::spawn(audit::itself("rebalance", Arc::clone(&state).keep_rebalancing()));
    tokio::spawn(audit::itself("release", Arc::clone(&state).keep_releases()));
    let control = tokio::spawn(control_server::serve(Arc::clone(&state), control));
    let http = tokio::spawn({
        let state = Arc::clone(&state);
        async move { serve::serve(listener, tls, router, &state).await }
    });
    ready();
    loop {
        match stop.next().await {
            Signal::Reload => drop(tokio::spawn(audit::itself("SIGHUP", reload(Arc::clone(&app))))),
            Signal::Reopen => state.audit.reopen(),
            Signal::Stop => break,
        }
    }
    state.stopping.send_replace(true);
    let finished = async {
        let left = async { drop(futures_util::future::OptionFuture::from(announced).await) };
        let (http, control, ()) = tokio::join!(http, control, left);
        drop((http, control));
    };
    tokio::select! {
        () = finished => {}
        () = stop.until_stop() => {}
    }
    drop(std::fs::remove_file(control_socket));
    Ok(())
}

async fn reload(app: Arc<App>) {
    match app.reload().await {
        Ok((receipt, warnings)) => {
            let generation = receipt.generation;
            tracing::info!(generation, applied = receipt.applied, warning = receipt.warning, "reloaded");
            for warning in warnings {
                tracing::warn!("{warning}");
            }
        }
        Err(problem) => tracing::error!("the reload changed nothing: {problem}"),
    }
}

enum Signal {
    Reload,
    /// Logs may have been moved away.
    Reopen,
    Stop,
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    usr1: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::System);
        // Meant for the supervisor: whoever signals all by name must not end this one.
        drop(on(SignalKind::user_defined2())?);
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
            hup: on(SignalKind::hangup())?,
            usr1: on(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
            _ = self.usr1.recv() => Signal::Reopen,
        }
    }

    async fn until_stop(&mut self) {
        while !matches!(self.next().await, Signal::Stop) {}
    }
}
