//! Pools, from upstreams and from what `proxy_pass` names itself.

use super::{
    affinity, settings,
    tree::{Directive, say},
};
use crate::import::{
    draft::{Names, Noted},
    report::{Ledger, Verdict},
};
use control::{
    check::{self, is_name},
    spec::{Backend, Check, Discover, Mode, Pool},
};
use std::collections::BTreeMap;

/// How backends are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spoken {
    Http,
    Https,
    Grpc,
    Grpcs,
    /// Bytes, of whatever protocol.
    Tcp,
}

impl Spoken {
    pub(super) fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

/// What leads to a pool, with what it lies in, the innermost first.
pub(super) type Scopes<'a> = &'a [&'a Directive];

/// A setting, from where it stands closest.
pub(super) fn setting<'a>(scopes: Scopes<'a>, name: &str) -> Option<&'a Directive> {
    scopes.iter().find_map(|scope| scope.find(name))
}

#[derive(Debug, Default)]
pub(super) struct Pools<'d> {
    upstreams: BTreeMap<&'d str, &'d Directive>,
    /// What is in the blocks beside the upstreams, such as maps.
    pub(super) around: Vec<&'d Directive>,
    made: Vec<((String, Spoken), Noted<Pool>)>,
    /// How many of them are of other blocks.
    parted: usize,
    pub(super) names: Names,
}

impl<'d> Pools<'d> {
    /// Those of a block, in place of those before.
    pub(super) fn know(&mut self, block: &'d Directive) {
        self.upstreams = block.all("upstream").map(|upstream| (upstream.word(1), upstream)).collect();
        self.around = block.block.iter().collect();
    }

    /// Upstreams of one block are not those of another, whatever their names.
    pub(super) fn part(&mut self) {
        self.parted = self.made.len();
    }

    pub(super) fn into_made(self) -> impl Iterator<Item = Noted<Pool>> {
        self.made.into_iter().map(|(_, pool)| pool)
    }

    /// The pool for `target`, the name of an upstream or an address; made where it is not there yet.
    pub(super) fn lead(
        &mut self,
        ledger: &mut Ledger,
        target: &str,
        spoken: Spoken,
        from: &Directive,
        scopes: Scopes<'_>,
    ) -> Result<String, String> {
        let key = (target.to_owned(), spoken);
        if let Some((_, pool)) = self.made.iter_mut().skip(self.parted).find(|(made, _)| *made == key) {
            settings::of_pool(ledger, pool, spoken, scopes, false);
            return Ok(pool.is.name.clone());
        }
        let mut pool = Noted::<Pool>::default();
        pool.is.affinity.mode = Mode::None;
        // Nothing is checked there but what requests show.
        pool.is.health.check = Check::Off;
        match self.upstreams.get(target).copied() {
            Some(upstream) => {
                pool.note("", upstream.place);
                servers(ledger, &mut pool, upstream, spoken);
                affinity::read(ledger, &mut pool, upstream, &self.around, spoken);
                say(ledger, upstream, Verdict::taken(format!("pool `{target}`")));
            }
            None if target.contains('$') => {
                return Err("the target is made for each request: write a route for each".to_owned());
            }
            None => {
                let default = if spoken.is_encrypted() { 443 } else { 80 };
                let backend = backend(target, default, Backend::default())?;
                pool.note("", from.place);
                pool.note("backend.0", from.place);
                pool.is.backends.push(backend);
            }
        }
        settings::of_pool(ledger, &mut pool, spoken, scopes, true);
        pool.is.name = self.names.give(target.trim_start_matches("unix:"));
        let name = pool.is.name.clone();
        self.made.push((key, pool));
        Ok(name)
    }
}

/// A backend at an address as nginx has it; `like` has the rest.
fn backend(text: &str, default_port: u16, like: Backend) -> Result<Backend, String> {
    let address = match text {
        _ if text.starts_with("unix:") => text.trim_end_matches(':').to_owned(),
        _ if text.ends_with(']') || !text.contains(':') => format!("{text}:{default_port}"),
        _ => text.to_owned(),
    };
    let plain = |sign: char| if sign.is_ascii_alphanumeric() || "-_.".contains(sign) { sign } else { '-' };
    let named: String = address.trim_start_matches("unix:").chars().map(plain).collect();
    let name = named.trim_matches('-').to_owned();
    let backend = Backend { name, address, ..like };
    match check::backend(&backend).first() {
        Some(problem) => Err(format!("{} {}: {}", problem.path, problem.wrong, problem.right)),
        None => Ok(backend),
    }
}

/// Parameters of a `server`, by name.
fn parameters(server: &Directive) -> BTreeMap<&str, &str> {
    server.words.iter().skip(2).map(|word| word.split_once('=').unwrap_or((word, ""))).collect()
}

fn servers(ledger: &mut Ledger, pool: &mut Noted<Pool>, upstream: &Directive, spoken: Spoken) {
    let mut names = Names::default();
    let all: Vec<_> = upstream.all("server").collect();
    for server in &all {
        match add(pool, server, &mut names, spoken) {
            Ok(verdict) => say(ledger, server, verdict),
            Err(why) => say(ledger, server, Verdict::not_taken(why)),
        }
        for (name, value) in parameters(server) {
            let verdict = match name {
                "weight" | "backup" | "down" | "route" | "resolve" | "max_fails" | "fail_timeout" | "max_conns"
                | "slow_start" => continue,
                "id" => Verdict::not_needed("names are what counts here"),
                "service" => Verdict::not_taken("records of services are not looked up: name host and port"),
                "drain" => Verdict::not_taken("drain it by `steadfast ctl drain` once Steadfast serves"),
                _ => Verdict::not_taken("nothing is known of it here"),
            };
            ledger.part(server.place, format!("{name} {value}").trim_end(), verdict);
        }
    }
    let Some(first) = all.first() else { return };
    for (name, key) in [
        ("max_fails", "health.passive.failures"),
        ("fail_timeout", "health.passive.hold"),
        ("max_conns", "limits.requests"),
        ("slow_start", "slow_start"),
    ] {
        let value = parameters(first).get(name).copied();
        for other in &all[1..] {
            if parameters(other).get(name).copied() != value {
                let why = format!("all backends of a pool share `{key}`, and that of the first holds");
                ledger.part(other.place, name, Verdict::not_taken(why));
            }
        }
        let Some(value) = value else { continue };
        if let Err(why) = shared(pool, first, name, value) {
            ledger.part(first.place, name, Verdict::not_taken(why));
        }
    }
}

fn shared(pool: &mut Noted<Pool>, server: &Directive, name: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<u32>().map_err(|_| "it is no number".to_owned());
    match name {
        "max_fails" => {
            let failures = number()?;
            pool.set("health.passive", server.place, |pool| pool.health.passive.failures = failures)
        }
        "fail_timeout" => {
            let hold = settings::time(value)?;
            pool.set("health.passive", server.place, |pool| pool.health.passive.hold = hold)
        }
        "max_conns" => {
            let requests = number()?;
            pool.set("limits", server.place, |pool| pool.limits.requests = requests)
        }
        _ => {
            let span = settings::time(value)?;
            pool.set("", server.place, |pool| pool.slow_start = Some(span))
        }
    }
}

fn add(pool: &mut Noted<Pool>, server: &Directive, names: &mut Names, spoken: Spoken) -> Result<Verdict, String> {
    let given = parameters(server);
    let weight = match given.get("weight") {
        Some(weight) => weight.parse().map_err(|_| format!("weight `{weight}` is no number"))?,
        None => 1,
    };
    let like = Backend { weight, backup: given.contains_key("backup"), ..Backend::default() };
    let default = if spoken.is_encrypted() { 443 } else { 80 };
    let mut backend = backend(server.word(1), default, like)?;
    if given.contains_key("down") {
        let address = &backend.address;
        return Err(format!("it is down and left out; once it serves: `steadfast ctl add POOL NAME {address}`"));
    }
    if let Some(route) = given.get("route").filter(|route| is_name(route)) {
        (*route).clone_into(&mut backend.name);
    }
    let host = backend.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    let is_named = !backend.address.starts_with("unix:") && host.parse::<std::net::IpAddr>().is_err();
    if given.contains_key("resolve") && is_named {
        let discover = Discover {
            name: host.to_owned(),
            address: backend.address.clone(),
            weight,
            backup: given.contains_key("backup"),
            ..Discover::default()
        };
        let path = format!("discover.{}", pool.is.discover.len());
        pool.set(&path, server.place, |pool| pool.discover.push(discover))?;
        return Ok(Verdict::taken("[[pool.discover]]"));
    }
    backend.name = names.give(&backend.name);
    let told = format!("backend `{}`", backend.name);
    pool.note(format!("backend.{}", pool.is.backends.len()), server.place);
    pool.is.backends.push(backend);
    Ok(match is_named {
        true => Verdict::otherwise(told, "one of the name's addresses is used: a [[pool.discover]] has them all"),
        false => Verdict::taken(told),
    })
}
