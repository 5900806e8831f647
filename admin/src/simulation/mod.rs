//! An admin process that does nothing by itself: its state, its store, its REST API and its end of the control channel as
//! they are, but no sockets, no probes and no clock. What happens next, and at what time, the simulation of the whole says,
//! which is all that this is for. Dropped, it is a process that was killed.

mod disk;

pub use disk::Disk;

use crate::{
    Error,
    control_server::{connection, peers::Outbox},
    health,
    rest::{App, Routes, guard::Guard},
    state::State,
    store::Store,
    supervisor::Supervisor,
};
use axum::{Router, body::Body, http::Request};
use control::{
    Problem,
    config::Config,
    desired::{PoolState, Snapshot},
};
use futures_util::FutureExt;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};
use tokio::{runtime::Runtime, sync::oneshot};
use tower::ServiceExt;

const VERSION: &str = "0.0.0-sim";

type Turns = Rc<RefCell<VecDeque<oneshot::Sender<()>>>>;

thread_local! {
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    static DISKS: RefCell<BTreeMap<PathBuf, Disk>> = const { RefCell::new(BTreeMap::new()) };
    static ROUTES: Routes = Routes::new(VERSION, false);
    /// Of the process that runs.
    static TURNS: RefCell<Option<Turns>> = const { RefCell::new(None) };
}

/// Unix milliseconds on this thread.
pub fn set_now(unix: u64) {
    NOW.set(Some(unix));
}

pub(crate) fn now() -> Option<u64> {
    NOW.get()
}

/// Has the stores of this folder be on that disk, on this thread.
pub fn put_disk(folder: &Path, disk: &Disk) {
    DISKS.with_borrow_mut(|disks| disks.insert(folder.to_owned(), disk.clone()));
}

/// No folder of this thread is on a disk any more.
pub fn forget_disks() {
    DISKS.take();
}

pub(crate) fn disk_of(path: &Path) -> Option<Disk> {
    DISKS.with_borrow(|disks| disks.get(path.parent()?).cloned())
}

/// What is to be done off the runtime waits for its turn. `None` where nobody gives any.
pub(crate) fn turn() -> Option<oneshot::Receiver<()>> {
    TURNS.with_borrow(|turns| {
        let (sender, receiver) = oneshot::channel();
        turns.as_ref()?.borrow_mut().push_back(sender);
        Some(receiver)
    })
}

/// The highest generation that a store has reserved, and its pools; asked on a copy.
///
/// # Errors
/// It can't be read.
pub fn pools_on(disk: &Disk, path: &Path) -> Result<(u64, BTreeMap<String, PoolState>), Error> {
    let copied = Path::new("copies/copy");
    if let (Some(copy), Some(folder)) = (disk.copy(path, copied), copied.parent()) {
        put_disk(folder, &copy);
    }
    let stored = Store::open(copied)?.load()?;
    Ok((stored.bound, stored.pools))
}

/// An answer of the REST API.
#[derive(Clone, Debug)]
pub struct Answer {
    pub number: u64,
    pub status: u16,
    pub body: serde_json::Value,
}

type File = Arc<Mutex<Result<Config, Vec<Problem>>>>;

struct Line {
    pid: u32,
    first: Option<Vec<u8>>,
    outbox: Outbox,
}

pub struct Admin {
    // Before all that its tasks use.
    runtime: Runtime,
    state: Arc<State>,
    router: Router,
    turns: Turns,
    lines: BTreeMap<u64, Line>,
    file: File,
    answered: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("links", &self.lines.len()).finish_non_exhaustive()
    }
}

impl Admin {
    /// # Errors
    /// As a start of the product.
    pub fn start(config: Config) -> Result<Self, Error> {
        TURNS.set(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(Error::System)?;
        let inside = runtime.enter();
        let state = State::start(config.clone())?;
        let file: File = Arc::new(Mutex::new(Ok(config)));
        let read = Arc::clone(&file);
        let load = Arc::new(move || read.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let supervisor = Supervisor::new(None, "processes.json".into());
        let app = App::new(
            Arc::clone(&state),
            Guard::new(None, true),
            load,
            supervisor,
            (VERSION, control::status::Sandbox::default()),
        );
        runtime.spawn(Arc::clone(&state).keep_reserving());
        runtime.spawn(Arc::clone(&state).keep_deadlines());
        runtime.spawn(Arc::clone(&state).keep_rebalancing());
        runtime.spawn(Arc::clone(&state).keep_releases());
        drop(inside);
        let (answered, answers) = mpsc::channel();
        let (router, turns, lines) = (ROUTES.with(Routes::clone).on(app), Turns::default(), BTreeMap::new());
        Ok(Self { runtime, state, router, turns, lines, file, answered, answers })
    }

    /// Runs all that can run at this moment.
    fn settle(&self) {
        self.settle_after(async {});
    }

    /// The same after something that is awaited.
    fn settle_after(&self, first: impl Future<Output = ()>) {
        // Tasks that wake each other take several rounds.
        const ROUNDS: usize = 12;
        // Whatever runs in here is to wait for its turn: on a thread of its own it would be done at any time.
        TURNS.set(Some(Rc::clone(&self.turns)));
        self.runtime.block_on(async {
            first.await;
            for _ in 0..ROUNDS {
                tokio::task::yield_now().await;
            }
        });
        TURNS.set(None);
    }

    /// Begins a call, such as `PUT /v1/pools/shop/backends/a`.
    ///
    /// # Panics
    /// It is no call.
    pub fn call(&mut self, number: u64, call: &str, body: &str) {
        let (method, uri) = call.split_once(' ').expect("a method and a path");
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let (router, answered) = (self.router.clone(), self.answered.clone());
        self.runtime.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            // Nobody takes it only where this process is gone.
            drop(answered.send(Answer { number, status, body }));
        });
        self.settle();
    }

    pub fn answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Things to be done that wait for [`Self::turn`].
    pub fn waiting(&self) -> usize {
        self.turns.borrow().len()
    }

    /// Does the first thing that waits to be done off the runtime: writes to the store, and reads files.
    pub fn turn(&mut self) {
        let first = self.turns.borrow_mut().pop_front();
        if let Some(turn) = first {
            // Whoever waited may have given up.
            let _ = turn.send(());
            self.settle();
        }
    }

    /// Time passes.
    pub fn pass(&mut self, millis: u64) {
        self.settle_after(tokio::time::advance(Duration::from_millis(millis)));
    }

    /// What a reload reads.
    pub fn set_file(&mut self, config: Config) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Ok(config);
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.snapshot()
    }

    /// A data plane connects and says hello. By what number it is known here.
    ///
    /// # Errors
    /// It is refused.
    pub fn connect(&mut self, hello: &[u8]) -> Result<u64, String> {
        let (peer, served) = connection::greeted(hello)?;
        let pid = peer.pid;
        let (id, snapshot, outbox) = self.state.connect(peer, served);
        self.lines.insert(id, Line { pid, first: Some(connection::first(&snapshot)), outbox });
        self.settle();
        Ok(id)
    }

    /// A line of a data plane comes.
    ///
    /// # Errors
    /// It can't be understood.
    pub fn hear(&mut self, link: u64, line: &[u8]) -> Result<(), String> {
        let heard = connection::hear(&self.state, link, line);
        self.settle();
        heard
    }

    /// The next line for a data plane, if there is one.
    pub fn say(&mut self, link: u64) -> Option<Arc<[u8]>> {
        let line = self.lines.get_mut(&link)?;
        line.first.take().map(Arc::from).or_else(|| line.outbox.next().now_or_never().flatten())
    }

    pub fn disconnect(&mut self, link: u64) {
        if let Some(line) = self.lines.remove(&link) {
            self.state.disconnect(link, line.pid);
            self.settle();
        }
    }

    /// Every check that is due is done, as `succeeds` says of pool and backend.
    pub fn check(&mut self, mut succeeds: impl FnMut(&str, &str) -> bool) {
        let inside = self.runtime.enter();
        while let Ok(job) = health::take_due(&self.state) {
            let outcome = match succeeds(&job.ticket.id.0, &job.ticket.id.1) {
                true => Ok(None),
                false => Err(Arc::from("it refuses")),
            };
            health::take(&self.state, [(job.ticket, outcome)].into_iter());
        }
        drop(inside);
        self.settle();
    }
}
