//! Listeners, from the servers that share an address.

use super::{
    locations::{self, Deeds},
    pools::{Pools, Scopes, setting},
    settings,
    tree::{Directive, say},
};
use crate::import::{
    draft::{Draft, Names, Noted},
    report::{Ledger, Verdict},
    routes::{self, Host, Rule, is_host},
};
use control::spec::{Certificate, ClientVerify, Listener, Redirect, Span, Tls, TlsSettings, TlsVersion};

/// A server with what it does.
struct Server<'d> {
    is: &'d Directive,
    hosts: Vec<Host>,
    binds: Vec<Bind>,
    deeds: Deeds,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Bind {
    pub(super) address: String,
    pub(super) is_default: bool,
    pub(super) tls: bool,
    pub(super) proxy_protocol: bool,
    pub(super) http2: Option<bool>,
}

/// All servers of a block, `outer` being that.
pub(super) fn listeners(
    ledger: &mut Ledger,
    draft: &mut Draft,
    outer: Scopes<'_>,
    pools: &mut Pools<'_>,
    names: &mut Names,
) {
    let mut servers = Vec::new();
    for is in outer[0].all("server") {
        let mut binds: Vec<_> = is.all("listen").filter_map(|line| bind(ledger, line)).collect();
        if is.find("listen").is_none() {
            binds.push(Bind { address: "0.0.0.0:80".to_owned(), ..Bind::default() });
        }
        let deeds = locations::read(ledger, is, outer, pools);
        servers.push(Server { is, hosts: hosts(ledger, is), binds, deeds });
    }
    let mut addresses: Vec<&str> = Vec::new();
    for bind in servers.iter().flat_map(|server| &server.binds) {
        if !addresses.contains(&bind.address.as_str()) {
            addresses.push(&bind.address);
        }
    }
    for address in addresses {
        if let Some(mut listener) = listener(ledger, &servers, address, outer) {
            let port = address.rsplit(':').next().unwrap_or_default();
            let wanted = match listener.is.tls.is_some() {
                true => "https".to_owned(),
                false if port == "80" => "http".to_owned(),
                false => format!("http-{port}"),
            };
            if let Some(first) = draft.config.listeners.iter().find(|each| each.bind == *address) {
                let why = format!("`{}` is bound by listener `{}` already", address, first.name);
                ledger.remark(outer[0].place, Verdict::not_taken(why));
                continue;
            }
            listener.is.name = names.give(&wanted);
            draft.add_listener(listener);
        }
    }
    servers.iter().for_each(|server| say_of_server(ledger, server));
}

fn say_of_server(ledger: &mut Ledger, server: &Server<'_>) {
    let Deeds { leads, redirect, .. } = &server.deeds;
    say(
        ledger,
        server.is,
        match (leads.is_empty(), redirect) {
            (true, None) => Verdict::not_taken(
                "it leads to no pool, and neither files nor answers of its own are served: requests for it go where those for other hosts go",
            ),
            (false, None) if !leads.iter().any(|lead| lead.path.is_empty()) => Verdict::otherwise(
                "routes of a listener",
                "what no location leads to a pool is led as requests for other hosts are",
            ),
            _ => Verdict::taken("a listener, or its routes"),
        },
    );
}

/// `None` where it can't be bound.
pub(super) fn bind(ledger: &mut Ledger, line: &Directive) -> Option<Bind> {
    let mut bind = Bind::default();
    match address(line.word(1)) {
        Ok(address) => bind.address = address,
        Err(why) => {
            say(ledger, line, Verdict::not_taken(why));
            return None;
        }
    }
    say(ledger, line, Verdict::taken("listener.bind"));
    for word in line.words.iter().skip(2) {
        match word.split('=').next().unwrap_or_default() {
            "default_server" | "default" => bind.is_default = true,
            "ssl" => bind.tls = true,
            "http2" => bind.http2 = Some(true),
            "proxy_protocol" => {
                bind.proxy_protocol = true;
                let but = "narrow it to the proxies in front: others would be clients of their own then";
                ledger.part(line.place, word, Verdict::otherwise("proxy_protocol = [\"0.0.0.0/0\", \"::/0\"]", but));
            }
            "udp" | "quic" => {
                say(ledger, line, Verdict::not_taken("clients are accepted over TCP alone"));
                return None;
            }
            "backlog" | "reuseport" | "deferred" | "fastopen" | "rcvbuf" | "sndbuf" | "so_keepalive" | "bind"
            | "ipv6only" | "setfib" | "accept_filter" => {}
            _ => ledger.part(line.place, word, Verdict::not_taken("nothing is known of it here")),
        }
    }
    Some(bind)
}

/// An address as nginx takes it: a port alone has all addresses, and an address alone port 80.
fn address(text: &str) -> Result<String, String> {
    if text.starts_with("unix:") {
        return Err("listeners bind addresses with ports, over TCP".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0) {
        return Ok(format!("0.0.0.0:{text}"));
    }
    let text = text.replace("*:", "0.0.0.0:").replace("localhost", "127.0.0.1");
    let full = if text.ends_with(']') || !text.contains(':') { format!("{text}:80") } else { text };
    match full.parse::<std::net::SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address.to_string()),
        Ok(_) | Err(_) => Err("a listener binds one address with one port".to_owned()),
    }
}

fn hosts(ledger: &mut Ledger, server: &Directive) -> Vec<Host> {
    let mut hosts = Vec::new();
    for line in server.all("server_name") {
        say(ledger, line, Verdict::taken("listener.route.host"));
        for name in line.words.iter().skip(1) {
            if let Some(below) = name.strip_prefix('.').filter(|below| is_host(below)) {
                hosts.extend([Host::of(below), Host::of(&format!("*.{below}"))]);
            } else if name == "_" || name.is_empty() {
                ledger.part(line.place, name, Verdict::not_needed("it is no host's name"));
            } else if is_host(name) {
                hosts.push(Host::of(name));
            } else {
                let why = "a route's host is a name, or all below one: write each";
                ledger.part(line.place, name, Verdict::not_taken(why));
            }
        }
    }
    hosts
}

fn listener(ledger: &mut Ledger, servers: &[Server<'_>], address: &str, outer: Scopes<'_>) -> Option<Noted<Listener>> {
    let here: Vec<(&Server<'_>, &Bind)> = servers
        .iter()
        .filter_map(|server| Some((server, server.binds.iter().find(|bind| bind.address == address)?)))
        .collect();
    let default = here.iter().position(|(_, bind)| bind.is_default).unwrap_or_default();
    let mut listener = Noted::<Listener>::default();
    address.clone_into(&mut listener.is.bind);
    "x".clone_into(&mut listener.is.name);
    let mut rules = Vec::new();
    let tls = here.iter().any(|(_, bind)| bind.tls);
    for (at, (server, _)) in here.iter().enumerate() {
        let leads = if server.deeds.redirect_first && !tls { &[] } else { &server.deeds.leads[..] };
        let any = (at == default).then_some(Host::Any);
        for host in server.hosts.iter().cloned().chain(any) {
            let rule = |lead: &locations::Lead| Rule {
                host: host.clone(),
                path: lead.path.clone(),
                pool: lead.pool.clone(),
                place: lead.place,
            };
            rules.extend(leads.iter().map(rule));
        }
        if !server.deeds.leads.is_empty() || server.deeds.redirect.is_some() {
            listener.note("", server.is.place);
        }
    }
    let redirect = here.iter().find_map(|(server, _)| server.deeds.redirect);
    let leads_all = rules.iter().any(|rule| rule.host == Host::Any && rule.path.is_empty());
    // Who speaks TLS already is there.
    if let Some(place) = redirect.filter(|_| !tls) {
        if leads_all {
            let why = "a listener redirects all but its routes, and the default server of this one leads to a pool";
            ledger.remark(place, Verdict::not_taken(why));
        } else {
            listener.is.redirect = Some(Redirect::Https);
        }
    }
    lead(ledger, &mut listener, &rules);
    if listener.is.pool.is_none() && listener.is.routes.is_empty() && listener.is.redirect.is_none() {
        return None;
    }
    let scopes: Vec<_> = [here[default].0.is].into_iter().chain(outer.iter().copied()).collect();
    settings::of_listener(ledger, &mut listener, &scopes);
    if tls {
        let servers: Vec<_> = here.iter().map(|(server, _)| server.is).collect();
        certificates(ledger, &mut listener, &servers, default, outer)?;
    }
    if here.iter().any(|(_, bind)| bind.proxy_protocol) {
        let all = ["0.0.0.0/0", "::/0"].map(|range| range.parse().ok());
        listener.is.proxy_protocol = all.into_iter().flatten().collect();
    }
    Some(listener)
}

/// Leads a listener to its pools.
pub(super) fn lead(ledger: &mut Ledger, listener: &mut Noted<Listener>, rules: &[Rule]) {
    routes::lead(ledger, listener, rules, routes::by_host(rules));
}

/// The certificates of all servers at an address, that of the default one first. `None` where there are none.
pub(super) fn certificates(
    ledger: &mut Ledger,
    listener: &mut Noted<Listener>,
    servers: &[&Directive],
    default: usize,
    outer: Scopes<'_>,
) -> Option<()> {
    let mut tls = TlsSettings::default();
    let order = [servers[default]].into_iter().chain(servers.iter().copied());
    for server in order {
        let scopes: Vec<_> = [server].into_iter().chain(outer.iter().copied()).collect();
        let holder = scopes.iter().find(|scope| scope.find("ssl_certificate").is_some());
        let Some(holder) = holder else { continue };
        for (chain, key) in holder.all("ssl_certificate").zip(holder.all("ssl_certificate_key")) {
            let made = Certificate { chain: chain.word(1).into(), key: key.word(1).into(), ocsp: None };
            [chain, key].iter().for_each(|line| say(ledger, line, Verdict::taken("[[listener.tls.certificate]]")));
            let whole = !chain.word(1).is_empty() && !key.word(1).is_empty();
            if whole && !tls.certificates.contains(&made) {
                tls.certificates.push(made);
                listener.note(format!("tls.certificate.{}", tls.certificates.len() - 1), chain.place);
            }
        }
    }
    let scopes: Vec<_> = [servers[default]].into_iter().chain(outer.iter().copied()).collect();
    protocols(ledger, &mut tls, &scopes);
    clients(ledger, &mut tls, &scopes);
    hsts(ledger, &mut tls, &scopes);
    let place = servers[default].place;
    match listener.set("tls", place, |listener| listener.tls = Some(Tls::With(Box::new(tls)))) {
        Ok(()) => Some(()),
        Err(why) => {
            let at = servers[default].find("listen").map_or(place, |line| line.place);
            ledger.remark(at, Verdict::not_taken(why));
            None
        }
    }
}

fn protocols(ledger: &mut Ledger, tls: &mut TlsSettings, scopes: Scopes<'_>) {
    let Some(line) = setting(scopes, "ssl_protocols") else { return };
    let words = &line.words[1..];
    if words.iter().all(|word| word == "TLSv1.3") && !words.is_empty() {
        tls.min_version = TlsVersion::V1_3;
    }
    say(
        ledger,
        line,
        match words.iter().all(|word| matches!(word.as_str(), "TLSv1.2" | "TLSv1.3")) {
            true => Verdict::taken("listener.tls.min_version"),
            false => Verdict::not_taken("TLS 1.2 is the oldest version that is spoken"),
        },
    );
}

fn clients(ledger: &mut Ledger, tls: &mut TlsSettings, scopes: Scopes<'_>) {
    let (Some(verify), Some(ca)) = (setting(scopes, "ssl_verify_client"), setting(scopes, "ssl_client_certificate"))
    else {
        return;
    };
    tls.clients.verify = match verify.word(1) {
        "on" => ClientVerify::Required,
        "optional" => ClientVerify::Optional,
        _ => return,
    };
    tls.clients.ca = Some(ca.word(1).into());
    [verify, ca].iter().for_each(|line| say(ledger, line, Verdict::taken("[listener.tls.clients]")));
}

fn hsts(ledger: &mut Ledger, tls: &mut TlsSettings, scopes: Scopes<'_>) {
    let named = |line: &&Directive| line.word(1).eq_ignore_ascii_case("strict-transport-security");
    let Some(line) = scopes.iter().find_map(|scope| scope.all("add_header").find(named)) else { return };
    let seconds = line.word(2).split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u32>().ok());
    // A browser keeps no more than ten years.
    let Some(seconds) = seconds.filter(|seconds| *seconds <= 3_650 * 86_400) else { return };
    tls.hsts = Span::from_secs(seconds.into());
    say(
        ledger,
        line,
        match line.word(2).contains(';') {
            true => Verdict::otherwise(
                "listener.tls.hsts",
                "browsers are told `max-age` alone, unless the backend tells them",
            ),
            false => Verdict::taken("listener.tls.hsts"),
        },
    );
}
