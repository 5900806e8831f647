//! Protocols that a connection may be upgraded to (RFC 9110 section 7.8).

/// The protocol of RFC 6455, which every pool lets through unless it says otherwise.
pub const WEBSOCKET: &str = "websocket";

/// Protocols of one pool.
pub const MAX_UPGRADES: usize = 16;

/// What carries requests again: behind the upgrade they would be seen by no rule, limit or affinity, and two parties
/// would disagree on what is one.
const CARRIERS: [&str; 4] = ["h2c", "h2", "http", "tls"];

pub(crate) fn websocket_alone() -> Vec<String> {
    vec![WEBSOCKET.to_owned()]
}

/// Whether this protocol, with or without a version, is never passed on.
pub fn carries_requests(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    CARRIERS.iter().any(|carrier| carrier.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_in_any_form_carries_requests() {
        for protocol in ["h2c", "H2C", "h2", "HTTP/2.0", "http", "TLS/1.2", "tls"] {
            assert!(carries_requests(protocol), "{protocol}");
        }
        for protocol in [WEBSOCKET, "h2cx", "mqtt", "tcp", "SPDY/3.1", ""] {
            assert!(!carries_requests(protocol), "{protocol}");
        }
    }
}
