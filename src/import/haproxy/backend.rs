//! What serves clients: pools, from backends and `listen` sections.

use super::{
    affinity,
    bind::Ssl,
    health,
    proxy::{Mode, Proxy},
    server::{self, Server},
    shared, time,
};
use crate::import::{
    draft::{Names, Noted},
    report::{Ledger, Verdict},
};
use control::{
    check,
    spec::{Backend, Discover, Mode as Affinity, Pool, Span, Timeouts},
};

/// A server that became a backend.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) server: Server,
    /// Its name here.
    pub(super) name: String,
}

/// `None` where there are no servers.
pub(super) fn pool(ledger: &mut Ledger, proxy: &Proxy<'_>, ssl: &Ssl, names: &mut Names) -> Option<Noted<Pool>> {
    let servers = server::read(ledger, proxy);
    if servers.is_empty() {
        if !proxy.takes_clients() {
            let why = "it has no servers: make a pool with backends, or take out what leads to it";
            ledger.remark(proxy.section.place, Verdict::not_taken(why));
        }
        return None;
    }
    let mut pool = Noted::<Pool>::default();
    pool.is.name = names.give(&proxy.section.name);
    pool.is.affinity.mode = Affinity::None;
    pool.note("", proxy.section.place);
    let made = backends(ledger, &mut pool, servers);
    shared::read(ledger, proxy, &mut pool, &made, ssl);
    health::read(ledger, proxy, &mut pool, &made);
    timeouts(ledger, proxy, &mut pool);
    retries(ledger, proxy, &mut pool);
    affinity::read(ledger, proxy, &mut pool, &made);
    ledger.remark(proxy.section.place, Verdict::taken(format!("pool `{}`", pool.is.name)));
    if let Some(line) = proxy.last(&["mode"]) {
        ledger.remark(line.place, Verdict::taken("what its listeners speak"));
    }
    Some(pool)
}

fn backends(ledger: &mut Ledger, pool: &mut Noted<Pool>, servers: Vec<Server>) -> Vec<Made> {
    let (mut names, mut made) = (Names::default(), Vec::new());
    for server in servers {
        let place = server.place;
        match backend(ledger, pool, &server, &mut names) {
            Ok(name) => made.push(Made { server, name }),
            Err(why) => ledger.remark(place, Verdict::not_taken(why)),
        }
    }
    made
}

fn backend(ledger: &mut Ledger, pool: &mut Noted<Pool>, server: &Server, names: &mut Names) -> Result<String, String> {
    let address = server::address(&server.address)?;
    if server.has("disabled") {
        return Err(format!(
            "it is disabled and left out; once it serves: `steadfast ctl add {} NAME {address}`",
            pool.is.name
        ));
    }
    for option in ["port", "addr"].iter().filter(|option| server.has(option)) {
        let why = "a backend is checked where it serves";
        ledger.part(server.place_of(option), *option, Verdict::not_taken(why));
    }
    for option in ["check-ssl", "check-sni", "check-send-proxy"].iter().filter(|option| server.has(option)) {
        ledger.part(server.place_of(option), *option, Verdict::not_needed("checks are made as requests are"));
    }
    let mut weight = Backend::default().weight;
    if let Some(written) = server.get("weight") {
        match written.parse() {
            Ok(number) if number <= check::MAX_WEIGHT => weight = number,
            Ok(_) | Err(_) => {
                let place = server.place_of("weight");
                ledger.part(
                    place,
                    "weight",
                    Verdict::not_taken(format!("it is no number up to {}", check::MAX_WEIGHT)),
                );
            }
        }
    }
    let backup = server.has("backup");
    let wrong = |problem: &control::Problem| format!("{} {}: {}", problem.path, problem.wrong, problem.right);
    if server.template {
        let discover = Discover { name: server.name.clone(), address, weight, backup, ..Discover::default() };
        let path = format!("discover.{}", pool.is.discover.len());
        pool.set(&path, server.place, |pool| pool.discover.push(discover))?;
        let but = "each address of the name is a backend, however many there are";
        ledger.remark(server.place, Verdict::otherwise("[[pool.discover]]", but));
        return Ok(server.name.clone());
    }
    let backend = Backend { name: String::new(), address, weight, backup };
    if let Some(problem) = check::backend(&backend).first() {
        return Err(wrong(problem));
    }
    let name = names.give(&server.name);
    pool.note(format!("backend.{}", pool.is.backends.len()), server.place);
    pool.is.backends.push(Backend { name: name.clone(), ..backend });
    ledger.remark(server.place, Verdict::taken(format!("backend `{name}`")));
    Ok(name)
}

fn timeouts(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>) {
    type Set = fn(&mut Timeouts, Span);
    let server: Set = match proxy.mode {
        Mode::Http => |timeouts, span| (timeouts.response, timeouts.body, timeouts.tunnel) = (span, span, span),
        Mode::Tcp => |timeouts, span| timeouts.tunnel = span,
    };
    let told = match proxy.mode {
        Mode::Http => "timeouts.response, timeouts.body and timeouts.tunnel",
        Mode::Tcp => "timeouts.tunnel",
    };
    let spans: [(&str, &str, Set); 3] = [
        ("connect", "timeouts.connect", |timeouts, span| timeouts.connect = span),
        ("server", told, server),
        // Behind `server`, which holds for tunnels where nothing else does.
        ("tunnel", "timeouts.tunnel", |timeouts, span| timeouts.tunnel = span),
    ];
    for (word, told, set) in spans {
        let Some(line) = proxy.last(&["timeout", word]) else { continue };
        let span = time::read(line.words.get(2).map_or("", String::as_str), "ms");
        let done =
            span.and_then(|span| pool.set("timeouts", line.place, |pool| set(&mut pool.timeouts, span)).map(|()| span));
        ledger.remark(
            line.place,
            match done {
                Ok(span) => Verdict::taken(format!("{told} = \"{span}\"")),
                Err(why) => Verdict::not_taken(why),
            },
        );
    }
    // Those of requests wait for a connection's time unless they have their own.
    let queue = proxy.last(&["timeout", "queue"]).or(proxy.last(&["timeout", "connect"]));
    if let Some(line) = queue.filter(|_| pool.is.limits.requests > 0)
        && let Ok(span) = time::read(line.words.get(2).map_or("", String::as_str), "ms")
        && pool.set("limits", line.place, |pool| pool.limits.queue_timeout = span).is_ok()
    {
        ledger.remark(line.place, Verdict::taken(format!("limits.queue_timeout = \"{span}\"")));
    }
}

/// The most further attempts of ours.
const MOST_ATTEMPTS: u32 = 10;

fn retries(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>) {
    if let Some(line) = proxy.last(&["retries"]) {
        let attempts = line.words.get(1).and_then(|number| number.parse::<u32>().ok());
        match attempts {
            Some(attempts) => {
                pool.is.retry.attempts = attempts.min(MOST_ATTEMPTS);
                pool.note("retry", line.place);
                let but = "each further attempt is at another backend, within `retry.budget`";
                ledger.remark(line.place, Verdict::otherwise("retry.attempts", but));
            }
            None => ledger.remark(line.place, Verdict::not_taken("it is no number")),
        }
    }
    if let Some(line) = proxy.option("redispatch") {
        ledger.remark(line.place, Verdict::taken("on_down = \"repin\" and `retry`, which are so unless set"));
    }
    if let Some(line) = proxy.last(&["retry-on"]) {
        let harmless = ["none", "conn-failure", "empty-response", "conn-timeout"];
        let beyond: Vec<_> = line.words[1..].iter().filter(|word| !harmless.contains(&word.as_str())).collect();
        ledger.remark(
            line.place,
            match beyond.is_empty() {
                true => Verdict::not_needed("what can't have been processed is tried elsewhere"),
                false => Verdict::not_taken("a request that may have been processed is never repeated"),
            },
        );
    }
}
