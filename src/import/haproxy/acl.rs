//! Conditions of HAProxy's rules, as far as a route can say them: a host, a path, and whether the client speaks TLS.

use super::sections::Statement;
use crate::import::{
    report::Place,
    routes::{Compared, Host, is_host, is_path, prefix},
};
use std::collections::BTreeMap;

/// Lines of each `acl`.
#[derive(Debug, Default)]
pub(super) struct Acls<'s>(BTreeMap<&'s str, Vec<&'s Statement>>);

impl<'s> Acls<'s> {
    pub(super) fn of(statements: impl Iterator<Item = &'s Statement>) -> Self {
        let mut acls = Self::default();
        for statement in statements {
            if let [word, name, _, ..] = &statement.words[..]
                && word == "acl"
            {
                acls.0.entry(name).or_default().push(statement);
            }
        }
        acls
    }

    /// Where the lines of those stand that a condition names.
    pub(super) fn named_in(&self, condition: &[&str]) -> Vec<Place> {
        let names = condition.iter().map(|word| word.trim_start_matches('!'));
        names.filter_map(|name| self.0.get(name)).flatten().map(|line| line.place).collect()
    }
}

/// Requests for which all of this holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) host: Host,
    /// The prefix of a route.
    pub(super) path: String,
    compared: Compared,
    /// Whether the client speaks TLS to us; either where unset.
    pub(super) tls: Option<bool>,
    /// How the route differs from what was asked for.
    buts: Vec<&'static str>,
}

impl Match {
    pub(super) const fn all() -> Self {
        Self { host: Host::Any, path: String::new(), compared: Compared::Segments, tls: None, buts: Vec::new() }
    }

    fn host(host: Host, but: Option<&'static str>) -> Self {
        Self { host, buts: but.into_iter().collect(), ..Self::all() }
    }

    pub(super) fn holds_all(&self) -> bool {
        self.host == Host::Any && self.path.is_empty()
    }

    /// Those for which both hold; `None` where there are none.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let host = self.host.narrower(&other.host)?;
        let below =
            |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let path = if below(&self.path, &other.path) {
            self
        } else if below(&other.path, &self.path) {
            other
        } else {
            return None;
        };
        let tls = match (self.tls, other.tls) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        let buts = self.buts.iter().chain(&other.buts).copied().collect();
        Some(Self { host, path: path.path.clone(), compared: path.compared, tls, buts })
    }

    /// How a route differs from this.
    pub(super) fn differs(&self) -> Vec<String> {
        let told = self.compared.differs(&self.path);
        self.buts.iter().map(|but| (*but).to_owned()).chain(told).collect()
    }
}

/// The alternatives of the condition behind `if` or `unless`, or why no route can say it.
pub(super) fn condition(words: &[&str], acls: &Acls<'_>) -> Result<Vec<Match>, String> {
    match words {
        [] => return Ok(vec![Match::all()]),
        ["unless", rest @ ..] => {
            let terms = terms(rest)?;
            return match &terms[..] {
                [one] if one.len() == 1 => negated(&test(&one[0], acls)?, !one[0].negated),
                _ => Err("only one condition can stand behind `unless` here".to_owned()),
            };
        }
        _ => {}
    }
    let words = words.strip_prefix(&["if"]).unwrap_or(words);
    let mut found = Vec::new();
    for alternative in terms(words)? {
        let mut matches = vec![Match::all()];
        for term in &alternative {
            let either = negated(&test(term, acls)?, term.negated)?;
            let both = matches.iter().flat_map(|one| either.iter().filter_map(|two| one.and(two)));
            matches = both.collect();
        }
        found.extend(matches);
    }
    Ok(exact(found))
}

/// What must not hold beside TLS, in a condition such as `!{ ssl_fc } !acme`: `None` where it says something else.
pub(super) fn plain_but(words: &[&str], acls: &Acls<'_>) -> Option<Vec<Match>> {
    let (words, negated_all) = match words {
        [] => return Some(Vec::new()),
        ["if", rest @ ..] => (rest, false),
        ["unless", rest @ ..] => (rest, true),
        _ => return None,
    };
    let alternatives = terms(words).ok()?;
    let terms: Vec<_> = match (&alternatives[..], negated_all) {
        ([all], false) => all.iter().map(|term| (term, term.negated)).collect(),
        // Not one of them holds.
        (each, true) if each.iter().all(|alternative| alternative.len() == 1) => {
            each.iter().flatten().map(|term| (term, !term.negated)).collect()
        }
        _ => return None,
    };
    let (mut plain, mut exceptions) = (false, Vec::new());
    for (term, negated) in terms {
        let matches = test(term, acls).ok()?;
        let wants_plain = if negated { Some(true) } else { Some(false) };
        if matches.len() == 1 && matches[0].holds_all() && matches[0].tls.is_some() {
            plain |= matches[0].tls == wants_plain;
            if matches[0].tls != wants_plain {
                return None;
            }
        } else if negated {
            exceptions.extend(matches);
        } else {
            return None;
        }
    }
    plain.then(|| exact(exceptions))
}

/// What is compared exactly and, in the same breath, with all below it, is compared as here.
fn exact(mut matches: Vec<Match>) -> Vec<Match> {
    let all = matches.clone();
    for each in &mut matches {
        let other = match each.compared {
            Compared::Exact => Compared::Below,
            Compared::Below => Compared::Exact,
            Compared::Segments | Compared::Start => continue,
        };
        let twin = |twin: &Match| (&twin.host, &twin.path, twin.tls) == (&each.host, &each.path, each.tls);
        if all.iter().any(|match_| twin(match_) && match_.compared == other) {
            each.compared = Compared::Segments;
        }
    }
    matches
}

fn negated(matches: &[Match], negated: bool) -> Result<Vec<Match>, String> {
    match matches {
        _ if !negated => Ok(matches.to_vec()),
        [only] if only.holds_all() && only.tls.is_some() => {
            Ok(vec![Match { tls: only.tls.map(|tls| !tls), ..Match::all() }])
        }
        _ => Err("a route can't say what must not hold".to_owned()),
    }
}

struct Term<'w> {
    negated: bool,
    /// The name of an acl, or what stands in braces.
    words: Vec<&'w str>,
    anonymous: bool,
}

/// Alternatives of terms that all have to hold.
fn terms<'w>(words: &[&'w str]) -> Result<Vec<Vec<Term<'w>>>, String> {
    let (mut alternatives, mut negated) = (vec![Vec::new()], false);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let bare = word.trim_start_matches('!');
        negated ^= (word.len() - bare.len()) % 2 == 1;
        let term = match bare {
            "" => continue,
            "||" | "or" | "OR" => {
                alternatives.push(Vec::new());
                continue;
            }
            "{" => {
                let inner: Vec<_> = words.by_ref().take_while(|word| *word != "}").collect();
                Term { negated, words: inner, anonymous: true }
            }
            name => Term { negated, words: vec![name], anonymous: false },
        };
        negated = false;
        if let Some(last) = alternatives.last_mut() {
            last.push(term);
        }
    }
    if alternatives.iter().any(Vec::is_empty) {
        return Err("the condition isn't whole".to_owned());
    }
    Ok(alternatives)
}

/// The alternatives of one term, before its negation.
fn test(term: &Term<'_>, acls: &Acls<'_>) -> Result<Vec<Match>, String> {
    if term.anonymous {
        return expression(&term.words);
    }
    let name = term.words[0];
    if let Some(lines) = acls.0.get(name) {
        let mut found = Vec::new();
        for line in lines {
            let words: Vec<_> = line.words[2..].iter().map(String::as_str).collect();
            found.extend(expression(&words).map_err(|why| format!("in acl `{name}` {why}"))?);
        }
        return Ok(exact(found));
    }
    match name {
        "TRUE" | "HTTP" => Ok(vec![Match::all()]),
        "FALSE" => Ok(Vec::new()),
        _ => Err(format!("`{name}` can't be said by a route, which knows host and path")),
    }
}

/// What one line says: a fetch, flags, values.
pub(super) fn expression(words: &[&str]) -> Result<Vec<Match>, String> {
    let Some((fetch, rest)) = words.split_first() else { return Err("nothing is compared".to_owned()) };
    let (name, converters) = fetch.split_once("),").map_or((*fetch, ""), |(name, rest)| (name, rest));
    let (name, argument) = name.split_once('(').map_or((name, ""), |(name, rest)| (name, rest.trim_end_matches(')')));
    let (name, converters) = name.split_once(',').unwrap_or((name, converters));
    let harmless = |each: &str| matches!(each, "" | "lower" | "host_only" | "1" | ":)" | "field(1" | "':')");
    if let Some(converter) = converters.split(',').find(|each| !harmless(each)) {
        return Err(format!("`{converter}` can't be said by a route"));
    }
    let (mut method, mut values, mut any_case, mut rest) = ("", Vec::new(), false, rest.iter().copied());
    while let Some(word) = rest.next() {
        match word {
            "-i" => any_case = true,
            "-m" => method = rest.next().unwrap_or_default(),
            "-f" | "-M" => return Err("values stand in a file: write them into the line and import again".to_owned()),
            "-n" | "-u" => drop(rest.next().filter(|_| word == "-u")),
            "--" => {
                values.extend(rest.by_ref());
            }
            value => values.push(value),
        }
    }
    any_case |= name.starts_with("path") && converters.contains("lower");
    if name.starts_with("path") && converters.contains("field(") {
        return Err(format!("`{fetch}` can't be said by a route"));
    }
    let is_host_field = argument.eq_ignore_ascii_case("host") || argument.to_ascii_lowercase().starts_with("host,");
    match name {
        "ssl_fc" if values.is_empty() => Ok(vec![Match { tls: Some(true), ..Match::all() }]),
        "always_true" | "req.ssl_hello_type" | "req_ssl_hello_type" => Ok(vec![Match::all()]),
        "always_false" => Ok(Vec::new()),
        "path" | "path_beg" | "path_dir" | "path_end" | "path_reg" | "path_sub" | "path_len" => {
            let method = name.strip_prefix("path_").unwrap_or(method);
            values.iter().map(|value| path(method, value, any_case)).collect()
        }
        "ssl_fc_sni" | "req.ssl_sni" | "req_ssl_sni" | "ssl_fc_sni_end" | "req_ssl_sni_end" => {
            let method = if name.ends_with("_end") { "end" } else { method };
            hosts(method, &values, None)
        }
        "hdr" | "req.hdr" | "hdr_dom" | "hdr_end" | "hdr_beg" | "hdr_reg" | "hdr_sub" | "hdr_dir" | "hdr_ip"
        | "req.fhdr" | "req.hdr_dom" | "req.hdr_end" | "req.hdr_beg"
            if is_host_field =>
        {
            let method = name.split_once('_').map_or(method, |(_, method)| method);
            hosts(method, &values, None)
        }
        _ => Err(format!("`{fetch}` can't be said by a route, which knows host and path")),
    }
}

fn path(method: &str, value: &str, any_case: bool) -> Result<Match, String> {
    if !matches!(method, "" | "str" | "beg") {
        return Err("a route's path is a prefix in whole segments, and nothing else".to_owned());
    }
    if !is_path(value) {
        return Err(format!("`{value}` can't be a route's path"));
    }
    let compared = match method {
        "beg" => Compared::of_prefix(value),
        _ if value.ends_with('/') => return Err(format!("a route's path can't be `{value}` alone")),
        _ => Compared::Exact,
    };
    let buts = if any_case { vec!["upper and lower case count here"] } else { Vec::new() };
    Ok(Match { path: prefix(value), compared, buts, ..Match::all() })
}

const PORTS: &str = "ports are not compared here";
const MIDDLE: &str = "the name has to be at the end here";
const WHOLE: &str = "whole labels count here";

fn hosts(method: &str, values: &[&str], but: Option<&'static str>) -> Result<Vec<Match>, String> {
    let mut found = Vec::new();
    for value in values {
        let (name, but) = match value.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (name, Some(PORTS))
            }
            _ => (*value, but),
        };
        let below = name.trim_start_matches('.');
        if !is_host(below) || below.starts_with("*.") {
            return Err(format!("`{value}` can't be a route's host"));
        }
        let both = |but| [Host::of(below), Host::of(&format!("*.{below}"))].map(|host| Match::host(host, but));
        match method {
            "" | "str" => found.push(Match::host(Host::of(below), but)),
            "end" if name.starts_with('.') => found.push(Match::host(Host::of(&format!("*.{below}")), but)),
            "end" => found.extend(both(but.or(Some(WHOLE)))),
            "dom" => found.extend(both(but.or(Some(MIDDLE)))),
            _ => return Err("a route's host is a name, or all below one".to_owned()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let lines =
            ["acl api path_beg /api/", "acl api path /api", "acl shop hdr(host) -i a.test b.test", "acl tls ssl_fc"];
        let statements: Vec<_> = lines
            .iter()
            .map(|line| Statement {
                place: Place { file: 0, line: 1 },
                words: line.split(' ').map(str::to_owned).collect(),
            })
            .collect();
        let acls = Acls::of(statements.iter());
        let words: Vec<_> = text.split_whitespace().collect();
        let show = |found: Match| {
            let host = match &found.host {
                Host::Any => "*".to_owned(),
                Host::Below(name) => format!("*.{name}"),
                Host::Exact(name) => name.clone(),
            };
            let tls = found.tls.map_or("", |tls| if tls { " tls" } else { " plain" });
            let differs = if found.differs().is_empty() { "" } else { " ~" };
            format!("{host} {}/{tls}{differs}", found.path)
        };
        condition(&words, &acls).map(|found| found.into_iter().map(show).collect())
    }

    #[test]
    fn conditions_are_hosts_and_paths() {
        for (text, found) in [
            ("", vec!["* /"]),
            ("if api", vec!["* /api/", "* /api/"]),
            ("if shop api", vec!["a.test /api/", "a.test /api/", "b.test /api/", "b.test /api/"]),
            ("if { path_beg /x } or { path_beg / }", vec!["* /x/ ~", "* /"]),
            ("if { path_beg /x/ }", vec!["* /x/ ~"]),
            ("if { path /x }", vec!["* /x/ ~"]),
            ("if { hdr_end(host) -i .a.test } !tls", vec!["*.a.test / plain"]),
            ("if { hdr_dom(host) -i a.test }", vec!["a.test / ~", "*.a.test / ~"]),
            ("if { req.hdr(host),lower,field(1,:) -m str a.test:8080 }", vec!["a.test / ~"]),
            ("unless { ssl_fc }", vec!["* / plain"]),
            ("if { hdr(host) a.test } { hdr(host) b.test }", vec![]),
            ("if { req.ssl_hello_type 1 } { req.ssl_sni -m end .a.test }", vec!["*.a.test /"]),
            ("if ! { ssl_fc }", vec!["* / plain"]),
        ] {
            assert_eq!(shown(text).unwrap(), found, "{text}");
        }
    }

    #[test]
    fn what_no_route_can_say_is_refused() {
        for text in [
            "if !api",
            "if METH_GET",
            "if { src 10.0.0.0/8 }",
            "if { path_end .php }",
            "if { path_reg ^/x }",
            "if { hdr_beg(host) -i www. }",
            "if { hdr(host) -f /etc/hosts.lst }",
            "if { hdr(user-agent) -m sub curl }",
            "if {",
            "if",
            "unless api tls",
            "if || tls",
        ] {
            assert!(shown(text).is_err(), "{text}: {:?}", shown(text));
        }
    }

    #[test]
    fn what_is_left_in_clear_text_can_be_told() {
        let acls = Acls::default();
        let left = |text: &str| plain_but(&text.split(' ').collect::<Vec<_>>(), &acls).map(|found| found.len());
        assert_eq!(left("if !{ ssl_fc }"), Some(0));
        assert_eq!(left("unless { ssl_fc }"), Some(0));
        assert_eq!(left("if !{ ssl_fc } !{ path_beg /.well-known/acme-challenge/ }"), Some(1));
        assert_eq!(left("unless { ssl_fc } or { path_beg /.well-known/acme-challenge/ }"), Some(1));
        assert_eq!(left("if { ssl_fc }"), None);
        assert_eq!(left("if { hdr(host) a.test } !{ ssl_fc }"), None);
    }
}
