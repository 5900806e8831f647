//! TLS where the API leaves the machine: the handshake, and the files that it is made with, read anew when they change.

use super::Stream;
use crate::error::Error;
use certificates::{Followed, listener_files, offer, words};
use control::{
    Path,
    spec::{Certificate, TlsSettings},
};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs::Ticketer},
};

pub(crate) struct Tls {
    settings: TlsSettings,
    known: Mutex<Followed<Arc<ServerConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// # Errors
    /// The files can't be used.
    pub(crate) fn new(certificate: Certificate) -> Result<Self, Error> {
        let path = certificate.chain.clone();
        let settings = TlsSettings { certificates: vec![certificate], ..TlsSettings::default() };
        let tls = Self { settings, known: Mutex::default() };
        tls.config().map(|_| ()).map_err(|reason| Error::Refused { path, reason })?;
        Ok(tls)
    }

    /// What was last made of the files; why there is nothing, where nothing ever was.
    fn config(&self) -> Result<Arc<ServerConfig>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.value().is_none() || known.has_changed() {
            let made = known.read(listener_files(&self.settings), |_: Option<&_>| {
                let loaded =
                    certificates::load(&self.settings, &Path::default()).map_err(|problems| words(&problems))?;
                let tickets = Ticketer::new().map_err(|error| error.to_string())?;
                offer(&self.settings, &loaded, tickets, &[b"http/1.1"])
            });
            if let Err(reason) = made {
                // Once for each state of the files: they are known to be bad until they change again.
                tracing::error!("admin.tls can't be read anew, what was read before serves on: {reason}");
            }
        }
        known.value().cloned().ok_or_else(|| known.refused().unwrap_or_default().to_owned())
    }

    pub(super) async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let config = self.config().map_err(io::Error::other)?;
        Ok(Box::new(TlsAcceptor::from(config).accept(stream).await?))
    }
}
