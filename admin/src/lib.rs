//! The admin process: REST, health checks, the store, metrics, and the server of the control channel.

mod advice;
mod call;
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

use control::{Problem, config::Config};
use listen::Listener;
use rest::{
    App,
    guard::{Guard, Token},
};
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
    let Options { config, load, listener, version, upgrade, ready } = options;
    let mut stop = Signals::new()?;
    let token = config.admin.token_file.as_deref().map(Token::load).transpose()?;
    let listener = match listener {
        Some(socket) => Listener::take(socket, token.is_some())?,
        None => Listener::bind(&config.admin.listen, token.is_some()).await?,
    };
    let supervisor = Supervisor::new(upgrade, config.global.processes_path());
    let control_socket = config.global.control_socket();
    let control = control_server::bind(&control_socket).await?;
    let state = tokio::task::block_in_place(|| State::start(config))?;
    tracing::info!(address = listener.name(), control = %control_socket.display(), "the admin process serves");
    let guard = Guard::new(token, listener.is_loopback());
    let app = App::new(Arc::clone(&state), guard, Arc::from(load), supervisor, version);
    let router = rest::router(Arc::clone(&app));
    if let Some(etcd) = &state.etcd {
        tokio::spawn(etcd::run(Arc::clone(&state), Arc::clone(etcd)));
        etcd.first().await;
    }
    let announced =
        state.etcd.clone().map(|etcd| tokio::spawn(etcd::nodes::keep_announced(Arc::clone(&state), etcd, version)));
    tokio::spawn(health::run(Arc::clone(&state)));
    tokio::spawn(names::run(Arc::clone(&state)));
    tokio::spawn(Arc::clone(&state).keep_reserving());
    tokio::spawn(Arc::clone(&state).keep_deadlines());
    tokio::spawn(Arc::clone(&state).keep_rebalancing());
    tokio::spawn(Arc::clone(&state).keep_releases());
    let control = tokio::spawn(control_server::serve(Arc::clone(&state), control));
    let http = tokio::spawn({
        let state = Arc::clone(&state);
        async move { serve::serve(listener, router, &state).await }
    });
    ready();
    while let Signal::Reload = stop.next().await {
        tokio::spawn(reload(Arc::clone(&app)));
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
    Stop,
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::System);
        // Meant for the supervisor or the data plane: whoever signals all by name must not end this one.
        drop((on(SignalKind::user_defined1())?, on(SignalKind::user_defined2())?));
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
            hup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
        }
    }

    async fn until_stop(&mut self) {
        while matches!(self.next().await, Signal::Reload) {}
    }
}
