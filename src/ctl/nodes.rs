//! The nodes that a command is for: one, or those that `--nodes` names.

use super::{
    args::Ctl,
    client::{Client, PATIENCE},
};
use crate::{
    config::{self, Purpose},
    failure::{Failure, USAGE},
};
use control::{Path, spec::PoolTls};
use std::{env, fs, thread};

const ADMIN: &str = "STEADFAST_ADMIN";
const NODES: &str = "STEADFAST_NODES";

#[derive(Clone, Debug)]
pub(super) struct Nodes {
    clients: Vec<Client>,
    /// By `--nodes`, be it one: what is printed does not depend on how many there are.
    named: bool,
}

/// What became of a question at one node, beside what the node is called.
pub(super) type Told<T> = (String, Result<T, Failure>);

impl Nodes {
    /// The one node, where none were named.
    pub(super) fn alone(&self) -> Option<&Client> {
        self.clients.first().filter(|_| !self.named)
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.clients.iter().map(Client::to_string).collect()
    }

    /// Those of them that are called so.
    pub(super) fn only(&self, names: &[String]) -> Self {
        let clients = self.clients.iter().filter(|client| names.contains(&client.to_string())).cloned().collect();
        Self { clients, ..*self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Asks all at once, so that one that keeps silent costs its own time alone; in the order in which they were named.
    pub(super) fn at_once<T: Send>(&self, ask: impl Fn(&Client) -> Result<T, Failure> + Sync) -> Vec<Told<T>> {
        let ask = &ask;
        thread::scope(|scope| {
            let asked: Vec<_> = self.clients.iter().map(|client| (client, scope.spawn(move || ask(client)))).collect();
            let lost = |_| Err(Failure::general("the question broke off"));
            asked.into_iter().map(|(client, asked)| (client.to_string(), asked.join().unwrap_or_else(lost))).collect()
        })
    }

    /// Asks one after the other, all of them whatever becomes of it.
    pub(super) fn in_turn<T>(&self, ask: impl Fn(&Client) -> Result<T, Failure>) -> Vec<Told<T>> {
        self.clients.iter().map(|client| (client.to_string(), ask(client))).collect()
    }

    /// Asks one after the other, up to the first that fails; which one that is is told where they were named.
    pub(super) fn all<T>(&self, ask: impl Fn(&Client) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let named = |client: &Client, failure: Failure| match self.alone() {
            Some(_) => failure,
            None => Failure::general(format!("{client}: {failure}")),
        };
        self.clients.iter().map(|client| ask(client).map_err(|failure| named(client, failure))).collect()
    }

    /// Those that a change of pools and backends has to be told. Where the nodes share their desired state, as in etcd, any one
    /// that answers carries it to the others; else each has a state of its own.
    ///
    /// # Errors
    /// Some share theirs, and others don't.
    pub(super) fn writers(&self) -> Result<Self, Failure> {
        if self.alone().is_some() {
            return Ok(self.clone());
        }
        let told = self.at_once(|client| client.call("GET", "/v1/status", None, PATIENCE));
        let answered: Vec<_> = told.into_iter().filter_map(|(name, status)| Some((name, status.ok()?))).collect();
        let (sharing, others): (Vec<_>, Vec<_>) =
            answered.into_iter().map(|(name, status)| (status["source"] == "etcd", name)).partition(|(etcd, _)| *etcd);
        match (sharing.first(), others.first()) {
            (Some((_, one)), None) => Ok(self.only(std::slice::from_ref(one))),
            (Some((_, one)), Some((_, other))) => Err(Failure::general(format!(
                "{one} takes its membership from etcd and {other} does not: command them apart"
            ))),
            (None, _) => Ok(self.clone()),
        }
    }
}

/// What the options, the environment and the configuration file lead to.
pub(super) fn connect(arguments: &Ctl) -> Result<Nodes, Failure> {
    let admin = match &arguments.config {
        Some(file) => config::load(file, Purpose::FileOnly)?.config.admin,
        None => control::config::Admin::default(),
    };
    let token = match arguments.token_file.as_ref().or(admin.token_file.as_ref()) {
        Some(file) => {
            let text = fs::read_to_string(file);
            let text = text.map_err(Failure::doing(format_args!("can't read the token in {}", file.display())))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let [from_admin, from_nodes] = [ADMIN, NODES].map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    let mut addresses = addresses(arguments, from_admin.as_deref(), from_nodes.as_deref())?;
    let named = !addresses.is_empty();
    if !named {
        let scheme = if admin.tls.is_some() { "https://" } else { "" };
        addresses.push(arguments.admin.clone().unwrap_or_else(|| format!("{scheme}{}", admin.listen)));
    }
    let trust = if addresses.iter().any(|address| address.starts_with("https://")) {
        let settings = PoolTls { ca: arguments.ca.clone(), ..PoolTls::default() };
        let trust = certificates::trust(&settings, &Path::default(), &[]);
        Some(trust.map_err(|problems| Failure::general(format!("--ca: {}", certificates::words(&problems))))?)
    } else {
        None
    };
    let clients = addresses.iter().map(|address| Client::new(address, token.clone(), trust.as_ref())).collect();
    Ok(Nodes { clients, named })
}

/// The addresses of the nodes that were named; none where one node is meant. What was typed counts for more than the environment.
fn addresses(arguments: &Ctl, env_admin: Option<&str>, env_nodes: Option<&str>) -> Result<Vec<String>, Failure> {
    let typed_admin = arguments.admin.is_some() && arguments.admin.as_deref() != env_admin;
    let wrong = |text: &str| Err(Failure::new(USAGE, text));
    let nodes: Vec<String> = match (arguments.nodes.as_slice(), env_nodes) {
        ([], None) => return Ok(Vec::new()),
        ([], Some(_)) if typed_admin => return Ok(Vec::new()),
        ([], Some(_)) if env_admin.is_some() => {
            return wrong("STEADFAST_ADMIN and STEADFAST_NODES are both set: say --admin or --nodes, or unset one");
        }
        ([], Some(nodes)) => nodes.split(',').map(str::to_owned).collect(),
        (_, _) if typed_admin => return wrong("--admin is one node and --nodes are many: leave out one of them"),
        (nodes, _) => nodes.to_vec(),
    };
    let nodes: Vec<_> = nodes.iter().map(|node| node.trim().to_owned()).collect();
    if nodes.iter().any(String::is_empty) {
        return wrong("--nodes: an address is empty; write them as in 10.0.0.1:9090,10.0.0.2:9090");
    }
    match nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node)) {
        Some((_, twice)) => wrong(&format!("--nodes: {twice} stands there twice")),
        None => Ok(nodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn typed(words: &[&str]) -> Ctl {
        let cli = Cli::try_parse_from(["steadfast", "ctl"].iter().chain(words).chain(&["status"])).unwrap();
        let Command::Ctl(arguments) = cli.command else { panic!("not ctl") };
        *arguments
    }

    /// What was typed, and both variables.
    type Said = (&'static [&'static str], Option<&'static str>, Option<&'static str>);

    #[test]
    fn what_was_typed_counts_for_more_than_the_environment() {
        let cases: [(Said, &[&str]); 6] = [
            ((&[], None, None), &[]),
            ((&["--nodes", "a:1,b:2", "--nodes", "c:3"], None, None), &["a:1", "b:2", "c:3"]),
            ((&["--nodes", "a:1"], None, Some("x:1,y:2")), &["a:1"]),
            ((&[], None, Some("x:1, y:2")), &["x:1", "y:2"]),
            ((&["--admin", "a:1"], None, Some("x:1")), &[]),
            ((&["--nodes", "a:1"], Some("x:1"), None), &["a:1"]),
        ];
        for ((words, admin, nodes), wanted) in cases {
            assert_eq!(addresses(&typed(words), admin, nodes).unwrap(), wanted, "{words:?} {admin:?} {nodes:?}");
        }
    }

    #[test]
    fn what_can_be_meant_in_two_ways_is_refused() {
        let cases: [(Said, &str); 4] = [
            ((&["--admin", "a:1", "--nodes", "b:1"], None, None), "--admin is one node"),
            ((&[], Some("x:1"), Some("y:1")), "are both set"),
            ((&["--nodes", "a:1,,b:1"], None, None), "an address is empty"),
            ((&["--nodes", "a:1,a:1"], None, None), "a:1 stands there twice"),
        ];
        for ((words, admin, nodes), wanted) in cases {
            let failure = addresses(&typed(words), admin, nodes).unwrap_err();
            assert!(failure.code == USAGE && failure.to_string().contains(wanted), "{failure}");
        }
    }
}
