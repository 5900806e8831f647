//! How sessions stick: cookies, stick tables, hashes.

use super::{
    adoption,
    backend::Made,
    proxy::{Mode, Proxy},
    sections::Statement,
};
use crate::import::{
    draft::Noted,
    report::{Ledger, Verdict},
};
use control::spec::{
    Affinity, AffinityHeader, AffinityQuery, AppCookie, AppCookieStyle, Balance, Mode as By, OnOverload, Pool, SourceIp,
};

/// Where the sessions of the old balancer's hash or table are from now on.
pub(super) const ANEW: &str = "sessions are placed anew at the cut-over: what there says where is not known here";

pub(super) fn read(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, made: &[Made]) {
    let cookie = proxy.last(&["cookie"]).filter(|_| proxy.mode == Mode::Http);
    if let Some(line) = cookie {
        adoption::cookie(ledger, proxy, pool, made, line);
    }
    balance(ledger, proxy, pool);
    tables(ledger, proxy, pool);
    if let Some(line) = proxy.last(&["appsession"]) {
        let name = line.words.get(1).map_or("", String::as_str);
        stick(ledger, proxy, pool, line, follow(name));
    }
    if pool.is.limits.requests > 0 && pool.is.affinity.mode != By::None {
        // There a request waits for its own server.
        let Some(first) = made.first() else { return };
        let (place, queue) =
            (first.server.place_of("maxconn"), |pool: &mut Pool| pool.affinity.on_overload = OnOverload::Queue);
        if let Err(why) = pool.set("affinity", place, queue) {
            ledger.part(place, "maxconn", Verdict::not_taken(why));
        }
    }
}

/// Makes sessions stick as a line says, where none before it has.
fn stick(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, line: &Statement, wanted: Affinity) {
    if proxy.mode == Mode::Tcp && wanted.mode != By::SourceIp {
        ledger.remark(line.place, Verdict::not_taken("what is passed on unread has no requests"));
        return;
    }
    if pool.is.affinity.mode != By::None {
        let why = "sessions are found in one way: by what stands before it";
        ledger.remark(line.place, Verdict::not_taken(why));
        return;
    }
    let told = match wanted.mode {
        By::SourceIp => "affinity.mode = \"source-ip\"",
        By::Header => "affinity.mode = \"header\"",
        By::Query => "affinity.mode = \"query\"",
        By::AppCookie => "affinity.mode = \"app-cookie\"",
        By::Cookie | By::None => "affinity",
    };
    ledger.remark(
        line.place,
        match pool.set("affinity", line.place, |pool| pool.affinity = wanted) {
            Ok(()) => Verdict::otherwise(told, ANEW),
            Err(why) => Verdict::not_taken(why),
        },
    );
}

fn balance(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>) {
    let Some(line) = proxy.last(&["balance"]) else { return };
    let words = line.words();
    let algorithm = words.get(1).copied().unwrap_or_default();
    let balance = match algorithm.split('(').next().unwrap_or_default() {
        "roundrobin" | "static-rr" => Some(Balance::RoundRobin),
        "leastconn" => Some(Balance::LeastRequests),
        "random" if algorithm == "random(1)" => Some(Balance::Random),
        "random" => Some(Balance::P2c),
        _ => None,
    };
    if let Some(balance) = balance {
        pool.is.balance = balance;
        pool.note("", line.place);
        ledger.remark(line.place, Verdict::taken("balance"));
    } else if let Some(affinity) = hashed(algorithm, words.get(2).copied()) {
        match pool.is.affinity.mode {
            By::None => stick(ledger, proxy, pool, line, affinity),
            // The cookie says where a session is, and this where one begins.
            By::Cookie | By::AppCookie | By::Header | By::Query | By::SourceIp => {
                let but = "new sessions are spread by `balance`";
                ledger.remark(line.place, Verdict::otherwise("affinity by cookie", but));
            }
        }
        for (at, extra) in words.iter().enumerate().skip(2) {
            let known = at == 2 && matches!(words[1], "url_param" | "hash");
            if !known {
                ledger.part(line.place, *extra, Verdict::not_taken("the hash is of all of the value"));
                break;
            }
        }
    } else {
        let why = match algorithm {
            "uri" => "no hash of paths is made: requests are spread by `balance`",
            "first" => "load is spread, and not stacked: requests are spread by `balance`",
            _ => "requests are spread by `balance`, which knows nothing like it",
        };
        ledger.remark(line.place, Verdict::not_taken(why));
    }
    if let Some(line) = proxy.last(&["hash-type"]) {
        ledger.remark(line.place, Verdict::not_needed("where a hash says where, it does by a ring"));
    }
    if let Some(line) = proxy.last(&["hash-balance-factor"]) {
        let factor = line.words.get(1).and_then(|number| number.parse::<u32>().ok());
        let done = match factor {
            Some(0) => Ok(()),
            Some(factor) => pool.set("", line.place, |pool| pool.load_bound = Some(f64::from(factor) / 100.0)),
            None => Err("it is no number".to_owned()),
        };
        ledger.remark(
            line.place,
            match done {
                Ok(()) => Verdict::taken("load_bound"),
                Err(why) => Verdict::not_taken(why),
            },
        );
    }
}

/// What a hash is of: `source`, `hdr(NAME)`, `url_param NAME`, or an expression behind `hash`.
fn hashed(algorithm: &str, next: Option<&str>) -> Option<Affinity> {
    match (algorithm, next) {
        ("source", _) => Some(source_ip()),
        ("url_param", Some(name)) => Some(query(name)),
        ("hash", Some(expression)) => expressed(expression),
        _ => expressed(algorithm),
    }
}

/// A fetch by which sessions can be found.
fn expressed(expression: &str) -> Option<Affinity> {
    let (name, argument) = expression.split_once('(').map_or((expression, ""), |(name, rest)| (name, rest));
    let argument = argument.strip_suffix(')').unwrap_or(argument);
    match name {
        "src" => Some(source_ip()),
        "hdr" | "req.hdr" | "req.fhdr" if !argument.is_empty() => {
            let header = Some(AffinityHeader { name: argument.to_owned(), ..AffinityHeader::default() });
            Some(Affinity { mode: By::Header, header, ..Affinity::default() })
        }
        "cook" | "req.cook" | "cookie" if !argument.is_empty() => Some(app_cookie(argument, AppCookieStyle::Hash)),
        "url_param" | "urlp" if !argument.is_empty() => Some(query(argument)),
        _ => None,
    }
}

fn source_ip() -> Affinity {
    // HAProxy takes all of the address.
    let source_ip = SourceIp { ipv4_prefix: 32, ipv6_prefix: 128 };
    Affinity { mode: By::SourceIp, source_ip, ..Affinity::default() }
}

fn query(name: &str) -> Affinity {
    let query = Some(AffinityQuery { name: name.to_owned() });
    Affinity { mode: By::Query, query, ..Affinity::default() }
}

fn app_cookie(name: &str, style: AppCookieStyle) -> Affinity {
    let app_cookie = Some(AppCookie { name: name.to_owned(), style, path_parameter: None });
    Affinity { mode: By::AppCookie, app_cookie, ..Affinity::default() }
}

fn follow(name: &str) -> Affinity {
    app_cookie(name, AppCookieStyle::Follow)
}

/// `stick on`, `stick match` and `stick store-response`: what a table keeps there is in requests here.
fn tables(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>) {
    let stored = proxy.all(&["stick", "store-response"]).find_map(|line| of_response(line.words.get(2)?));
    let mut sticks = false;
    for line in proxy.all(&["stick"]) {
        let words = line.words();
        let (verb, expression) = (words.get(1).copied().unwrap_or_default(), words.get(2).copied().unwrap_or_default());
        if words.get(3).is_some_and(|word| matches!(*word, "if" | "unless")) {
            ledger.part(line.place, words[3..].join(" "), Verdict::not_taken("all requests of a pool stick alike"));
            continue;
        }
        match verb {
            "on" | "match" | "store-request" => {
                match (expressed(expression.split(',').next().unwrap_or_default()), &stored) {
                    (Some(found), Some(name))
                        if found.app_cookie.as_ref().is_some_and(|cookie| cookie.name == *name) =>
                    {
                        sticks = true;
                        stick(ledger, proxy, pool, line, follow(name));
                    }
                    (Some(found), _) => {
                        sticks = true;
                        stick(ledger, proxy, pool, line, found);
                    }
                    _ => {
                        let why = "sessions are found by cookie, header, query argument or address: see pool.affinity";
                        ledger.remark(line.place, Verdict::not_taken(why));
                    }
                }
            }
            "store-response" if stored.is_some() => {
                ledger.remark(line.place, Verdict::taken("affinity.app_cookie, in style \"follow\""));
            }
            _ => ledger.remark(line.place, Verdict::not_taken("what responses say of it is not kept")),
        }
    }
    for line in proxy.all(&["stick-table"]) {
        let counts = line.words.iter().any(|word| word == "store");
        ledger.remark(
            line.place,
            match (sticks, counts) {
                (_, true) => {
                    Verdict::not_taken("nothing is counted per client: limits.requests bounds what a backend bears")
                }
                (true, false) => Verdict::not_needed("there is no table: what a request says is enough"),
                (false, false) => Verdict::not_needed("nothing here uses it"),
            },
        );
    }
}

/// The cookie whose value in a response is kept.
fn of_response(expression: &str) -> Option<String> {
    let name = expression.strip_prefix("res.cook(").or(expression.strip_prefix("set-cookie("))?;
    name.split(')').next().map(str::to_owned)
}
