//! What the supervisor tells of its processes in `runtime_dir/processes.json`, for scripts and the admin process.

use serde::{Deserialize, Serialize};

/// The pids; null while a process is not running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    pub supervisor: u32,
    pub dataplane: Option<u32>,
    pub admin: Option<u32>,
    /// Data planes that another one has replaced, and that go on with what they have.
    #[serde(default)]
    pub replaced: Vec<u32>,
    /// The last that was wished for, since this supervisor started.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
}

/// A data plane that takes over from another on the same sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Grows with each.
    pub number: u64,
    pub stage: UpgradeStage,
    /// Why it has failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeStage {
    /// The new one is not ready yet; the old one serves.
    Starting,
    /// The new one serves.
    Done,
    /// The old one serves on.
    Failed,
}
