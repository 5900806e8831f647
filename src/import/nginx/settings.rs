//! Settings of servers and locations that are a pool's or a listener's here.

use super::{
    pools::{Scopes, Spoken, setting},
    tree::{Directive, say},
};
use crate::import::{
    draft::Noted,
    report::{Ledger, Verdict},
};
use control::spec::{Listener, Pool, PoolTls, Span, Timeouts};

pub(super) const SAME: &str = "it changes nothing here";

const UNITS: [(&str, u64); 8] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("M", 2_592_000_000),
    ("y", 31_536_000_000),
];

/// A time above zero, as in `30s`, `1h30m` or `60`, which is seconds.
pub(super) fn time(text: &str) -> Result<Span, String> {
    let wrong = || format!("`{text}` is no time");
    let (mut rest, mut total) = (text, 0u64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|sign: char| sign.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let unit = if unit.trim().is_empty() { "s" } else { unit.trim() };
        let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    match total {
        0 => Err("0 turns it off there, and here each time has an end: write the shortest that you want".to_owned()),
        millis => Ok(Span::from_millis(millis)),
    }
}

/// A number of bytes, as in `8k` or `10m`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "" => Some(1),
        "k" | "K" => Some(1_024),
        "m" | "M" => Some(1_048_576),
        "g" | "G" => Some(1_073_741_824),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    // More than TOML can write is no bound.
    bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(|| format!("`{text}` is no size"))
}

type Set = fn(&mut Timeouts, Span);

/// Settings that a pool has from what leads to it; what leads there `first` has its way.
pub(super) fn of_pool(ledger: &mut Ledger, pool: &mut Noted<Pool>, spoken: Spoken, scopes: Scopes<'_>, first: bool) {
    let tunnel: Set = |timeouts, span| timeouts.tunnel = span;
    let connect: Set = |timeouts, span| timeouts.connect = span;
    let read: Set = |timeouts, span| (timeouts.response, timeouts.body, timeouts.tunnel) = (span, span, span);
    let grpc = matches!(spoken, Spoken::Grpc | Spoken::Grpcs);
    let spans: &[(&str, Set, &str)] = match spoken {
        Spoken::Tcp => {
            &[("proxy_connect_timeout", connect, "timeouts.connect"), ("proxy_timeout", tunnel, "timeouts.tunnel")]
        }
        _ if grpc => &[
            ("grpc_connect_timeout", connect, "timeouts.connect"),
            ("grpc_read_timeout", read, "timeouts.response, timeouts.body and timeouts.tunnel"),
        ],
        Spoken::Http | Spoken::Https | Spoken::Grpc | Spoken::Grpcs => &[
            ("proxy_connect_timeout", connect, "timeouts.connect"),
            ("proxy_read_timeout", read, "timeouts.response, timeouts.body and timeouts.tunnel"),
        ],
    };
    for (name, set, told) in spans {
        let Some(line) = setting(scopes, name) else { continue };
        let span = match time(line.word(1)) {
            Ok(span) => span,
            Err(why) => {
                say(ledger, line, Verdict::not_taken(why));
                continue;
            }
        };
        let mut wanted = pool.is.timeouts;
        set(&mut wanted, span);
        let verdict = if first {
            pool.set("timeouts", line.place, |pool| pool.timeouts = wanted)
                .map_or_else(Verdict::not_taken, |()| Verdict::taken(*told))
        } else if wanted == pool.is.timeouts {
            Verdict::taken(*told)
        } else {
            Verdict::not_taken("what leads to a pool first gives it its timeouts: make a pool of its own for this")
        };
        say(ledger, line, verdict);
    }
    if first {
        attempts(ledger, pool, scopes);
        pool.is.http2 = grpc;
        if spoken.is_encrypted() || (spoken == Spoken::Tcp && is_on(scopes, "proxy_ssl")) {
            tls(ledger, pool, scopes, if grpc { "grpc" } else { "proxy" });
        }
        if spoken == Spoken::Tcp && is_on(scopes, "proxy_protocol") {
            pool.is.send_proxy = Some(control::spec::ProxyVersion::V1);
            setting(scopes, "proxy_protocol")
                .into_iter()
                .for_each(|line| say(ledger, line, Verdict::taken("send_proxy")));
        }
    }
}

fn is_on(scopes: Scopes<'_>, name: &str) -> bool {
    setting(scopes, name).is_some_and(|line| line.word(1) == "on")
}

fn attempts(ledger: &mut Ledger, pool: &mut Noted<Pool>, scopes: Scopes<'_>) {
    if let Some(line) = setting(scopes, "proxy_next_upstream") {
        let beyond = line.words.iter().skip(1).any(|word| !matches!(word.as_str(), "error" | "timeout" | "off"));
        if line.word(1) == "off" {
            pool.is.retry.attempts = 0;
            pool.note("retry", line.place);
        }
        say(
            ledger,
            line,
            match beyond {
                true => Verdict::not_taken("a request that may have been processed is never repeated"),
                false => Verdict::taken("retry"),
            },
        );
    }
    if let Some(line) = setting(scopes, "proxy_next_upstream_tries") {
        let tries = line.word(1).parse::<u32>().ok().filter(|tries| *tries > 0);
        if let Some(tries) = tries {
            pool.is.retry.attempts = (tries - 1).min(10);
            pool.note("retry", line.place);
        }
        say(
            ledger,
            line,
            tries.map_or_else(|| Verdict::not_taken("it is no number above 0"), |_| Verdict::taken("retry.attempts")),
        );
    }
}

fn tls(ledger: &mut Ledger, pool: &mut Noted<Pool>, scopes: Scopes<'_>, family: &str) {
    let find = |name: &str| setting(scopes, &format!("{family}_ssl_{name}"));
    let verify = find("verify").is_some_and(|line| line.word(1) == "on");
    let file = |name: &str| find(name).map(|line| line.word(1).into());
    let server_name = find("name").map(|line| line.word(1).to_owned()).filter(|name| !name.contains('$'));
    let (chain, key) = (file("certificate"), file("certificate_key"));
    let ca = file("trusted_certificate").filter(|_| verify);
    let tls = PoolTls { verify, ca, server_name, chain, key };
    let place = scopes[0].place;
    let done = pool.set("tls", place, |pool| pool.tls = Some(tls));
    if done.is_err() {
        // Never in clear text where it was not.
        pool.is.tls = Some(PoolTls { verify, ..PoolTls::default() });
    }
    for name in ["verify", "trusted_certificate", "name", "certificate", "certificate_key", "server_name"] {
        let Some(line) = find(name) else { continue };
        say(
            ledger,
            line,
            match &done {
                Err(why) => Verdict::not_taken(why.clone()),
                Ok(()) if line.word(1).contains('$') => {
                    Verdict::not_taken("one name for all: set pool.tls.server_name")
                }
                Ok(()) => Verdict::taken("[pool.tls]"),
            },
        );
    }
}

/// Settings of a listener, from its default server and what that lies in.
pub(super) fn of_listener(ledger: &mut Ledger, listener: &mut Noted<Listener>, scopes: Scopes<'_>) {
    type Set = fn(&mut Listener, Span);
    let spans: [(&str, Set, &str); 3] = [
        ("client_header_timeout", |listener, span| listener.timeouts.head = span, "listener.timeouts.head"),
        ("keepalive_timeout", |listener, span| listener.timeouts.idle = span, "listener.timeouts.idle"),
        ("client_body_timeout", |listener, span| listener.timeouts.body = span, "listener.timeouts.body"),
    ];
    for (name, set, told) in spans {
        let Some(line) = setting(scopes, name) else { continue };
        let done =
            time(line.word(1)).and_then(|span| listener.set("timeouts", line.place, |listener| set(listener, span)));
        say(ledger, line, done.map_or_else(Verdict::not_taken, |()| Verdict::taken(told)));
    }
    if let Some(line) = setting(scopes, "client_max_body_size") {
        let done = size(line.word(1))
            .and_then(|bytes| listener.set("limits", line.place, |listener| listener.limits.body_bytes = bytes));
        say(ledger, line, done.map_or_else(Verdict::not_taken, |()| Verdict::taken("listener.limits.body_bytes")));
    }
    proxies(ledger, listener, scopes);
}

/// Proxies in front, whose word on the client's address counts.
fn proxies(ledger: &mut Ledger, listener: &mut Noted<Listener>, scopes: Scopes<'_>) {
    let forwarded =
        setting(scopes, "real_ip_header").filter(|line| line.word(1).eq_ignore_ascii_case("x-forwarded-for"));
    let Some(header) = forwarded else { return };
    say(ledger, header, Verdict::taken("listener.trusted_proxies"));
    let from: Vec<&Directive> = scopes.iter().flat_map(|scope| scope.all("set_real_ip_from")).collect();
    for line in from {
        let done = line
            .word(1)
            .parse()
            .and_then(|range| listener.set("", line.place, |listener| listener.trusted_proxies.push(range)));
        say(ledger, line, done.map_or_else(Verdict::not_taken, |()| Verdict::taken("listener.trusted_proxies")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        for (text, millis) in
            [("60", 60_000), ("30s", 30_000), ("1h30m", 5_400_000), ("500ms", 500), ("1d", 86_400_000)]
        {
            assert_eq!(time(text), Ok(Span::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "x", "1x", "-1", "99999999999999999999", "9999999999999999y", "é"] {
            assert!(time(text).is_err(), "{text}");
        }
        for (text, bytes) in [("0", 0), ("8k", 8_192), ("10m", 10_485_760), ("1G", 1_073_741_824)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "1x", "99999999999g", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
