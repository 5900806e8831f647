//! The owner of the desired state: every write goes through here, one after the other. It is checked, planned, stored,
//! applied, and sent to the data planes; a write that is refused has changed nothing.

pub(crate) mod drain_plan;
pub(crate) mod drains;
pub(crate) mod file;
pub(crate) mod keyring;
pub(crate) mod plan;
pub(crate) mod precondition;
pub(crate) mod rebalance;
mod rebalancing;
pub(crate) mod refusal;
pub(crate) mod release_plan;
pub(crate) mod releases;
pub(crate) mod shared;
#[cfg(test)]
mod tests;
mod writer;

use crate::{
    audit::{self, Audit},
    clock,
    control_server::peers::Peer,
    error::Error,
    etcd::{self, Etcd},
    events::{Events, Kind},
    history::PoolHistory,
    keys,
    names::schedule::{Failing, Owner},
    store::Store,
    supervisor::Supervisor,
};
use control::{
    config::{Config, Source},
    desired::{Change, Desired, Snapshot},
    status::Stats,
};
use drains::Drains;
use plan::{Current, Plan};
use refusal::Refusal;
use serde_json::json;
use shared::Shared;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use writer::Writer;

/// How long a write waits for the data planes.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
const DEADLINES_EVERY: Duration = Duration::from_secs(30);
/// How often a store that failed is tried again.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// Shared by everything in this process.
#[derive(Debug)]
pub(crate) struct State {
    writer: tokio::sync::Mutex<Writer>,
    shared: Mutex<Shared>,
    running: Config,
    keys_path: PathBuf,
    /// Where the desired state lives, if that is not this node.
    pub(crate) etcd: Option<Arc<Etcd>>,
    /// Held by whoever reads the keys file in order to act on it.
    files: tokio::sync::Mutex<()>,
    pub(crate) events: Events,
    pub(crate) audit: Arc<Audit>,
    pub(crate) clock: clock::Monotonic,
    /// Rung when a data plane came, went, applied or reported.
    pub(crate) planes: watch::Sender<()>,
    /// Rung when something may be due earlier than it was: a check, the end of a mark.
    pub(crate) due: Notify,
    /// Rung when a name may be to be looked up earlier than it was.
    pub(crate) names_due: Notify,
    /// Rung when the drains changed.
    pub(crate) drains: Notify,
    /// Rung when a data plane has reported while there are releases.
    pub(crate) releases: Notify,
    reserve: Notify,
    pub(crate) stopping: watch::Sender<bool>,
}

/// A write that was carried out, or had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The generation that has all of it.
    pub(crate) generation: u64,
    pub(crate) changed: bool,
    pub(crate) created: bool,
}

/// Whether the workers act on a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// All of them, so many.
    By(u64),
    /// Not all, and why.
    Not(String),
}

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) peers: Vec<Peer>,
    /// What data planes had counted that have gone.
    pub(crate) past: Vec<Arc<Stats>>,
    /// Data planes that have begun to serve since this process started.
    pub(crate) planes_started: u64,
    /// Why a backend's health is what it is, by pool and name, where there is more to say.
    pub(crate) reasons: BTreeMap<(String, String), Arc<str>>,
    /// Every name that is looked up; where that failed the last time, since when (Unix milliseconds) and why.
    pub(crate) names: BTreeMap<Owner, Option<Failing>>,
    pub(crate) drains: Drains,
    /// Responses of the last minute by how long they took, by pool; see [`control::latency`].
    pub(crate) latency: BTreeMap<String, Vec<u64>>,
    pub(crate) store_problem: Option<String>,
    /// Where the desired state lives in etcd, how that is.
    pub(crate) etcd: Option<etcd::View>,
}

impl State {
    /// Rebuilds the desired state from the store, the file and the keys; where etcd is the source, as this node last heard it,
    /// or before it has heard anything as the file has it. Reads and writes files: not for a worker of the runtime.
    ///
    /// # Errors
    /// The store or the keys can't be read or written.
    pub(crate) fn start(config: Config) -> Result<Arc<Self>, Error> {
        let (keys_path, audit_log) = (config.global.keys_path(), config.admin.audit_log.clone());
        let entries = keys::load_or_create(&keys_path)?;
        let store = Store::open(&config.global.store_path())?;
        let stored = store.load()?;
        let clock = clock::Monotonic::start();
        let generation = stored.bound + 1;
        let (pools, releases, noticed) = match config.membership.source {
            Source::Api | Source::Etcd => (stored.pools, stored.releases, Vec::new()),
            Source::File => (BTreeMap::new(), BTreeMap::new(), file::noticed(&config, stored.noticed)),
        };
        let desired = Desired { pools, ..Desired::default() };
        let mut plan = file::plan(&desired, &stored.sections, &config, incarnation(generation));
        plan.changes.extend(noticed);
        let lives = stored.lives.max(stored.bound);
        let etcd = config.membership.etcd.as_ref().map(|etcd| Arc::new(Etcd::new(etcd, &stored.sections, lives)));
        let mut writer = Writer::new(store, &config, stored.sections);
        // What the file says is stored by etcd or not at all.
        let (own, nothing) = (&plan, Plan::default());
        let stored = if etcd.is_none() { own } else { &nothing };
        let mut shared = Shared::new(generation, writer.persist_now(stored, generation)?, clock::unix_millis());
        let restored = desired.pools.into_iter().map(|(name, pool)| Change::PutPool { name, pool: Box::new(pool) });
        let releases =
            releases.into_iter().map(|(pool, release)| Change::PutRelease { pool, release: Box::new(release) });
        let changes = restored.chain(plan.changes).chain(releases).chain([keyring::change(&entries)]).collect();
        shared.publish(changes, false, clock.millis());
        shared.added = keyring::added(&entries);
        Ok(Arc::new(Self {
            writer: tokio::sync::Mutex::new(writer),
            shared: Mutex::new(shared),
            running: config,
            keys_path,
            etcd,
            files: tokio::sync::Mutex::default(),
            audit: Arc::new(Audit::new(audit_log)),
            events: Events::new(clock::unix_millis()),
            clock,
            planes: watch::Sender::new(()),
            due: Notify::new(),
            names_due: Notify::new(),
            drains: Notify::new(),
            releases: Notify::new(),
            reserve: Notify::new(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nothing panics while holding it")
    }

    pub(crate) fn view(&self) -> View {
        let shared = self.lock();
        let now = self.clock.millis();
        let ago = clock::unix_millis().saturating_sub(now);
        let latency = |pool: &String| shared.history.latency(pool, now);
        View {
            names: shared.names.all(ago),
            snapshot: Arc::clone(&shared.snapshot),
            peers: shared.peers.iter().cloned().collect(),
            past: shared.peers.past().stats(),
            planes_started: shared.peers.started(),
            reasons: shared.board.reasons(),
            drains: shared.drains.clone(),
            latency: shared.snapshot.desired.pools.keys().map(|pool| (pool.clone(), latency(pool))).collect(),
            store_problem: shared.store_problem.clone(),
            etcd: self.etcd.as_ref().map(|etcd| etcd.view()),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock().snapshot)
    }

    /// The configuration that this process was started with.
    pub(crate) const fn running(&self) -> &Config {
        &self.running
    }

    /// What this process has followed of a pool.
    pub(crate) fn history(&self, pool: &str) -> PoolHistory {
        self.lock().history.of(pool, self.clock.millis())
    }

    /// Returns once this process is to stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        stopped(self.stopping.subscribe())
    }

    pub(crate) fn token_file(&self) -> Option<PathBuf> {
        self.running.admin.token_file.clone()
    }

    pub(crate) fn source(&self) -> Source {
        self.running.membership.source
    }

    /// Carries out what `plan` wants. Goes on to its end when nobody waits for it any more. Where others write the same
    /// meanwhile, it is planned anew.
    ///
    /// # Errors
    /// What `plan` refuses; that the file is the source, or etcd is away; or that the store failed. Nothing has changed then.
    pub(crate) async fn write<P>(self: &Arc<Self>, plan: P) -> Result<Written, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync + 'static,
    {
        if self.source() == Source::File {
            return Err(Refusal::FileIsSource);
        }
        if let Some(etcd) = &self.etcd {
            etcd.refuse_away()?;
        }
        self.note(plan).await
    }

    /// As [`Self::write`], for what this process finds by itself, whatever the source of membership is.
    ///
    /// # Errors
    /// As [`Self::write`], but for the source.
    pub(crate) async fn note<P>(self: &Arc<Self>, plan: P) -> Result<Written, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync + 'static,
    {
        self.detached(|state| async move { state.carry_through(&plan).await }).await
    }

    /// Has a plan written where the desired state lives, and acts on it.
    async fn carry_through<P>(&self, plan: &P) -> Result<Written, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync,
    {
        if let Some(etcd) = &self.etcd {
            return self.share(etcd, plan).await;
        }
        let mut writer = self.writer.lock().await;
        let snapshot = self.snapshot();
        let (incarnation, now) = (incarnation(snapshot.generation + 1), clock::unix_millis());
        let sections = &writer.sections;
        let plan = plan(&Current { snapshot: &snapshot, sections, incarnation, now, shared: false })?;
        self.store_if_kept(&mut writer, &plan).await?;
        let changed = !plan.changes.is_empty();
        Ok(Written { generation: self.publish(self.lock(), plan.changes), changed, created: plan.created })
    }

    /// Applies a configuration file that was read again, and the keys file with it. Where listeners came, went or moved, another
    /// data plane has to take over for that.
    ///
    /// # Errors
    /// The keys, the store or the other data plane failed. Nothing has changed then.
    pub(crate) async fn reload(
        self: &Arc<Self>,
        mut config: Config,
        supervisor: Arc<Supervisor>,
    ) -> Result<(Written, Vec<String>), Refusal> {
        let warnings = file::waits_for_restart(&self.running, &config);
        config.membership = self.running.membership.clone();
        let written = self
            .detached(|state| async move {
                let _files = state.files.lock().await;
                let path = state.keys_path.clone();
                let entries = off_the_runtime(move || keys::load(&path)).await??;
                let moved = file::moved(&state.snapshot().desired.listeners, &config.listeners);
                if !moved.is_empty() && !supervisor.is_there() {
                    return Err(Refusal::NeedsRestart(moved));
                }
                let plan = |Current { snapshot, sections, incarnation, .. }: &Current<'_>| {
                    let mut plan = file::plan(&snapshot.desired, sections, &config, *incarnation);
                    plan.changes.extend(keyring::news(&snapshot.desired.keys, &entries));
                    Ok(plan)
                };
                if let Some(etcd) = &state.etcd {
                    state.can_share(etcd, &plan).await?;
                }
                if !moved.is_empty() {
                    supervisor.upgrade().await?;
                }
                let written = state.carry_through(&plan).await?;
                state.lock().added = keyring::added(&entries);
                Ok(written)
            })
            .await?;
        let data = json!({ "generation": written.generation, "changed": written.changed, "warnings": warnings });
        self.events.emit(Kind::Reload, &data);
        Ok((written, warnings))
    }

    /// Acts on what was heard from where the desired state lives, and keeps it for a start without that; all there is, where
    /// it is `anew`. `lives` is the highest number that a life may have had.
    pub(crate) async fn act_on(&self, plan: Plan, lives: u64, anew: bool) {
        let mut writer = self.writer.lock().await;
        writer.heard(lives, anew);
        // A store that fails is told, and tried again; what was heard counts all the same.
        drop(self.store_if_kept(&mut writer, &plan).await);
        self.publish(self.lock(), plan.changes);
    }

    /// Stores what of a plan is to be stored.
    async fn store_if_kept(&self, writer: &mut Writer, plan: &Plan) -> Result<(), Error> {
        if !writer.keeps(plan) {
            return Ok(());
        }
        // Whoever keeps the store going goes on trying where this fails.
        self.store(writer, plan).await.inspect_err(|_| self.reserve.notify_one())
    }

    /// Writes to the store, and remembers how that went.
    async fn store(&self, writer: &mut Writer, plan: &Plan) -> Result<(), Error> {
        let snapshot = Arc::clone(&self.lock().snapshot);
        let stored = writer.persist(plan, &snapshot).await;
        let mut shared = self.lock();
        match stored {
            Ok(bound) => {
                shared.bound = shared.bound.max(bound);
                if shared.store_problem.take().is_some() {
                    tracing::info!("the store can be written again");
                }
                Ok(())
            }
            Err(error) => {
                // Once for each outage, however often it is tried.
                if shared.store_problem.replace(error.to_string()).is_none() {
                    tracing::error!("{error}");
                }
                Err(error)
            }
        }
    }

    /// Makes the next generation of `changes`, in memory and on its way to every data plane; none where there are none.
    /// Wakes those who wait for what is due. The generation that has them.
    pub(crate) fn publish(&self, shared: MutexGuard<'_, Shared>, changes: Vec<Change>) -> u64 {
        self.publish_as(shared, changes, false)
    }

    /// As [`Self::publish`], of health alone that somebody commands: whatever else is commanded is kept by what it is.
    pub(crate) fn publish_commanded(&self, shared: MutexGuard<'_, Shared>, changes: Vec<Change>) -> u64 {
        self.publish_as(shared, changes, true)
    }

    fn publish_as(&self, mut shared: MutexGuard<'_, Shared>, changes: Vec<Change>, commanded: bool) -> u64 {
        if !changes.is_empty() {
            let audited = Audit::look(&shared.snapshot, &changes);
            let told = shared.publish(changes, commanded, self.clock.millis());
            audited(&self.audit, shared.snapshot.generation);
            for (kind, data) in told {
                self.events.emit(kind, &data);
            }
        }
        let generation = shared.snapshot.generation;
        let low = shared.bound < generation + writer::BLOCK / 2;
        drop(shared);
        self.due.notify_one();
        self.names_due.notify_one();
        self.drains.notify_one();
        if low {
            self.reserve.notify_one();
        }
        generation
    }

    /// Keeps the store's bound ahead of the generations, which health takes without asking the store; and tries a store
    /// that failed again.
    pub(crate) async fn keep_reserving(self: Arc<Self>) {
        loop {
            let failed = self.lock().store_problem.is_some();
            tokio::select! {
                // Or else chance would say what comes first.
                biased;
                () = self.reserve.notified() => {}
                () = tokio::time::sleep(STORE_RETRY), if failed => {}
            }
            let mut writer = self.writer.lock().await;
            // A failure is remembered, and tried again after a while.
            drop(self.store(&mut writer, &Plan::default()).await);
        }
    }

    /// Ends the drains that are over.
    pub(crate) async fn keep_deadlines(self: Arc<Self>) {
        loop {
            let now = clock::unix_millis();
            let (next, ended) = {
                let shared = self.lock();
                (shared.drains.next_deadline(), shared.drains.ended(now, self.etcd.is_some()))
            };
            if !ended.is_empty() {
                let written = self.note(move |current| Ok(drain_plan::end(current, &ended))).await;
                if let Err(error) = written {
                    if !error.is_told() {
                        tracing::error!(?error, "a drain is over and what it is to end with can't be done");
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                    continue;
                }
            }
            // Looked at again after a while, since the wall clock may be set.
            let pause = next.map_or(DEADLINES_EVERY, |next| Duration::from_millis(next.saturating_sub(now)));
            tokio::select! {
                biased;
                () = self.drains.notified() => {}
                () = tokio::time::sleep(pause.clamp(Duration::from_millis(100), DEADLINES_EVERY)) => {}
            }
        }
    }

    /// Waits until every connected data plane acts on `generation`, for a while.
    pub(crate) async fn applied(&self, generation: u64) -> Applied {
        let mut planes = self.planes.subscribe();
        let deadline = tokio::time::Instant::now() + APPLY_TIMEOUT;
        loop {
            let reason = match applied_by(&self.lock(), generation) {
                Ok(workers) => return Applied::By(workers),
                Err((reason, true)) => return Applied::Not(reason),
                Err((reason, false)) => reason,
            };
            if tokio::time::timeout_at(deadline, planes.changed()).await.is_err() {
                return Applied::Not(reason);
            }
        }
    }

    async fn detached<F, Fut, T>(self: &Arc<Self>, work: F) -> Result<T, Refusal>
    where
        F: FnOnce(Arc<Self>) -> Fut,
        Fut: Future<Output = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
    {
        // Boxed here, so that no handler carries a whole write in its own frame.
        audit::spawn(Box::pin(work(Arc::clone(self)))).await.unwrap_or(Err(Refusal::Stopping))
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that nobody can say so any more, which is the same.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// The workers that act on `generation`; or who does not, and whether waiting is of no use.
fn applied_by(shared: &Shared, generation: u64) -> Result<u64, (String, bool)> {
    if shared.peers.iter().len() == 0 {
        return Err(("no data plane is connected: it applies this when it comes".to_owned(), true));
    }
    let mut workers = 0;
    for peer in shared.peers.iter() {
        workers += u64::from(peer.workers);
        if let Some((rejected, reason)) = &peer.rejected
            && *rejected >= generation
        {
            return Err((format!("the data plane with pid {} can't apply it: {reason}", peer.pid), true));
        }
        if peer.applied < generation {
            let reason = format!("the data plane with pid {} is at generation {}", peer.pid, peer.applied);
            return Err((reason, false));
        }
    }
    Ok(workers)
}

/// The number of a life that begins now, from one that only grows.
pub(crate) fn incarnation(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("masked to 32 bits")
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    crate::off_the_runtime::off_the_runtime(work).await.map_err(|_| Refusal::Stopping)
}
