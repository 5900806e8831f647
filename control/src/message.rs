//! The control channel: one JSON object per line, the first in each direction a `hello`. The admin process serves, data
//! planes connect. Golden files under `control/golden/` keep the lines compatible from release to release.

use crate::{
    desired::{Change, Snapshot},
    sketch::Sketch,
    status::{Sandbox, Stats},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of this protocol. Both sides refuse another one.
pub const PROTOCOL: u32 = 1;

/// The longest line that is read, in bytes: room for a snapshot of some 100,000 backends.
pub const MAX_LINE: usize = 64 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToDataplane {
    Hello {
        protocol: u32,
        version: String,
    },
    /// Replaces all that the data plane has.
    Snapshot {
        snapshot: Box<Snapshot>,
    },
    /// Leads from generation `base` to `generation`. A data plane at another generation than `base` reconnects.
    Delta {
        base: u64,
        generation: u64,
        changes: Vec<Change>,
        /// Somebody has commanded it, and so it is written down before it is acknowledged, even where it tells of health
        /// alone. What checks find comes too often for that.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        commanded: bool,
    },
    /// All that it reports, now: sent when somebody waits for fresh figures.
    Report,
    /// A sketch of a pool's live sessions, now: sent when somebody wants to know those of several nodes, and only to a data
    /// plane that has said that it tells them.
    Sketch {
        pool: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAdmin {
    /// `generation` is what the data plane serves by at this moment, 0 where it serves nothing yet.
    Hello {
        protocol: u32,
        version: String,
        pid: u32,
        workers: u16,
        generation: u64,
        /// When it began to count, in Unix milliseconds; 0 where it does not say so.
        #[serde(default)]
        started: u64,
        /// Whether it understands that it is asked for a sketch.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sketches: bool,
        /// Absent where it does not say so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sandbox: Option<Sandbox>,
    },
    /// Every worker acts on `generation` or a later one.
    Applied {
        generation: u64,
    },
    /// `generation` could not be made into a table; the one before it stays.
    Rejected {
        generation: u64,
        reason: String,
    },
    Stats {
        stats: Box<Stats>,
    },
    /// What was asked for; empty where it has no such pool.
    Sketch {
        pool: String,
        sketch: Box<Sketch>,
    },
    /// Traffic failed at a backend so often in a row that a worker has marked it `down` for itself.
    Failing {
        pool: String,
        backend: String,
        reason: String,
    },
}

/// One line with its line end.
pub fn to_line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys and no failing parts");
    line.push(b'\n');
    line
}

/// # Errors
/// The reason, where the line is not a message of this type.
pub fn from_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a message of the control channel: {error}"))
}
