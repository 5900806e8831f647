//! What takes clients: listeners, from frontends and `listen` sections.

use super::{
    acl::{self, Acls, Match},
    bind::{self, Bind, Ssl},
    proxy::{Mode, Proxy},
    rules::{self, Leads},
    sections::Statement,
    time,
};
use crate::import::{
    draft::{Names, Noted},
    report::{Ledger, Place, Verdict},
};
use control::spec::{Cidr, Listener, Protocol, Redirect, Span, Tls};
use std::collections::{BTreeMap, BTreeSet};

/// The pools that there are, by the names of HAProxy's backends.
pub(super) type Pools<'s> = BTreeMap<&'s str, (String, Mode)>;

/// What listeners have that no other may have.
#[derive(Debug, Default)]
pub(super) struct Given {
    names: Names,
    binds: BTreeSet<String>,
}

/// What is made of one frontend, and what holds for all of it.
struct Front<'f, 's> {
    proxy: &'f Proxy<'s>,
    leads: Leads,
    /// What is not sent to https, and the line that sends all else there.
    redirect: Option<(Vec<Match>, Place)>,
}

pub(super) fn listeners(
    ledger: &mut Ledger,
    proxy: &Proxy<'_>,
    pools: &Pools<'_>,
    ssl: &Ssl,
    given: &mut Given,
) -> Vec<Noted<Listener>> {
    let acls = Acls::of(proxy.all(&["acl"]));
    let redirect = redirect(ledger, proxy, &acls);
    let leads = rules::read(ledger, proxy, &acls, pools);
    let front = Front { proxy, leads, redirect };
    let binds: Vec<_> = proxy.own(&["bind"]).map(|line| (line, bind::read(ledger, line, ssl))).collect();
    let (plain, tls) =
        (binds.iter().any(|(_, bind)| bind.tls.is_none()), binds.iter().any(|(_, bind)| bind.tls.is_some()));
    let mut made = Vec::new();
    for (line, bind) in &binds {
        let wanted = match &bind.name {
            Some(name) => name.clone(),
            None if plain && tls && bind.tls.is_some() => format!("{}-tls", proxy.section.name),
            None => proxy.section.name.clone(),
        };
        let mut whole = !bind.addresses.is_empty();
        for address in &bind.addresses {
            if given.binds.contains(address) {
                whole = false;
                ledger.part(line.place, address, Verdict::not_taken("a line before binds it already"));
                continue;
            }
            match front.listener(ledger, line, bind, address) {
                Ok(mut listener) => {
                    listener.is.name = given.names.give(&wanted);
                    given.binds.insert(address.clone());
                    made.push(listener);
                }
                Err(why) => {
                    whole = false;
                    ledger.remark(line.place, why);
                }
            }
        }
        if whole {
            ledger.remark(line.place, Verdict::taken("listener.bind"));
        }
    }
    settings(ledger, proxy, &mut made);
    rules::say_of_acls(ledger, proxy);
    let names: Vec<_> = made.iter().map(|listener| format!("`{}`", listener.is.name)).collect();
    if !names.is_empty() {
        ledger.remark(proxy.section.place, Verdict::taken(format!("listener {}", names.join(", "))));
        if let Some(line) = proxy.last(&["mode"]) {
            ledger.remark(line.place, Verdict::taken("listener.protocol"));
        }
    }
    made
}

impl Front<'_, '_> {
    /// What one address leads to, or what is to be said of its line where that is nowhere.
    fn listener(
        &self,
        ledger: &mut Ledger,
        line: &Statement,
        bind: &Bind,
        address: &str,
    ) -> Result<Noted<Listener>, Verdict> {
        let place = line.place;
        let mut listener = Noted::<Listener>::default();
        listener.note("", self.proxy.section.place);
        let made = listener.set("", place, |listener| {
            address.clone_into(&mut listener.bind);
            "x".clone_into(&mut listener.name);
            if self.proxy.mode == Mode::Tcp {
                listener.protocol = Protocol::Tcp;
            } else {
                listener.http2 = bind.http2.unwrap_or(true);
            }
            listener.tls = bind.tls.clone().map(|tls| Tls::With(Box::new(tls)));
            if bind.accept_proxy {
                let all = ["0.0.0.0/0", "::/0"].map(|range| range.parse::<Cidr>().ok());
                listener.proxy_protocol = all.into_iter().flatten().collect();
            }
            if let Some(connections) = bind.connections {
                listener.limits.connections = connections;
            }
            // It has to lead somewhere to be whole.
            listener.pool = Some("x".to_owned());
        });
        made.map_err(Verdict::not_taken)?;
        listener.is.pool = None;
        let redirect = self.redirect.as_ref().filter(|_| bind.tls.is_none());
        self.leads.lead(ledger, &mut listener, bind.tls.is_some(), redirect.map(|(but, _)| but.as_slice()));
        if let Some((_, place)) = redirect {
            listener.is.redirect = Some(Redirect::Https);
            listener.note("", *place);
        }
        if listener.is.pool.is_none() && listener.is.routes.is_empty() && redirect.is_none() {
            let serves_itself = ["stats", "monitor-uri"].iter().any(|word| self.proxy.last(&[word]).is_some())
                || self.proxy.last(&["http-request", "use-service"]).is_some();
            let verdict = match serves_itself {
                true => Verdict::not_needed("`steadfast ctl`, REST and /metrics are at the admin address"),
                false => Verdict::not_taken("it leads nowhere: set `pool` of a listener"),
            };
            ledger.remark(self.proxy.section.place, verdict.clone());
            return Err(verdict);
        }
        Ok(listener)
    }
}

/// The line that sends clear text to https, with what it leaves as it is.
fn redirect(ledger: &mut Ledger, proxy: &Proxy<'_>, acls: &Acls<'_>) -> Option<(Vec<Match>, Place)> {
    if proxy.mode == Mode::Tcp {
        return None;
    }
    let mut found = None;
    let starts: [&[&str]; 2] = [&["http-request", "redirect", "scheme", "https"], &["redirect", "scheme", "https"]];
    for (start, line) in starts.iter().flat_map(|start| proxy.all(start).map(move |line| (start, line))) {
        let words = line.words();
        let rest = match &words[start.len()..] {
            ["code", _, rest @ ..] => rest,
            rest => rest,
        };
        match acl::plain_but(rest, acls) {
            Some(exceptions) => {
                let but = "the answer is 308, so that methods stay";
                ledger.remark(line.place, Verdict::otherwise("listener.redirect = \"https\"", but));
                for acl in acls.named_in(rest) {
                    ledger.remark(acl, Verdict::taken("what is not redirected"));
                }
                // An earlier one has its way already.
                found = found.or(Some((exceptions, line.place)));
            }
            None => {
                let why = "all that comes in clear text can be redirected, but for routes, and nothing else";
                ledger.remark(line.place, Verdict::not_taken(why));
            }
        }
    }
    found
}

/// What holds for each listener of a frontend.
fn settings(ledger: &mut Ledger, proxy: &Proxy<'_>, made: &mut [Noted<Listener>]) {
    if made.is_empty() {
        return;
    }
    let http = proxy.mode == Mode::Http;
    let client = proxy.last(&["timeout", "client"]);
    let head = proxy.last(&["timeout", "http-request"]).filter(|_| http).or(client);
    let idle = proxy.last(&["timeout", "http-keep-alive"]).or(head);
    if http {
        timeout(ledger, made, head, "timeouts.head", |listener, span| listener.timeouts.head = span);
        timeout(ledger, made, idle, "timeouts.idle", |listener, span| listener.timeouts.idle = span);
        timeout(ledger, made, client, "timeouts.body", |listener, span| listener.timeouts.body = span);
    } else {
        if let Some(client) = client {
            ledger.remark(client.place, Verdict::not_needed("pool.timeouts.tunnel holds for both sides"));
        }
        inspection(ledger, proxy, made);
    }
    if let Some(line) = proxy.last(&["maxconn"]) {
        let set = line.words.get(1).and_then(|number| number.parse().ok()).filter(|number| *number > 0);
        match set {
            Some(connections) => {
                for listener in made.iter_mut() {
                    listener.is.limits.connections = connections;
                    listener.note("limits", line.place);
                }
                let but = "it holds for each worker";
                ledger.remark(line.place, Verdict::otherwise("listener.limits.connections", but));
            }
            None => ledger.remark(line.place, Verdict::not_taken("it is no number above 0")),
        }
    }
    if http {
        forwarded_for(ledger, proxy, made);
        hsts(ledger, proxy, made);
    }
}

fn timeout(
    ledger: &mut Ledger,
    made: &mut [Noted<Listener>],
    line: Option<&Statement>,
    key: &str,
    set: impl Fn(&mut Listener, Span),
) {
    let Some(line) = line else { return };
    match time::read(line.words.get(2).map_or("", String::as_str), "ms") {
        Ok(span) => {
            for listener in made {
                set(&mut listener.is, span);
                listener.note("timeouts", line.place);
            }
            ledger.remark(line.place, Verdict::taken(format!("listener.{key} = \"{span}\"")));
        }
        Err(why) => ledger.remark(line.place, Verdict::not_taken(why)),
    }
}

/// That a TLS hello is waited for, by whose name connections are led.
fn inspection(ledger: &mut Ledger, proxy: &Proxy<'_>, made: &mut [Noted<Listener>]) {
    let delay = proxy.last(&["tcp-request", "inspect-delay"]);
    timeout(ledger, made, delay, "timeouts.head", |listener, span| listener.timeouts.head = span);
    for line in proxy.all(&["tcp-request", "content", "accept"]) {
        if line.words.iter().any(|word| word.contains("ssl_hello_type")) {
            ledger.remark(line.place, Verdict::not_needed("routes wait for the hello of TLS"));
        }
    }
}

fn forwarded_for(ledger: &mut Ledger, proxy: &Proxy<'_>, made: &mut [Noted<Listener>]) {
    let Some(line) = proxy.option("forwardfor") else { return };
    let words = line.words();
    let mut rest = words[2..].iter();
    ledger.remark(line.place, Verdict::taken("forwarding.x_forwarded_for, which is on"));
    while let Some(word) = rest.next() {
        match *word {
            "except" => {
                let range = rest.next().copied().unwrap_or_default();
                match range.parse::<Cidr>() {
                    Ok(range) => {
                        for listener in made.iter_mut().filter(|each| !each.is.trusted_proxies.contains(&range)) {
                            listener.is.trusted_proxies.push(range);
                            listener.note("", line.place);
                        }
                        let but = "what these peers send is kept and their address added";
                        ledger.part(line.place, "except", Verdict::otherwise("listener.trusted_proxies", but));
                    }
                    Err(why) => ledger.part(line.place, "except", Verdict::not_taken(why)),
                }
            }
            "header" => {
                let name = rest.next().copied().unwrap_or_default();
                let why = "backends are told in X-Forwarded-For";
                let same = name.eq_ignore_ascii_case("x-forwarded-for");
                let verdict = if same { Verdict::not_needed(why) } else { Verdict::not_taken(why) };
                ledger.part(line.place, format!("header {name}"), verdict);
            }
            other => {
                let why = "name the proxies in front in listener.trusted_proxies: what they send is kept";
                ledger.part(line.place, other, Verdict::not_taken(why));
            }
        }
    }
}

fn hsts(ledger: &mut Ledger, proxy: &Proxy<'_>, made: &mut [Noted<Listener>]) {
    for line in proxy.all(&["http-response", "set-header", "Strict-Transport-Security"]) {
        let value = line.words.get(3).map(String::as_str).unwrap_or_default();
        let seconds =
            value.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.trim_matches('"').parse().ok());
        let conditional =
            line.words.get(4).is_some_and(|word| word != "if" || !line.words.iter().any(|word| word == "ssl_fc"));
        let Some(seconds) = seconds.filter(|seconds: &u32| !conditional && *seconds > 0) else { continue };
        let mut refused = None;
        for listener in made.iter_mut() {
            let Some(Tls::With(mut tls)) = listener.is.tls.clone() else { continue };
            tls.hsts = Span::from_secs(seconds.into());
            refused = listener.set("tls", line.place, |listener| listener.tls = Some(Tls::With(tls))).err().or(refused);
        }
        let verdict = match refused {
            Some(why) => Verdict::not_taken(why),
            None if value.contains(';') => Verdict::otherwise(
                "listener.tls.hsts",
                "browsers are told `max-age` alone, unless the backend tells them",
            ),
            None => Verdict::taken("listener.tls.hsts"),
        };
        ledger.remark(line.place, verdict);
    }
}
