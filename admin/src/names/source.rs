//! What leads to backends that nobody named one by one.

use super::{TIMEOUT, dns::Service};
use control::{
    check::MAX_WEIGHT,
    spec::{Discover, Family, Names},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::SemaphorePermit, time::timeout};

/// What a source leads to: where each backend is, by what distinguishes it from the others of its `discover`.
pub(super) type Places = BTreeMap<String, Place>;

/// A backend that a source leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: SocketAddr,
    /// What the source itself says of its weight; where it says nothing, the `discover` does once.
    pub(super) weight: Option<u32>,
    /// The same of whether it is a backup.
    pub(super) backup: Option<bool>,
}

/// Where backends come from that a `discover` stands for: the seam behind which a name, a file and whatever comes later are
/// alike. It is asked again and again; all that it leads to is compared with the members that there are, and the
/// difference is written as any other change: who came is active, who is no more drains away over `names.linger`, what
/// somebody commands holds. So a source says *all* that there is, each time, and says so alike on every node.
///
/// A source that fails takes nothing away, and is told with its reason until it leads somewhere again. One that leads nowhere
/// has failed: a list that was cut short must not empty a pool.
///
/// **Kubernetes `EndpointSlices`** fit in here, and this is how. The question is a namespace and a service:
/// `[[pool.discover]] kubernetes = "NAMESPACE/SERVICE:PORT-NAME"`. One task lists the slices with the label
/// `kubernetes.io/service-name=SERVICE` and then watches them from the list's `resourceVersion` on, with bookmarks; what the
/// API server answers with 410 is a list anew. [`Source::find`] answers at once with the union of all slices that the task holds, since
/// one service has many of them and an endpoint may be in two while it moves; it fails before the first list is whole, and while the watch is
/// away it answers with what was known, which takes nothing away. An endpoint is a place where `conditions.ready` is not false;
/// one that is `serving` and `terminating` is left out of the places, so that it drains away as it should, its sessions first.
/// What distinguishes it is the name of its pod (`targetRef.name`) rather than its address, for addresses are given to other pods, and the pod's
/// `uid` is its instance: another one is another incarnation, as with `health.instance_header`. The token and the authority of the
/// pod's service account are files that are read anew, and the right that it needs is `list` and `watch` of
/// `endpointslices.discovery.k8s.io`.
pub(super) trait Source {
    /// All that it leads to, and at least one place.
    ///
    /// # Errors
    /// Why it leads nowhere, in a few words.
    fn find(self) -> impl Future<Output = Result<Places, Arc<str>>> + Send;
}

/// What is asked, and again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `name:port`.
    Name(String),
    /// SRV records, and the server that is asked for them, where it is none of the system's.
    Service(String, Option<SocketAddr>),
    /// A list in a file.
    File(PathBuf),
}

impl Question {
    pub(crate) fn of(discover: &Discover, names: &Names) -> Self {
        match (&discover.file, &discover.srv) {
            (Some(file), _) => Self::File(file.clone()),
            (None, Some(name)) => Self::Service(name.clone(), names.server.map(|server| server.0)),
            (None, None) => Self::Name(discover.address.clone()),
        }
    }

    /// How often it is asked, where names are looked up so often.
    pub(super) const fn interval(&self, names: u64) -> u64 {
        const FILE: u64 = 1_000;
        match self {
            Self::Name(_) | Self::Service(..) => names,
            Self::File(_) => FILE,
        }
    }

    pub(super) async fn find(&self, family: Family, place: SemaphorePermit<'static>) -> Result<Places, Arc<str>> {
        match self.clone() {
            Self::Name(address) => Resolver { address, family, limit: TIMEOUT, place }.find().await,
            Self::Service(name, server) => {
                let _place = place;
                Service { name, server, family }.find().await
            }
            Self::File(path) => List { path, place }.find().await,
        }
    }
}

/// The system's resolver.
pub(super) struct Resolver {
    /// `name:port`.
    pub(super) address: String,
    pub(super) family: Family,
    pub(super) limit: Duration,
    /// Held until the resolver is done, also where nobody waits for it any more.
    pub(super) place: SemaphorePermit<'static>,
}

impl Source for Resolver {
    async fn find(self) -> Result<Places, Arc<str>> {
        let Self { address, family, limit, place } = self;
        let asked = tokio::task::spawn_blocking(move || {
            let _place = place;
            address.to_socket_addrs().map(Iterator::collect::<Vec<_>>)
        });
        let late = || format!("no answer within {} s", limit.as_secs());
        let found = timeout(limit, asked).await.map_err(|_| late())?;
        let found = found.map_err(|_| "this process stops")?.map_err(|error| reason(&error))?.into_iter();
        let counted = by_family(found, family);
        if counted.is_empty() {
            return Err(Arc::from("it has no address of the family that is asked for"));
        }
        Ok(counted.into_iter().map(|at| (shown(at.ip()), Place { at, weight: None, backup: None })).collect())
    }
}

/// Those of the family that is asked for.
pub(super) fn by_family(found: impl Iterator<Item = SocketAddr>, family: Family) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
    match family {
        Family::Either if v4.is_empty() => v6,
        Family::Either | Family::Ipv4 => v4,
        Family::Ipv6 => v6,
        Family::Both => v4.into_iter().chain(v6).collect(),
    }
}

/// An address in the name of a backend: those that differ have names that differ, since one of IPv4 has no `-` and one of
/// IPv6 has.
pub(super) fn shown(ip: IpAddr) -> String {
    ip.to_string().replace(':', "-")
}

/// The resolver's own words.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_ascii_lowercase()
}

/// A file with a list, read whole each time: that it is the same as before shows in its places.
pub(super) struct List {
    pub(super) path: PathBuf,
    pub(super) place: SemaphorePermit<'static>,
}

/// The longest list: 65,535 backends with their weights have half of it.
const MAX_LIST: u64 = 8 << 20;

#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Address(String),
    Weighted(Weighted),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    address: String,
    #[serde(default)]
    weight: Option<u32>,
}

impl Source for List {
    async fn find(self) -> Result<Places, Arc<str>> {
        let Self { path, place } = self;
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut text = Vec::new();
            File::open(path)?.take(MAX_LIST + 1).read_to_end(&mut text).map(|_| text)
        });
        // A file of a network that is away.
        let late = || format!("not read within {} s", TIMEOUT.as_secs());
        let text = timeout(TIMEOUT, read).await.map_err(|_| late())?;
        let text = text
            .map_err(|_| "this process stops")?
            .map_err(|error| error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase())?;
        listed(&text)
    }
}

/// The places of a list.
///
/// # Errors
/// What is wrong with it: then none of it counts.
pub(super) fn listed(text: &[u8]) -> Result<Places, Arc<str>> {
    if text.len() as u64 > MAX_LIST {
        return Err(format!("it is longer than {} MiB", MAX_LIST >> 20).into());
    }
    let list: Vec<Listed> = serde_json::from_slice(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!(
            "it is no list of \"address:port\" or {{\"address\": \"address:port\", \"weight\": 1}} (line {})",
            error.line()
        ),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            error.to_string()
        }
    })?;
    let mut places = Places::new();
    for each in list {
        let Weighted { address, weight } = match each {
            Listed::Address(address) => Weighted { address, weight: None },
            Listed::Weighted(weighted) => weighted,
        };
        let at: Option<SocketAddr> = address.parse().ok().filter(|at: &SocketAddr| at.port() > 0);
        let at = at.ok_or_else(|| format!("`{}` is no address with a port", address.escape_debug()))?;
        if let Some(weight) = weight.filter(|weight| *weight > MAX_WEIGHT) {
            return Err(format!("the weight {weight} of {at} is above {MAX_WEIGHT}").into());
        }
        if places.insert(format!("{}-{}", shown(at.ip()), at.port()), Place { at, weight, backup: None }).is_some() {
            return Err(format!("{at} is there twice").into());
        }
    }
    if places.is_empty() { Err(Arc::from("it lists nobody")) } else { Ok(places) }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) | Self::Service(name, _) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
