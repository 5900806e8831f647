//! What a `server` does with requests: locations that lead to pools, and redirects to https.

use super::{
    pools::{Pools, Scopes, Spoken, setting},
    tree::{Directive, say, say_of_all},
};
use crate::import::{
    report::{Ledger, Place, Verdict},
    routes::{Compared, is_path, prefix},
};

/// Where requests below a path are led.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    pub(super) path: String,
    pub(super) pool: String,
    pub(super) place: Place,
}

/// What a server does.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) leads: Vec<Lead>,
    /// The line that sends all to https.
    pub(super) redirect: Option<Place>,
    /// Whether that comes before all locations, so that in clear text none of them counts.
    pub(super) redirect_first: bool,
}

pub(super) fn read(ledger: &mut Ledger, server: &Directive, outer: Scopes<'_>, pools: &mut Pools<'_>) -> Deeds {
    let mut deeds = Deeds::default();
    for each in &server.block {
        match each.name() {
            "return" => {
                redirect(ledger, each, &mut deeds);
                deeds.redirect_first |= is_to_https(each);
            }
            // What makes certificates writes redirects so.
            "if" => match &each.block[..] {
                [only] if only.name() == "return" && is_to_https(only) => {
                    redirect(ledger, only, &mut deeds);
                    deeds.redirect_first = true;
                    say(ledger, each, Verdict::taken("listener.redirect = \"https\""));
                }
                _ => {
                    say_of_all(ledger, each, &Verdict::not_taken("there are no conditions: routes know host and path"))
                }
            },
            "location" => {
                let scopes: Vec<_> = [each, server].into_iter().chain(outer.iter().copied()).collect();
                location(ledger, each, &scopes, pools, &mut deeds);
            }
            _ => {}
        }
    }
    deeds
}

fn is_to_https(line: &Directive) -> bool {
    let target = line.word(2);
    let rest = target.strip_prefix("https://").unwrap_or_default();
    let host = ["$host", "$http_host", "$server_name"].iter().find_map(|host| rest.strip_prefix(host));
    matches!(line.word(1), "301" | "302" | "307" | "308")
        && host.is_some_and(|rest| rest == "$request_uri" || rest == "$uri")
}

fn redirect(ledger: &mut Ledger, line: &Directive, deeds: &mut Deeds) {
    if is_to_https(line) {
        deeds.redirect = deeds.redirect.or(Some(line.place));
        let but = "the answer is 308, so that methods stay";
        say(ledger, line, Verdict::otherwise("listener.redirect = \"https\"", but));
    } else {
        let why = "only to https, at the same host and path, can be redirected: let the application do it";
        say(ledger, line, Verdict::not_taken(why));
    }
}

/// Directives that serve something else than a pool.
const SERVES: [&str; 12] = [
    "root",
    "alias",
    "try_files",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "stub_status",
    "return",
    "content_by_lua_block",
    "autoindex",
    "empty_gif",
];

fn location(ledger: &mut Ledger, location: &Directive, scopes: Scopes<'_>, pools: &mut Pools<'_>, deeds: &mut Deeds) {
    let (kind, path) = match location.words.len() {
        2 => ("", location.word(1)),
        _ => (location.word(1), location.word(2)),
    };
    let compared = match kind {
        "" | "^~" if path.starts_with('@') => {
            say_of_all(ledger, location, &Verdict::not_taken("nothing is led from one location to another"));
            return;
        }
        "" | "^~" => Compared::of_prefix(path),
        "=" if path != "/" && !path.ends_with('/') => Compared::Exact,
        _ => {
            let why =
                "a route's path is a prefix in whole segments, and nothing else: these requests go where the rest goes";
            say_of_all(ledger, location, &Verdict::not_taken(why));
            return;
        }
    };
    let passed = ["proxy_pass", "grpc_pass"].iter().find_map(|name| location.find(name));
    let Some(pass) = passed.filter(|_| is_path(path)) else {
        served(ledger, location, path, deeds);
        return;
    };
    let taken = deeds.leads.iter().any(|lead| lead.path == prefix(path));
    let led = target(pass, path).and_then(|(target, spoken)| match taken {
        true => Err("another location has this path, with or without a slash at its end".to_owned()),
        false => Ok((pools.lead(ledger, target, spoken, pass, scopes)?, spoken, target)),
    });
    let (pool, spoken, target) = match led {
        Ok(led) => led,
        Err(why) => {
            say(ledger, pass, Verdict::not_taken(why.clone()));
            say(ledger, location, Verdict::not_taken(why));
            return;
        }
    };
    deeds.leads.push(Lead { path: prefix(path), pool: pool.clone(), place: location.place });
    let host = setting(scopes, "proxy_set_header").is_some() && has_host(scopes);
    say(
        ledger,
        pass,
        match host || matches!(spoken, Spoken::Grpc | Spoken::Grpcs) {
            true => Verdict::taken(format!("pool `{pool}`")),
            false => Verdict::otherwise(
                format!("pool `{pool}`"),
                format!("backends are told the client's `Host`, and not `{target}`"),
            ),
        },
    );
    say(
        ledger,
        location,
        match compared.differs(&prefix(path)) {
            None => Verdict::taken("listener.pool or listener.route"),
            Some(but) => Verdict::otherwise("listener.route", but),
        },
    );
    for inner in location.all("location") {
        say_of_all(ledger, inner, &Verdict::not_taken("write it beside the location that it is in"));
    }
    for inner in location.all("if") {
        say_of_all(ledger, inner, &Verdict::not_taken("there are no conditions: routes know host and path"));
    }
}

/// Whether the client's `Host` is passed on; fields that a location sets are all that count then.
fn has_host(scopes: Scopes<'_>) -> bool {
    let closest = scopes.iter().find(|scope| scope.find("proxy_set_header").is_some());
    closest.is_some_and(|scope| scope.all("proxy_set_header").any(|line| line.word(1).eq_ignore_ascii_case("host")))
}

/// A location without a pool.
fn served(ledger: &mut Ledger, location: &Directive, path: &str, deeds: &mut Deeds) {
    if let Some(line) = location.find("return").filter(|line| is_to_https(line) && path == "/") {
        redirect(ledger, line, deeds);
        say(ledger, location, Verdict::taken("listener.redirect = \"https\""));
        return;
    }
    let serves = location.block.iter().find(|each| SERVES.contains(&each.name()));
    let why = match serves.map(Directive::name) {
        Some("return") => "no answers are made here: let the application do it",
        Some("stub_status") => {
            say_of_all(ledger, location, &Verdict::not_needed("`steadfast ctl`, REST and /metrics show what runs"));
            return;
        }
        Some(_) => "neither files nor programs are served: leave it to a web server, as a pool of its own",
        None => "it leads to no pool",
    };
    say_of_all(ledger, location, &Verdict::not_taken(why));
}

/// What `proxy_pass` names, where the path is passed on as it came.
fn target<'p>(pass: &'p Directive, path: &str) -> Result<(&'p str, Spoken), String> {
    let word = pass.word(1);
    let schemes = [
        ("http://", Spoken::Http),
        ("https://", Spoken::Https),
        ("grpc://", Spoken::Grpc),
        ("grpcs://", Spoken::Grpcs),
    ];
    let found = schemes.iter().find_map(|(scheme, spoken)| Some((word.strip_prefix(scheme)?, *spoken)));
    let (rest, spoken) = match found {
        Some(found) => found,
        None if pass.name() == "grpc_pass" => (word, Spoken::Grpc),
        None => return Err("the target is made for each request: write a route for each".to_owned()),
    };
    if let Some(socket) = rest.strip_prefix("unix:") {
        return match socket.split_once(':') {
            Some((_, uri)) if !uri.is_empty() && uri != path => Err(rewritten(path, uri)),
            _ => Ok((rest.split_at("unix:".len() + socket.find(':').unwrap_or(socket.len())).0, spoken)),
        };
    }
    match rest.find('/') {
        Some(at) if rest[at..] != *path => Err(rewritten(path, &rest[at..])),
        Some(at) => Ok((&rest[..at], spoken)),
        None => Ok((rest, spoken)),
    }
}

fn rewritten(path: &str, uri: &str) -> String {
    format!("paths are passed on as they are, and `{path}` is made `{uri}` here: let the application serve `{path}`")
}
