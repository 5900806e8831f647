//! Which backend a client is led to.

use super::{
    acl::{self, Acls, Match},
    frontend::Pools,
    proxy::{Mode, Proxy},
};
use crate::import::{
    draft::Noted,
    report::{Ledger, Place, Verdict},
    routes::{self, Host, Rule},
};
use control::spec::Listener;

/// The rules of a frontend in their order, and what is left to.
#[derive(Debug, Default)]
pub(super) struct Leads {
    rules: Vec<(Match, String, Place)>,
    default: Option<(String, Place)>,
}

pub(super) fn read(ledger: &mut Ledger, proxy: &Proxy<'_>, acls: &Acls<'_>, pools: &Pools<'_>) -> Leads {
    let mut leads = Leads::default();
    let pool = |name: &str| match pools.get(name) {
        Some((pool, mode)) if *mode == proxy.mode => Ok(pool.clone()),
        Some(_) => Err(format!("backend `{name}` has another mode, with which HAProxy leads nobody there")),
        None if name.contains('%') => Err("a name that is made for each request: write a route for each".to_owned()),
        None => Err(format!("there is no backend `{name}` with servers")),
    };
    for line in proxy.all(&["use_backend"]) {
        let words = line.words();
        let (name, condition) = (words.get(1).copied().unwrap_or_default(), words.get(2..).unwrap_or_default());
        let read = pool(name).and_then(|pool| Ok((pool, acl::condition(condition, acls)?)));
        let verdict = match read {
            Ok((pool, matches)) => {
                let verdict = route_verdict(&matches, proxy.mode);
                let is_taken = !matches!(verdict, Verdict::NotTaken(_));
                let found = matches.into_iter().filter(|_| is_taken).map(|found| (found, pool.clone(), line.place));
                leads.rules.extend(found);
                for place in acls.named_in(condition) {
                    ledger.remark(place, Verdict::taken("listener.route"));
                }
                verdict
            }
            Err(why) => Verdict::not_taken(why),
        };
        ledger.remark(line.place, verdict);
    }
    if proxy.has_servers() && pools.contains_key(proxy.section.name.as_str()) {
        leads.default = pool(&proxy.section.name).ok().map(|pool| (pool, proxy.section.place));
    }
    if let Some(line) = proxy.last(&["default_backend"]).filter(|_| leads.default.is_none()) {
        match pool(line.words.get(1).map_or("", String::as_str)) {
            Ok(pool) => {
                ledger.remark(line.place, Verdict::taken("listener.pool"));
                leads.default = Some((pool, line.place));
            }
            Err(why) => ledger.remark(line.place, Verdict::not_taken(why)),
        }
    }
    leads
}

fn route_verdict(matches: &[Match], mode: Mode) -> Verdict {
    if mode == Mode::Tcp && matches.iter().any(|found| found.host == Host::Any && !found.holds_all()) {
        return Verdict::not_taken("what is passed on unread has no path");
    }
    let mut buts = Vec::new();
    for but in matches.iter().flat_map(Match::differs) {
        if !buts.contains(&but) {
            buts.push(but);
        }
    }
    match buts.is_empty() {
        true => Verdict::taken("listener.route"),
        false => Verdict::otherwise("listener.route", buts.join("; ")),
    }
}

impl Leads {
    /// Leads a listener to its pools; where it redirects, only what matches `redirect_but` is led anywhere.
    pub(super) fn lead(
        &self,
        ledger: &mut Ledger,
        listener: &mut Noted<Listener>,
        tls: bool,
        redirect_but: Option<&[Match]>,
    ) {
        let fits = |found: &Match| found.tls.is_none_or(|wanted| wanted == tls);
        let all = Match::all();
        let rules = self.rules.iter().filter(|(found, ..)| fits(found));
        let rules = rules.map(|(found, pool, place)| (found, pool, *place));
        let default = self.default.iter().map(|(pool, place)| (&all, pool, *place));
        let led: Vec<Rule> = match redirect_but {
            None => rules.chain(default).map(|(found, pool, place)| rule(found, pool, place)).collect(),
            Some(but) => {
                let led: Vec<_> = rules.chain(default).collect();
                let both = led.iter().flat_map(|(found, pool, place)| {
                    but.iter().filter_map(|but| Some(rule(&found.and(but)?, pool, *place))).collect::<Vec<_>>()
                });
                both.collect()
            }
        };
        routes::lead(ledger, listener, &led, routes::by_order(&led));
    }
}

fn rule(found: &Match, pool: &str, place: Place) -> Rule {
    Rule { host: found.host.clone(), path: found.path.clone(), pool: pool.to_owned(), place }
}

const USED_IN_VAIN: &str = "the lines that use it are not taken";

/// What is to be said of acls that no route has used.
pub(super) fn say_of_acls(ledger: &mut Ledger, proxy: &Proxy<'_>) {
    for line in proxy.section.statements.iter().filter(|line| line.words[0] == "acl") {
        if ledger.knows(line.place) {
            continue;
        }
        let Some(name) = line.words.get(1) else { continue };
        let uses = |other: &&super::sections::Statement| {
            other.words[0] != "acl" && other.words.iter().any(|word| word.trim_start_matches('!') == name)
        };
        let expression: Vec<_> = line.words[2..].iter().map(String::as_str).collect();
        let verdict = match proxy.section.statements.iter().any(|other| uses(&other)) {
            true => Verdict::not_taken(acl::expression(&expression).err().unwrap_or_else(|| USED_IN_VAIN.to_owned())),
            false => Verdict::not_needed("nothing uses it"),
        };
        ledger.remark(line.place, verdict);
    }
}
