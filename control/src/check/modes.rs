//! What each affinity mode needs, and what belongs to another one.

use super::{Checker, MAX_NAME, Path};
use crate::spec::{Affinity, AffinityHeader, AffinityRule, Follows, HeaderStyle, Mode, OnDown, TokenKind};

/// What a request may be answered whose session is gone.
pub const GONE_STATUSES: [u16; 4] = [400, 404, 410, 503];

/// Fields that are read, written or left out on the way, so that no token can go with them.
pub const HANDLED: [&str; 21] = [
    "Cache-Control",
    "Connection",
    "Content-Length",
    "Cookie",
    "Expect",
    "Forwarded",
    "Host",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Set-Cookie",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
];

/// `at` is where the affinity stands.
pub(super) fn modes(checker: &mut Checker, at: &Path, affinity: &Affinity) {
    for (key, mode, mode_name, written) in [
        ("app_cookie", Mode::AppCookie, "app-cookie", affinity.app_cookie.is_some()),
        ("header", Mode::Header, "header", affinity.header.is_some()),
        ("query", Mode::Query, "query", affinity.query.is_some()),
    ] {
        match (affinity.mode == mode, written) {
            (true, false) => {
                let right = format!("add [pool.affinity.{key}] with a name");
                checker.wrong(at.key(key), format!("is missing, and mode = \"{mode_name}\" needs it"), right);
            }
            (false, true) => {
                let right = format!("set mode = \"{mode_name}\", or leave it out");
                checker.wrong(at.key(key), format!("is read in mode \"{mode_name}\" alone"), right);
            }
            (true, true) | (false, false) => {}
        }
    }
    if let Some(window) = affinity.coalesce {
        let at = at.key("coalesce");
        let right = "set mode = \"cookie\", or style \"follow\" or \"prefix\" of mode \"app-cookie\", or leave it out";
        let wrong = "is for sessions that begin with a cookie of ours";
        checker.require(affinity.begins_with_cookie(), at.clone(), wrong, right);
        let holds = (1_000..=60_000).contains(&window.as_millis());
        checker.require(holds, at, format!("{window} is out of range"), "write \"1s\" to \"1m\", as in \"2s\"");
    }
    if let Some(cookie) = &affinity.app_cookie {
        let at = at.key("app_cookie");
        token(checker, at.key("name"), &cookie.name, "a cookie name", "JSESSIONID");
        if let Some(parameter) = &cookie.path_parameter {
            token(checker, at.key("path_parameter"), parameter, "the name of a path parameter", "jsessionid");
        }
    }
    if let Some(header) = &affinity.header {
        let at = at.key("header");
        token(checker, at.key("name"), &header.name, "a header name", "X-User");
        let unread = header.style == HeaderStyle::Hash && header.gone_status != AffinityHeader::default().gone_status;
        let right = "set style = \"follow\", or leave it out";
        checker.require(!unread, at.key("gone_status"), "is read in style \"follow\" alone", right);
    }
    for (key, list) in [("ignore", &affinity.ignore), ("force", &affinity.force)] {
        for (index, each) in list.iter().enumerate() {
            rule(checker, &at.key(key).index(index), each);
        }
    }
    let postonly = affinity.cookie.postonly && affinity.mode != Mode::Cookie;
    let wrong = "is read in mode \"cookie\" alone";
    checker.require(!postonly, at.key("cookie").key("postonly"), wrong, "set mode = \"cookie\", or leave it out");
    if let Some(target) = affinity.target {
        let right = "write a share above 0 and below 1, as in 0.999";
        let at = at.key("target");
        checker.require(target > 0.0 && target < 1.0, at.clone(), format!("{target} is out of range"), right);
        let wrong = "mode \"none\" has no pins that could be reached";
        checker.require(affinity.mode != Mode::None, at, wrong, "choose another mode, or leave it out");
    }
    if let Some(follows) = affinity.follows() {
        following(checker, at, affinity, follows);
    }
    if let Some(query) = &affinity.query {
        argument(checker, at.key("query").key("name"), &query.name);
    }
}

/// What can't be held where a token goes with a session that the application names.
fn following(checker: &mut Checker, at: &Path, affinity: &Affinity, follows: Follows) {
    let cookie = &affinity.cookie;
    let sealed = "set token = \"sealed\", or take style \"suffix\" where the application names its backend";
    let plain = cookie.token == TokenKind::Plain;
    checker.require(!plain, at.key("cookie").key("token"), "the token that goes with a session is sealed", sealed);
    if let Some(app) = &affinity.app_cookie {
        let at = at.key("app_cookie");
        let right = "set style = \"hash\" or \"suffix\", or leave it out";
        let wrong = "can carry no token";
        checker.require(app.path_parameter.is_none(), at.key("path_parameter"), wrong, right);
        let same = follows == Follows::Beside && app.name == cookie.name;
        checker.require(!same, at.key("name"), "is the name of our own cookie", "give affinity.cookie another name");
    }
    if follows != Follows::Beside {
        let wrong = "can't be held where a token is renewed only as the application names its session";
        let right = "leave it out, and set lifetime";
        checker.require(cookie.idle_timeout.is_none(), at.key("cookie").key("idle_timeout"), wrong, right);
    }
    let Some(header) = affinity.header.as_ref().filter(|_| follows == Follows::Header) else { return };
    let right = "set on_down = \"repin\" to end such a session, or \"fail\" to let it wait for its backend";
    checker.require(
        affinity.on_down != OnDown::Spill,
        at.key("on_down"),
        "such a session can't be served elsewhere",
        right,
    );
    let at = at.key("header");
    let status = header.gone_status;
    let wrong = format!("{status} is out of range");
    checker.require(GONE_STATUSES.contains(&status), at.key("gone_status"), wrong, "write 400, 404, 410 or 503");
    let ours = HANDLED.iter().any(|name| name.eq_ignore_ascii_case(&header.name));
    let wrong = format!("`{}` has a meaning of its own between client and backend", header.name.escape_debug());
    checker.require(!ours, at.key("name"), wrong, "name the header that carries the session, as in \"Mcp-Session-Id\"");
}

fn rule(checker: &mut Checker, at: &Path, rule: &AffinityRule) {
    let AffinityRule { path, method, header, value } = rule;
    let matches_all = path.is_none() && method.is_none() && header.is_none();
    checker.require(!matches_all, at.clone(), "matches every request", "set `path`, `method` or `header`");
    if let Some(path) = path {
        let holds = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?".contains(&byte));
        let wrong = format!("`{}` is not a path", path.escape_debug());
        checker.require(holds, at.key("path"), wrong, "begin it with `/`, and leave the query out");
    }
    if let Some(method) = method {
        token(checker, at.key("method"), method, "a method", "GET");
    }
    if let Some(header) = header {
        token(checker, at.key("header"), header, "a header name", "X-Probe");
    }
    if let Some(value) = value {
        checker.require(header.is_some(), at.key("value"), "is no header's", "name its `header`, or leave it out");
        // What stands around a value on the wire does not count, and so such a rule would never match.
        let holds = value.trim() == value && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let wrong = format!("`{}` can't be a header's value", value.escape_debug());
        checker.require(holds, at.key("value"), wrong, "write visible ASCII, without space around it");
    }
}

/// RFC 9110 section 5.6.2.
pub(super) fn token(checker: &mut Checker, path: Path, text: &str, what: &str, example: &str) {
    let right = format!("write letters, digits, `-` or `_`, as in \"{example}\"");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() {
        checker.wrong(path, "is missing", right);
    } else if text.len() > MAX_NAME || !text.bytes().all(fits) {
        checker.wrong(path, format!("`{}` is not {what}", text.escape_debug()), right);
    }
}

/// Names are compared as they stand in requests, where nothing is decoded.
fn argument(checker: &mut Checker, path: Path, name: &str) {
    let right = "write it as it stands in the query, without `&`, `=` or `#`, as in \"user\"";
    if name.is_empty() {
        checker.wrong(path, "is missing", right);
    } else if name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#".contains(&byte)) {
        checker.wrong(path, format!("`{}` is not an argument's name", name.escape_debug()), right);
    }
}
