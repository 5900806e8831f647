//! What the control thread keeps of the TLS of listeners and pools, and how it follows their files.

use certificates::{Facts, Followed, listener_files, load, offer, pool_files, self_signed, trust, words};
use control::{
    Path,
    desired::Desired,
    spec::{ClientCertificates, Listener, PoolTls, Protocol, Tls},
    status::{CertificateStats, TlsStats},
};
use rustls::{ClientConfig, ServerConfig, crypto::aws_lc_rs::Ticketer, server::ProducesTickets};
use std::{collections::BTreeMap, sync::Arc};

/// HTTP/2 over TLS, as peers agree on it (RFC 9113 section 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";
/// What may be spoken over TLS otherwise (RFC 7301).
const HTTP1: &[u8] = b"http/1.1";

/// What handshakes are made with from now on; none where there is no TLS any more.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Listener(String, Option<Arc<ServerConfig>>),
    Pool(String, Option<Arc<ClientConfig>>),
}

/// By the names of listeners and pools.
#[derive(Default)]
pub(crate) struct Store {
    listeners: BTreeMap<String, Offered>,
    pools: BTreeMap<String, Trusted>,
}

struct Offered {
    tls: Tls,
    /// Clients may choose HTTP/2.
    http2: bool,
    made: Followed<(Arc<ServerConfig>, Vec<Facts>)>,
    tickets: Option<Tickets>,
}

struct Trusted {
    tls: PoolTls,
    /// The pool's backends speak HTTP/2.
    http2: bool,
    made: Followed<Arc<ClientConfig>>,
}

/// What seals the tickets by which clients come back without a whole handshake, and for whom. A session that was begun
/// under other demands on clients' certificates must not be resumed.
struct Tickets {
    clients: ClientCertificates,
    authorities: Option<Vec<u8>>,
    seals: Arc<dyn ProducesTickets>,
}

impl Store {
    /// Follows a new generation: what changes for handshakes. `now` is in Unix seconds.
    pub(crate) fn follow(&mut self, desired: &Desired, now: u64) -> Vec<News> {
        let mut news = self.forget(desired);
        for Listener { name, tls, http2, protocol, .. } in &desired.listeners {
            let Some(tls) = tls else { continue };
            let http2 = *http2 && *protocol == Protocol::Http;
            if self.listeners.get(name).is_none_or(|offered| (&offered.tls, offered.http2) != (tls, http2)) {
                let fresh = || Offered { tls: tls.clone(), http2, made: Followed::default(), tickets: None };
                let offered = self.listeners.entry(name.clone()).or_insert_with(fresh);
                (offered.tls, offered.http2) = (tls.clone(), http2);
                news.extend(offered.read(name, now));
            }
        }
        for (name, pool) in &desired.pools {
            let Some(tls) = &pool.settings.tls else { continue };
            let http2 = pool.settings.http2;
            if self.pools.get(name).is_none_or(|trusted| (&trusted.tls, trusted.http2) != (tls, http2)) {
                // What was trusted under other settings is not trusted on.
                let mut trusted = Trusted { tls: tls.clone(), http2, made: Followed::default() };
                news.push(trusted.read(name).unwrap_or_else(|| News::Pool(name.clone(), None)));
                self.pools.insert(name.clone(), trusted);
            }
        }
        news
    }

    /// Drops what has no TLS any more.
    fn forget(&mut self, desired: &Desired) -> Vec<News> {
        let has_tls = |name: &str| desired.listeners.iter().any(|each| each.name == name && each.tls.is_some());
        let listeners = self.listeners.extract_if(.., |name, _| !has_tls(name));
        let mut news: Vec<_> = listeners.map(|(name, _)| News::Listener(name, None)).collect();
        let has_tls = |name: &str| desired.pools.get(name).is_some_and(|pool| pool.settings.tls.is_some());
        let pools = self.pools.extract_if(.., |name, _| !has_tls(name));
        news.extend(pools.map(|(name, _)| News::Pool(name, None)));
        news
    }

    /// Looks whether files have changed.
    pub(crate) fn look(&mut self, now: u64) -> Vec<News> {
        let listeners = self.listeners.iter_mut().filter(|(_, offered)| offered.made.has_changed());
        let mut news: Vec<_> = listeners.filter_map(|(name, offered)| offered.read(name, now)).collect();
        let pools = self.pools.iter_mut().filter(|(_, trusted)| trusted.made.has_changed());
        news.extend(pools.filter_map(|(name, trusted)| trusted.read(name)));
        news
    }

    /// Of the listeners.
    pub(crate) fn stats(&self) -> BTreeMap<String, TlsStats> {
        self.listeners.iter().map(|(name, offered)| (name.clone(), offered.stats())).collect()
    }

    /// What is wrong with the files of a pool.
    pub(crate) fn refused(&self, pool: &str) -> Option<String> {
        self.pools.get(pool)?.made.refused().map(str::to_owned)
    }
}

impl Offered {
    fn read(&mut self, name: &str, now: u64) -> Option<News> {
        let settings = self.tls.settings();
        let (tls, tickets) = (&self.tls, &mut self.tickets);
        let protocols: &[&[u8]] = if self.http2 { &[HTTP2, HTTP1] } else { &[HTTP1] };
        let read = self.made.read(listener_files(&settings), |before| {
            let loaded = match tls {
                Tls::SelfSigned => self_signed()?,
                Tls::With(_) => load(&settings, &Path::default()).map_err(|problems| words(&problems))?,
            };
            let untimely = |facts: &[Facts]| facts.iter().filter_map(|facts| facts.untimely(now)).collect::<Vec<_>>();
            let found = untimely(&loaded.facts);
            if let (Some(why), Some((_, before))) = (found.last(), before)
                && found.len() > untimely(before).len()
            {
                return Err(format!("a certificate {why} that was not there before"));
            }
            let seals = Tickets::seals(tickets, &settings.clients, loaded.authorities_pem())?;
            Ok((offer(&settings, &loaded, seals, protocols)?, loaded.facts))
        });
        match read {
            Ok((offered, facts)) => {
                let names: Vec<_> = facts.iter().flat_map(|facts| &facts.names).collect();
                tracing::info!(listener = name, ?names, "certificates loaded");
                Some(News::Listener(name.to_owned(), Some(Arc::clone(offered))))
            }
            Err(reason) => {
                let reason = reason.to_owned();
                match self.made.value() {
                    Some(_) => {
                        tracing::error!(listener = name, %reason, "certificates refused; serving on with the ones before")
                    }
                    None => {
                        tracing::error!(listener = name, %reason, "no certificates: nobody is served here until they can be read")
                    }
                }
                None
            }
        }
    }

    fn stats(&self) -> TlsStats {
        let facts = self.made.value().map_or(&[][..], |(_, facts)| facts.as_slice());
        let certificates = facts.iter();
        let certificates =
            certificates.map(|facts| CertificateStats { names: facts.names.clone(), not_after: facts.not_after });
        TlsStats { certificates: certificates.collect(), refused: self.made.refused().map(str::to_owned) }
    }
}

impl Trusted {
    fn read(&mut self, name: &str) -> Option<News> {
        let tls = &self.tls;
        let protocol = if self.http2 { HTTP2 } else { HTTP1 };
        let read = self
            .made
            .read(pool_files(tls), |_| trust(tls, &Path::default(), &[protocol]).map_err(|problems| words(&problems)));
        match read {
            Ok(trusted) => Some(News::Pool(name.to_owned(), Some(Arc::clone(trusted)))),
            Err(reason) => {
                tracing::error!(pool = name, %reason, "what the pool's TLS needs can't be read");
                None
            }
        }
    }
}

impl Tickets {
    /// Those of `known`, where they are for the same clients.
    fn seals(
        known: &mut Option<Self>,
        clients: &ClientCertificates,
        authorities: Option<&[u8]>,
    ) -> Result<Arc<dyn ProducesTickets>, String> {
        let same =
            known.take().filter(|known| known.clients == *clients && known.authorities.as_deref() == authorities);
        let tickets = match same {
            Some(same) => same,
            None => Self {
                clients: clients.clone(),
                authorities: authorities.map(<[u8]>::to_vec),
                seals: Ticketer::new().map_err(|error| error.to_string())?,
            },
        };
        Ok(Arc::clone(&known.insert(tickets).seals))
    }
}
