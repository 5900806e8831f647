//! What HAProxy says of each server and all backends of a pool share here.

use super::{
    backend::Made,
    bind::Ssl,
    proxy::{Mode, Proxy},
    server::Given,
    time,
};
use crate::import::{
    draft::Noted,
    report::{Ledger, Verdict},
};
use control::spec::{Family, Pool, PoolTls, ProxyVersion};

/// What the first server says of it. A server that says something else is told.
pub(super) fn of_all<'m>(ledger: &mut Ledger, made: &'m [Made], option: &str, key: &str) -> Option<&'m Given> {
    let first = made.first()?.server.options.get(option);
    for other in &made[1..] {
        if other.server.get(option) != first.map(|given| given.argument.as_str()) {
            let place = other.server.place_of(option);
            let why = format!("all backends of a pool share `{key}`, and that of `{}` holds", made[0].name);
            ledger.part(place, option, Verdict::not_taken(why));
        }
    }
    first
}

pub(super) fn read(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, made: &[Made], ssl: &Ssl) {
    limits(ledger, pool, made);
    if let Some(given) = of_all(ledger, made, "slowstart", "slow_start") {
        let done = time::read(&given.argument, "ms")
            .and_then(|span| pool.set("", given.place, |pool| pool.slow_start = Some(span)));
        done.unwrap_or_else(|why| ledger.part(given.place, "slowstart", Verdict::not_taken(why)));
    }
    let http2 = of_all(ledger, made, "proto", "http2").is_some_and(|given| given.argument == "h2")
        || of_all(ledger, made, "alpn", "http2")
            .is_some_and(|given| given.argument.split(',').any(|each| each == "h2"));
    if http2 && proxy.mode == Mode::Http {
        let place = made[0].server.place;
        pool.set("", place, |pool| pool.http2 = true)
            .unwrap_or_else(|why| ledger.part(place, "proto", Verdict::not_taken(why)));
    }
    for (option, version) in [
        ("send-proxy", ProxyVersion::V1),
        ("send-proxy-v2", ProxyVersion::V2),
        ("send-proxy-v2-ssl", ProxyVersion::V2),
        ("send-proxy-v2-ssl-cn", ProxyVersion::V2),
    ] {
        if let Some(given) = of_all(ledger, made, option, "send_proxy") {
            let done = pool.set("", given.place, |pool| pool.send_proxy = Some(version));
            done.unwrap_or_else(|why| ledger.part(given.place, option, Verdict::not_taken(why)));
            if option.contains("ssl") {
                let why = "the PROXY protocol tells addresses alone";
                ledger.part(given.place, option, Verdict::not_taken(why));
            }
        }
    }
    if let Some(given) = of_all(ledger, made, "resolve-prefer", "names.family") {
        let family = match given.argument.as_str() {
            "ipv4" => Family::Ipv4,
            _ => Family::Ipv6,
        };
        if pool.set("names", given.place, |pool| pool.names.family = family).is_ok() {
            let but = "addresses of the other family don't count at all";
            ledger.part(given.place, "resolve-prefer", Verdict::otherwise("names.family", but));
        }
    }
    tls(ledger, pool, made, ssl);
    if let Some(line) = proxy.last(&["fullconn"]) {
        ledger.remark(line.place, Verdict::not_needed("limits.requests is the same under any load"));
    }
}

fn limits(ledger: &mut Ledger, pool: &mut Noted<Pool>, made: &[Made]) {
    for (option, key) in [("maxconn", "limits.requests"), ("maxqueue", "limits.queue")] {
        let Some(given) = of_all(ledger, made, option, key) else { continue };
        let Ok(number) = given.argument.parse::<u32>() else {
            ledger.part(given.place, option, Verdict::not_taken("it is no number"));
            continue;
        };
        // There 0 sets no limit to either.
        if number == 0 {
            continue;
        }
        let done = pool.set("limits", given.place, |pool| match option {
            "maxconn" => pool.limits.requests = number,
            _ => pool.limits.queue = number,
        });
        ledger.part(
            given.place,
            format!("{option} {number}"),
            match (done, option) {
                (Ok(()), "maxqueue") => Verdict::otherwise(key, "requests beyond it get 503"),
                (Ok(()), _) => Verdict::taken(key),
                (Err(why), _) => Verdict::not_taken(why),
            },
        );
    }
}

fn tls(ledger: &mut Ledger, pool: &mut Noted<Pool>, made: &[Made], ssl: &Ssl) {
    let is_on = of_all(ledger, made, "ssl", "tls").cloned();
    let options = ["verify", "ca-file", "sni", "verifyhost", "crt"];
    let [verify, ca, sni, host, crt] = options.map(|option| of_all(ledger, made, option, "tls").cloned());
    let Some(given) = is_on else { return };
    let verify = verify.is_none_or(|given| given.argument != "none");
    let mut tls = PoolTls { verify, ..PoolTls::default() };
    if verify {
        tls.ca = ca.filter(|given| given.argument != "@system-ca").map(|given| ssl.authority(&given.argument));
    }
    if let Some(file) = crt.map(|given| ssl.certificate(&given.argument)) {
        (tls.chain, tls.key) = (Some(file.clone()), Some(file));
    }
    let fixed =
        sni.as_ref().map(|given| (given, given.argument.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')'))));
    if let Some((given, None)) = fixed {
        let why = "all requests ask for one name: set tls.server_name, or leave it to be the backend's";
        ledger.part(given.place, "sni", Verdict::not_taken(why));
    }
    tls.server_name = host.map(|given| given.argument).or(fixed.and_then(|(_, name)| name.map(str::to_owned)));
    let named = tls.server_name.is_some();
    match pool.set("tls", given.place, |pool| pool.tls = Some(tls)) {
        Ok(()) if verify && !named => {
            let but = "the certificate has to be for the host in the backend's address";
            ledger.part(given.place, "ssl", Verdict::otherwise("[pool.tls]", but));
        }
        Ok(()) => ledger.part(given.place, "ssl", Verdict::taken("[pool.tls]")),
        Err(why) => ledger.part(given.place, "ssl", Verdict::not_taken(why)),
    }
}
