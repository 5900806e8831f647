//! A sketch of a pool's live sessions: small enough to be sent, and such that those of several data planes or nodes can be
//! merged without counting a session twice. `affinity::sketch` makes and merges them.

use serde::{Deserialize, Serialize};

/// The sessions with the lowest hashes. The hash is of the session key alone, so it is the same wherever the session comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// All sessions with a hash below this are in; absent where all sessions are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
    /// The names of the backends that they were seen at last.
    pub backends: Vec<String>,
    pub sessions: Vec<Sketched>,
}

/// The session's hash, the index of its backend in [`Sketch::backends`], and when it was seen last, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketched(pub u64, pub u32, pub u32);
