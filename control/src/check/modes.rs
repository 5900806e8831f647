//! What each affinity mode needs, and what belongs to another one.

use super::{Checker, MAX_NAME, Path};
use crate::spec::{Affinity, Mode};

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
    if let Some(cookie) = &affinity.app_cookie {
        let at = at.key("app_cookie");
        token(checker, at.key("name"), &cookie.name, "a cookie name", "JSESSIONID");
        if let Some(parameter) = &cookie.path_parameter {
            token(checker, at.key("path_parameter"), parameter, "the name of a path parameter", "jsessionid");
        }
    }
    if let Some(header) = &affinity.header {
        token(checker, at.key("header").key("name"), &header.name, "a header name", "X-User");
    }
    if let Some(query) = &affinity.query {
        argument(checker, at.key("query").key("name"), &query.name);
    }
}

/// RFC 9110 section 5.6.2.
fn token(checker: &mut Checker, path: Path, text: &str, what: &str, example: &str) {
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
