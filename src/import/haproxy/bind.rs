//! `bind` lines.

use super::sections::Statement;
use crate::import::report::{Ledger, Verdict};
use control::spec::{Certificate, ClientVerify, TlsSettings, TlsVersion};
use std::{collections::BTreeMap, path::PathBuf};

/// What global settings say to all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ssl {
    /// Where relative names of certificates and of authorities begin.
    pub(super) crt_base: Option<String>,
    pub(super) ca_base: Option<String>,
    pub(super) min_version: Option<TlsVersion>,
}

impl Ssl {
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        based(self.crt_base.as_deref(), name)
    }

    pub(super) fn authority(&self, name: &str) -> PathBuf {
        based(self.ca_base.as_deref(), name)
    }
}

fn based(base: Option<&str>, name: &str) -> PathBuf {
    match base {
        Some(base) if !name.starts_with('/') => PathBuf::from(base).join(name),
        _ => PathBuf::from(name),
    }
}

/// One line, with what holds for all of its addresses.
#[derive(Debug, Default)]
pub(super) struct Bind {
    /// Each as a listener binds it: `0.0.0.0:80`.
    pub(super) addresses: Vec<String>,
    pub(super) name: Option<String>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) http2: Option<bool>,
    pub(super) accept_proxy: bool,
    pub(super) connections: Option<u32>,
}

/// More ports than anybody would want a listener for each of.
const MOST_PORTS: u16 = 16;

/// How many words follow each option that something is said of.
const ARGUMENTS: [(&str, usize); 38] = [
    ("alpn", 1),
    ("backlog", 1),
    ("ca-file", 1),
    ("ca-ignore-err", 1),
    ("ca-sign-file", 1),
    ("ca-verify-file", 1),
    ("ciphers", 1),
    ("ciphersuites", 1),
    ("client-sigalgs", 1),
    ("crl-file", 1),
    ("crt", 1),
    ("crt-ignore-err", 1),
    ("crt-list", 1),
    ("curves", 1),
    ("ecdhe", 1),
    ("gid", 1),
    ("group", 1),
    ("guid-prefix", 1),
    ("id", 1),
    ("interface", 1),
    ("level", 1),
    ("maxconn", 1),
    ("mode", 1),
    ("mss", 1),
    ("name", 1),
    ("namespace", 1),
    ("nbconn", 1),
    ("npn", 1),
    ("ocsp-update", 1),
    ("process", 1),
    ("proto", 1),
    ("severity-output", 1),
    ("shards", 1),
    ("sigalgs", 1),
    ("ssl-max-ver", 1),
    ("ssl-min-ver", 1),
    ("tcp-ut", 1),
    ("thread", 1),
];

/// What is said of options for which nothing here stands, and nothing is missing.
const NOT_NEEDED: [(&[&str], &str); 4] = [
    (
        &["ciphers", "ciphersuites", "curves", "ecdhe", "sigalgs", "client-sigalgs", "prefer-client-ciphers"],
        "all ciphers and curves that are offered have forward secrecy",
    ),
    (&["no-sslv3", "no-tlsv10", "no-tlsv11", "ssl-max-ver", "npn"], "TLS 1.2 and 1.3 are spoken, and nothing older"),
    (
        &[
            "process",
            "thread",
            "shards",
            "backlog",
            "mss",
            "nbconn",
            "tfo",
            "defer-accept",
            "tcp-ut",
            "id",
            "guid-prefix",
        ],
        "each worker has a socket of its own",
    ),
    (
        &["level", "severity-output", "expose-fd", "listeners", "v4v6", "generate-certificates"],
        "it changes nothing here",
    ),
];

/// What is missing where an option isn't taken.
const NOT_TAKEN: [(&str, &str); 11] = [
    ("crt-list", "write its certificates into [[listener.tls.certificate]], each with its chain and key"),
    ("strict-sni", "who asks for another name is shown the first certificate"),
    ("interface", "bind the address of that interface"),
    ("transparent", "it takes addresses that are not this machine's"),
    ("namespace", "run Steadfast in that namespace"),
    ("crl-file", "revocation lists are not read"),
    ("allow-0rtt", "early data can be replayed and is never taken"),
    ("no-tls-tickets", "clients come back by tickets, whose keys change every 6 hours"),
    ("no-alpn", "set http2 = false where clients must not speak HTTP/2"),
    ("v6only", "bind an address of IPv6, or `0.0.0.0` for IPv4"),
    ("ocsp-update", "name a response in `ocsp` of the certificate"),
];

struct Given<'w> {
    word: &'w str,
    argument: &'w str,
}

pub(super) fn read(ledger: &mut Ledger, statement: &Statement, ssl: &Ssl) -> Bind {
    let words = statement.words();
    let place = statement.place;
    let mut bind = Bind::default();
    for address in words.get(1).copied().unwrap_or_default().split(',') {
        match addresses(address) {
            Ok(found) => bind.addresses.extend(found),
            Err(why) => ledger.part(place, address, Verdict::not_taken(why)),
        }
    }
    let arguments: BTreeMap<_, _> = ARGUMENTS.into();
    let (mut given, mut rest) = (Vec::new(), words.iter().skip(2).copied());
    while let Some(word) = rest.next() {
        let count = arguments.get(word).copied().unwrap_or_default();
        given.push(Given { word, argument: if count > 0 { rest.next().unwrap_or_default() } else { "" } });
    }
    let (encrypted, others): (Vec<_>, Vec<_>) = given.into_iter().partition(|given| is_about_tls(given.word));
    for Given { word, argument } in others {
        let part = format!("{word} {argument}");
        match word {
            "name" => bind.name = Some(argument.to_owned()),
            "accept-proxy" => {
                bind.accept_proxy = true;
                let what = "proxy_protocol = [\"0.0.0.0/0\", \"::/0\"]";
                let but = "narrow it to the proxies in front: others would be clients of their own then";
                ledger.part(place, "accept-proxy", Verdict::otherwise(what, but));
            }
            "proto" => bind.http2 = Some(argument == "h2"),
            "maxconn" => match argument.parse() {
                Ok(connections @ 1..) => {
                    bind.connections = Some(connections);
                    ledger.part(place, part, Verdict::otherwise("limits.connections", "it holds for each worker"));
                }
                Ok(_) | Err(_) => ledger.part(place, part, Verdict::not_taken("it is no number above 0")),
            },
            _ => say(ledger, statement, word, &part),
        }
    }
    if encrypted.iter().any(|given| given.word == "ssl") {
        tls(ledger, statement, &encrypted, ssl, &mut bind);
    } else {
        for given in encrypted {
            ledger.part(place, given.word, Verdict::not_needed("HAProxy heeds it with `ssl` alone"));
        }
    }
    bind
}

fn is_about_tls(word: &str) -> bool {
    matches!(word, "ssl" | "crt" | "alpn" | "ca-file" | "ca-verify-file" | "verify" | "ssl-min-ver")
        || matches!(word, "no-tlsv12" | "force-tlsv12" | "force-tlsv13" | "none" | "optional" | "required")
}

fn say(ledger: &mut Ledger, statement: &Statement, word: &str, part: &str) {
    let not_needed = NOT_NEEDED.iter().find(|(words, _)| words.contains(&word)).map(|(_, why)| *why);
    let not_taken = NOT_TAKEN.iter().find(|(known, _)| *known == word).map(|(_, why)| *why);
    let verdict = match (not_needed, not_taken) {
        (Some(why), _) => Verdict::not_needed(why),
        (None, Some(why)) => Verdict::not_taken(why),
        (None, None) => Verdict::not_taken("nothing is known of it here"),
    };
    ledger.part(statement.place, part.trim_end(), verdict);
}

fn tls(ledger: &mut Ledger, statement: &Statement, given: &[Given<'_>], ssl: &Ssl, bind: &mut Bind) {
    let place = statement.place;
    let mut settings = TlsSettings { min_version: ssl.min_version.unwrap_or_default(), ..TlsSettings::default() };
    for Given { word, argument } in given {
        match *word {
            "crt" if argument.is_empty() || argument.ends_with('/') || !argument.contains('.') => {
                let why = "it seems to be a folder: write a [[listener.tls.certificate]] for each file in it";
                ledger.part(place, format!("crt {argument}"), Verdict::not_taken(why));
            }
            "crt" => {
                // HAProxy's file has the chain and the key in it.
                let file = ssl.certificate(argument);
                settings.certificates.push(Certificate { chain: file.clone(), key: file, ocsp: None });
            }
            "alpn" => bind.http2 = Some(argument.split(',').any(|protocol| protocol == "h2")),
            "ca-file" | "ca-verify-file" => settings.clients.ca = Some(ssl.authority(argument)),
            "required" => settings.clients.verify = ClientVerify::Required,
            "optional" => settings.clients.verify = ClientVerify::Optional,
            "no-tlsv12" | "force-tlsv13" => settings.min_version = TlsVersion::V1_3,
            "ssl-min-ver" => match version(argument) {
                Ok(version) => settings.min_version = version,
                Err(why) => ledger.part(place, format!("ssl-min-ver {argument}"), Verdict::not_taken(why)),
            },
            "force-tlsv12" => ledger.part(place, *word, Verdict::not_taken("TLS 1.3 can't be turned off")),
            _ => {}
        }
    }
    if settings.clients.verify == ClientVerify::Off {
        settings.clients.ca = None;
    } else if settings.clients.ca.is_none() {
        settings.clients.verify = ClientVerify::Off;
        ledger.part(place, "verify", Verdict::not_taken("no authorities are named, in listener.tls.clients.ca"));
    }
    bind.tls = Some(settings);
}

pub(super) fn version(text: &str) -> Result<TlsVersion, &'static str> {
    match text {
        "TLSv1.3" => Ok(TlsVersion::V1_3),
        "TLSv1.2" => Ok(TlsVersion::V1_2),
        _ => Err("TLS 1.2 is the oldest version that is spoken"),
    }
}

/// An address as HAProxy takes it, with a range of ports one for each.
fn addresses(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix("tcp@").unwrap_or(text);
    let (text, any) = match text {
        _ if text.starts_with("ipv6@") || text.starts_with("tcp6@") => (&text[5..], "[::]"),
        _ if text.starts_with("ipv4@") || text.starts_with("tcp4@") => (&text[5..], "0.0.0.0"),
        text => (text, "0.0.0.0"),
    };
    if text.contains('@') || text.starts_with('/') {
        return Err("listeners bind addresses with ports, over TCP".to_owned());
    }
    let Some((host, ports)) = text.rsplit_once(':') else { return Err("it has no port".to_owned()) };
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "*" => any.to_owned(),
        host if host.parse::<std::net::Ipv4Addr>().is_ok() => host.to_owned(),
        host if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]"),
        _ => return Err("a listener binds an address and no name".to_owned()),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first @ 1..), Ok(last)) if last >= first && last - first < MOST_PORTS => {
            Ok((first..=last).map(|port| format!("{host}:{port}")).collect())
        }
        (Ok(1..), Ok(_)) => Err("these are too many ports: write a listener for each".to_owned()),
        _ => Err("its port is no number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_haproxy_binds() {
        for (text, found) in [
            (":80", vec!["0.0.0.0:80"]),
            ("*:80", vec!["0.0.0.0:80"]),
            ("10.0.0.1:443", vec!["10.0.0.1:443"]),
            ("[::1]:80", vec!["[::1]:80"]),
            (":::80", vec!["[::]:80"]),
            ("ipv6@:80", vec!["[::]:80"]),
            ("tcp4@10.0.0.1:80", vec!["10.0.0.1:80"]),
            (":8000-8002", vec!["0.0.0.0:8000", "0.0.0.0:8001", "0.0.0.0:8002"]),
        ] {
            assert_eq!(addresses(text).unwrap(), found, "{text}");
        }
        for text in ["", "80", ":x", ":0", ":1-2000", ":9-8", "/run/x", "abns@x", "quic4@:443", "www.test:80", "é:80"]
        {
            assert!(addresses(text).is_err(), "{text}");
        }
    }
}
