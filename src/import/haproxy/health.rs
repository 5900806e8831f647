//! Checks of backends.

use super::{backend::Made, proxy::Proxy, sections::Statement, shared::of_all, time};
use crate::import::{
    draft::Noted,
    report::{Ledger, Verdict},
};
use control::spec::{Check, Pool, Span};

/// Checks that speak a protocol which none of ours does.
const OTHER_PROTOCOLS: [&str; 6] =
    ["ssl-hello-chk", "mysql-check", "pgsql-check", "redis-check", "smtpchk", "ldap-check"];

pub(super) fn read(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, made: &[Made]) {
    let Some(check) = of_all(ledger, made, "check", "health.check") else {
        pool.is.health.check = Check::Off;
        if let Some(line) = proxy.option("httpchk") {
            ledger.remark(line.place, Verdict::not_needed("no server here has `check`"));
        }
        return;
    };
    pool.note("health", check.place);
    if let Some(line) = proxy.option("httpchk") {
        http(ledger, pool, line);
        for line in proxy.all(&["http-check"]) {
            more(ledger, pool, line);
        }
    }
    for line in proxy.all(&["option", "tcp-check"]) {
        ledger.remark(line.place, Verdict::taken("health.check = \"tcp\""));
    }
    for line in proxy.all(&["tcp-check", "connect"]) {
        ledger.remark(line.place, Verdict::taken("health.check = \"tcp\""));
    }
    for line in OTHER_PROTOCOLS.iter().filter_map(|name| proxy.option(name)) {
        let but = "it connects and says nothing";
        ledger.remark(line.place, Verdict::otherwise("health.check = \"tcp\"", but));
    }
    times(ledger, proxy, pool, made);
}

fn times(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, made: &[Made]) {
    // A check has all of the interval there, unless it has a time of its own.
    const INTERVAL: Span = Span::from_secs(2);
    let mut interval = INTERVAL;
    if let Some(given) = of_all(ledger, made, "inter", "health.interval") {
        let done = time::read(&given.argument, "ms").and_then(|span| {
            interval = span;
            pool.set("health", given.place, |pool| pool.health.interval = span)
        });
        done.unwrap_or_else(|why| ledger.part(given.place, "inter", Verdict::not_taken(why)));
    }
    pool.is.health.timeout = interval;
    if let Some(line) = proxy.last(&["timeout", "check"]) {
        match time::read(line.words.get(2).map_or("", String::as_str), "ms") {
            Ok(span) => {
                pool.is.health.timeout = span;
                pool.note("health", line.place);
                ledger.remark(line.place, Verdict::taken(format!("health.timeout = \"{span}\"")));
            }
            Err(why) => ledger.remark(line.place, Verdict::not_taken(why)),
        }
    }
    for option in ["rise", "fall"] {
        let Some(given) = of_all(ledger, made, option, "health") else { continue };
        let number = given.argument.parse::<u32>().map_err(|_| "it is no number".to_owned());
        let done = number.and_then(|number| {
            pool.set("health", given.place, |pool| match option {
                "rise" => pool.health.rise = number,
                _ => pool.health.fall = number,
            })
        });
        done.unwrap_or_else(|why| ledger.part(given.place, option, Verdict::not_taken(why)));
    }
}

/// `option httpchk [METHOD] [PATH [VERSION]]`, where a `Host` may hide in the version.
fn http(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement) {
    pool.is.health.check = Check::Http;
    pool.note("health", line.place);
    let words = line.words();
    let (method, path, version) = match words[2..] {
        [] => ("OPTIONS", "/", ""),
        [path] => ("OPTIONS", path, ""),
        [method, path] => (method, path, ""),
        [method, path, version, ..] => (method, path, version),
    };
    ledger.remark(line.place, asked(method));
    set_path(ledger, pool, line, path);
    for field in version.split(['\r', '\n']).skip(1) {
        match field.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("host") => set_host(ledger, pool, line, value.trim()),
            Some((name, _)) => ledger.part(line.place, name, Verdict::not_taken("a check sends no field of one's own")),
            None => {}
        }
    }
}

fn asked(method: &str) -> Verdict {
    match method {
        "GET" => Verdict::taken("health.check = \"http\""),
        _ => Verdict::otherwise("health.check = \"http\"", "it asks with GET"),
    }
}

fn set_path(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement, path: &str) {
    let done = pool.set("health", line.place, |pool| path.clone_into(&mut pool.health.path));
    done.unwrap_or_else(|why| ledger.part(line.place, path, Verdict::not_taken(why)));
}

fn set_host(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement, host: &str) {
    let done = pool.set("health", line.place, |pool| pool.health.host = Some(host.to_owned()));
    done.unwrap_or_else(|why| ledger.part(line.place, host, Verdict::not_taken(why)));
}

/// `http-check` lines.
fn more(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement) {
    let words = line.words();
    match words[1..] {
        ["expect", "status", range] => {
            let parsed = serde_json::from_value(serde_json::Value::String(range.to_owned()));
            match parsed {
                Ok(range) => {
                    pool.is.health.expect = range;
                    pool.note("health", line.place);
                    ledger.remark(line.place, Verdict::taken("health.expect"));
                }
                Err(_) => {
                    let why = "health.expect is one status, or one range of them";
                    ledger.remark(line.place, Verdict::not_taken(why));
                }
            }
        }
        ["expect", ..] => ledger.remark(line.place, Verdict::not_taken("health.expect knows the status alone")),
        ["send", ref rest @ ..] => send(ledger, pool, line, rest),
        ["send-state", ..] => ledger.remark(line.place, Verdict::not_needed("the REST API tells the state")),
        ["disable-on-404", ..] => {
            let why = "an answer commands no drain: let the deployment call `steadfast ctl drain`";
            ledger.remark(line.place, Verdict::not_taken(why));
        }
        ["connect"] => ledger.remark(line.place, Verdict::not_needed("each check connects")),
        ["comment", ..] => ledger.remark(line.place, Verdict::not_needed("it is a word for people")),
        _ => ledger.remark(line.place, Verdict::not_taken("a check is one request, as health.path says")),
    }
}

fn send(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement, words: &[&str]) {
    let (mut words, mut method) = (words.iter().copied(), "GET");
    while let Some(word) = words.next() {
        match word {
            "meth" => method = words.next().unwrap_or_default(),
            "uri" => set_path(ledger, pool, line, words.next().unwrap_or_default()),
            "ver" => drop(words.next()),
            "hdr" => match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
                (name, value) if name.eq_ignore_ascii_case("host") && !value.contains('%') => {
                    set_host(ledger, pool, line, value);
                }
                (name, _) => ledger.part(line.place, name, Verdict::not_taken("a check sends no field of one's own")),
            },
            other => {
                ledger.part(line.place, other, Verdict::not_taken("a check sends no body"));
                break;
            }
        }
    }
    ledger.remark(line.place, asked(method));
}
