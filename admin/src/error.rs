use std::{io, path::PathBuf};

/// Why the admin process can't start, or had to stop. Each is one line for whoever starts it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("can't listen on {address}: another process answers on it")]
    Taken { address: String },
    #[error(
        "won't listen on {address}: it is no loopback address and no token is set; set admin.token_file, or listen on 127.0.0.1 or a Unix socket"
    )]
    Exposed { address: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A file that can be read and must not be used as it is.
    #[error("{}: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("the store {} {reason}", path.display())]
    Store { path: PathBuf, reason: String },
    /// The operating system refuses threads, signals or random bytes.
    #[error("can't run: {0}")]
    System(io::Error),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
