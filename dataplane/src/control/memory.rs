//! Whether the data plane has as much memory as it may: then nobody new is accepted until it has less.

use crate::worker::Shared;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How often it is looked, where there is a bound.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What the process has and may have, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    shared: Arc<Shared>,
    pub(super) level: Level,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// 0 where nothing bounds it.
    pub(super) most: u64,
    pub(super) used: u64,
    is_full: bool,
}

impl Memory {
    /// `wanted` is what the configuration says; with 0 it is nine tenths of what the control group allows, if that bounds it.
    pub(super) fn new(shared: Arc<Shared>, wanted: u64) -> Self {
        let most = if wanted > 0 { wanted } else { group_limit().map_or(0, |limit| limit / 10 * 9) };
        let mut memory = Self { shared, level: Level { most, ..Level::default() } };
        // Before anybody is accepted.
        memory.look();
        memory
    }

    /// Looks, and has the workers know what came of it.
    pub(super) fn look(&mut self) {
        self.level.used = resident().unwrap_or(self.level.used);
        if !self.level.turns() {
            return;
        }
        let Level { most, used, is_full } = self.level;
        self.shared.full.store(is_full, Ordering::Relaxed);
        match is_full {
            true => tracing::warn!(used, most, "as much memory as may be: nobody new is accepted until it is less"),
            false => tracing::info!(used, most, "memory is below its bound again: clients are accepted"),
        }
    }
}

impl Level {
    /// Whether it is full where it was not, or the other way round. It has to fall by a twentieth, lest it go to and fro.
    fn turns(&mut self) -> bool {
        let bound = if self.is_full { self.most / 20 * 19 } else { self.most };
        let is_full = self.most > 0 && self.used >= bound;
        is_full != std::mem::replace(&mut self.is_full, is_full)
    }
}

/// The memory of this process that is in RAM (proc_pid_status(5)), which the kernel tells in KiB.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let told = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(told.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The least that a control group of this process, or one above it, allows (cgroup v2, `memory.max`).
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    least(Path::new("/sys/fs/cgroup"), own, |path| fs::read_to_string(path).ok())
}

fn least(root: &Path, own: &str, read: impl Fn(PathBuf) -> Option<String>) -> Option<u64> {
    let leaf = root.join(own);
    let groups = leaf.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| read(group.join("memory.max"))?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_until_a_twentieth_is_free() {
        let mut memory = Level { most: 1_000, ..Level::default() };
        let mut turns = |used| {
            memory.used = used;
            (memory.turns(), memory.is_full)
        };
        let steps = [
            (999, (false, false)),
            (1_000, (true, true)),
            (2_000, (false, true)),
            (950, (false, true)),
            (949, (true, false)),
            (999, (false, false)),
        ];
        for (used, expected) in steps {
            assert_eq!(turns(used), expected, "{used}");
        }
    }

    #[test]
    fn without_a_bound_it_is_never_full() {
        let mut memory = Level { used: u64::MAX, ..Level::default() };
        assert!(!memory.turns() && !memory.is_full);
    }

    #[test]
    fn the_least_of_all_groups_above_counts() {
        let read = |path: PathBuf| match path.to_str().unwrap() {
            "/g/memory.max" => None,
            "/g/system.slice/memory.max" => Some("2000\n".to_owned()),
            "/g/system.slice/steadfast.service/memory.max" => Some("max\n".to_owned()),
            path => panic!("{path}"),
        };
        assert_eq!(least(Path::new("/g"), "system.slice/steadfast.service", read), Some(2_000));
        assert_eq!(least(Path::new("/g"), "system.slice", |_| Some("max".to_owned())), None);
    }

    #[test]
    fn this_process_has_some() {
        assert!(resident() > Some(1 << 20));
    }
}
