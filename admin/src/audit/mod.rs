//! The audit log: what was changed, by whom and from where, as one line of JSON each. Calls of the API are told with what became of
//! them; what this process changes by itself, or hears from etcd, by what it came from. A line that can't be written to its file
//! goes to the log, and keeps nobody from working.

mod changes;
#[cfg(test)]
mod tests;

use crate::clock;
use control::desired::{Change, Snapshot};
use serde_json::{Map, Value, json};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Changes that one line tells; of the others it tells how many there are.
const MOST: usize = 64;
/// The longest text of what a change is of, before and after it, in bytes.
const LONGEST: usize = 4 << 10;

tokio::task_local! {
    static BY: By;
}

/// Who changes something.
#[derive(Clone, Debug)]
pub(crate) enum By {
    Request(Arc<Record>),
    /// This process, and what of it.
    Itself(&'static str),
}

/// Has all that `work` changes told as changed by `what` of this process.
pub(crate) fn itself<F: Future>(what: &'static str, work: F) -> impl Future<Output = F::Output> {
    BY.scope(By::Itself(what), work)
}

/// Has all that `work` changes told with a call of the API.
pub(crate) fn called<F: Future>(record: &Arc<Record>, work: F) -> impl Future<Output = F::Output> {
    BY.scope(By::Request(Arc::clone(record)), work)
}

/// Starts a task that works for whoever the present one works for.
pub(crate) fn spawn<T: Send + 'static>(
    work: std::pin::Pin<Box<dyn Future<Output = T> + Send>>,
) -> tokio::task::JoinHandle<T> {
    match BY.try_with(By::clone) {
        Ok(by) => tokio::spawn(BY.scope(by, work)),
        Err(_) => tokio::spawn(work),
    }
}

#[derive(Debug)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
    file: Mutex<Place>,
    next: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    file: Option<File>,
    /// The last line could not be written, and that was told.
    fails: bool,
}

/// A call of the API: told when nothing of it is left to be done, also where nobody waited for that.
#[derive(Debug)]
pub(crate) struct Record {
    audit: Arc<Audit>,
    told: Mutex<Map<String, Value>>,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    told: Vec<Value>,
    left_off: usize,
}

impl Audit {
    /// To that file, or to the log.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let next = clock::unix_millis().saturating_mul(1_000);
        Self { path, file: Mutex::default(), next: next.into(), failures: AtomicU64::new(0) }
    }

    /// Lines that could not be written to the file.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The file may have been moved away: the next line makes it anew.
    pub(crate) fn reopen(&self) {
        self.place().file = None;
    }

    /// A call of the API that would change something; `fields` tell who calls what.
    pub(crate) fn begin(self: &Arc<Self>, fields: Map<String, Value>) -> Arc<Record> {
        Arc::new(Record { audit: Arc::clone(self), told: Mutex::new(fields), changes: Mutex::default() })
    }

    /// What `changes` make of a state, to be told once they are made.
    pub(crate) fn look(before: &Snapshot, changes: &[Change]) -> impl FnOnce(&Self, u64) + use<> {
        let by = BY.try_with(By::clone).unwrap_or(By::Itself("admin"));
        let with_health = matches!(by, By::Request(_));
        let mut all = Changes::default();
        for change in changes.iter().filter(|change| changes::is_told(before, change, with_health)) {
            if all.told.len() < MOST {
                all.told.push(changes::told(before, change, LONGEST));
            } else {
                all.left_off += 1;
            }
        }
        move |audit, generation| match by {
            _ if all.told.is_empty() => {}
            By::Request(record) => record.add(all),
            By::Itself(what) => {
                let mut line = Map::new();
                line.insert("by".to_owned(), what.into());
                line.insert("generation".to_owned(), generation.into());
                audit.write(line, all);
            }
        }
    }

    fn write(&self, fields: Map<String, Value>, changes: Changes) {
        let mut line = Map::new();
        line.insert("at".to_owned(), clock::unix_millis().into());
        line.insert("id".to_owned(), self.next.fetch_add(1, Ordering::Relaxed).into());
        line.extend(fields);
        line.insert("changes".to_owned(), changes.told.into());
        if changes.left_off > 0 {
            line.insert("left_off".to_owned(), changes.left_off.into());
        }
        let line = Value::Object(line).to_string();
        let Some(path) = &self.path else { return tracing::info!(target: "audit", "audit {line}") };
        let mut place = self.place();
        match append(&mut place.file, path, &line) {
            Ok(()) => place.fails = false,
            Err(error) => {
                place.file = None;
                self.failures.fetch_add(1, Ordering::Relaxed);
                // Once for each outage, however much is changed in it.
                if !std::mem::replace(&mut place.fails, true) {
                    let path = path.display();
                    tracing::error!("the audit log {path} can't be written, its lines come here meanwhile: {error}");
                }
                tracing::info!(target: "audit", "audit {line}");
            }
        }
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.file.lock().expect("nothing panics while holding it")
    }
}

/// For its owner alone: it says who operates the site, and from where.
fn append(file: &mut Option<File>, path: &std::path::Path, line: &str) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        None => file.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?),
    };
    // In one piece: others may append to it too.
    let line = format!("{line}\n");
    match file.write(line.as_bytes())? {
        all if all == line.len() => Ok(()),
        part => Err(io::Error::other(format!("only {part} of {} bytes were written", line.len()))),
    }
}

impl Record {
    /// It is told nowhere.
    pub(crate) fn drop_it(&self) {
        self.told.lock().expect("nothing panics while holding it").clear();
    }

    /// What has become of it.
    pub(crate) fn answered(&self, fields: impl IntoIterator<Item = (&'static str, Value)>) {
        let mut told = self.told.lock().expect("nothing panics while holding it");
        told.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }

    fn add(&self, more: Changes) {
        let mut changes = self.changes.lock().expect("nothing panics while holding it");
        let room = MOST.saturating_sub(changes.told.len());
        changes.left_off += more.left_off + more.told.len().saturating_sub(room);
        changes.told.extend(more.told.into_iter().take(room));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut told = self.told.get_mut().map(std::mem::take).unwrap_or_default();
        let changes = self.changes.get_mut().map(std::mem::take).unwrap_or_default();
        if told.is_empty() && changes.told.is_empty() {
            return;
        }
        if !told.contains_key("status") {
            // It was carried out or not: whoever asked did not wait.
            told.insert("status".to_owned(), json!(null));
        }
        self.audit.write(told, changes);
    }
}
