//! `stream`: plain TCP, led by the name that clients ask for in TLS where a map says so.

use super::{
    pools::{Pools, Spoken},
    servers::{Bind, bind, certificates, lead},
    tree::{Directive, say},
};
use crate::import::{
    draft::{Draft, Names, Noted},
    report::{Ledger, Place, Verdict},
    routes::{Host, Rule, is_host},
};
use control::spec::{Listener, Protocol};

pub(super) fn listeners(
    ledger: &mut Ledger,
    draft: &mut Draft,
    stream: &Directive,
    pools: &mut Pools<'_>,
    names: &mut Names,
) {
    for server in stream.all("server") {
        let binds: Vec<_> = server.all("listen").filter_map(|line| Some((line, bind(ledger, line)?))).collect();
        let rules = rules(ledger, server, stream, pools);
        let mut made = 0;
        for (line, bind) in &binds {
            let taken = draft.config.listeners.iter().any(|listener| listener.bind == bind.address);
            let listener = if taken { Err("another listener binds it already".to_owned()) } else { Ok(()) };
            match listener.and_then(|()| listener_of(ledger, server, bind, &rules, stream)) {
                Ok(mut listener) => {
                    let port = bind.address.rsplit(':').next().unwrap_or_default();
                    listener.is.name = names.give(&format!("tcp-{port}"));
                    draft.add_listener(listener);
                    made += 1;
                }
                Err(why) => say(ledger, line, Verdict::not_taken(why)),
            }
        }
        say(
            ledger,
            server,
            match made {
                0 => Verdict::not_taken("no listener could be made of it"),
                _ => Verdict::taken("a listener"),
            },
        );
    }
}

fn listener_of(
    ledger: &mut Ledger,
    server: &Directive,
    bind: &Bind,
    rules: &[Rule],
    stream: &Directive,
) -> Result<Noted<Listener>, String> {
    let mut listener = Noted::<Listener>::default();
    listener.note("", server.place);
    bind.address.clone_into(&mut listener.is.bind);
    "x".clone_into(&mut listener.is.name);
    listener.is.protocol = Protocol::Tcp;
    lead(ledger, &mut listener, rules);
    if listener.is.pool.is_none() && listener.is.routes.is_empty() {
        return Err("it leads to no pool".to_owned());
    }
    if bind.proxy_protocol {
        let all = ["0.0.0.0/0", "::/0"].map(|range| range.parse().ok());
        listener.is.proxy_protocol = all.into_iter().flatten().collect();
    }
    if bind.tls {
        let made = certificates(ledger, &mut listener, &[server], 0, &[stream]);
        made.ok_or_else(|| "it has no certificate".to_owned())?;
    }
    Ok(listener)
}

fn rules(ledger: &mut Ledger, server: &Directive, stream: &Directive, pools: &mut Pools<'_>) -> Vec<Rule> {
    let Some(pass) = server.find("proxy_pass") else { return Vec::new() };
    let target = pass.word(1);
    let scopes = [server, stream];
    let map = stream.all("map").find(|map| map.word(2) == target && map.word(1) == "$ssl_preread_server_name");
    let mut rules = Vec::new();
    let mut led = |ledger: &mut Ledger, from: &Directive, target: &str, host: Host, place: Place| {
        let pool = pools.lead(ledger, target, Spoken::Tcp, from, &scopes)?;
        rules.push(Rule { host, path: String::new(), pool, place });
        Ok::<_, String>(())
    };
    let Some(map) = map else {
        let done = led(ledger, pass, target, Host::Any, pass.place);
        say(ledger, pass, done.map_or_else(Verdict::not_taken, |()| Verdict::taken("listener.pool")));
        return rules;
    };
    for entry in &map.block {
        let name = entry.name();
        let below = name.strip_prefix('.').filter(|below| is_host(below));
        let hosts = match name {
            "hostnames" | "volatile" => {
                say(ledger, entry, Verdict::not_needed("names below one are always told apart"));
                continue;
            }
            "default" => vec![Host::Any],
            _ if below.is_some() => {
                below.iter().flat_map(|name| [Host::of(name), Host::of(&format!("*.{name}"))]).collect()
            }
            name if is_host(name) => vec![Host::of(name)],
            _ => {
                say(ledger, entry, Verdict::not_taken("a route's host is a name, or all below one: write each"));
                continue;
            }
        };
        let done = hosts.into_iter().try_for_each(|host| led(ledger, entry, entry.word(1), host, entry.place));
        say(ledger, entry, done.map_or_else(Verdict::not_taken, |()| Verdict::taken("listener.route")));
    }
    say(ledger, map, Verdict::taken("routes of a listener"));
    say(ledger, pass, Verdict::taken("routes of a listener"));
    server.all("ssl_preread").for_each(|line| say(ledger, line, Verdict::taken("routes of a listener")));
    rules
}
