//! A frontend, backend or `listen`, with all statements that hold for it.

use super::sections::{Kind, Section, Statement, in_effect};
use crate::import::report::{Ledger, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Http,
    Tcp,
}

#[derive(Debug)]
pub(super) struct Proxy<'s> {
    pub(super) section: &'s Section,
    pub(super) mode: Mode,
    /// Those of its defaults, then its own.
    statements: Vec<&'s Statement>,
}

impl<'s> Proxy<'s> {
    pub(super) fn of(sections: &'s [Section], index: usize) -> Self {
        let statements: Vec<_> = in_effect(sections, index).into_iter().map(|(statement, _)| statement).collect();
        let mut proxy = Self { section: &sections[index], mode: Mode::Tcp, statements };
        if proxy.last(&["mode"]).is_some_and(|mode| mode.words.get(1).is_some_and(|mode| mode == "http")) {
            proxy.mode = Mode::Http;
        }
        proxy
    }

    pub(super) fn takes_clients(&self) -> bool {
        matches!(self.section.kind, Kind::Frontend | Kind::Listen)
    }

    pub(super) fn has_servers(&self) -> bool {
        matches!(self.section.kind, Kind::Backend | Kind::Listen)
    }

    /// All statements that begin with these words.
    pub(super) fn all<'a>(&'a self, start: &'a [&str]) -> impl Iterator<Item = &'s Statement> + 'a {
        self.statements.iter().copied().filter(move |statement| begins(statement, start))
    }

    /// Its own alone: those of its defaults don't count.
    pub(super) fn own<'a>(&'a self, start: &'a [&str]) -> impl Iterator<Item = &'s Statement> + 'a {
        self.section.statements.iter().filter(move |statement| begins(statement, start))
    }

    /// The one that counts of those that begin with these words.
    pub(super) fn last(&self, start: &[&str]) -> Option<&'s Statement> {
        self.statements.iter().copied().rfind(|statement| begins(statement, start))
    }

    /// An `option`, unless a later `no option` takes it back.
    pub(super) fn option(&self, name: &str) -> Option<&'s Statement> {
        let (set, unset) = (["option", name], ["no", "option", name]);
        let latest = self.statements.iter().copied().rfind(|each| begins(each, &set) || begins(each, &unset))?;
        (latest.words[0] == "option").then_some(latest)
    }
}

fn begins(statement: &Statement, start: &[&str]) -> bool {
    statement.words.len() >= start.len() && statement.words.iter().zip(start).all(|(word, start)| word == start)
}

/// What is to be said of statements that no proxy has taken: the words that they begin with, and what is said.
#[derive(Clone, Copy, Debug)]
enum Say {
    NotNeeded(&'static str),
    NotTaken(&'static str),
}
use Say::{NotNeeded, NotTaken};

const LOG: &str = "[access_log] tells requests, in fields of its own: see the README";
const NO_LOG: &str = "it shapes a log, which [access_log] does here: see the README";
const CLOSING: &str = "connections to backends are kept and each request is balanced by itself; \
                       limits.idle_connections = 0 opens one for each request";
const ERRORS: &str = "what Steadfast answers itself is plain";
const STATS: &str = "`steadfast ctl`, the REST API and /metrics show what runs";
const TRACK: &str = "nothing is counted per client: limits.requests bounds what each backend bears";
const FIELDS: &str = "no field is rewritten: let the application do it";
const SMOOTH: &str = "sockets are set up as they have to be";

/// By the words that a statement begins with, before a `*` also by a part of one; the first that fit count.
const SAID: &[(&str, Say)] = &[
    ("log", NotTaken(LOG)),
    ("option httplog", NotTaken(LOG)),
    ("option tcplog", NotTaken(LOG)),
    ("option httpslog", NotTaken(LOG)),
    ("option dontlognull", NotNeeded(NO_LOG)),
    ("option dontlog-normal", NotNeeded(NO_LOG)),
    ("option logasap", NotNeeded(NO_LOG)),
    ("option log-separate-errors", NotNeeded(NO_LOG)),
    ("option log-health-checks", NotNeeded("changes of health are in the log, and in `steadfast ctl events`")),
    ("log-format", NotTaken(LOG)),
    ("log-format-sd", NotTaken(LOG)),
    ("log-tag", NotNeeded(NO_LOG)),
    ("error-log-format", NotTaken(LOG)),
    ("unique-id-format", NotTaken(FIELDS)),
    ("unique-id-header", NotTaken(FIELDS)),
    ("capture", NotTaken(LOG)),
    ("declare capture", NotTaken(LOG)),
    ("http-request capture", NotTaken(LOG)),
    ("option httpclose", NotNeeded(CLOSING)),
    ("option forceclose", NotNeeded(CLOSING)),
    ("option http-server-close", NotNeeded(CLOSING)),
    ("option http-keep-alive", NotNeeded("connections are kept on both sides")),
    ("option http-tunnel", NotNeeded("each request is balanced by itself")),
    ("option prefer-last-server", NotNeeded("connections to backends are shared")),
    ("option http-pretend-keepalive", NotNeeded("connections to backends are kept")),
    ("option http-buffer-request", NotTaken("bodies are passed on as they come")),
    ("option http-ignore-probes", NotNeeded("connections without a request are closed and not answered")),
    ("option http-no-delay", NotNeeded("nothing is held back")),
    ("option http-use-htx", NotNeeded("it changes nothing any more")),
    ("option http-restrict-req-hdr-names", NotNeeded("names of fields are what RFC 9110 lets them be")),
    ("option accept-invalid-http-request", NotTaken("what is malformed is refused with 400")),
    ("option accept-invalid-http-response", NotTaken("what is malformed is refused with 502")),
    ("option http-proxy", NotTaken("it is no forward proxy")),
    ("option http_proxy", NotTaken("it is no forward proxy")),
    ("option originalto", NotTaken(FIELDS)),
    ("option transparent", NotTaken("without a pool there is nowhere to go: add backends")),
    ("option independent-streams", NotNeeded("each direction has its own time")),
    ("option nolinger", NotNeeded("connections are closed in order")),
    ("option abortonclose", NotNeeded("a request whose client has gone is given up")),
    ("option allbackups", NotNeeded("all backups share the load")),
    ("option persist", NotTaken("pins to a backend that is down are held for requests in affinity.force alone")),
    ("option clitcpka", NotNeeded(SMOOTH)),
    ("option srvtcpka", NotNeeded(SMOOTH)),
    ("option tcpka", NotNeeded(SMOOTH)),
    ("option tcp-smart-accept", NotNeeded(SMOOTH)),
    ("option tcp-smart-connect", NotNeeded(SMOOTH)),
    ("option splice-*", NotNeeded(SMOOTH)),
    ("option contstats", NotNeeded("counts are always current")),
    ("option socket-stats", NotNeeded(STATS)),
    (
        "option checkcache",
        NotTaken("responses with our cookie have `Cache-Control: private`; others are the application's"),
    ),
    ("option disable-h2-upgrade", NotNeeded("set http2 = false where clients must not speak HTTP/2")),
    ("option spop-check", NotTaken("there is no such check: see pool.health")),
    ("http-reuse", NotNeeded("idle connections to backends are shared by all clients")),
    ("errorfile", NotTaken(ERRORS)),
    ("errorfiles", NotTaken(ERRORS)),
    ("errorloc", NotTaken(ERRORS)),
    ("errorloc302", NotTaken(ERRORS)),
    ("errorloc303", NotTaken(ERRORS)),
    ("http-error", NotTaken(ERRORS)),
    ("stats", NotNeeded(STATS)),
    ("monitor-uri", NotTaken("the admin address answers /healthz and /readyz")),
    ("monitor", NotTaken("the admin address answers /healthz and /readyz")),
    ("compression", NotTaken("bodies are passed on as they are: let the application compress them")),
    ("filter", NotTaken("bodies are passed on as they are")),
    ("http-request set-header X-Forwarded-Proto", NotNeeded("forwarding.x_forwarded_proto tells it")),
    ("http-request add-header X-Forwarded-Proto", NotNeeded("forwarding.x_forwarded_proto tells it")),
    ("http-request set-header X-Forwarded-Host", NotNeeded("forwarding.x_forwarded_host tells it")),
    ("http-request set-header X-Forwarded-For", NotNeeded("forwarding.x_forwarded_for tells it")),
    ("http-request set-header X-Real-IP", NotTaken("backends are told the client's address in X-Forwarded-For")),
    ("http-request set-header", NotTaken(FIELDS)),
    ("http-request add-header", NotTaken(FIELDS)),
    ("http-request del-header", NotTaken(FIELDS)),
    ("http-request replace-*", NotTaken("neither fields nor paths are rewritten: let the application do it")),
    ("http-request set-path", NotTaken("paths are passed on as they are")),
    ("http-request set-uri", NotTaken("paths are passed on as they are")),
    ("http-request set-query", NotTaken("paths are passed on as they are")),
    ("http-request set-method", NotTaken("requests are passed on as they are")),
    ("http-request normalize-uri", NotTaken("paths are passed on as they are")),
    ("http-request deny", NotTaken("users are not checked here: let the application or a firewall refuse")),
    ("http-request reject", NotTaken("users are not checked here: let the application or a firewall refuse")),
    ("http-request silent-drop", NotTaken("users are not checked here: let the application or a firewall refuse")),
    ("http-request tarpit", NotTaken("users are not checked here: let the application or a firewall refuse")),
    ("http-request auth", NotTaken("users are not checked here: let the application do it")),
    ("http-request allow", NotTaken("users are not checked here: all are let through")),
    ("http-request track-sc*", NotTaken(TRACK)),
    ("http-request sc-*", NotTaken(TRACK)),
    ("http-request redirect", NotTaken("only to https can be redirected, and not by rules: let the application do it")),
    ("http-request return", NotTaken("no content is served here")),
    ("http-request use-service", NotNeeded(STATS)),
    ("http-request set-log-level", NotNeeded(NO_LOG)),
    ("http-request set-var", NotTaken("there are no variables")),
    ("http-request unset-var", NotTaken("there are no variables")),
    (
        "http-request set-src",
        NotTaken("name the proxies in front in listener.trusted_proxies: X-Forwarded-For then tells the client"),
    ),
    ("http-request cache-use", NotTaken("nothing is cached here")),
    ("http-request", NotTaken("requests are passed on as they are")),
    ("http-response set-header", NotTaken("fields of responses are not rewritten: let the application do it")),
    ("http-response add-header", NotTaken("fields of responses are not rewritten: let the application do it")),
    ("http-response del-header", NotTaken("fields of responses are not rewritten: let the application do it")),
    ("http-response", NotTaken("responses are passed on as they are")),
    ("http-after-response", NotTaken("responses are passed on as they are")),
    ("reqadd", NotTaken(FIELDS)),
    ("reqrep", NotTaken(FIELDS)),
    ("rspadd", NotTaken(FIELDS)),
    ("rspidel", NotTaken(FIELDS)),
    ("redirect", NotTaken("only to https can be redirected, and not by rules: let the application do it")),
    ("block", NotTaken("users are not checked here: let the application or a firewall refuse")),
    ("tcp-request content track-sc*", NotTaken(TRACK)),
    ("tcp-request connection track-sc*", NotTaken(TRACK)),
    ("tcp-request", NotTaken("connections are taken as they come: let a firewall refuse")),
    ("tcp-response", NotTaken("bytes are passed on as they come")),
    ("tcp-check", NotTaken("such a check connects and says nothing: see pool.health")),
    ("quic-initial", NotTaken("QUIC is not spoken")),
    ("rate-limit", NotTaken("limits.connections bounds a listener, limits.requests a backend")),
    ("use-server", NotTaken("affinity and balance alone choose a backend")),
    ("force-persist", NotTaken("say so in affinity.force, by path, method or header")),
    ("ignore-persist", NotTaken("say so in affinity.ignore, by path, method or header")),
    ("email-alert", NotTaken("`steadfast ctl events` and /metrics tell what happens")),
    ("external-check", NotTaken("checks are of HTTP, gRPC or TCP; REST takes pushed health")),
    ("load-server-state-from-file", NotNeeded("the store keeps the admin state of backends")),
    ("server-state-file-name", NotNeeded("the store keeps the admin state of backends")),
    ("grace", NotNeeded("global.drain_timeout says how long a stop may take")),
    ("backlog", NotNeeded(SMOOTH)),
    ("bind-process", NotNeeded("each worker has a socket of its own")),
    ("clitcpka-*", NotNeeded(SMOOTH)),
    ("srvtcpka-*", NotNeeded(SMOOTH)),
    ("tcp-*", NotNeeded(SMOOTH)),
    ("description", NotNeeded("it is a word for people")),
    ("id", NotNeeded("names are what counts here")),
    ("guid", NotNeeded("names are what counts here")),
    ("max-keep-alive-queue", NotNeeded("connections to backends are shared")),
    ("max-session-srv-conns", NotNeeded("connections to backends are shared")),
    ("source", NotTaken("backends are connected to from the address that the system chooses")),
    ("dispatch", NotTaken("write it as a backend")),
    ("disabled", NotTaken("HAProxy doesn't run this proxy: take its listener or pool out")),
    ("enabled", NotNeeded("all that is written runs")),
    ("maxconn", NotNeeded("HAProxy has no use for it here")),
    ("timeout tarpit", NotNeeded("nobody is held up on purpose")),
    ("timeout client-fin", NotNeeded("timeouts.body holds there as well")),
    ("timeout server-fin", NotNeeded("timeouts.body holds there as well")),
    ("timeout client-hs", NotNeeded("timeouts.head holds for handshakes")),
    ("hash-preserve-affinity", NotNeeded("affinity.on_overload says it")),
    ("no option", NotNeeded("it is not so here either")),
    ("no log", NotNeeded(NO_LOG)),
];

/// Statements that are understood, and that somebody would have taken if they had any effect.
const EFFECTIVE: [&str; 33] = [
    "mode",
    "bind",
    "default_backend",
    "use_backend",
    "acl",
    "timeout",
    "balance",
    "hash-type",
    "hash-balance-factor",
    "cookie",
    "dynamic-cookie-key",
    "appsession",
    "server",
    "default-server",
    "server-template",
    "retries",
    "retry-on",
    "option httpchk",
    "option tcp-check",
    "option ssl-hello-chk",
    "option mysql-check",
    "option pgsql-check",
    "option redis-check",
    "option smtpchk",
    "option ldap-check",
    "option redispatch",
    "option forwardfor",
    "option forwarded",
    "http-check",
    "stick",
    "stick-table",
    "persist",
    "fullconn",
];

fn fits(words: &str, start: &str) -> bool {
    match start.strip_suffix('*') {
        Some(start) => words.starts_with(start),
        None => words.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
    }
}

/// Says of statements what no proxy has said. `shared` are those of defaults, which may be of no use to any proxy.
pub(super) fn leftovers(ledger: &mut Ledger, statements: &[Statement], shared: bool) {
    for statement in statements.iter().filter(|statement| !ledger_knows(ledger, statement)).collect::<Vec<_>>() {
        let words = statement.words.join(" ");
        let verdict = match SAID.iter().find(|(start, _)| fits(&words, start)) {
            Some((_, NotNeeded(why))) => Verdict::not_needed(*why),
            Some((_, NotTaken(why))) => Verdict::not_taken(*why),
            None if EFFECTIVE.iter().any(|start| fits(&words, start)) => Verdict::not_needed(match shared {
                true => "nothing that follows has a use for it",
                false => "another line overrides it, or HAProxy has no use for it here",
            }),
            None => Verdict::not_taken("nothing is known of it here"),
        };
        ledger.remark(statement.place, verdict);
    }
}

fn ledger_knows(ledger: &Ledger, statement: &Statement) -> bool {
    ledger.knows(statement.place)
}
