use super::{Checker, MAX_NAME, Path, is_address, is_name};
use crate::{
    config::{Etcd, Membership, Source},
    spec::Span,
};
use std::collections::BTreeSet;

/// The longest prefix, so that the longest key stays far below what etcd takes.
const MAX_PREFIX: usize = 256;
const TIMEOUT: std::ops::RangeInclusive<Span> = Span::from_millis(100)..=Span::from_secs(60);

/// That the table of etcd is there where etcd is the source, and whole.
pub(super) fn membership(checker: &mut Checker, membership: &Membership) {
    let at = Path::default().key("membership");
    match (&membership.etcd, membership.source) {
        (None, Source::Etcd) => {
            let right = "add [membership.etcd] with endpoints = [\"https://etcd-1:2379\"]";
            checker.wrong(at.key("source"), "nothing says where etcd is", right);
        }
        (Some(_), Source::Api | Source::File) => {
            let right = "set membership.source = \"etcd\", or remove the table";
            checker.wrong(at.key("etcd"), "is of no use, for membership comes from elsewhere", right);
        }
        (Some(etcd), Source::Etcd) => table(checker, &at.key("etcd"), etcd),
        (None, Source::Api | Source::File) => {}
    }
}

fn table(checker: &mut Checker, at: &Path, etcd: &Etcd) {
    endpoints(checker, &at.key("endpoints"), etcd);
    node(checker, at, etcd);
    let prefix = &etcd.prefix;
    let graphic = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let parts = prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !part.is_empty()));
    let right = format!("write one such as \"/steadfast\": a `/` in front, none behind, at most {MAX_PREFIX} bytes");
    let wrong = format!("`{}` can't begin a key", prefix.escape_debug());
    checker.require(graphic && parts && prefix.len() <= MAX_PREFIX, at.key("prefix"), wrong, right);
    if etcd.user.as_ref().is_some_and(String::is_empty) {
        checker.wrong(at.key("user"), "is empty", "name a user of etcd, or leave it out");
    }
    let (user, password) = (etcd.user.is_some(), etcd.password_file.is_some());
    let right = "set both `user` and `password_file`, or neither";
    checker.require(user || !password, at.key("user"), "is missing beside `password_file`", right);
    checker.require(password || !user, at.key("password_file"), "is missing beside `user`", right);
    let files = [("ca_file", &etcd.ca_file), ("cert_file", &etcd.cert_file), ("key_file", &etcd.key_file)];
    let endpoints = &etcd.endpoints;
    let encrypted = endpoints.is_empty() || endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
    for (key, file) in files {
        let Some(file) = file else { continue };
        checker.require(!file.as_os_str().is_empty(), at.key(key), "is empty", "name a PEM file");
        let right = "write https:// in front of the endpoints, or leave it out";
        checker.require(encrypted, at.key(key), "is about TLS, and no endpoint has it", right);
    }
    let (cert, key) = (etcd.cert_file.is_some(), etcd.key_file.is_some());
    let right = "set both `cert_file` and `key_file`, or neither";
    checker.require(cert || !key, at.key("cert_file"), "is missing beside `key_file`", right);
    checker.require(key || !cert, at.key("key_file"), "is missing beside `cert_file`", right);
    let wrong = format!("{} is out of range", etcd.timeout);
    checker.require(TIMEOUT.contains(&etcd.timeout), at.key("timeout"), wrong, "write \"100ms\" to \"1m\"");
}

/// How this node shows itself to the others.
fn node(checker: &mut Checker, at: &Path, etcd: &Etcd) {
    if let Some(advertise) = &etcd.advertise {
        let wrong = format!("`{}` is not where an admin API is", advertise.escape_debug());
        checker.require(is_endpoint(advertise), at.key("advertise"), wrong, ENDPOINT);
    }
    if let Some(node) = &etcd.node {
        let wrong = format!("`{}` is no name", node.escape_debug());
        let right = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
        checker.require(is_name(node), at.key("node"), wrong, right);
        let right = "set `advertise` to where the other nodes reach this one's admin API, or leave it out";
        checker.require(etcd.advertise.is_some(), at.key("node"), "is of no use without `advertise`", right);
    }
}

const ENDPOINT: &str = "write \"http://host:port\" or \"https://host:port\", and no path";

/// `http://host:port`, or https.
pub fn is_endpoint(text: &str) -> bool {
    let authority = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    authority.is_some_and(|authority| is_address(authority) && !authority.starts_with("unix:"))
}

fn endpoints(checker: &mut Checker, at: &Path, etcd: &Etcd) {
    let right = "write [\"https://etcd-1:2379\"], with one or more";
    // Where the one that there was could not be read, that was told.
    checker.require(!etcd.endpoints.is_empty(), at.index(0), "is missing", right);
    let mut seen = BTreeSet::new();
    for (index, endpoint) in etcd.endpoints.iter().enumerate() {
        let at = at.index(index);
        let wrong = format!("`{}` is no endpoint", endpoint.escape_debug());
        checker.require(is_endpoint(endpoint), at.clone(), wrong, ENDPOINT);
        checker.require(seen.insert(endpoint), at, "is there twice", "remove one of them");
    }
}
