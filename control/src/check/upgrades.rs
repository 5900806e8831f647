use super::{Checker, MAX_NAME, Path, is_token};
use crate::spec::{MAX_UPGRADES, Pool, WEBSOCKET, carries_requests};

/// That what a pool lets connections be upgraded to are protocols, and none that would carry requests past us.
pub(super) fn upgrades(checker: &mut Checker, path: &Path, pool: &Pool) {
    let at = path.key("upgrades");
    let count = pool.upgrades.len();
    let right = format!("write at most {MAX_UPGRADES}");
    checker.require(count <= MAX_UPGRADES, at.clone(), format!("{count} protocols are too many"), right);
    for (index, protocol) in pool.upgrades.iter().enumerate() {
        let at = at.index(index);
        let (name, version) = protocol.split_once('/').map_or((protocol.as_str(), None), |(n, v)| (n, Some(v)));
        let holds = is_token(name) && version.is_none_or(is_token) && protocol.len() <= MAX_NAME;
        let wrong = format!("`{}` is not a protocol", protocol.escape_debug());
        checker.require(holds, at.clone(), wrong, "write it as it stands in `Upgrade`, as in \"websocket\"");
        let wrong = format!("`{}` carries requests, which nothing would see", protocol.escape_debug());
        checker.require(!carries_requests(protocol), at.clone(), wrong, "leave it out: it is never passed on");
        // RFC 8441 carries others as well, but nobody has said how they are to be translated.
        let wrong = format!("`{}` can't be had from backends over HTTP/2", protocol.escape_debug());
        let holds = !pool.http2 || protocol.eq_ignore_ascii_case(WEBSOCKET);
        checker.require(holds, at, wrong, "leave out all but \"websocket\", or set http2 = false");
    }
}
