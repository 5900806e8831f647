//! What a process has used, and how long somebody waits beside it.

use super::{eventually, http::Connection};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The time that a process has computed, all its threads together.
pub fn computed(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let time = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.filter_map(|thread| time(thread.unwrap())).sum()
}

/// Open descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// From now on, [`most_resident`] is of what comes.
pub fn forget_most_resident(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// The most memory that was resident, in bytes.
pub fn most_resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Whether this is a run that takes its time and holds what only a quiet machine holds: `STEADFAST_SOAK` says for how many
/// seconds.
pub fn soak() -> Option<Duration> {
    let text = std::env::var("STEADFAST_SOAK").ok()?;
    Some(Duration::from_secs(text.parse().expect("STEADFAST_SOAK is a number of seconds")))
}

/// One who asks for the same all the time on a connection that is kept, and has to be served.
#[derive(Debug)]
pub struct Bystander {
    stop: Arc<AtomicBool>,
    waits: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    pub fn start(address: &str, path: &str) -> Self {
        let (stop, waits) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (own_stop, own_waits) = (Arc::clone(&stop), Arc::clone(&waits));
        let (address, path) = (address.to_owned(), path.to_owned());
        let thread = thread::spawn(move || {
            let mut connection = Connection::open(&address);
            while !own_stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = connection.request("GET", &path, &[], b"");
                assert_eq!(answer.status, 200, "a bystander: {}", answer.text());
                own_waits.lock().unwrap().push(asked.elapsed());
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        Self { stop, waits, thread: Some(thread) }
    }

    /// The next waits, in order of length.
    #[track_caller]
    pub fn waits(&self, count: usize) -> Vec<Duration> {
        self.waits.lock().unwrap().clear();
        let mut waits = eventually("a bystander is served", || {
            assert!(!self.thread.as_ref().unwrap().is_finished(), "a bystander was not served");
            let waits = self.waits.lock().unwrap();
            (waits.len() >= count).then(|| waits.clone())
        });
        waits.sort();
        waits
    }

    /// Ends it; every answer was as it has to be.
    #[track_caller]
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.take().unwrap().join().is_ok(), "a bystander was not served");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The wait that `share` of all are not longer than.
pub fn quantile(waits: &[Duration], share: f64) -> Duration {
    waits[((waits.len() - 1) as f64 * share) as usize]
}
