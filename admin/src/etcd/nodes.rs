//! The nodes of the cluster: each writes where it is reached, and says once a minute that it is still there. Without leases:
//! a row that is not refreshed any more says since when its node is away.

use super::{
    Etcd,
    client::Failure,
    rows::{Key, Node, to_text},
    txn::{Compare, Op, Txn},
    wire,
};
use crate::{clock, state::State};
use control::{check::is_name, config};
use std::{fs, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How often a node says that it is there.
const EVERY: Duration = Duration::from_secs(60);
/// A node that has not said so for that long is away: two of them may be lost.
const AWAY: Duration = Duration::from_secs(180);
/// How often it is looked whether there is something to say.
const LOOK: Duration = Duration::from_secs(1);
/// After an attempt that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a node that stops tries to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// This node as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) name: String,
    /// Where its admin API is reached.
    pub(crate) admin: String,
}

/// A node that etcd lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Absent where what it wrote was never of use.
    pub(crate) node: Option<Node>,
    /// Why it is not worth asking; absent where it is.
    pub(crate) away: Option<String>,
}

impl Own {
    /// # Errors
    /// What to set, so that the others can know of this node.
    pub(super) fn of(settings: &config::Etcd) -> Result<Self, String> {
        let Some(admin) = settings.advertise.clone() else {
            return Err(
                "set `advertise` of [membership.etcd] to where the other nodes reach this one's admin API, as in \
                        \"http://10.0.0.5:9090\", at every node; then restart"
                    .to_owned(),
            );
        };
        let name = settings.node.clone().unwrap_or_else(host_name);
        if is_name(&name) {
            return Ok(Self { name, admin });
        }
        Err(format!(
            "the host is called `{}`, which is no name of a node: set `node` of [membership.etcd]",
            name.escape_debug()
        ))
    }

    /// What an operator should look at.
    pub(crate) fn clash(&self, name: &str, node: &Node) -> Option<String> {
        (self.name == name && self.admin != node.admin).then(|| {
            format!(
                "a node at {} is called `{name}` as well, so that one of the two is not known: set `node` of \
                 [membership.etcd]",
                node.admin
            )
        })
    }
}

fn host_name() -> String {
    // Without /proc there is none, which is no name either.
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

impl Etcd {
    /// This node as the others know it.
    ///
    /// # Errors
    /// What to set, so that they can.
    pub(crate) fn own(&self) -> Result<&Own, &str> {
        self.own.as_ref().map_err(String::as_str)
    }

    /// The nodes that etcd lists, by their names; as last heard, where etcd is away, and then nobody is taken to be away: no
    /// node could have said that it is there.
    pub(crate) async fn nodes(&self) -> Vec<Listed> {
        let etcd_is_away = self.status().away.is_some();
        let now = clock::unix_millis() / 1_000;
        let mirror = self.mirror.lock().await;
        let listed = |(name, node): (&str, Result<&Node, &str>)| Listed {
            name: name.to_owned(),
            node: node.ok().cloned(),
            away: match node {
                Ok(node) => why_away(node, now).filter(|_| !etcd_is_away),
                Err(why) => Some(format!(
                    "what etcd has at `{}` can't be used: {why}",
                    Key::Node(name.to_owned()).path(&mirror.prefix)
                )),
            },
        };
        mirror.nodes().map(listed).collect()
    }

    /// Whether this node's row is there.
    async fn is_listed(&self, own: &Own) -> bool {
        self.mirror.lock().await.nodes().any(|(name, _)| name == own.name)
    }

    /// Says that this node is there; the revision that says so.
    async fn announce(&self, own: &Own, version: &str) -> Result<u64, Failure> {
        let seen = clock::unix_millis() / 1_000;
        let node = Node { admin: own.admin.clone(), version: version.to_owned(), seen };
        let put = Op::Put(Key::Node(own.name.clone()), to_text(&node));
        let txn = Txn { compares: Vec::new(), ops: vec![put] };
        Ok(self.client.txn(&wire::txn(&txn, self.client.prefix(), |_| None)).await?.header.revision)
    }

    /// Takes this node's row away, where nobody else has written it since.
    async fn leave(&self, own: &Own, revision: u64) -> Result<(), Failure> {
        let key = Key::Node(own.name.clone());
        let txn = Txn { compares: vec![Compare::Unchanged(key.clone(), revision)], ops: vec![Op::Delete(key)] };
        self.client.txn(&wire::txn(&txn, self.client.prefix(), |_| None)).await.map(drop)
    }
}

/// `now` is in Unix seconds.
fn why_away(node: &Node, now: u64) -> Option<String> {
    let silent = now.saturating_sub(node.seen);
    (silent > AWAY.as_secs())
        .then(|| format!("away: it has not said for {silent} s that it is there, and was not asked"))
}

/// Keeps this node's row in etcd until this process stops, and takes it away then. Nothing is done without `advertise`.
pub(crate) async fn keep_announced(state: Arc<State>, etcd: Arc<Etcd>, version: &'static str) {
    let own = match etcd.own() {
        Ok(own) => own.clone(),
        Err(_) => return,
    };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut tried, mut done, mut revision) = (None::<Instant>, false, None);
    let announced = async {
        loop {
            looks.tick().await;
            let since = tried.map_or(EVERY, |tried| tried.elapsed());
            // Before it was heard, nobody knows what the prefix is for.
            if *etcd.heard.borrow() == 0 || etcd.status().away.is_some() || since < AGAIN {
                continue;
            }
            // Somebody may have emptied the prefix.
            if since < EVERY && done && etcd.is_listed(&own).await {
                continue;
            }
            tried = Some(Instant::now());
            match etcd.announce(&own, version).await {
                Ok(written) => (revision, done) = (Some(written), true),
                Err(failure) => {
                    done = false;
                    tracing::warn!(%failure, "etcd can't be told where this node is");
                }
            }
        }
    };
    tokio::select! {
        () = announced => {}
        () = state.stopped() => {}
    }
    if let Some(revision) = revision
        && etcd.status().away.is_none()
    {
        // Otherwise its row says for itself, in a while, that it is away.
        drop(timeout(FAREWELL, etcd.leave(&own, revision)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(admin: &str, seen: u64) -> Node {
        Node { admin: admin.to_owned(), version: "1".to_owned(), seen }
    }

    #[test]
    fn who_has_not_said_for_three_minutes_that_it_is_there_is_away() {
        for (seen, away) in [(1_000, false), (820, false), (819, true), (0, true), (2_000, false)] {
            assert_eq!(why_away(&node("http://a:1", seen), 1_000).is_some(), away, "{seen}");
        }
        assert!(why_away(&node("http://a:1", 700), 1_000).unwrap().contains("for 300 s"));
    }

    #[test]
    fn two_nodes_of_one_name_are_told() {
        let own = Own { name: "lb-1".to_owned(), admin: "http://a:1".to_owned() };
        let (same, other) = (node("http://a:1", 1), node("http://b:1", 1));
        assert_eq!([own.clash("lb-1", &same), own.clash("lb-2", &other)], [None, None]);
        let told = own.clash("lb-1", &other).unwrap();
        assert!(told.contains("http://b:1") && told.contains("`lb-1`"), "{told}");
    }

    #[test]
    fn what_has_to_be_set_is_told() {
        let settings = |advertise: Option<&str>, node: Option<&str>| config::Etcd {
            advertise: advertise.map(str::to_owned),
            node: node.map(str::to_owned),
            ..config::Etcd::default()
        };
        assert!(Own::of(&settings(None, None)).unwrap_err().contains("set `advertise` of [membership.etcd]"));
        let own = Own::of(&settings(Some("http://a:1"), Some("lb-1"))).unwrap();
        assert_eq!((own.name.as_str(), own.admin.as_str()), ("lb-1", "http://a:1"));
        assert!(Own::of(&settings(Some("http://a:1"), Some("a b"))).unwrap_err().contains("set `node`"));
    }
}
