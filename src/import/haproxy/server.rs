//! `server` lines: backends, and what of their options is their pool's here.

use super::{proxy::Proxy, sections::Statement};
use crate::import::report::{Ledger, Place, Verdict};
use std::collections::BTreeMap;

/// An option with the line that it stands on, which may be that of `default-server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) argument: String,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    /// As HAProxy has it.
    pub(super) address: String,
    /// How many a template makes.
    pub(super) template: bool,
    pub(super) place: Place,
    pub(super) options: BTreeMap<String, Given>,
}

/// Options that a word follows.
const WITH_ARGUMENT: [&str; 58] = [
    "addr",
    "agent-addr",
    "agent-inter",
    "agent-port",
    "agent-send",
    "alpn",
    "ca-file",
    "check-alpn",
    "check-pool-conn-name",
    "check-proto",
    "check-sni",
    "ciphers",
    "ciphersuites",
    "client-sigalgs",
    "cookie",
    "crl-file",
    "crt",
    "curves",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "guid",
    "hash-key",
    "id",
    "init-addr",
    "init-state",
    "inter",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "maxconn",
    "maxqueue",
    "minconn",
    "namespace",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-conn-name",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "proxy-v2-options",
    "redir",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "shard",
    "sigalgs",
    "slowstart",
    "sni",
    "socks4",
    "source",
];
const WITH_ARGUMENT_TOO: [&str; 11] = [
    "ssl-max-ver",
    "ssl-min-ver",
    "set-proxy-v2-tlv-fmt",
    "tcp-md5sig",
    "tcp-ut",
    "track",
    "usesrc",
    "verify",
    "verifyhost",
    "weight",
    "ws",
];

/// Options that stand for something here, which the pool or the backend is given elsewhere.
const USED: [&str; 29] = [
    "alpn",
    "backup",
    "ca-file",
    "check",
    "cookie",
    "crt",
    "disabled",
    "fall",
    "inter",
    "maxconn",
    "maxqueue",
    "proto",
    "resolve-prefer",
    "rise",
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "slowstart",
    "sni",
    "ssl",
    "verify",
    "verifyhost",
    "weight",
    "check-ssl",
    "check-sni",
    "check-send-proxy",
    "port",
    "addr",
];

/// What is said of the others: options, whether something is missing without them, and why.
const SAID: [(&[&str], bool, &str); 14] = [
    (&["fastinter", "downinter"], false, "checks go on at `health.interval`"),
    (
        &["init-addr", "resolvers", "resolve-opts", "resolve-net", "init-state"],
        false,
        "names are looked up again and again, and a look-up that fails takes nothing away",
    ),
    (
        &[
            "id",
            "guid",
            "shard",
            "enabled",
            "ssl-reuse",
            "tls-tickets",
            "no-tls-tickets",
            "non-stick",
            "hash-key",
            "stick",
        ],
        false,
        "it changes nothing here",
    ),
    (
        &[
            "pool-low-conn",
            "pool-max-conn",
            "pool-purge-delay",
            "pool-conn-name",
            "max-reuse",
            "tfo",
            "tcp-ut",
            "tcp-md5sig",
        ],
        false,
        "idle connections are kept up to limits.idle_connections",
    ),
    (
        &[
            "ciphers",
            "ciphersuites",
            "curves",
            "sigalgs",
            "client-sigalgs",
            "no-sslv3",
            "no-tlsv10",
            "no-tlsv11",
            "ssl-max-ver",
        ],
        false,
        "all ciphers and curves that are offered have forward secrecy",
    ),
    (&["ssl-min-ver", "no-tlsv12", "force-tlsv12", "force-tlsv13"], false, "TLS 1.2 and 1.3 are spoken"),
    (&["observe", "error-limit", "on-error"], true, "health.passive marks backends from failed connects and resets"),
    (&["on-marked-down", "on-marked-up"], true, "tunnels go on when checks fail: maintenance ends them"),
    (
        &["agent-check", "agent-addr", "agent-inter", "agent-port", "agent-send"],
        true,
        "no agent is asked: let it push health and drains over REST",
    ),
    (
        &["minconn", "track", "redir", "socks4", "namespace", "crl-file", "allow-0rtt"],
        true,
        "there is no such thing here",
    ),
    (&["source", "usesrc", "interface"], true, "backends are connected to from the address that the system chooses"),
    (&["check-alpn", "check-proto", "check-via-socks4"], true, "checks are made as requests are"),
    (&["proxy-v2-options", "set-proxy-v2-tlv-fmt"], true, "the PROXY protocol tells addresses alone"),
    (&["ws", "log-proto", "log-bufsize"], false, "WebSockets go over what their backend speaks"),
];

/// All servers of a proxy, with the options of `default-server` in each.
pub(super) fn read(ledger: &mut Ledger, proxy: &Proxy<'_>) -> Vec<Server> {
    let mut defaults = BTreeMap::new();
    for line in proxy.all(&["default-server"]) {
        ledger.remark(line.place, Verdict::taken("of each server"));
        options(ledger, line, 1, &mut defaults);
    }
    let mut servers = Vec::new();
    for line in proxy.section.statements.iter() {
        let (at, template) = match line.words[0].as_str() {
            "server" => (1, false),
            "server-template" => (1, true),
            _ => continue,
        };
        let address = at + 1 + usize::from(template);
        let (Some(name), Some(address_word)) = (line.words.get(at), line.words.get(address)) else {
            ledger.remark(line.place, Verdict::not_taken("it has no name or no address"));
            continue;
        };
        let mut given = defaults.clone();
        options(ledger, line, address + 1, &mut given);
        servers.push(Server {
            name: name.clone(),
            address: address_word.clone(),
            template,
            place: line.place,
            options: given,
        });
    }
    servers
}

fn options(ledger: &mut Ledger, line: &Statement, from: usize, into: &mut BTreeMap<String, Given>) {
    let mut words = line.words.iter().skip(from);
    while let Some(word) = words.next() {
        let takes = WITH_ARGUMENT.contains(&word.as_str()) || WITH_ARGUMENT_TOO.contains(&word.as_str());
        let argument = if takes { words.next().cloned().unwrap_or_default() } else { String::new() };
        if USED.contains(&word.as_str()) {
            into.insert(word.clone(), Given { argument, place: line.place });
            continue;
        }
        if let Some(taken_back) = word.strip_prefix("no-").filter(|word| USED.contains(word)) {
            into.remove(taken_back);
            continue;
        }
        let part = format!("{word} {argument}");
        let verdict = match SAID.iter().find(|(words, ..)| words.contains(&word.as_str())) {
            Some((_, true, why)) => Verdict::not_taken(*why),
            Some((_, false, why)) => Verdict::not_needed(*why),
            None => Verdict::not_taken("nothing is known of it here"),
        };
        ledger.part(line.place, part.trim_end(), verdict);
    }
}

impl Server {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    pub(super) fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(|given| given.argument.as_str())
    }

    /// Where the option stands, or the server.
    pub(super) fn place_of(&self, option: &str) -> Place {
        self.options.get(option).map_or(self.place, |given| given.place)
    }
}

/// An address as a backend has it.
pub(super) fn address(text: &str) -> Result<String, String> {
    let plain = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().find_map(|family| text.strip_prefix(family));
    let text = plain.unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix@").or(text.starts_with('/').then_some(text)) {
        return Ok(format!("unix:{path}"));
    }
    if let Some(name) = text.strip_prefix("abns@") {
        return Ok(format!("unix:@{name}"));
    }
    if text.contains('@') {
        return Err("backends are at addresses with ports, over TCP, or at Unix sockets".to_owned());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("it has no port: a backend has one, whatever its listener's is".to_owned());
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if port.starts_with(['+', '-']) {
        return Err("its port follows the listener's: write a pool with a backend for each port".to_owned());
    }
    match host {
        "" | "*" | "0.0.0.0" | "::" => Err("it leads to wherever the client was going: name the backend".to_owned()),
        host if host.contains(':') => Ok(format!("[{host}]:{port}")),
        host => Ok(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_ours() {
        for (text, ours) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("app.internal:8080", "app.internal:8080"),
            ("[fd00::7]:80", "[fd00::7]:80"),
            ("fd00::7:80", "[fd00::7]:80"),
            ("ipv4@app:80", "app:80"),
            ("unix@/run/app.sock", "unix:/run/app.sock"),
            ("/run/app.sock", "unix:/run/app.sock"),
            ("abns@app", "unix:@app"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(ours), "{text}");
        }
        for text in ["10.0.0.1", "10.0.0.1:+1", "*:80", "0.0.0.0:0", "fd@3", "quic4@a:1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
