use crate::error::Error;
use control::check::Problem;

/// Why a write changed nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoPool {
        pool: String,
        known: Vec<String>,
    },
    NoBackend {
        pool: String,
        backend: String,
        known: Vec<String>,
    },
    NoKey {
        key: String,
        known: Vec<String>,
    },
    NoListener {
        listener: String,
        known: Vec<String>,
    },
    NoRelease {
        pool: String,
    },
    /// A name leads to the backend, by its `discover`.
    Found {
        pool: String,
        backend: String,
        by: String,
        address: String,
    },
    /// What the client wanted to change is not what it saw; `current` is its tag now, absent where it isn't there.
    Precondition {
        current: Option<String>,
    },
    /// Membership is the file's alone.
    FileIsSource,
    /// These listeners lead to the pool.
    InUse {
        pool: String,
        listeners: Vec<String>,
    },
    /// The pool's sessions can't be drained like that, and what can be done.
    CantDrain(String),
    /// The pool's sessions can't be moved for an even load, and what can be done.
    CantRebalance(String),
    /// The pool's sessions can't be released, and what can be done.
    CantRelease(String),
    /// Sessions need the key, and what can be done.
    KeyInUse(String),
    Wrong(Vec<Problem>),
    /// Files of this machine that can't be used.
    CantLoad(Vec<Problem>),
    /// What the configuration file asks for needs sockets that only a start can make.
    NeedsRestart(Vec<String>),
    /// No other data plane has taken over, and why.
    NotUpgraded(String),
    /// It did not get to the other nodes.
    NotShared(NotShared),
    /// The store, or the keys file.
    Failed(Error),
    Stopping,
}

/// Why a write is not where all nodes hear of it.
#[derive(Debug)]
pub(crate) enum NotShared {
    /// etcd can't be reached or written to: since when, why, and what became of the write.
    Away(String),
    /// Others write the same, and were faster each time.
    Contended,
    /// A part is carried out, and what others did meanwhile stands against the rest.
    Partly,
}

impl Refusal {
    /// Whether whoever looks at this node sees it by other means, so that it need not be told each time.
    pub(crate) const fn is_told(&self) -> bool {
        matches!(self, Self::NotShared(NotShared::Away(_)))
    }
}

impl From<NotShared> for Refusal {
    fn from(reason: NotShared) -> Self {
        Self::NotShared(reason)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
