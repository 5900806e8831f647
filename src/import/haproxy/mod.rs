//! HAProxy's configuration, as its versions 2.4 to 3.2 read it.

mod acl;
mod adoption;
mod affinity;
mod backend;
mod bind;
mod frontend;
mod health;
mod lexer;
mod proxy;
mod rules;
mod sections;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod time;

use super::{
    draft::{Draft, Names},
    report::{Ledger, Unreadable, Verdict},
};
use bind::Ssl;
use control::spec::TlsVersion;
use frontend::{Given, Pools};
use proxy::Proxy;
use sections::{Kind, Section};
use std::collections::BTreeMap;

pub(super) use sections::begins;

/// What these sources come to; what became of their lines goes into the ledger.
pub(super) fn import(ledger: &mut Ledger, variables: BTreeMap<String, String>) -> Result<Draft, Unreadable> {
    let sections = sections::read(ledger, variables)?;
    let ssl = globals(ledger, &sections);
    let proxies: Vec<_> = (0..sections.len()).map(|index| Proxy::of(&sections, index)).collect();
    let mut draft = Draft::default();
    let (mut names, mut pools) = (Names::default(), Pools::default());
    let mut found = Vec::new();
    for proxy in proxies.iter().filter(|proxy| proxy.has_servers()) {
        if let Some(pool) = backend::pool(ledger, proxy, &ssl, &mut names) {
            pools.insert(&proxy.section.name, (pool.is.name.clone(), proxy.mode));
            found.push(pool);
        }
    }
    let mut given = Given::default();
    for proxy in proxies.iter().filter(|proxy| proxy.takes_clients()) {
        let listeners = frontend::listeners(ledger, proxy, &pools, &ssl, &mut given);
        listeners.into_iter().for_each(|listener| draft.add_listener(listener));
    }
    found.into_iter().for_each(|pool| draft.add_pool(pool));
    rest(ledger, &sections);
    Ok(draft)
}

/// Sections of which nothing is taken: whether that leaves something missing, and why.
const SECTIONS: [(&str, bool, &str); 12] = [
    ("peers", false, "nothing has to be replicated: what a request says is enough"),
    ("resolvers", false, "names are looked up by the system's resolver, every pool.names.interval"),
    ("ring", false, "logs go to standard error"),
    ("traces", false, "logs go to standard error"),
    ("log-forward", true, "logs are not passed on"),
    ("log-profile", true, "the lines of [access_log] have one format"),
    ("userlist", true, "users are not checked here: let the application do it"),
    ("mailers", true, "`steadfast ctl events` and /metrics tell what happens"),
    ("program", true, "let systemd start it"),
    ("cache", true, "nothing is cached here"),
    ("crt-store", true, "write its certificates into [[listener.tls.certificate]]"),
    ("acme", true, "certificates come from files: let a client of ACME renew them"),
];

fn rest(ledger: &mut Ledger, sections: &[Section]) {
    for (index, section) in sections.iter().enumerate() {
        match section.kind {
            Kind::Other => {
                let known = SECTIONS.iter().find(|(word, ..)| *word == section.word);
                let verdict = match known {
                    Some((_, false, why)) => Verdict::not_needed(*why),
                    Some((_, true, why)) => Verdict::not_taken(*why),
                    None => Verdict::not_taken("there is no such thing here"),
                };
                ledger.block(section.place, section.last, verdict);
            }
            Kind::Global => {}
            Kind::Defaults => {
                let is_used = sections.iter().any(|other| other.defaults == Some(index));
                ledger.remark(
                    section.place,
                    match is_used {
                        true => Verdict::taken("settings of each that follows"),
                        false => Verdict::not_needed("nothing that follows uses it"),
                    },
                );
                proxy::leftovers(ledger, &section.statements, true);
            }
            Kind::Frontend | Kind::Backend | Kind::Listen => {
                if !ledger.knows(section.place) {
                    ledger.remark(section.place, Verdict::not_taken("it binds no address and has no servers"));
                }
                proxy::leftovers(ledger, &section.statements, false);
            }
        }
    }
}

const PROCESS: &str = "the supervisor and systemd see to it";

/// Global settings: whether something is missing without them, and why.
const GLOBAL: [(&[&str], bool, &str); 8] = [
    (
        &[
            "chroot",
            "daemon",
            "master-worker",
            "pidfile",
            "nbproc",
            "nbthread",
            "cpu-map",
            "cpu-policy",
            "node",
            "description",
            "grace",
            "hard-stop-after",
            "close-spread-time",
            "ulimit-n",
            "fd-hard-limit",
            "set-dumpable",
            "thread-groups",
            "thread-group",
            "busy-polling",
            "localpeer",
            "unix-bind",
            "zero-warning",
            "strict-limits",
            "h1-case-adjust-file",
            "setenv",
            "presetenv",
            "unsetenv",
            "resetenv",
            "numa-cpu-mapping",
            "insecure-fork-wanted",
            "uid",
            "gid",
            "external-check",
            "expose-experimental-directives",
            "expose-deprecated-directives",
            "wurfl-",
            "51degrees-",
            "limited-quic",
            "no-quic",
            "mworker-max-reloads",
            "prealloc-fd",
            "harden.",
            "cluster-secret",
            "stats-file",
            "default-path",
            "shm-stats-file",
            "warn-blocked-traffic-after",
            "dns-accept-family",
            "force-cfg-parser-pause",
        ],
        false,
        PROCESS,
    ),
    (&["user", "group"], false, "set global.user to a user of Steadfast's own"),
    (
        &[
            "maxconn",
            "maxsslconn",
            "maxconnrate",
            "maxsessrate",
            "maxsslrate",
            "maxpipes",
            "maxcomprate",
            "maxcompcpuusage",
        ],
        false,
        "memory is bounded by limits.connections of each listener, 50000 for each worker unless set",
    ),
    (
        &["stats", "server-state-base", "server-state-file"],
        false,
        "`steadfast ctl`, the REST API and /metrics show what runs",
    ),
    (
        &["log", "log-send-hostname", "log-tag", "quiet", "debug"],
        false,
        "logs go to standard error, which journald keeps",
    ),
    (
        &[
            "tune.",
            "nopoll",
            "noepoll",
            "noevports",
            "nokqueue",
            "nosplice",
            "noreuseport",
            "nogetaddrinfo",
            "spread-checks",
            "max-spread-checks",
            "ssl-engine",
            "ssl-mode-async",
            "ssl-propquery",
            "ssl-provider",
            "ssl-security-level",
            "ssl-dh-param-file",
            "ssl-load-extra-files",
            "ssl-load-extra-del-ext",
            "issuers-chain-path",
            "ssl-skip-self-issued-ca",
            "profiling.",
            "ocsp-update.",
        ],
        false,
        "it is about how HAProxy works inside",
    ),
    (
        &[
            "ssl-default-bind-ciphers",
            "ssl-default-bind-ciphersuites",
            "ssl-default-bind-curves",
            "ssl-default-bind-sigalgs",
            "ssl-default-bind-client-sigalgs",
            "ssl-default-server-ciphers",
            "ssl-default-server-ciphersuites",
            "ssl-default-server-curves",
            "ssl-default-server-options",
            "ssl-default-server-sigalgs",
            "ssl-default-server-client-sigalgs",
        ],
        false,
        "TLS 1.2 and 1.3 are spoken, and all ciphers that are offered have forward secrecy",
    ),
    (
        &[
            "lua-load",
            "lua-load-per-thread",
            "lua-prepend-path",
            "deviceatlas-",
            "set-var",
            "set-var-fmt",
            "http-err-codes",
            "http-fail-codes",
        ],
        true,
        "nothing of one's own runs in Steadfast",
    ),
];

fn globals(ledger: &mut Ledger, sections: &[Section]) -> Ssl {
    let mut ssl = Ssl::default();
    for section in sections.iter().filter(|section| section.kind == Kind::Global) {
        ledger.remark(
            section.place,
            Verdict::not_needed("what holds for the whole process stands in [global] and [admin]"),
        );
        for statement in &section.statements {
            let words = statement.words();
            let verdict = match words[..] {
                ["crt-base", base] => {
                    ssl.crt_base = Some(base.to_owned());
                    Verdict::taken("where names of certificates begin")
                }
                ["ca-base", base] => {
                    ssl.ca_base = Some(base.to_owned());
                    Verdict::taken("where names of authorities begin")
                }
                ["ssl-default-bind-options", ref options @ ..] => {
                    let strict = options.iter().any(|option| *option == "no-tlsv12" || *option == "force-tlsv13")
                        || options.windows(2).any(|pair| pair == ["ssl-min-ver", "TLSv1.3"]);
                    ssl.min_version = strict.then_some(TlsVersion::V1_3);
                    match strict {
                        true => Verdict::taken("listener.tls.min_version"),
                        false => Verdict::not_needed("TLS 1.2 is the oldest version that is spoken"),
                    }
                }
                ["ssl-server-verify", "none"] => {
                    Verdict::not_taken("set pool.tls.verify = false where nobody is to be verified")
                }
                ["ssl-server-verify", ..] => Verdict::not_needed("backends are verified unless set"),
                _ => global(words[0]),
            };
            ledger.remark(statement.place, verdict);
        }
    }
    ssl
}

fn global(word: &str) -> Verdict {
    let fits = |known: &&str| if known.ends_with(['.', '-']) { word.starts_with(*known) } else { *known == word };
    match GLOBAL.iter().find(|(words, ..)| words.iter().any(fits)) {
        Some((_, true, why)) => Verdict::not_taken(*why),
        Some((_, false, why)) => Verdict::not_needed(*why),
        None => Verdict::not_taken("nothing is known of it here"),
    }
}
