//! From PEM files to what TLS handshakes need, or to all that is wrong with them; and again when the files change.
//!
//! Reads files and knows no socket: workers and health checks shake hands with what they get from here.

mod follow;
mod load;
mod names;
mod offer;
mod trust;

pub use follow::Followed;
pub use load::{Facts, Loaded, load, subject};
pub use offer::{offer, self_signed};
pub use trust::trust;

use control::{
    Problem,
    spec::{PoolTls, TlsSettings},
};
use std::path::Path;

/// The files of a listener's `[listener.tls]`.
pub fn listener_files(settings: &TlsSettings) -> impl Iterator<Item = &Path> {
    let certificates = settings.certificates.iter();
    let certificates = certificates.flat_map(|each| [&each.chain, &each.key].into_iter().chain(&each.ocsp));
    certificates.chain(&settings.clients.ca).map(AsRef::as_ref)
}

/// The files of a pool's `[pool.tls]`.
pub fn pool_files(settings: &PoolTls) -> impl Iterator<Item = &Path> {
    [&settings.ca, &settings.chain, &settings.key].into_iter().flatten().map(AsRef::as_ref)
}

/// Problems as one line of text.
pub fn words(problems: &[Problem]) -> String {
    let each: Vec<_> = problems.iter().map(ToString::to_string).collect();
    each.join("; ")
}
