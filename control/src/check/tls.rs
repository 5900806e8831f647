use super::{Checker, Path, is_token};
use crate::spec::{ClientVerify, Listener, Pool, Tls, TlsSettings};

/// The longest `max-age` that is of use: beyond it browsers keep no count.
const MAX_HSTS_DAYS: u64 = 3_650;

/// That a listener's TLS has what it needs. What its files hold is looked at where the files are.
pub(super) fn tls(checker: &mut Checker, path: &Path, listener: &Listener) {
    let Some(Tls::With(settings)) = &listener.tls else { return };
    let at = path.key("tls");
    let list = at.key("certificate");
    let right = "write [{ chain = \"fullchain.pem\", key = \"privkey.pem\" }], or tls = \"self-signed\" for a trial";
    checker.require(!settings.certificates.is_empty(), list.clone(), "is missing", right);
    for (index, each) in settings.certificates.iter().enumerate() {
        let at = list.index(index);
        for (key, file) in [("chain", &each.chain), ("key", &each.key)] {
            checker.require(!file.as_os_str().is_empty(), at.key(key), "is missing", "name a PEM file");
        }
    }
    let longest = MAX_HSTS_DAYS * 86_400_000;
    let right = format!("write whole seconds, at most {MAX_HSTS_DAYS}d; a year is 365d");
    let whole = settings.hsts.as_millis().is_multiple_of(1_000) && settings.hsts.as_millis() <= longest;
    checker.require(whole, at.key("hsts"), format!("{} can't be told to browsers", settings.hsts), right);
    clients(checker, &at.key("clients"), settings);
}

fn clients(checker: &mut Checker, at: &Path, settings: &TlsSettings) {
    let clients = &settings.clients;
    let asks = clients.verify != ClientVerify::Off;
    if asks && clients.ca.as_ref().is_none_or(|ca| ca.as_os_str().is_empty()) {
        checker.wrong(at.key("ca"), "is missing", "name a PEM file with the authorities whose certificates are taken");
    }
    let needed = clients.ca.is_some() || clients.subject_header.is_some();
    let wrong = "is off, so that nobody shows a certificate";
    let right = "set \"optional\" or \"required\", or leave out what needs one";
    checker.require(asks || !needed, at.key("verify"), wrong, right);
    let at = at.key("subject_header");
    if let Some(name) = &clients.subject_header {
        let right = "write a name of its own, as in \"X-Client-Subject\"";
        checker.require(
            is_token(name) && !is_taken(name),
            at,
            format!("`{}` can't be used", name.escape_debug()),
            right,
        );
    }
}

/// Fields that frame a message or that we write ourselves.
fn is_taken(name: &str) -> bool {
    const TAKEN: [&str; 17] = [
        "cache-control",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken))
}

/// That a pool's TLS has what it needs.
pub(super) fn pool(checker: &mut Checker, path: &Path, pool: &Pool) {
    let Some(tls) = &pool.tls else { return };
    let at = path.key("tls");
    let right = "set verify = true, or leave it out";
    checker.require(tls.verify || tls.ca.is_none(), at.key("ca"), "nobody is verified", right);
    for (key, file) in [("ca", &tls.ca), ("chain", &tls.chain), ("key", &tls.key)] {
        let holds = file.as_ref().is_none_or(|file| !file.as_os_str().is_empty());
        checker.require(holds, at.key(key), "is empty", "name a PEM file");
    }
    let right = "set both `chain` and `key`, or neither";
    checker.require(tls.chain.is_none() || tls.key.is_some(), at.key("key"), "is missing beside `chain`", right);
    checker.require(tls.key.is_none() || tls.chain.is_some(), at.key("chain"), "is missing beside `key`", right);
    if let Some(name) = &tls.server_name {
        let right = "write a name or an address without a port, as in \"shop.internal\"";
        let wrong = format!("`{}` is not a name", name.escape_debug());
        checker.require(is_server_name(name), at.key("server_name"), wrong, right);
    }
}

fn is_server_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label))
}

/// That a listener which sends its clients to https has nothing else to do.
pub(super) fn redirect(checker: &mut Checker, path: &Path, listener: &Listener) {
    if listener.redirect.is_none() {
        let right = "set redirect = \"https\", or leave it out";
        checker.require(listener.redirect_port == 443, path.key("redirect_port"), "nobody is sent anywhere", right);
        return;
    }
    let holds = listener.redirect_port > 0;
    checker.require(holds, path.key("redirect_port"), "0 is no port", "write the port of the https listener");
    let right = "leave it out: this listener sends its clients to https, but for what its routes match";
    for (key, is_there) in [("pool", listener.pool.is_some()), ("tls", listener.tls.is_some())] {
        checker.require(!is_there, path.key(key), "is of no use beside `redirect`", right);
    }
}
