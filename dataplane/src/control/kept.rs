//! The live sessions on disk, on their way from one data plane to the next: a drain that is under way must not look as if its
//! sessions had ended.

use affinity::{
    sessions::{Known, Sessions},
    table::Table,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    num::NonZeroU32,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// More than the most sessions that are kept one by one take.
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Since when they were followed, in Unix seconds.
    since: u32,
    pools: BTreeMap<String, KeptPool>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptPool {
    /// As [`Sessions::level`].
    level: u32,
    backends: BTreeMap<String, KeptBackend>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptBackend {
    incarnation: u32,
    /// Key, when it was seen last, and since when it has been live, which is 0 where that is not known; in Unix seconds.
    sessions: Vec<(u64, u32, u32)>,
}

/// Which file it is: its inode and when it was written, in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64, i64, i64);

impl Mark {
    fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.mtime(), file.mtime_nsec())
    }

    /// Whether that file is still there.
    pub(super) fn is_at(self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| Self::of(&file) == self)
    }
}

/// Replaces the file in one step.
///
/// # Errors
/// It can't be written.
pub(super) fn write(path: &Path, sessions: &Sessions, table: &Table) -> io::Result<Mark> {
    let mut by_backend: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for (backend, Known { key, at, live_since }) in sessions.all() {
        by_backend.entry(backend).or_default().push((key, at, live_since.map_or(0, NonZeroU32::get)));
    }
    let pools = table.pools.iter().map(|pool| {
        let kept = pool.backends.iter().filter_map(|backend| {
            let sessions = by_backend.remove(&backend.slot)?;
            Some((backend.name.clone(), KeptBackend { incarnation: backend.incarnation, sessions }))
        });
        (pool.name.clone(), KeptPool { level: sessions.level(pool.slot), backends: kept.collect() })
    });
    let kept = Kept { since: sessions.since(), pools: pools.collect() };
    let beside = path.with_extension("json.new");
    let mut file =
        BufWriter::new(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?);
    serde_json::to_writer(&mut file, &kept)?;
    file.flush()?;
    let mark = Mark::of(&file.get_ref().metadata()?);
    fs::rename(&beside, path)?;
    Ok(mark)
}

/// Takes what another data plane has left, if it has, and the file away: from then on they are followed here. Sessions at backends
/// that are gone, or have begun another life, have ended. How many there were.
///
/// # Errors
/// It can't be read; it is then away too.
pub(super) fn take(path: &Path, sessions: &mut Sessions, table: &Table) -> io::Result<Option<usize>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = serde_json::from_reader(BufReader::new(file.take(MAX_FILE)));
    fs::remove_file(path)?;
    let Kept { since, pools } = read?;
    let mut count = 0;
    for pool in &table.pools {
        let Some(kept) = pools.get(&pool.name) else { continue };
        for backend in &pool.backends {
            let Some(kept_at) = kept.backends.get(&backend.name) else { continue };
            if kept_at.incarnation != backend.incarnation {
                continue;
            }
            count += kept_at.sessions.len();
            let known = kept_at.sessions.iter().map(|&(key, at, live_since)| Known {
                key,
                at,
                live_since: NonZeroU32::new(live_since),
            });
            sessions.take_over(pool.slot, kept.level, backend.slot, known);
        }
    }
    sessions.followed_since(since);
    Ok(Some(count))
}
