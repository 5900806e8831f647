use super::{Checker, Path};
use crate::{
    config::Config,
    spec::{Forwarding, Listener, ListenerLimits, Mode, Pool, Protocol, Tls},
};

/// That a listener of plain TCP is asked for nothing that takes HTTP, and that its pool finds sessions without that.
pub(super) fn listener(checker: &mut Checker, path: &Path, listener: &Listener) {
    if listener.protocol != Protocol::Tcp {
        return;
    }
    let (limits, defaults) = (&listener.limits, ListenerLimits::default());
    let ListenerLimits { connections, connections_per_address, handshakes, .. } = *limits;
    let same_limits = ListenerLimits { connections, connections_per_address, handshakes, ..defaults } == *limits;
    let tls = match &listener.tls {
        Some(Tls::With(tls)) => Some(tls),
        Some(Tls::SelfSigned) | None => None,
    };
    for (at, holds) in [
        (path.key("http2"), listener.http2),
        (path.key("redirect"), listener.redirect.is_none()),
        (path.key("trusted_proxies"), listener.trusted_proxies.is_empty()),
        (path.key("forwarding"), listener.forwarding == Forwarding::default()),
        (path.key("limits"), same_limits),
        (path.key("tls").key("hsts"), tls.is_none_or(|tls| tls.hsts.as_millis() == 0)),
        (
            path.key("tls").key("clients").key("subject_header"),
            tls.is_none_or(|tls| tls.clients.subject_header.is_none()),
        ),
    ] {
        let what = if at == path.key("limits") { "limits of requests are" } else { "is" };
        checker.require(
            holds,
            at,
            format!("{what} of no use where bytes are passed on unread"),
            "leave it out, or set protocol = \"http\"",
        );
    }
    for (index, route) in listener.routes.iter().enumerate() {
        let at = path.key("route").index(index);
        let right = "name the host that clients ask for in TLS (SNI)";
        checker.require(route.host.is_some(), at.key("host"), "is missing", right);
        let wrong = "is of no use where bytes are passed on unread";
        checker.require(route.path.is_none(), at.key("path"), wrong, "leave it out");
    }
}

/// That the pools of these listeners find sessions without a request.
pub(super) fn pools(checker: &mut Checker, config: &Config) {
    for (index, pool) in config.pools.iter().enumerate() {
        if let Some(listener) = config.listeners.iter().find(|listener| passes_on(listener, pool)) {
            suits(checker, &Path::default().key("pool").index(index), pool, &listener.name);
        }
    }
}

/// Whether the listener passes bytes on unread to the pool.
pub(super) fn passes_on(listener: &Listener, pool: &Pool) -> bool {
    let mut pools = listener.pool.iter().chain(listener.routes.iter().map(|route| &route.pool));
    listener.protocol == Protocol::Tcp && pools.any(|name| *name == pool.name)
}

/// That the pool serves a listener which passes bytes on unread.
pub(super) fn suits(checker: &mut Checker, path: &Path, pool: &Pool, listener: &str) {
    let holds = matches!(pool.affinity.mode, Mode::None | Mode::SourceIp);
    let wrong = format!("takes HTTP, and listener `{listener}` passes bytes on unread");
    checker.require(holds, path.key("affinity").key("mode"), wrong, "set mode = \"source-ip\" or \"none\"");
    let wrong = format!("is of no use where bytes are passed on unread, as listener `{listener}` does");
    checker.require(!pool.http2, path.key("http2"), wrong, "leave it out");
}
