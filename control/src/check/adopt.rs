//! What adopting another balancer's cookies needs.

use super::{Checker, MAX_NAME, Path, is_host_match, is_name, modes::token};
use crate::spec::{Adopt, AdoptFrom, Affinity, Mode, Secret};

/// The most cookies that a pool adopts.
pub const MAX_ADOPTED: usize = 16;

/// `at` is where the affinity stands.
pub(super) fn adopt(checker: &mut Checker, at: &Path, affinity: &Affinity) {
    let list = at.key("adopt");
    if !affinity.adopt.is_empty() {
        let right = "set mode = \"cookie\", or leave it out";
        checker.require(affinity.mode == Mode::Cookie, list.clone(), "is read in mode \"cookie\" alone", right);
    }
    let few = affinity.adopt.len() <= MAX_ADOPTED;
    let right = format!("write at most {MAX_ADOPTED}");
    checker.require(few, list.clone(), format!("has {} cookies", affinity.adopt.len()), right);
    for (index, each) in affinity.adopt.iter().enumerate() {
        let at = list.index(index);
        one(checker, &at, each);
        let first = affinity.adopt[..index].iter().position(|before| each.is_same(before));
        if let Some(first) = first.filter(|_| !each.cookie.is_empty()) {
            let wrong = format!("`{}` is read so by {list}[{first}] already", each.cookie.escape_debug());
            checker.wrong(at.key("cookie"), wrong, "make one of the two");
        }
        let ours = each.cookie == affinity.cookie.name;
        let right = "give affinity.cookie another name, so that both can be told apart";
        checker.require(!ours, at.key("cookie"), "is the name of our own cookie", right);
    }
}

fn one(checker: &mut Checker, at: &Path, adopt: &Adopt) {
    let Adopt { from, cookie, key, service, values, delete, path, domain } = adopt;
    token(checker, at.key("cookie"), cookie, "a cookie name", "SERVERID");
    if from.is_none() {
        let right = "write whose cookie it is, as in \"haproxy\"";
        checker.wrong(at.key("from"), "is missing", right);
    }
    let text = |secret: &Secret| secret.0.clone();
    let mend = "write what `dynamic-cookie-key` has there";
    belongs(checker, at, *from, ("key", AdoptFrom::HaproxyDynamic, mend), key.as_ref().map(text));
    let mend = "write namespace, service and port, as in \"shop-web-80\"";
    belongs(checker, at, *from, ("service", AdoptFrom::IngressNginxPersistent, mend), service.clone());
    if key.as_ref().is_some_and(Secret::is_hidden) {
        let wrong = "stands for a key that is not known here";
        checker.wrong(at.key("key"), wrong, "write the key itself");
    }
    let is_opaque = *from == Some(AdoptFrom::Opaque);
    let wrong = "what names no backend can't be mapped to one";
    checker.require(!is_opaque || values.is_empty(), at.key("values"), wrong, "leave it out");
    let wrong = "what may be the application's own can't be deleted";
    checker.require(!is_opaque || !delete, at.key("delete"), wrong, "leave it out");
    for (value, backend) in values {
        let at = at.key("values").key(value);
        let octets = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        let holds = !value.is_empty() && value.bytes().all(octets);
        let right = "write it as it stands in the cookie";
        checker.require(holds, at.clone(), format!("`{}` can't be a cookie's value", value.escape_debug()), right);
        let wrong = format!("`{}` is not a backend's name", backend.escape_debug());
        checker.require(is_name(backend), at, wrong, "name the backend that it leads to, as in \"cart-1\"");
    }
    let path_holds = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    checker.require(
        path_holds,
        at.key("path"),
        format!("`{}` is not a path", path.escape_debug()),
        "begin it with `/`",
    );
    if let Some(domain) = domain {
        let holds = is_host_match(domain.strip_prefix('.').unwrap_or(domain)) && !domain.contains('*');
        let wrong = format!("`{}` is not a domain", domain.escape_debug());
        checker.require(holds, at.key("domain"), wrong, "write \"example.com\"");
    }
}

/// What one kind needs is no other's.
fn belongs(
    checker: &mut Checker,
    at: &Path,
    from: Option<AdoptFrom>,
    (key, whose, mend): (&str, AdoptFrom, &str),
    written: Option<String>,
) {
    let whose_name = whose.name();
    match written {
        Some(_) if from != Some(whose) => {
            let right = format!("set from = \"{whose_name}\", or leave it out");
            checker.wrong(at.key(key), format!("is read with from = \"{whose_name}\" alone"), right);
        }
        None if from == Some(whose) => {
            checker.wrong(at.key(key), format!("is missing, and from = \"{whose_name}\" needs it"), mend);
        }
        Some(text) => {
            let holds = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            let right = format!("write 1 to {MAX_NAME} visible ASCII characters");
            checker.require(holds, at.key(key), "is none that could be configured there", right);
        }
        None => {}
    }
}
