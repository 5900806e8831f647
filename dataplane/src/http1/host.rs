//! `Host` and the authority of an absolute target: `uri-host [":" port]` (RFC 9112 §3.2, RFC 3986 §3.2.2).

use std::net::Ipv6Addr;

/// Whether `host` names a host that every reader takes for the same one.
///
/// Stricter than the grammar: no percent-encoding, which some decode and some don't; no comma, which is what two fields
/// joined by a careless hop look like; no user information; no empty host; a port within its range.
pub fn is_valid(host: &[u8]) -> bool {
    let (name, port) = split(host);
    let name_is_valid = match name {
        [b'[', address @ .., b']'] => is_ipv6(address),
        name => !name.is_empty() && name.iter().all(|byte| is_name_byte(*byte)),
    };
    name_is_valid && port.is_none_or(is_port)
}

/// `host` without its port; an IPv6 address keeps its brackets.
pub fn without_port(host: &[u8]) -> &[u8] {
    split(host).0
}

fn split(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_address = if host.starts_with(b"[") { memchr::memchr(b']', host).map_or(0, |at| at + 1) } else { 0 };
    let colon = memchr::memchr(b':', host.get(after_address..).unwrap_or_default()).map(|at| after_address + at);
    match colon.and_then(|at| host.split_at_checked(at)) {
        Some((name, port)) => (name, port.get(1..)),
        None => (host, None),
    }
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && (port.is_empty() || super::text::length(port).is_some_and(|port| port <= 0xffff))
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// `unreserved / sub-delims` without the comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let long = "a".repeat(255);
        for (host, valid) in [
            ("example.com", true),
            ("EXAMPLE.com.", true),
            ("example.com:80", true),
            ("example.com:", true), // RFC 3986 §3.2.3: port may be empty
            ("example.com:65535", true),
            ("example.com:65536", false), // range
            ("example.com:99999999999999999999", false),
            ("example.com:000080", false),
            ("example.com:8o", false),
            ("example.com:-1", false),
            ("example.com:80:80", false),
            ("a_b.example", true), // in use, though no DNS name
            ("xn--bcher-kva.example", true),
            ("127.0.0.1:8080", true),
            ("1", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("[2001:db8::192.0.2.1]", true),
            ("[::1", false),
            ("::1", false),
            ("[::1]8080", false),
            ("[::1]]", false),
            ("[fe80::1%25eth0]", false), // RFC 9844: zones stay on the node
            ("[v1.x]", false),
            ("[]", false),
            ("[example.com]", false),
            ("", false), // RFC 9110 §4.2.1
            (":80", false),
            ("a b", false),
            ("a,b", false),
            ("user@example.com", false), // RFC 9110 §4.2.4
            ("example.com/", false),
            ("example.com?x", false),
            ("example.com#x", false),
            ("example\\com", false),
            ("exa%6dple.com", false),
            ("<script>", false),
            ("\"quoted\"", false),
            ("bücher.example", false), // not ASCII
            ("a\tb", false),
            ("a\0b", false),
            (long.as_str(), true),
        ] {
            assert_eq!(is_valid(host.as_bytes()), valid, "{host:?}");
        }
    }

    #[test]
    fn ports_are_cut_off() {
        for (host, name) in [
            ("a.example:80", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(host.as_bytes()), name.as_bytes());
        }
    }
}
