//! What the control thread keeps of the listeners' TLS, and how it notices that a file has changed.

use super::{
    load::{Facts, Loaded, load},
    offer::{offer, self_signed},
};
use control::{
    Path, Problem,
    spec::{ClientCertificates, Listener, Tls, TlsSettings},
    status::{CertificateStats, TlsStats},
};
use rustls::{ServerConfig, crypto::aws_lc_rs::Ticketer, server::ProducesTickets};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

/// What a listener's clients are offered from now on; none where it has no TLS any more.
pub(crate) type News = (String, Option<Arc<ServerConfig>>);

/// By the names of listeners.
#[derive(Default)]
pub(crate) struct Store(BTreeMap<String, Entry>);

struct Entry {
    tls: Tls,
    files: Vec<(PathBuf, Option<Stamp>)>,
    offered: Option<Arc<ServerConfig>>,
    facts: Vec<Facts>,
    tickets: Option<Tickets>,
    /// What is wrong with the files as they are now; what was offered before is offered on.
    refused: Option<String>,
}

/// What seals the tickets by which clients come back without a whole handshake, and for whom. A session that was begun
/// under other demands on clients' certificates must not be resumed.
struct Tickets {
    clients: ClientCertificates,
    authorities: Option<Vec<u8>>,
    seals: Arc<dyn ProducesTickets>,
}

/// By what a change of a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Of the content or of who may read it.
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &FilePath) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.size(), changed })
    }
}

impl Store {
    /// Follows the listeners of a new generation: what changes for their clients. `now` is in Unix seconds.
    pub(crate) fn follow(&mut self, listeners: &[Listener], now: u64) -> Vec<News> {
        let wanted: BTreeMap<_, _> =
            listeners.iter().filter_map(|each| Some((each.name.as_str(), each.tls.as_ref()?))).collect();
        let gone: Vec<_> = self.0.keys().filter(|name| !wanted.contains_key(name.as_str())).cloned().collect();
        let mut news: Vec<News> = Vec::new();
        for name in gone {
            self.0.remove(&name);
            news.push((name, None));
        }
        for (name, tls) in wanted {
            let known = self.0.get(name).is_some_and(|entry| entry.tls == *tls);
            if !known {
                let entry = self.0.entry(name.to_owned()).or_insert_with(|| Entry::new(tls.clone()));
                entry.tls = tls.clone();
                news.extend(entry.load(name, now).map(|offered| (name.to_owned(), Some(offered))));
            }
        }
        news
    }

    /// Looks whether files have changed.
    pub(crate) fn look(&mut self, now: u64) -> Vec<News> {
        let changed = self.0.iter_mut().filter(|(_, entry)| entry.have_files_changed());
        changed.filter_map(|(name, entry)| Some((name.clone(), Some(entry.load(name, now)?)))).collect()
    }

    pub(crate) fn stats(&self) -> BTreeMap<String, TlsStats> {
        self.0.iter().map(|(name, entry)| (name.clone(), entry.stats())).collect()
    }
}

impl Entry {
    fn new(tls: Tls) -> Self {
        Self { tls, files: Vec::new(), offered: None, facts: Vec::new(), tickets: None, refused: None }
    }

    fn have_files_changed(&self) -> bool {
        self.files.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }

    /// Reads the files; what clients are offered from now on, unless it is what they were offered before.
    fn load(&mut self, name: &str, now: u64) -> Option<Arc<ServerConfig>> {
        let settings = self.tls.settings();
        // Before they are read: what is written meanwhile is a change.
        self.files = files(&settings).map(|file| (file.clone(), Stamp::of(file))).collect();
        match self.make(&settings, now) {
            Ok((offered, facts)) => {
                (self.offered, self.facts, self.refused) = (Some(Arc::clone(&offered)), facts, None);
                let names: Vec<_> = self.facts.iter().flat_map(|facts| &facts.names).collect();
                tracing::info!(listener = name, ?names, "certificates loaded");
                Some(offered)
            }
            Err(reason) => {
                match self.offered {
                    Some(_) => {
                        tracing::error!(listener = name, %reason, "certificates refused; serving on with the ones before")
                    }
                    None => {
                        tracing::error!(listener = name, %reason, "no certificates: nobody is served here until they can be read")
                    }
                }
                self.refused = Some(reason);
                None
            }
        }
    }

    fn make(&mut self, settings: &TlsSettings, now: u64) -> Result<(Arc<ServerConfig>, Vec<Facts>), String> {
        let loaded = match self.tls {
            Tls::SelfSigned => self_signed()?,
            Tls::With(_) => load(settings, &Path::default()).map_err(|problems| words(&problems))?,
        };
        let expired = |facts: &[Facts]| facts.iter().filter(|facts| facts.has_expired(now)).count();
        if self.offered.is_some() && expired(&loaded.facts) > expired(&self.facts) {
            return Err("a certificate has expired that was not there before".to_owned());
        }
        let seals = self.tickets(settings, &loaded)?;
        Ok((offer(settings, &loaded, seals)?, loaded.facts))
    }

    fn tickets(&mut self, settings: &TlsSettings, loaded: &Loaded) -> Result<Arc<dyn ProducesTickets>, String> {
        let authorities = loaded.authorities.as_ref().map(|authorities| &authorities.pem);
        let same = self
            .tickets
            .as_ref()
            .filter(|tickets| tickets.clients == settings.clients && tickets.authorities.as_ref() == authorities);
        if let Some(tickets) = same {
            return Ok(Arc::clone(&tickets.seals));
        }
        let seals = Ticketer::new().map_err(|error| error.to_string())?;
        self.tickets = Some(Tickets {
            clients: settings.clients.clone(),
            authorities: authorities.cloned(),
            seals: Arc::clone(&seals),
        });
        Ok(seals)
    }

    fn stats(&self) -> TlsStats {
        let certificates = self.facts.iter();
        let certificates =
            certificates.map(|facts| CertificateStats { names: facts.names.clone(), not_after: facts.not_after });
        TlsStats { certificates: certificates.collect(), refused: self.refused.clone() }
    }
}

fn files(settings: &TlsSettings) -> impl Iterator<Item = &PathBuf> {
    let certificates = settings.certificates.iter();
    let certificates = certificates.flat_map(|each| [&each.chain, &each.key].into_iter().chain(&each.ocsp));
    certificates.chain(&settings.clients.ca)
}

fn words(problems: &[Problem]) -> String {
    let each: Vec<_> = problems.iter().map(ToString::to_string).collect();
    each.join("; ")
}
