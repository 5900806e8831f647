use certificates::{Followed, pool_files, trust, words};
use control::{Path, spec::PoolTls};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_rustls::rustls::ClientConfig;

/// What checks over TLS need, read again when its files change.
#[derive(Default)]
pub(super) struct Trusts(Mutex<HashMap<Asked, Followed<Arc<ClientConfig>>>>);

#[derive(PartialEq, Eq, Hash)]
struct Asked {
    tls: PoolTls,
    http2: bool,
}

/// Settings that are kept; where there come more, all are read anew.
const MAX_KEPT: usize = 4_096;

impl Trusts {
    /// For who speaks HTTP/2 over it, or not.
    ///
    /// # Errors
    /// What is wrong with the files, where none were right before.
    pub(super) fn of(&self, settings: &PoolTls, http2: bool) -> Result<Arc<ClientConfig>, String> {
        let asked = Asked { tls: settings.clone(), http2 };
        let protocols: &[&[u8]] = if http2 { &[b"h2"] } else { &[] };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT && !all.contains_key(&asked) {
            all.clear();
        }
        let known = all.entry(asked).or_default();
        if known.value().is_none() || known.has_changed() {
            let made =
                |_: Option<&_>| trust(settings, &Path::default(), protocols).map_err(|problems| words(&problems));
            // What is wrong shows below, and in the data plane's report.
            let _ = known.read(pool_files(settings), made);
        }
        known.value().cloned().ok_or_else(|| known.refused().unwrap_or_default().to_owned())
    }
}
