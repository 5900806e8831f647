//! How an upstream's sessions stick, and its balance.

use super::{
    pools::Spoken,
    settings::{SAME, time},
    tree::{Directive, say},
};
use crate::import::{
    draft::Noted,
    report::{Ledger, Verdict},
};
use control::spec::{
    Adopt, AdoptFrom, Affinity, AffinityHeader, AffinityQuery, AppCookie, AppCookieStyle, Balance, Cookie, Mode, Pool,
    SameSite, SourceIp, Span,
};
use std::collections::BTreeMap;

/// Where sessions are from now on that a hash or a table placed.
const ANEW: &str = "sessions are placed anew at the cut-over: what there says where is not known here";

pub(super) fn read(
    ledger: &mut Ledger,
    pool: &mut Noted<Pool>,
    upstream: &Directive,
    around: &[&Directive],
    spoken: Spoken,
) {
    for each in &upstream.block {
        let balance = match (each.name(), each.word(1), each.word(2)) {
            ("least_conn", ..) => Balance::LeastRequests,
            ("least_time", ..) => Balance::LeastRequests,
            ("random", "two", _) => Balance::P2c,
            ("random", ..) => Balance::Random,
            ("ip_hash", ..) => {
                stick(ledger, pool, each, source_ip(24), spoken);
                continue;
            }
            ("hash", key, _) => {
                match hashed(key) {
                    Some(affinity) => stick(ledger, pool, each, affinity, spoken),
                    None => say(
                        ledger,
                        each,
                        Verdict::not_taken("sessions are found by one cookie, header, argument or address"),
                    ),
                }
                continue;
            }
            ("sticky", ..) => {
                sticky(ledger, pool, upstream, each, around, spoken);
                continue;
            }
            _ => continue,
        };
        pool.is.balance = balance;
        pool.note("", each.place);
        say(
            ledger,
            each,
            match each.name() {
                "least_time" => Verdict::otherwise("balance", "requests in flight count, and not times"),
                _ => Verdict::taken("balance"),
            },
        );
    }
    settings_of_upstream(ledger, pool, upstream);
}

fn stick(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Directive, wanted: Affinity, spoken: Spoken) {
    if spoken == Spoken::Tcp && wanted.mode != Mode::SourceIp {
        say(ledger, line, Verdict::not_taken("what is passed on unread has no requests"));
        return;
    }
    say(
        ledger,
        line,
        match pool.set("affinity", line.place, |pool| pool.affinity = wanted) {
            Ok(()) => Verdict::otherwise("affinity", ANEW),
            Err(why) => Verdict::not_taken(why),
        },
    );
}

fn source_ip(ipv4_prefix: u8) -> Affinity {
    let source_ip = SourceIp { ipv4_prefix, ipv6_prefix: 128 };
    Affinity { mode: Mode::SourceIp, source_ip, ..Affinity::default() }
}

fn app_cookie(name: &str, style: AppCookieStyle) -> Affinity {
    let app_cookie = Some(AppCookie { name: name.to_owned(), style, path_parameter: None });
    Affinity { mode: Mode::AppCookie, app_cookie, ..Affinity::default() }
}

fn hashed(key: &str) -> Option<Affinity> {
    let variable = key.strip_prefix('$')?.trim_start_matches('{').trim_end_matches('}');
    match variable {
        "remote_addr" | "binary_remote_addr" => return Some(source_ip(32)),
        _ if variable.contains('$') => return None,
        _ => {}
    }
    if let Some(name) = variable.strip_prefix("cookie_") {
        Some(app_cookie(name, AppCookieStyle::Hash))
    } else if let Some(name) = variable.strip_prefix("arg_") {
        let query = Some(AffinityQuery { name: name.to_owned() });
        Some(Affinity { mode: Mode::Query, query, ..Affinity::default() })
    } else {
        let name = variable.strip_prefix("http_")?.replace('_', "-");
        let header = Some(AffinityHeader { name, ..AffinityHeader::default() });
        Some(Affinity { mode: Mode::Header, header, ..Affinity::default() })
    }
}

fn sticky(
    ledger: &mut Ledger,
    pool: &mut Noted<Pool>,
    upstream: &Directive,
    line: &Directive,
    around: &[&Directive],
    spoken: Spoken,
) {
    match line.word(1) {
        "cookie" if spoken != Spoken::Tcp => cookie(ledger, pool, upstream, line),
        "route" => match routed(line, around) {
            Some(name) => {
                let wanted = app_cookie(&name, AppCookieStyle::Suffix);
                let done = pool.set("affinity", line.place, |pool| pool.affinity = wanted);
                say(
                    ledger,
                    line,
                    match done {
                        Ok(()) if spoken != Spoken::Tcp => Verdict::taken("affinity.app_cookie, in style \"suffix\""),
                        Ok(()) | Err(_) => Verdict::not_taken("what is passed on unread has no requests"),
                    },
                );
            }
            None => say(ledger, line, Verdict::not_taken("its variable comes from no `map` of a cookie")),
        },
        "learn" => {
            let found = line.words.iter().find_map(|word| word.strip_prefix("create=$upstream_cookie_"));
            match found {
                Some(name) => stick(ledger, pool, line, app_cookie(name, AppCookieStyle::Follow), spoken),
                None => {
                    say(ledger, line, Verdict::not_taken("sessions are learnt from cookies alone: see pool.affinity"))
                }
            }
        }
        _ if spoken == Spoken::Tcp => say(ledger, line, Verdict::not_taken("what is passed on unread has no requests")),
        _ => {
            // The module of others: what it hashes is not the same in all of its versions.
            pool.is.affinity.mode = Mode::Cookie;
            pool.note("affinity", line.place);
            let why = "sessions go by our cookie from now on, but what this module's cookie says is not known here: let its \
                       sessions end before the cut-over, or write pool.affinity.adopt with `values`";
            say(ledger, line, Verdict::not_taken(why));
        }
    }
}

/// `sticky cookie NAME …`: the MD5 of each address, or what `route=` says.
fn cookie(ledger: &mut Ledger, pool: &mut Noted<Pool>, upstream: &Directive, line: &Directive) {
    let name = line.word(2);
    let (mut ours, mut adopt) = (Cookie::default(), Adopt { from: Some(AdoptFrom::Nginx), ..Adopt::default() });
    name.clone_into(&mut adopt.cookie);
    for word in line.words.iter().skip(3) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, value) {
            ("secure", _) => ours.secure = true,
            ("httponly", _) => {}
            ("path", path) => {
                path.clone_into(&mut ours.path);
                path.clone_into(&mut adopt.path);
            }
            ("domain", domain) => {
                (ours.domain, adopt.domain) = (Some(domain.to_owned()), Some(domain.to_owned()));
            }
            ("expires", "max") => ours.max_age = Some(Span::from_secs(10 * 365 * 86_400)),
            ("expires", expires) => match time(expires) {
                Ok(span) => ours.max_age = Some(span),
                Err(why) => ledger.part(line.place, word, Verdict::not_taken(why)),
            },
            ("samesite", "strict") => ours.same_site = SameSite::Strict,
            ("samesite", "lax") => ours.same_site = SameSite::Lax,
            ("samesite", "none") => ours.same_site = SameSite::None,
            _ => ledger.part(line.place, word, Verdict::not_taken("our cookie has no such attribute")),
        }
    }
    if ours.name == name {
        // Both have to be told apart.
        ours.name = format!("{name}-2");
    }
    let done = pool.set("affinity.cookie", line.place, |pool| {
        pool.affinity = Affinity { mode: Mode::Cookie, cookie: ours, ..Affinity::default() };
    });
    if let Err(why) = done {
        say(ledger, line, Verdict::not_taken(why));
        return;
    }
    adopt.values = routes(pool, upstream);
    say(
        ledger,
        line,
        match pool.set("affinity.adopt.0", line.place, |pool| pool.affinity.adopt = vec![adopt]) {
            Ok(()) => Verdict::taken("affinity.mode = \"cookie\", with its sessions adopted"),
            Err(why) => Verdict::not_taken(format!("its sessions begin anew: {why}")),
        },
    );
}

/// Backends by the `route=` of their servers.
fn routes(pool: &Noted<Pool>, upstream: &Directive) -> BTreeMap<String, String> {
    let mut routes = BTreeMap::new();
    for server in upstream.all("server") {
        let route = server.words.iter().find_map(|word| word.strip_prefix("route="));
        let is_it =
            |at: &usize| pool.notes.get(&format!("backend.{at}")).is_some_and(|places| places.contains(&server.place));
        let backend = (0..pool.is.backends.len()).find(is_it).and_then(|at| pool.is.backends.get(at));
        if let (Some(route), Some(backend)) = (route, backend) {
            routes.entry(route.to_owned()).or_insert(backend.name.clone());
        }
    }
    routes
}

/// The cookie that a variable of `sticky route` comes from, by a `map`.
fn routed(line: &Directive, around: &[&Directive]) -> Option<String> {
    line.words.iter().skip(2).find_map(|variable| {
        let direct = variable.strip_prefix("$cookie_").map(str::to_owned);
        let map = around.iter().find(|each| each.name() == "map" && each.word(2) == variable);
        direct.or_else(|| map?.word(1).strip_prefix("$cookie_").map(str::to_owned))
    })
}

/// What else stands in an upstream.
fn settings_of_upstream(ledger: &mut Ledger, pool: &mut Noted<Pool>, upstream: &Directive) {
    for each in &upstream.block {
        let place = each.place;
        let done = match each.name() {
            "keepalive" => each.word(1).parse().map_err(|_| "it is no number".to_owned()).and_then(|number| {
                pool.set("limits", place, |pool| pool.limits.idle_connections = number)
                    .map(|()| "limits.idle_connections")
            }),
            "keepalive_timeout" => time(each.word(1)).and_then(|span| {
                pool.set("timeouts", place, |pool| pool.timeouts.idle = span).map(|()| "timeouts.idle")
            }),
            "queue" => each.word(1).parse().map_err(|_| "it is no number".to_owned()).and_then(|number| {
                let wait = each.word(2).strip_prefix("timeout=").map_or(Ok(Span::from_secs(60)), time)?;
                pool.set("limits", place, |pool| (pool.limits.queue, pool.limits.queue_timeout) = (number, wait))
                    .map(|()| "limits.queue")
            }),
            "zone" | "keepalive_requests" | "keepalive_time" | "state" | "resolver" | "resolver_timeout" => {
                say(ledger, each, Verdict::not_needed(SAME));
                continue;
            }
            "ntlm" => Err("a connection to a backend is not tied to one of a client".to_owned()),
            _ => continue,
        };
        say(ledger, each, done.map_or_else(Verdict::not_taken, Verdict::taken));
    }
}
